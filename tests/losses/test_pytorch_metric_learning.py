"""Our losses against those of pytorch-metric-learning, and inside its wrappers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from landcue.losses import (
    MARC,
    MSC,
    LabelStatistics,
    MulSupCon,
    MultiSupCon,
    ProxyAnchor,
    SimilarityDissimilarity,
    SupCon,
    create_loss,
)

pml = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")

N, DIM, C = 15, 6, 4


STATISTICS = LabelStatistics.from_labels(torch.eye(C))


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(N, DIM, generator=g, dtype=torch.float64), dim=1)
    classes = torch.randint(0, C, (N,), generator=g)
    return z, F.one_hot(classes, C), classes


@pytest.mark.parametrize("seed", range(3))
def test_supcon_equals_the_library(seed):
    z, y, classes = batch(seed)
    got = SupCon(temperature=0.2)(z, y)
    assert float(got) == pytest.approx(float(pml.SupConLoss(temperature=0.2)(z, classes)))


@pytest.mark.parametrize("name", ["mulsupcon", "multisupcon", "similarity_dissimilarity", "marc"])
def test_multi_label_losses_equal_the_library_on_classes(name):
    z, y, classes = batch(4)
    options = {"temperature": 0.2} | ({"alpha": 0.0} if name == "marc" else {})
    assert min(torch.bincount(classes)) > 1
    z.requires_grad_()
    got = create_loss(name, options, STATISTICS, DIM)(F.normalize(z, dim=1), y)
    wanted = pml.SupConLoss(temperature=0.2)(z, classes)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=0)
    ours, theirs = (torch.autograd.grad(value, z)[0] for value in (got, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("absent", [False, True])
def test_proxy_anchor_equals_the_library(absent):
    z, y, classes = batch()
    if absent:
        keep = classes != 2
        z, y, classes = z[keep], y[keep], classes[keep]
    theirs = pml.ProxyAnchorLoss(C, DIM, margin=0.2, alpha=16)
    theirs.proxies.data = torch.randn(C, DIM, dtype=torch.float64)
    ours = ProxyAnchor(C, DIM, margin=0.2, alpha=16).double()
    ours.load_state_dict(theirs.state_dict())
    got = ours(z, y)
    assert float(got.detach()) == pytest.approx(float(theirs(z, classes).detach()), rel=1e-9)


def value_and_gradient(loss, z, *args, **kwargs):
    leaf = z.clone().requires_grad_()
    value = loss(leaf, *args, **kwargs)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(
    "miner",
    [miners.MultiSimilarityMiner(), miners.TripletMarginMiner(), miners.BatchHardMiner()],
)
def test_pairs_of_a_miner_are_used_as_the_library_does(miner):
    z, _, classes = batch(2)
    chosen = miner(z, classes)
    theirs = value_and_gradient(pml.SupConLoss(temperature=0.2), z, classes, chosen)
    assert_equal(value_and_gradient(SupCon(temperature=0.2), z, classes, chosen), theirs)


def test_reference_embeddings_are_used_as_the_library_does():
    (z, _, classes), (other, _, other_classes) = batch(2), batch(3)
    names = {"ref_emb": other[:10], "ref_labels": other_classes[:10]}
    theirs = value_and_gradient(pml.SupConLoss(temperature=0.2), z, classes, **names)
    assert_equal(value_and_gradient(SupCon(temperature=0.2), z, classes, **names), theirs)


class Memory(pml.CrossBatchMemory):
    @staticmethod
    def supported_losses():
        return ["MARC", "SupCon", "MulSupCon", "MultiSupCon", "SimilarityDissimilarity", "MSC",
                "SupConLoss"]  # fmt: skip


def through_a_memory(loss):
    memory = Memory(loss, embedding_size=DIM, memory_size=40)
    return [value_and_gradient(memory, z, classes) for z, _, classes in map(batch, range(5))]


@pytest.mark.parametrize(
    "loss",
    [
        SupCon(temperature=0.2),
        MARC(temperature=0.2, alpha=0.0, beta=0.0),
        MulSupCon(temperature=0.2, average="anchor"),
        MultiSupCon(temperature=0.2),
        SimilarityDissimilarity(temperature=0.2),
    ],
)
def test_a_memory_of_earlier_batches_works_as_with_the_library(loss):
    theirs = through_a_memory(pml.SupConLoss(temperature=0.2))
    for ours, other in zip(through_a_memory(loss), theirs, strict=True):
        assert_equal(ours, other)


def test_msc_learns_through_a_memory():
    loss = MSC(C, DIM).double()
    values = through_a_memory(loss)
    assert len({float(value) for value, _ in values}) == len(values)
    assert all(float(gradient.abs().sum()) > 0 for _, gradient in values)


def test_views_of_one_image_without_labels():
    class Views(pml.SelfSupervisedLoss):
        supported_losses = staticmethod(lambda: ["SupCon"])

    z, other = batch(1)[0], batch(2)[0]
    for symmetric in (True, False):
        theirs = pml.SelfSupervisedLoss(pml.SupConLoss(temperature=0.2), symmetric=symmetric)
        ours = Views(SupCon(temperature=0.2), symmetric=symmetric)
        assert_equal(value_and_gradient(ours, z, other), value_and_gradient(theirs, z, other))

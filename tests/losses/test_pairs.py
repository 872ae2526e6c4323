"""Pairs in blocks: the same result and gradient, and never more than a block at once."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landcue.losses import MARC, MSC, MulSupCon, MultiSupCon, SimilarityDissimilarity, SupCon

N, DIM, C = 120, 6, 5


def data(n=N):
    g = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64), dim=1)
    y = (torch.rand(n, C, generator=g) < 0.3).long()
    return z, y, torch.randn(C, DIM, generator=g, dtype=torch.float64)


def marc(**options):
    return lambda: MARC.from_labels(data()[1], **options)


LOSSES = {
    "supcon": SupCon,
    "supcon-all": lambda: SupCon(positives="all"),
    "mulsupcon": MulSupCon,
    "mulsupcon-anchor": lambda: MulSupCon(average="anchor"),
    "multisupcon": lambda: MultiSupCon(threshold=0.4),
    "similarity_dissimilarity": SimilarityDissimilarity,
    "msc": lambda: MSC(C, DIM).double(),
    "marc": marc(alpha=0.5, beta=0.3),
    "marc-pairwise-label-count": marc(plr="pairwise", weighting="label", norm="count"),
    "marc-marginal-count": marc(plr="marginal", weighting="jaccard", norm="count"),
    "marc-row": marc(alpha=0.5, beta=0.3, mode="row"),
    "marc-row-count": marc(alpha=-0.5, mode="row", norm="count", weighting="label"),
}


def made(name, block=None):
    """Return a loss with fixed prototypes, if it has any, and embeddings that take a gradient."""
    z, y, vectors = data()
    loss = LOSSES[name]()
    if list(loss.parameters()):
        loss.load_state_dict({"proxies": vectors})
    loss.block = block or loss.block
    return loss, z.requires_grad_(), y


def run(name, block=None):
    loss, z, y = made(name, block)
    value = loss(z, y)
    value.backward()
    return [value.detach(), z.grad, *(parameter.grad for parameter in loss.parameters())]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("block", [1, 7 * N, 100 * N])
def test_blocks_change_neither_loss_nor_gradient(name, block):
    for one, other in zip(run(name), run(name, block), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-14)


class LargestTensor(TorchDispatchMode):
    """Sees every operator, forward and backward, and keeps the most elements it returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.elements = max(self.elements, leaf.numel())
        return out


@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_exceeds_a_block(name):
    with LargestTensor() as seen:
        run(name, 20 * N)
    assert N < seen.elements <= 20 * (N + C)  # msc puts the C prototypes beside the images
    with LargestTensor() as seen:
        run(name)
    assert seen.elements >= N * N


class Kept:
    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("name", LOSSES)
def test_kept_between_forward_and_backward_is_far_less_than_the_pairs(name):
    loss, z, y = made(name, 4 * N)
    alive = weakref.WeakSet()

    def pack(tensor):
        alive.add(kept := Kept(tensor))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        value = loss(z, y)
    assert value.requires_grad
    assert 0 < sum(kept.tensor.numel() for kept in alive) < N * N / 2


@pytest.mark.parametrize("name", LOSSES)
def test_a_pair_of_an_image_with_itself_is_never_counted(name):
    z, y, _ = data(20)
    pairs = torch.triu_indices(20, 20, 1)
    pairs = torch.cat([pairs, pairs.flip(0)], 1)
    itself = torch.arange(20).expand(2, 20)
    torch.manual_seed(0)
    loss = LOSSES[name]()
    for given in (pairs, pairs[:, ::3]):
        more = torch.cat([given, itself], 1)
        expected = loss(z, y, (*given, *given)).detach()
        assert torch.equal(loss(z, y, (*more, *more)).detach(), expected)

"""Losses of pytorch-metric-learning inside ours."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import LabelStatistics, create_loss

pytest.importorskip("pytorch_metric_learning.losses")

N, DIM, C = 15, 6, 4


STATISTICS = LabelStatistics.from_labels(torch.eye(C))


NAMES = ("triplet", "multi_similarity", "n_pair", "contrastive", "proxy_nca")


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(N, DIM, generator=g, dtype=torch.float64), dim=1)
    classes = torch.randint(0, C, (N,), generator=g)
    return z, F.one_hot(classes, C), classes


def mean_of_positive(values):
    kept = [v for v in values if v > 0]
    return sum(kept) / len(kept)


def naive(name, z, classes, inner):
    n, distance = len(z), torch.cdist(z, z).tolist()
    same = [(i, j) for i in range(n) for j in range(n) if i != j and classes[i] == classes[j]]
    other = [(i, j) for i in range(n) for j in range(n) if classes[i] != classes[j]]
    if name == "triplet":
        return mean_of_positive(
            [max(distance[a][p] - distance[a][q] + 0.3, 0)
             for a, p in same for b, q in other if a == b]
        )  # fmt: skip
    if name == "contrastive":
        near = mean_of_positive([max(distance[i][j] - 0.1, 0) for i, j in same])
        return near + mean_of_positive([max(0.9 - distance[i][j], 0) for i, j in other])
    s = z @ z.T
    if name == "multi_similarity":
        near = [sum(torch.exp(-3 * (s[a, j] - 0.4)) for i, j in same if i == a) for a in range(n)]
        far = [sum(torch.exp(20 * (s[a, j] - 0.4)) for i, j in other if i == a) for a in range(n)]
        terms = [
            torch.log1p(torch.as_tensor(u)) / 3 + torch.log1p(torch.as_tensor(v)) / 20
            for u, v in zip(near, far, strict=True)
        ]
        return float(sum(terms) / n)
    if name == "proxy_nca":
        squared = torch.cdist(z, F.normalize(inner.proxies.detach(), dim=1)) ** 2
        return float(F.cross_entropy(-2.0 * squared, classes))
    paired = sorted({classes[i] for i, _ in same})
    pairs = [next(pair for pair in same if classes[pair[0]] == c) for c in paired]
    scores = torch.stack([torch.stack([s[a, p] for _, p in pairs]) for a, _ in pairs])
    return float(F.cross_entropy(scores, torch.arange(len(pairs))))


OPTIONS = {
    "triplet": {"margin": 0.3},
    "multi_similarity": {"alpha": 3.0, "beta": 20.0, "base": 0.4},
    "n_pair": {},
    "contrastive": {"pos_margin": 0.1, "neg_margin": 0.9},
    "proxy_nca": {"softmax_scale": 2.0},
}


@pytest.mark.parametrize("name", NAMES)
def test_adapter_equals_a_plain_loop(name):
    z, y, classes = batch(1)
    loss = create_loss(name, OPTIONS[name], STATISTICS, DIM).double()
    listed = classes.tolist() if name == "n_pair" else classes
    expected = naive(name, z, listed, loss.inner)
    assert float(loss(z, y).detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_adapter_computes_in_float32(name, dtype):
    z, y, _ = batch(1)
    torch.manual_seed(0)
    loss = create_loss(name, OPTIONS[name], STATISTICS, DIM)
    got = loss(z.to(dtype), y)
    assert got.dtype == torch.float32
    expected = float(loss(z.to(dtype).float(), y).detach())
    assert float(got.detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["triplet", "n_pair"])
def test_no_pair_of_one_class_gives_zero_and_zero_gradient(name):
    z = F.normalize(torch.randn(C, DIM), dim=1).requires_grad_()
    loss = create_loss(name, {}, STATISTICS, DIM)(z, torch.eye(C))
    loss.backward()
    assert float(loss.detach()) == float(z.grad.abs().sum()) == 0.0


def test_proxies_of_the_library_are_parameters():
    (learned,) = create_loss("proxy_nca", {}, STATISTICS, DIM).parameters()
    assert tuple(learned.shape) == (C, DIM)
    assert not list(create_loss("triplet", {}, STATISTICS, DIM).parameters())


@pytest.mark.parametrize(("row", "count"), [([0, 0, 0, 0], 0), ([1, 0, 1, 0], 2)])
def test_images_without_exactly_one_label_are_refused(row, count):
    z, y, _ = batch()
    y[3] = torch.tensor(row)
    with pytest.raises(UsageError, match=f"image 3 of the batch has {count} .1 of 15") as caught:
        create_loss("triplet", {}, STATISTICS, DIM)(z, y)
    assert "MARC" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("triplet", {"margin": -1}, "margin must be at least 0"),
        ("contrastive", {"neg_margin": -1}, "neg_margin must be at least 0"),
        ("multi_similarity", {"alpha": 0}, "alpha must be above 0"),
        ("multi_similarity", {"base": 3}, "base"),
        ("proxy_nca", {"softmax_scale": 0}, "softmax_scale must be above 0"),
        ("n_pair", {"margin": 1}, "has no option 'margin'"),
    ],
)
def test_bad_options_are_named(name, options, word):
    with pytest.raises(UsageError, match=word):
        create_loss(name, options, STATISTICS, DIM)


WITHOUT = """
import sys
sys.modules["pytorch_metric_learning"] = None
import torch
from landcue.errors import UsageError
from landcue.losses import LabelStatistics, create_loss
create_loss("supcon", {}, LabelStatistics.from_labels(torch.eye(3)), 4)
try:
    create_loss("triplet", {}, LabelStatistics.from_labels(torch.eye(3)), 4)
except UsageError as error:
    print(error)
"""


def test_absent_library_is_named_with_the_line_that_installs_it():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert "pip install 'landcue[rivals]'" in done.stdout, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_to_compare_with_need_labels(name):
    z, y, _ = batch()
    loss = create_loss(name, {}, STATISTICS, DIM)
    for given in ({"ref_emb": z}, {"ref_labels": y}):
        with pytest.raises(UsageError, match="must be given together"):
            loss(z, y, **given)


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1, C, 2]), F.one_hot(torch.tensor([0, 1, C, 2]))]
)
def test_a_class_without_a_proxy_is_refused(labels):
    with pytest.raises(UsageError, match=r"must lie in 0\.\.3; row 2 has 4"):
        create_loss("proxy_nca", {}, STATISTICS, DIM)(torch.randn(4, DIM), labels)

"""Pairs walked in blocks: the same result and gradient, and never more than a block at once."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landcue.losses import pairs
from landcue.losses.marc import MarcOptions, marc_loss
from landcue.losses.msc import msc_loss
from landcue.losses.mulsupcon import MulSupConOptions, mulsupcon_loss
from landcue.losses.multisupcon import MultiSupConOptions, multisupcon_loss
from landcue.losses.similarity_dissimilarity import similarity_dissimilarity_loss
from landcue.losses.statistics import LabelStatistics
from landcue.losses.supcon import SupConOptions, supcon_loss

N, DIM, C = 120, 6, 5


def data(n=N):
    g = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64), dim=1)
    y = (torch.rand(n, C, generator=g) < 0.3).long()
    return z, y, torch.randn(C, DIM, generator=g, dtype=torch.float64)


def marc(**options):
    statistics = LabelStatistics.of(data()[1])
    return lambda z, y, _: marc_loss(z, y, statistics, MarcOptions(**options))


LOSSES = {
    "supcon": lambda z, y, _: supcon_loss(z, y),
    "supcon-all": lambda z, y, _: supcon_loss(z, y, SupConOptions(positives="all")),
    "mulsupcon": lambda z, y, _: mulsupcon_loss(z, y),
    "mulsupcon-anchor": lambda z, y, _: mulsupcon_loss(z, y, MulSupConOptions(average="anchor")),
    "multisupcon": lambda z, y, _: multisupcon_loss(z, y, MultiSupConOptions(threshold=0.4)),
    "similarity_dissimilarity": lambda z, y, _: similarity_dissimilarity_loss(z, y),
    "msc": msc_loss,
    "marc": marc(alpha=0.5, beta=0.3),
    "marc-pairwise-label-count": marc(plr="pairwise", weighting="label", norm="count"),
    "marc-marginal-count": marc(plr="marginal", weighting="jaccard", norm="count"),
    "marc-row": marc(alpha=0.5, beta=0.3, mode="row"),
    "marc-row-count": marc(alpha=-0.5, mode="row", norm="count", weighting="label"),
}


def run(loss, n=N):
    z, y, vectors = data(n)
    z.requires_grad_()
    vectors.requires_grad_()
    value = loss(z, y, vectors)
    value.backward()
    return value.detach(), z.grad, vectors.grad


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("block", [1, 7 * N, 100 * N])
def test_blocks_change_neither_loss_nor_gradient(name, block, monkeypatch):
    whole = run(LOSSES[name])
    monkeypatch.setattr(pairs, "BLOCK", block)
    assert len(list(pairs.blocks(N))) > 1
    cut = run(LOSSES[name])
    for one, other in zip(whole, cut, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
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
def test_no_tensor_exceeds_a_block(name, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 20 * N)
    with LargestTensor() as seen:
        run(LOSSES[name])
    assert N < seen.elements <= 20 * (N + C)  # msc puts the C prototypes beside the images
    monkeypatch.undo()
    with LargestTensor() as seen:
        run(LOSSES[name])
    assert seen.elements >= N * N


class Kept:
    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("name", LOSSES)
def test_kept_between_forward_and_backward_is_far_less_than_the_pairs(name, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 4 * N)
    z, y, vectors = data()
    z.requires_grad_()
    alive = weakref.WeakSet()

    def pack(tensor):
        alive.add(kept := Kept(tensor))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        loss = LOSSES[name](z, y, vectors)
    assert loss.requires_grad
    assert 0 < sum(kept.tensor.numel() for kept in alive) < N * N / 2


def test_blocks_cover_every_anchor_once(monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 1000)
    for n in (0, 1, 31, 32, 999, 1500):
        rows = [i for part in pairs.blocks(n) for i in range(n)[part]]
        assert rows == list(range(n))
    assert len(list(pairs.blocks(31))) == 1
    assert len(list(pairs.blocks(31, width=2))) == 2

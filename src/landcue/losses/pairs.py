"""Losses over pairs of images: which pairs, what they share, and a soft-max over them in blocks.

Pairs are held as blocks: the anchors ``rows`` (a slice, b of them) against all m candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from landcue.errors import UsageError
from landcue.losses.inputs import check_batch, check_reference, is_class_indices, show_options

BLOCK = 2**20
"""Default of :attr:`PairLoss.block`. In float32 a block takes 4 MiB and so stays in cache."""

_NEVER = -1e30  # finite, so that a weight of 0 makes it 0

Term = Callable[..., tuple[Tensor, Tensor]]
"""Maps rows, anchors ``[n, d]``, candidates ``[m, d]`` and the other learned tensors to the loss
``[b]`` of these anchors and the weight ``[b]`` that each has in the mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Anchors, the candidates that each is compared with, and the pairs that are left out.

    Attributes:
        z: Anchors ``[n, d]``.
        y: Their labels ``[n, C]``, 0 and 1, in the type of ``z``.
        other: Candidates ``[m, d]``; ``None`` when they are the anchors themselves. Then no image
            is compared with itself.
        other_y: Labels of the candidates ``[m, C]``.
        kept: Pairs ``[n, m]`` that count; ``None`` for all.
        block: Most pairs held at once.
    """

    z: Tensor
    y: Tensor
    other: Tensor | None
    other_y: Tensor
    kept: Tensor | None = None
    block: int = BLOCK

    def blocks(self, width: int = 1) -> Iterator[slice]:
        """Cut the anchors into slices whose pairs, ``width`` values each, stay within a block."""
        size = max(1, self.block // max(1, len(self.other_y) * width))
        for start in range(0, len(self.y), size):
            yield slice(start, min(len(self.y), start + size))

    def mean(self, term: Term, *learned: Tensor, width: int = 1) -> Tensor:
        """Average a loss over the anchors, holding a bounded number of pairs at a time.

        The gradient is taken block by block in the forward pass, so that nothing of the size of
        the pairs is kept or computed again for the backward pass. Second derivatives are not
        available.

        Args:
            term: The loss of some anchors, and 0 as the weight of those that have no positive. A
                loss of weight 0 must be 0.
            learned: All tensors of ``term`` but the embeddings that may need a gradient.
            width: Values that ``term`` holds for each pair.

        Returns:
            A scalar; 0 with a zero gradient when all weights are 0.
        """

        def alone(rows: slice, z: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:
            return term(rows, z, z, *more)

        blocks = self.blocks(width)
        if self.other is None:
            return cast(Tensor, _MeanOverAnchors.apply(alone, blocks, self.z, *learned))
        return cast(Tensor, _MeanOverAnchors.apply(term, blocks, self.z, self.other, *learned))

    def contrast(
        self, z: Tensor, other: Tensor, rows: slice, weights: Tensor, temperature: Tensor | float
    ) -> Tensor:
        """Return ``sum_p w_ip (log sum_a exp(s_ia / tau_ia) - s_ip / tau_ip)`` as ``[b]``.

        Args:
            z: Anchors ``[n, d]``.
            other: Candidates ``[m, d]``.
            rows: The anchors i.
            weights: ``[b, m]``, 0 for all pairs but positives.
            temperature: tau, a number, ``[b, 1]`` or ``[b, m]``.
        """
        if isinstance(temperature, Tensor) and temperature.shape[1] > 1:
            logits = z[rows] @ other.T / temperature
        else:  # one pass over the pairs less
            logits = (z[rows] / temperature) @ other.T
        return -(weights * torch.log_softmax(self.without_left_out(logits, rows), dim=1)).sum(1)

    def without_left_out(self, logits: Tensor, rows: slice) -> Tensor:
        """Set the logits ``[b, m]`` of pairs left out so low, in place, that exp gives 0.

        Autograd does not see it: what it sends back to these logits is 0 by the soft-max itself,
        wherever their weight is 0.
        """
        if self.other is None:
            logits.detach().diagonal(rows.start).fill_(_NEVER)
        if self.kept is not None:
            logits.detach().masked_fill_(~self.kept[rows], _NEVER)
        return logits

    def clear_left_out(self, values: Tensor, rows: slice) -> Tensor:
        """Set the values ``[b, m]`` of pairs left out to 0, in place."""
        if self.other is None:
            values.diagonal(rows.start).fill_(0)
        if self.kept is not None:
            values.masked_fill_(~self.kept[rows], 0)
        return values

    def shared(self, rows: slice) -> Tensor:
        """Return how many labels each pair shares, ``|S_ij|``, as ``[b, m]``."""
        return self.y[rows] @ self.other_y.T

    def union(self, rows: slice, shared: Tensor) -> Tensor:
        """Return ``|y_i or y_j|`` as ``[b, m]``."""
        return (self.y[rows].sum(1)[:, None] + self.other_y.sum(1)[None, :]).sub_(shared)

    def jaccard(self, rows: slice) -> Tensor:
        """Return ``J_ij = |S_ij| / |y_i or y_j|`` as ``[b, m]``; 0 when both are empty."""
        return jaccard(self.y[rows], self.other_y)

    def carriers(self, rows: slice) -> Tensor:
        """Return how many candidates carry each label that an anchor has, ``[b or 1, C]``."""
        if self.kept is not None:
            return self.kept[rows].to(self.other_y) @ self.other_y
        return self.other_y.sum(0, keepdim=True) - (1 if self.other is None else 0)

    def label_shares(self, rows: slice, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return each pair's share ``[b, m]``: a mean over the carriers of each label of an anchor.

        The shares of an anchor with a positive sum to 1. With them comes ``[b]``, how many labels
        of each anchor some candidate carries.

        Args:
            rows: The anchors.
            weight: Influence of each label, above 0, ``[C]``; without it all have the same.
        """
        carriers = self.carriers(rows)
        usable = self.y[rows] * (carriers > 0)
        n_labels = usable.sum(1)
        parts = usable if weight is None else usable * weight
        whole = n_labels.clamp(min=1) if weight is None else parts.sum(1)
        whole = torch.where(n_labels > 0, whole, 1)
        shares = parts / carriers.clamp(min=1) / whole[:, None]
        return self.clear_left_out(shares @ self.other_y.T, rows), n_labels


class PairLoss(nn.Module):
    """A loss over pairs of images; subclasses implement :meth:`compute`.

    Attributes:
        normalize: Whether embeddings are scaled to unit norm first. Set it to False where they
            have it already: that saves a pass.
        block: Most pairs held at once. Less takes less memory and changes no result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.normalize = True
        self.block = BLOCK

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar, computed in float32 or, of float64 embeddings, in float64.

        The last three arguments are those of a loss of pytorch-metric-learning.

        Args:
            embeddings: ``[n, d]``, any float type.
            labels: Multi-hot ``[n, C]`` of any type, or class indices, integer ``[n]``.
            indices_tuple: Pairs (anchors, positives, anchors, negatives) or triplets (anchors,
                positives, negatives), as a miner returns them; all other pairs are left out. The
                labels say which of them are positives.
            ref_emb: Embeddings ``[m, d]`` to compare with, such as a memory, instead of the batch.
            ref_labels: Their labels, given as ``labels`` are.

        Raises:
            UsageError: Wrong shapes, embeddings that are not finite, or labels out of range.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute(self._pairs(embeddings, labels, indices_tuple, ref_emb, ref_labels))

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the options."""
        return show_options(self)

    def classes_of(self, labels: Tensor) -> int | None:
        """Return C for class indices ``[n]``; ``None`` where only equality of classes matters."""
        del labels
        return None

    def _pairs(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
    ) -> Pairs:
        n = len(embeddings)
        check_reference(ref_emb, ref_labels)
        if ref_emb is None or ref_labels is None or ref_emb is embeddings:
            c = self.classes_of(labels) if is_class_indices(labels) else None
            z, y = check_batch(embeddings, labels, c)
            other, other_y = None, y
        else:
            joined = _join_labels(embeddings, labels, ref_emb, ref_labels)
            c = self.classes_of(joined) if is_class_indices(joined) else None
            both = torch.cat([embeddings, ref_emb.to(embeddings)])
            (z, other), (y, other_y) = (t.split([n, len(ref_emb)]) for t in
                                        check_batch(both, joined, c))  # fmt: skip
        kept = None
        if indices_tuple is not None:
            kept = _kept_pairs(indices_tuple, n, len(other_y)).to(z.device)
            if other is None:
                kept.fill_diagonal_(False)
        if self.normalize:
            z = F.normalize(z, dim=1)
            other = None if other is None else F.normalize(other, dim=1)
        return Pairs(z, y, other, other_y, kept, self.block)


def jaccard(first: Tensor, second: Tensor) -> Tensor:
    """Return ``J_ij = |S_ij| / |y_i or y_j|`` of labels ``[b, C]`` and ``[m, C]``; 0 when empty."""
    shared = first @ second.T
    # An anchor without labels shares none, whatever its union: counting it as 1 avoids 0 / 0.
    union = (first.sum(1).clamp(min=1)[:, None] + second.sum(1)[None, :]).sub_(shared)
    return torch.div(shared, union, out=union)


def _join_labels(z: Tensor, y: Tensor, other: Tensor, other_y: Tensor) -> Tensor:
    """Return the labels of anchors and candidates one below the other."""
    if other.shape[1:] != z.shape[1:] or len(other) != len(other_y):
        raise UsageError(
            f"need ref_emb [m, {z.shape[-1]}] and ref_labels of m images, got "
            f"{list(other.shape)} and {list(other_y.shape)}"
        )
    if other_y.shape[1:] != y.shape[1:]:
        raise UsageError(
            f"labels {list(y.shape)} and ref_labels {list(other_y.shape)} must be of one kind"
        )
    return torch.cat([y, other_y.to(y)])


def _kept_pairs(indices: tuple[Tensor, ...], n: int, m: int) -> Tensor:
    """Return which of ``[n, m]`` pairs an ``indices_tuple`` names."""
    if len(indices) not in (3, 4):
        raise UsageError(
            f"indices_tuple must hold 3 tensors (triplets) or 4 (pairs), not {len(indices)}"
        )
    anchor, positive, *_, negative = indices
    kept = torch.zeros(n, m, dtype=torch.bool, device=anchor.device)
    try:
        kept[anchor, positive] = True
        kept[indices[-2] if len(indices) == 4 else anchor, negative] = True
    except IndexError as error:
        raise UsageError(f"indices_tuple does not fit {n} x {m} pairs: {error}") from None
    return kept


class _MeanOverAnchors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, term: Term, blocks: Iterator[slice], *learned: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        needed: tuple[bool, ...] = ctx.needs_input_grad[2:]
        leaves = [t.detach().requires_grad_(n) for t, n in zip(learned, needed, strict=True)]
        trained = [leaf for leaf in leaves if leaf.requires_grad]
        gradients = [torch.zeros_like(leaf) for leaf in trained]
        total, count = learned[0].new_zeros(()), learned[0].new_zeros(())
        for rows in blocks:
            with torch.set_grad_enabled(bool(trained)):
                loss, weight = term(rows, *leaves)
                part = loss.sum()
            if trained:
                for gradient, added in zip(
                    gradients, torch.autograd.grad(part, trained), strict=True
                ):
                    gradient += added
            total += part.detach()
            count += weight.sum()
        count = count.clamp(min=1)  # weights are whole numbers
        ctx.save_for_backward(*(gradient.div_(count) for gradient in gradients))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients = iter(cast(tuple[Tensor, ...], ctx.saved_tensors))
        needed: tuple[bool, ...] = ctx.needs_input_grad[2:]
        return None, None, *(outer * next(gradients) if n else None for n in needed)

"""MARC: multi-label adaptive contrastive loss.

Reconstructed from the published description (arXiv 2512.16294); the authors' code is unreleased
and no formula is public. The directions of reweighting and temperature are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.mulsupcon import per_label_weights
from landcue.losses.pairs import (
    blocks,
    check_choice,
    check_inputs,
    check_temperature,
    contrast,
    full_precision,
    jaccard,
    mean_over_anchors,
    others,
    shared_labels,
)
from landcue.losses.statistics import LabelStatistics

Reweighting = Literal["rarity_jaccard", "pairwise", "marginal", "off"]
Weighting = Literal["none", "jaccard", "label"]
Norm = Literal["weight", "count"]
Mode = Literal["pair", "row"]
Pairs = Callable[[slice], tuple[Tensor, Tensor, Tensor]]
"""Maps rows to weights, positives and overlap, each ``[b, n]``."""
_TAU_RANGE = (0.02, 1.0)


@dataclass(frozen=True, slots=True)
class MarcOptions:
    """The member of the MARC family.

    Attributes:
        temperature: tau0, the base temperature.
        plr: Pairwise label reweighting, how a pair's shared labels become its weight.
        gamma: Exponent of rarity in ``plr``; 0 makes all labels count alike.
        power: Exponent of ``plr``'s weight (and of J with ``weighting="jaccard"``).
        alpha: Dynamic temperature: more overlap, larger tau (more similar at the optimum).
        beta: Dynamic temperature: rarer anchor, smaller tau.
        weighting: ``jaccard`` multiplies the weight by J; ``label`` averages per label of the
            anchor, as MulSupCon does.
        norm: ``weight``: each anchor's weights sum to one; ``count``: divide by the number of
            positives, weights relative to their mean over the batch.
        mode: ``pair``: every pair has its temperature; ``row``: the positive's temperature holds
            for its whole row.
    """

    temperature: float = 0.1
    plr: Reweighting = "rarity_jaccard"
    gamma: float = 0.5
    power: float = 1.0
    alpha: float = 0.0
    beta: float = 0.0
    weighting: Weighting = "none"
    norm: Norm = "weight"
    mode: Mode = "pair"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.gamma < 0 or self.power < 0:
            raise UsageError(f"gamma and power must be >= 0, not {self.gamma} and {self.power}")
        check_choice("plr", self.plr, ("rarity_jaccard", "pairwise", "marginal", "off"))
        check_choice("weighting", self.weighting, ("none", "jaccard", "label"))
        check_choice("norm", self.norm, ("weight", "count"))
        check_choice("mode", self.mode, ("pair", "row"))


@full_precision
def marc_loss(
    z: Tensor, y: Tensor, statistics: LabelStatistics, options: MarcOptions | None = None
) -> Tensor:
    """Pull images together by how much, and how rare, their common labels are.

    ``L = mean over anchors of sum_{p in P(i)} w_ip (log sum_{a != i} exp(s_ia / tau_ia) -
    s_ip / tau_ip) / norm_i``, reconstructed from the published description.

    Args:
        z: Unit-norm embeddings ``[n, d]``.
        y: Labels ``[n, C]`` of 0 and 1.
        statistics: Of the training split.
        options: Which member of the family; see :class:`MarcOptions`.

    Returns:
        A scalar; 0 with a zero gradient when no image has a positive.

    Raises:
        UsageError: Wrong shapes, labels other than 0 and 1, or statistics of other labels.
    """
    options = options or MarcOptions()
    z, y = check_inputs(z, y)
    if y.shape[1] != len(statistics.frequency):
        raise UsageError(
            f"labels have {y.shape[1]} columns, the statistics {len(statistics.frequency)}"
        )

    def pairs(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        shared = shared_labels(y[rows], y)
        overlap = jaccard(y[rows], y, shared)
        positive = (shared > 0) & others(rows, len(y), y.device)
        weights = pair_weights(y[rows], y, shared, overlap, statistics, options) * positive
        if options.weighting == "label":
            weights = weights * per_label_weights(y, rows)
        return weights, positive, overlap

    mean_weight = _mean_weight(pairs, len(z), options) if options.norm == "count" else None
    # Without alpha an anchor has one temperature, and both modes are the same.
    by_row = options.mode == "row" and options.alpha != 0
    levels = _overlap_levels(pairs, y) if by_row else y.new_zeros(1)

    def term(rows: slice) -> tuple[Tensor, Tensor]:
        weights, positive, overlap = pairs(rows)
        weights = _normalized(weights, positive, mean_weight, options)
        if by_row:
            total = _row_mode(z, rows, y, weights, overlap, levels, statistics, options)
        else:
            tau = temperatures(y[rows], overlap, statistics, options)
            total = contrast(z, rows, weights, tau)
        return total, positive.any(1)

    return mean_over_anchors(term, z, width=len(levels))


def pair_weights(
    first: Tensor,
    second: Tensor,
    shared: Tensor,
    overlap: Tensor,
    statistics: LabelStatistics,
    options: MarcOptions,
) -> Tensor:
    """Return the weight of every pair, ``w_ij`` in ``[b, n]``, before any normalization.

    Args:
        first: Labels of the anchors ``[b, C]``.
        second: Labels of the batch ``[n, C]``.
        shared: ``|S_ij|``.
        overlap: ``J_ij``.
        statistics: Of the training split.
        options: ``plr``, ``gamma``, ``power`` and ``weighting`` are used.
    """
    if options.plr == "off":
        weights = torch.ones_like(shared)
    elif options.plr == "pairwise":
        # mean of Q_cd^-gamma over S x S: both labels of each co-occurrence are shared.
        rarity = statistics.joint.to(first).pow(-options.gamma)
        weights = torch.zeros_like(shared)
        for c, row in enumerate(rarity):  # label by label: [b, n, C] would not fit
            weights += ((first[:, c, None] * first * row) @ second.T) * second[:, c]
        weights = weights / shared.square().clamp(min=1)
    else:
        rarity = statistics.frequency.to(first).pow(-options.gamma)
        common = (first * rarity) @ second.T
        if options.plr == "marginal":
            weights = common / shared.clamp(min=1)
        else:
            union = (first @ rarity)[:, None] + (second @ rarity)[None, :] - common
            weights = common / union.clamp(min=torch.finfo(first.dtype).tiny)
    weights = weights.pow(options.power)
    return weights * overlap.pow(options.power) if options.weighting == "jaccard" else weights


def temperatures(
    y: Tensor, overlap: Tensor, statistics: LabelStatistics, options: MarcOptions
) -> Tensor:
    """Return ``tau_ij = tau0 (1 + alpha J_ij)(1 - beta r_i)``, clipped to 0.02..1, ``[b, n]``.

    At the optimum the soft-max equals its target, ``s_ip = tau_ip (log q_ip + const)``, so a pair
    with a larger temperature ends up more similar: overlap must raise it.
    """
    rarity = statistics.rarity(y).to(y)
    tau = options.temperature * (1 + options.alpha * overlap)
    tau = tau * (1 - options.beta * rarity)[:, None]
    # A base outside the range is the caller's own choice: the range bounds the adaptation.
    low, high = min(_TAU_RANGE[0], options.temperature), max(_TAU_RANGE[1], options.temperature)
    return tau.clamp(low, high)


def _mean_weight(pairs: Pairs, n: int, options: MarcOptions) -> Tensor:
    """Return the weights' mean over positives; over anchors where labels share them out."""
    sums: list[Tensor] = []
    for rows in blocks(n):
        weights, positive, _ = pairs(rows)
        counted = positive.any(1) if options.weighting == "label" else positive
        sums.append(torch.stack([weights.sum(), counted.sum().to(weights)]))
    if not sums:
        return torch.ones(())
    total, count = torch.stack(sums).sum(0)
    return total / count.clamp(min=1)


def _normalized(
    weights: Tensor, positive: Tensor, mean_weight: Tensor | None, options: MarcOptions
) -> Tensor:
    if mean_weight is None:
        norm = weights.sum(1, keepdim=True)
    elif options.weighting == "label":
        norm = mean_weight
    else:
        norm = mean_weight * positive.sum(1, keepdim=True)
    return weights / norm.clamp(min=torch.finfo(weights.dtype).tiny)


def _overlap_levels(pairs: Pairs, y: Tensor) -> Tensor:
    """Return the distinct overlaps of positives, ascending; a few dozen in practice."""
    levels = [y.new_zeros(1)]
    for rows in blocks(len(y)):
        _, positive, overlap = pairs(rows)
        levels.append(overlap[positive].unique())
    return torch.cat(levels).unique()


def _row_mode(
    z: Tensor,
    rows: slice,
    y: Tensor,
    weights: Tensor,
    overlap: Tensor,
    levels: Tensor,
    statistics: LabelStatistics,
    options: MarcOptions,
) -> Tensor:
    """Return ``sum_p w_ip (log sum_a exp(s_ia / tau_ip) - s_ip / tau_ip)`` as ``[b]``.

    Positives of equal overlap have equal temperatures, so each anchor needs one soft-max per
    level of overlap: memory is O(b x levels x n).
    """
    similarity = z[rows] @ z.T
    own = y[rows]
    tau = temperatures(own, levels.expand(len(own), -1), statistics, options)
    logits = similarity[:, None, :] / tau[:, :, None]
    mask = others(rows, len(y), y.device)[:, None, :]
    normalizers = torch.logsumexp(logits.masked_fill(~mask, float("-inf")), dim=2)
    level = torch.searchsorted(levels, overlap).clamp(max=len(levels) - 1)
    per_level = torch.zeros_like(tau).scatter_add_(1, level, weights)
    pulled = weights * similarity / temperatures(own, overlap, statistics, options)
    return (per_level * normalizers).sum(1) - pulled.sum(1)

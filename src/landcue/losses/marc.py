"""MARC: multi-label adaptive contrastive loss.

Reconstructed from the published description (arXiv 2512.16294); the authors' code is unreleased
and no formula is public. The directions of reweighting and temperature are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.mulsupcon import per_label_weights
from landcue.losses.overlap_levels import OverlapLevels
from landcue.losses.pairs import (
    blocks,
    check_choice,
    check_inputs,
    check_temperature,
    clear_self,
    contrast,
    full_precision,
    jaccard,
    label_share,
    mean_over_anchors,
    shared_labels,
    without_self,
)
from landcue.losses.statistics import LabelStatistics

Reweighting = Literal["rarity_jaccard", "pairwise", "marginal", "off"]
Weighting = Literal["none", "jaccard", "label"]
Norm = Literal["weight", "count"]
Mode = Literal["pair", "row"]
Overlap = Literal["jaccard", "share"]
_TAU_RANGE = (0.02, 1.0)


@dataclass(frozen=True, slots=True)
class MarcOptions:
    """The member of the MARC family.

    The defaults are those that validation parts of UC Merced preferred; see docs/results.

    Attributes:
        temperature: tau0, the base temperature.
        plr: Pairwise label reweighting, how a pair's shared labels become its weight.
        gamma: Exponent of rarity in ``plr``; 0 makes all labels count alike.
        power: Exponent of ``plr``'s weight (and of J with ``weighting="jaccard"``).
        alpha: Dynamic temperature: more overlap, larger tau (more similar at the optimum).
        beta: Dynamic temperature: rarer anchor, smaller tau.
        overlap: What ``alpha`` follows: ``jaccard``, J_ij, or ``share`` of the anchor's labels,
            ``|S_ij| / |y_i|``.
        weighting: ``jaccard`` multiplies the weight by J; ``label`` averages per label of the
            anchor, as MulSupCon does.
        norm: ``weight``: each anchor's weights sum to one; ``count``: divide by the number of
            positives, weights relative to their mean over the batch.
        mode: ``pair``: every pair has its temperature; ``row``: the positive's temperature holds
            for its whole row.
    """

    temperature: float = 0.1
    plr: Reweighting = "off"
    gamma: float = 0.5
    power: float = 1.0
    alpha: float = 0.5
    beta: float = 0.0
    overlap: Overlap = "jaccard"
    weighting: Weighting = "label"
    norm: Norm = "weight"
    mode: Mode = "pair"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.gamma < 0 or self.power < 0:
            raise UsageError(f"gamma and power must be >= 0, not {self.gamma} and {self.power}")
        check_choice("plr", self.plr, ("rarity_jaccard", "pairwise", "marginal", "off"))
        check_choice("overlap", self.overlap, ("jaccard", "share"))
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

    # Without alpha an anchor has one temperature, and both modes are the same.
    by_level = options.mode == "row" and options.alpha != 0
    levels = OverlapLevels(y, share=options.overlap == "share") if by_level else None
    mean_weight = _mean_weight(y, statistics, options) if options.norm == "count" else None

    def term(rows: slice, z: Tensor) -> tuple[Tensor, Tensor]:
        weights = _positive_weights(y, rows, statistics, options)
        norm = weights.sum(1)
        found = norm > 0
        if mean_weight is not None:
            per_anchor = 1 if options.weighting == "label" else (weights > 0).sum(1)
            norm = mean_weight * per_anchor
        if levels is not None:
            total = _row_mode(z, rows, y, weights, levels, statistics, options)
        else:
            total = contrast(z, rows, weights, _pair_temperatures(y, rows, statistics, options))
        return total / norm.clamp(min=torch.finfo(z.dtype).tiny), found

    return mean_over_anchors(term, z, width=1 if levels is None else len(levels.overlap))


def pair_weights(
    first: Tensor, second: Tensor, statistics: LabelStatistics, options: MarcOptions
) -> Tensor:
    """Return the weight of every pair, ``w_ij`` in ``[b, n]``, before any normalization.

    It is above 0 exactly for pairs with a common label.

    Args:
        first: Labels of the anchors ``[b, C]``.
        second: Labels of the batch ``[n, C]``.
        statistics: Of the training split.
        options: ``plr``, ``gamma``, ``power`` and ``weighting`` are used.
    """
    by_overlap = options.weighting == "jaccard"
    if options.power == 0 or (options.plr == "off" and not by_overlap):
        return shared_labels(first, second).clamp_(max=1)
    if options.plr == "off":
        weights = shared_labels(first, second).clamp_(max=1)
    elif options.plr == "pairwise":
        # mean of Q_cd^-gamma over S x S: both labels of each co-occurrence are shared.
        rarity = statistics.joint.to(first).pow(-options.gamma)
        rarity = torch.triu(rarity) + torch.triu(rarity, 1)  # symmetric: each c < d counts twice
        weights = first.new_zeros(len(first), len(second))
        for c, row in enumerate(rarity):  # label by label: [b, n, C] would not fit
            own, all_ = (y[:, c:] * y[:, c, None] for y in (first, second))
            weights.addmm_(own * row[c:], all_.T)
        weights /= shared_labels(first, second).square_().clamp_(min=1)
    else:
        rarity = statistics.frequency.to(first).pow(-options.gamma)
        weights = (first * rarity) @ second.T
        if options.plr == "marginal":
            weights /= shared_labels(first, second).clamp_(min=1)
        else:
            union = torch.addmm(second @ rarity, first * -rarity, second.T)
            union += (first @ rarity)[:, None]
            weights /= union.clamp_(min=torch.finfo(first.dtype).tiny)
    if by_overlap:
        weights *= jaccard(first, second, shared_labels(first, second))
    return weights if options.power == 1 else weights.pow_(options.power)


def temperatures(
    y: Tensor, overlap: Tensor, statistics: LabelStatistics, options: MarcOptions
) -> Tensor:
    """Return ``tau_ij = tau0 (1 + alpha o_ij)(1 - beta r_i)``, clipped to 0.02..1, ``[b, n]``.

    At the optimum the soft-max equals its target, ``s_ip = tau_ip (log q_ip + const)``, so a pair
    with a larger temperature ends up more similar: overlap must raise it.
    """
    base = y.new_full((len(y), 1), options.temperature)
    if options.beta:
        base *= (1 - options.beta * statistics.rarity(y).to(y))[:, None]
    tau = torch.addcmul(base, base, overlap, value=options.alpha)  # one pass over the pairs
    # A base outside the range is the caller's own choice: the range bounds the adaptation.
    low, high = min(_TAU_RANGE[0], options.temperature), max(_TAU_RANGE[1], options.temperature)
    least = float(base.min()) * (1 + min(options.alpha, 0))
    most = float(base.max()) * (1 + max(options.alpha, 0))
    return tau if low <= least and most <= high else tau.clamp_(low, high)


def _pair_temperatures(
    y: Tensor, rows: slice, statistics: LabelStatistics, options: MarcOptions
) -> Tensor | float:
    """Return temperatures ``[b, n]``, those of the anchors ``[b, 1]``, or the only one."""
    if options.alpha == options.beta == 0:
        return options.temperature
    if options.alpha == 0:
        overlap = y.new_zeros(1, 1)
    else:
        shared = shared_labels(y[rows], y)
        by_share = options.overlap == "share"
        overlap = label_share(y[rows], shared) if by_share else jaccard(y[rows], y, shared)
    return temperatures(y[rows], overlap, statistics, options)


def _positive_weights(
    y: Tensor, rows: slice, statistics: LabelStatistics, options: MarcOptions
) -> Tensor:
    """Return the weights ``[b, n]`` of positives; all other pairs have 0."""
    alike = options.power == 0 or (options.plr == "off" and options.weighting != "jaccard")
    if alike and options.weighting == "label":
        return per_label_weights(y, rows)
    weights = clear_self(pair_weights(y[rows], y, statistics, options), rows)
    return weights * per_label_weights(y, rows) if options.weighting == "label" else weights


def _mean_weight(y: Tensor, statistics: LabelStatistics, options: MarcOptions) -> Tensor:
    """Return the weights' mean over positives; over anchors where labels share them out."""
    total, count = y.new_zeros(()), y.new_zeros(())
    for rows in blocks(len(y)):
        weights = _positive_weights(y, rows, statistics, options)
        positive = weights > 0
        total += weights.sum()
        count += (positive.any(1) if options.weighting == "label" else positive).sum()
    return total / count.clamp(min=1)


def _row_mode(
    z: Tensor,
    rows: slice,
    y: Tensor,
    weights: Tensor,
    levels: OverlapLevels,
    statistics: LabelStatistics,
    options: MarcOptions,
) -> Tensor:
    """Return ``sum_p w_ip (log sum_a exp(s_ia / tau_ip) - s_ip / tau_ip)`` as ``[b]``.

    Positives of equal overlap have equal temperatures, so each anchor needs one soft-max per
    level of overlap: memory is O(b x levels x n).
    """
    similarity = without_self(z[rows] @ z.T, rows)
    tau = temperatures(y[rows], levels.overlap[None, :], statistics, options)
    normalizers = torch.logsumexp(similarity[:, None, :] / tau[:, :, None], dim=2)
    level = levels.of(rows)
    per_level = torch.zeros_like(tau).scatter_add_(1, level, weights)
    pulled = weights / tau.gather(1, level) * similarity
    return (per_level * normalizers).sum(1) - pulled.sum(1)

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
from landcue.losses.pairs import (
    check_inputs,
    jaccard,
    logsumexp_over_others,
    off_diagonal,
    shared_labels,
    zero,
)
from landcue.losses.statistics import LabelStatistics

Reweighting = Literal["rarity_jaccard", "pairwise", "marginal", "off"]
Weighting = Literal["none", "jaccard", "label"]
Norm = Literal["weight", "count"]
Mode = Literal["pair", "row"]
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
        if self.temperature <= 0:
            raise UsageError(f"temperature must be above 0, not {self.temperature}")
        if self.gamma < 0 or self.power < 0:
            raise UsageError(f"gamma and power must be >= 0, not {self.gamma} and {self.power}")
        _choice("plr", self.plr, ("rarity_jaccard", "pairwise", "marginal", "off"))
        _choice("weighting", self.weighting, ("none", "jaccard", "label"))
        _choice("norm", self.norm, ("weight", "count"))
        _choice("mode", self.mode, ("pair", "row"))


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
    shared = shared_labels(y)
    positive = (shared > 0) & off_diagonal(len(z), z.device)
    anchors = positive.any(1)
    if not bool(anchors.any()):
        return zero(z)
    overlap = jaccard(y, shared)
    weights = pair_weights(y, shared, overlap, statistics, options)
    weights = _normalized(weights * positive, y, positive, options)
    tau = temperatures(y, overlap, statistics, options)
    if options.mode == "pair":
        logits = z @ z.T / tau
        total = weights.sum(1) * logsumexp_over_others(logits) - (weights * logits).sum(1)
    else:
        total = _row_mode(z @ z.T, tau, weights)
    return total[anchors].mean()


def pair_weights(
    y: Tensor, shared: Tensor, overlap: Tensor, statistics: LabelStatistics, options: MarcOptions
) -> Tensor:
    """Return the weight of every pair, ``w_ij`` in ``[n, n]``, before any normalization."""
    if options.plr == "off":
        weights = torch.ones_like(shared)
    elif options.plr == "pairwise":
        # mean of Q_cd^-gamma over S x S: both labels of each co-occurrence are shared.
        rarity = statistics.joint.to(y).pow(-options.gamma)
        pairs = torch.einsum("ic,jc,cd,id,jd->ij", y, y, rarity, y, y)
        weights = pairs / shared.square().clamp(min=1)
    else:
        rarity = statistics.frequency.to(y).pow(-options.gamma)
        common = (y * rarity) @ y.T
        if options.plr == "marginal":
            weights = common / shared.clamp(min=1)
        else:
            own = y @ rarity
            union = own[:, None] + own[None, :] - common
            weights = common / union.clamp(min=torch.finfo(y.dtype).tiny)
    weights = weights.pow(options.power)
    return weights * overlap.pow(options.power) if options.weighting == "jaccard" else weights


def temperatures(
    y: Tensor, overlap: Tensor, statistics: LabelStatistics, options: MarcOptions
) -> Tensor:
    """Return ``tau_ij = tau0 (1 + alpha J_ij)(1 - beta r_i)``, clipped to 0.02..1, ``[n, n]``.

    At the optimum the soft-max equals its target, ``s_ip = tau_ip (log q_ip + const)``, so a pair
    with a larger temperature ends up more similar: overlap must raise it.
    """
    rarity = statistics.rarity(y).to(y)
    tau = options.temperature * (1 + options.alpha * overlap)
    tau = tau * (1 - options.beta * rarity)[:, None]
    # A base outside the range is the caller's own choice: the range bounds the adaptation.
    low, high = min(_TAU_RANGE[0], options.temperature), max(_TAU_RANGE[1], options.temperature)
    return tau.clamp(low, high)


def _normalized(weights: Tensor, y: Tensor, positive: Tensor, options: MarcOptions) -> Tensor:
    if options.weighting == "label":
        weights = weights * _per_label(y)
        if options.norm == "count":
            mean = weights.sum() / positive.any(1).sum()
            return weights / mean.clamp(min=torch.finfo(y.dtype).tiny)
    if options.norm == "weight":
        return weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)
    n_positives = positive.sum(1, keepdim=True)
    mean = weights.sum() / positive.sum()
    return weights / (mean * n_positives.clamp(min=1)).clamp(min=torch.finfo(y.dtype).tiny)


def _per_label(y: Tensor) -> Tensor:
    """Share of each pair when positives are averaged per label, then over the anchor's labels."""
    others = (y.sum(0) - 1).clamp(min=1)  # positives that carry c, without the anchor itself
    usable = y * (y.sum(0) > 1)
    return (usable / others) @ usable.T / usable.sum(1, keepdim=True).clamp(min=1)


def _row_mode(similarity: Tensor, tau: Tensor, weights: Tensor) -> Tensor:
    """Sum over positives of ``w (log sum_a exp(s_ia / tau_ip) - s_ip / tau_ip)``, one row a time.

    Memory is O(n^2) per anchor, never O(n^3).
    """
    n = len(similarity)
    rows: list[Tensor] = []
    for i in range(n):
        positives = weights[i].nonzero().squeeze(1)
        others = torch.cat([similarity[i, :i], similarity[i, i + 1 :]])
        scale = tau[i, positives]
        normalizer = torch.logsumexp(others[None, :] / scale[:, None], dim=1)
        pulled = similarity[i, positives] / scale
        rows.append((weights[i, positives] * (normalizer - pulled)).sum())
    return torch.stack(rows)


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")

"""MARC: multi-label adaptive contrastive loss.

Reconstructed from the published description (arXiv 2512.16294); the authors' code is unreleased,
and we had no access to the paper's equations. The directions of reweighting and temperature are
ours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from landcue.errors import UsageError, did_you_mean
from landcue.losses.gain import NDCG_TAU, approx_ndcg_loss
from landcue.losses.inputs import check_choice, check_range, count_classes
from landcue.losses.pairs import PairLoss, Pairs, jaccard
from landcue.losses.statistics import LabelStatistics

Reweighting = Literal[
    "cooccurrence", "tilt", "gain", "rarity_jaccard", "pairwise", "marginal", "off"
]
Weighting = Literal["none", "jaccard", "label", "within"]
Norm = Literal["weight", "count"]
Mode = Literal["pair", "row"]
Overlap = Literal["jaccard", "share"]
_TAU_RANGE = (0.02, 1.0)
_PAIRS_AT_ONCE = 256  # columns of co-occurring labels that are held at once
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "rare": {"reweighting": "tilt", "gamma": 0.5},
}
"""Options of :class:`MARC` by the name of what they favor; ``rare`` for hunting rare labels."""


@dataclass(frozen=True, slots=True)
class _Options:
    """The arguments of :class:`MARC`."""

    temperature: float
    reweighting: Reweighting
    gamma: float
    power: float
    alpha: float
    beta: float
    overlap: Overlap
    weighting: Weighting
    norm: Norm
    mode: Mode
    ndcg: float

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, 0, above=True)
        check_range("gamma", self.gamma, 0)
        check_range("power", self.power, 0)
        check_choice("reweighting or plr", self.reweighting, get_args(Reweighting))
        check_choice("overlap", self.overlap, ("jaccard", "share"))
        of_tilt = self.reweighting == "tilt"  # which shares weights out by labels itself
        known: tuple[str, ...] = ("none", "jaccard") if of_tilt else get_args(Weighting)
        check_choice("weighting of tilt" if of_tilt else "weighting", self.weighting, known)
        check_choice("norm", self.norm, ("weight", "count"))
        check_choice("mode", self.mode, ("pair", "row"))
        check_range("ndcg", self.ndcg, 0)


class MARC(PairLoss):
    """Pull images together by how much, and how rare, their common labels are.

    ``L = mean over anchors of sum_{p in P(i)} w_ip (log sum_{a != i} exp(s_ia / tau_ia) -
    s_ip / tau_ip) / norm_i``, reconstructed from the published description, with all parts on:
    pairwise label reweighting ``w_ip = sum over (c, d) in S_ip x S_ip of Q_cd^-gamma`` (every
    shared label and every shared pair of labels adds, rare ones more) and the dynamic temperature
    ``tau_ia = tau0 (1 + alpha J_ia)(1 - beta r_i)``. Pairs are chosen by labels, and training
    with this loss draws label-aware batches by default. The page "MARC, part by part" explains
    each part and what leaving it out changes. Embeddings are scaled to unit norm. The loss is 0
    with a zero gradient when no image has a positive.

    Rarity comes from label statistics. ``MARC.from_labels(train_labels)`` takes those of a
    training split, which stay as they are. ``MARC()`` counts the labels of every batch that it
    sees in training mode, before it uses them; the counts are buffers, saved with the state.

    Args:
        statistics: Of a training split; ``None`` to learn them from the batches.
        temperature: tau0 > 0, the base temperature.
        reweighting: How the shared labels of a pair become its weight; ``None`` or ``off``
            switches it off. ``cooccurrence``: the sum above; ``tilt``: a mean over the images
            that carry each label of the anchor, labels weighted by ``f_c^-gamma``; ``gain``:
            ``2^|S| - 1``; ``rarity_jaccard``, ``pairwise`` (a mean over S x S) and ``marginal``
            (a mean over S) were worse and serve comparisons.
        gamma: Exponent >= 0 of rarity in ``reweighting``; 0 makes all labels count alike.
        power: Exponent >= 0 of that weight (and of J with ``weighting="jaccard"``).
        alpha: Dynamic temperature: more overlap, larger tau (more similar at the optimum).
        beta: Dynamic temperature: rarer anchor, smaller tau.
        overlap: What ``alpha`` follows: ``jaccard``, J_ij, or ``share`` of the anchor's labels,
            ``|S_ij| / |y_i|``.
        weighting: ``jaccard`` multiplies the weight by J. ``label`` multiplies it by the pair's
            share of MulSupCon (a mean over the carriers of each label of the anchor) and then
            normalizes per anchor; ``within`` normalizes the weights inside each label of the
            anchor, so that all its labels keep equal influence. ``tilt`` has shares of its own
            and takes ``none`` or ``jaccard``.
        norm: ``weight``: each anchor's weights sum to one; ``count``: divide by the number of
            positives, weights relative to their mean over the batch.
        mode: ``pair``: every pair has its temperature; ``row``: the positive's temperature holds
            for its whole row.
        ndcg: Weight >= 0 of :class:`ApproxNDCG`, added with its default temperature.
        plr: Short name of ``reweighting``, as configurations write it; counts if it is not empty.

    Attributes:
        learning: Whether the statistics are learned from the batches.
        n_images: Images counted, int64.
        counts: int64 ``[C, C]``; images that carry both labels, the diagonal counts each label.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings, labels = torch.eye(3), torch.tensor([[1, 1], [1, 0], [0, 1]])
    >>> MARC.from_labels(labels, temperature=1.0)(embeddings, labels)
    tensor(0.6931)
    >>> plain = MARC(reweighting=None, alpha=0.0, beta=0.0)  # SupCon
    >>> plain(embeddings, labels)
    tensor(0.6931)
    """

    n_images: Tensor
    counts: Tensor

    def __init__(
        self,
        statistics: LabelStatistics | None = None,
        *,
        temperature: float = 0.1,
        reweighting: Reweighting | None = "cooccurrence",
        gamma: float = 1.0,
        power: float = 1.0,
        alpha: float = 0.5,
        beta: float = 0.3,
        overlap: Overlap = "jaccard",
        weighting: Weighting = "none",
        norm: Norm = "weight",
        mode: Mode = "pair",
        ndcg: float = 0.0,
        plr: Reweighting | Literal[""] = "",
    ) -> None:
        super().__init__()
        self._options = _Options(
            temperature, plr or reweighting or "off", gamma, power, alpha, beta, overlap,
            weighting, norm, mode, ndcg,
        )  # fmt: skip
        self.learning = statistics is None
        n_images, counts, (mean, span) = (
            (0, torch.zeros(0, 0), (0.0, 0.0))
            if statistics is None
            else (statistics.n_images, statistics.counts, statistics.rarity_range)
        )
        # Whole numbers, which .half() and .float() leave alone.
        self.register_buffer("n_images", torch.tensor(n_images))
        self.register_buffer("counts", counts.detach().to(torch.int64).clone())
        # How many rho were seen, their mean, the least and the greatest.
        self._rho = (0, mean, 0.0, span)
        self.register_load_state_dict_pre_hook(_size_from_state)

    @classmethod
    def from_labels(cls, labels: Any, **options: Any) -> Self:
        """Make the loss with the statistics of a training split.

        Args:
            labels: Multi-hot ``[M, C]`` or class indices, integer ``[M]``; a tensor or an array.
            options: Arguments of the class; ``preset`` names those of :data:`PRESETS` that the
                others go over.

        Raises:
            UsageError: No image, labels out of range, or an option out of range.
        """
        return cls(LabelStatistics.from_labels(labels), **with_preset(options))

    @property
    def statistics(self) -> LabelStatistics:
        """The label statistics that the loss uses now."""
        _, mean, least, most = self._rho
        return LabelStatistics(int(self.n_images), self.counts.double(), (mean, most - least))

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        n_labels = pairs.y.shape[1]
        if self.learning and not len(self.counts):
            self._grow(n_labels)
        if n_labels != len(self.counts):
            raise UsageError(f"labels have {n_labels} columns, the statistics {len(self.counts)}")
        if self.learning and self.training:
            self._learn(pairs.y)
        return marc_loss(pairs, self.statistics, self._options)

    def classes_of(self, labels: Tensor) -> int:
        """Return C for class indices ``[n]``: as many as were counted, or seen so far."""
        if self.learning and len(labels):
            self._grow(count_classes(labels))
        return len(self.counts)

    def get_extra_state(self) -> Tensor:
        """Return the range of the images' rarity; not a buffer, whose precision may be lowered."""
        return torch.tensor(self._rho, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take what :meth:`get_extra_state` returned."""
        n, mean, least, most = state.tolist()
        self._rho = (int(n), mean, least, most)

    def extra_repr(self) -> str:
        """Return the options."""
        return ", ".join(f"{f.name}={getattr(self._options, f.name)!r}" for f in fields(_Options))

    def _grow(self, n_labels: int) -> None:
        """Make room for the counts of at least so many labels."""
        more = max(n_labels - len(self.counts), 0)
        self.counts = nn.functional.pad(self.counts, (0, more, 0, more))

    def _learn(self, y: Tensor) -> None:
        self.n_images += len(y)
        self.counts += (y.T @ y).to(self.counts)
        labeled = y[y.sum(1) > 0]
        if not len(labeled):
            return
        rho = self.statistics.rho(labeled)
        n, mean, least, most = self._rho
        low, high = float(rho.min()), float(rho.max())
        total = n + len(rho)
        mean += (float(rho.sum()) - len(rho) * mean) / total
        self._rho = (total, mean, min(least, low) if n else low, max(most, high) if n else high)


def with_preset(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with those of their ``preset``, if they name one, below them."""
    rest = dict(options)
    name = rest.pop("preset", "default")
    if name not in PRESETS:
        raise UsageError(f"MARC has no preset {name!r}{did_you_mean(str(name), PRESETS)}")
    return PRESETS[name] | rest


def _size_from_state(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give counts that are still learned the shape that a state holds."""
    loaded = state.get(prefix + "counts")
    if isinstance(module, MARC) and module.learning and loaded is not None:
        module.counts = module.counts.new_zeros(loaded.shape)


def marc_loss(pairs: Pairs, statistics: LabelStatistics, options: _Options) -> Tensor:
    """Return the loss of :class:`MARC`."""
    # Without alpha an anchor has one temperature, and both modes are the same.
    by_level = options.mode == "row" and options.alpha != 0
    levels = _OverlapLevels(pairs, share=options.overlap == "share") if by_level else None
    mean_weight = _mean_weight(pairs, statistics, options) if options.norm == "count" else None

    def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        weights = _positive_weights(pairs, rows, statistics, options)
        norm = weights.sum(1)
        has_positive = norm > 0
        if mean_weight is not None:
            per_anchor = 1 if _shares_out(options) else (weights > 0).sum(1)
            norm = mean_weight * per_anchor
        if levels is not None:
            total = _row_mode(pairs, z, other, rows, weights, levels, statistics, options)
        else:
            tau = _pair_temperatures(pairs, rows, statistics, options)
            total = pairs.contrast(z, other, rows, weights, tau)
        return total / norm.clamp(min=torch.finfo(z.dtype).tiny), has_positive

    loss = pairs.mean(term, width=1 if levels is None else len(levels.overlap))
    return loss + options.ndcg * approx_ndcg_loss(pairs, NDCG_TAU) if options.ndcg else loss


def pair_weights(
    first: Tensor, second: Tensor, statistics: LabelStatistics, options: _Options
) -> Tensor:
    """Return the weight of every pair, ``w_ij`` in ``[b, n]``, before any normalization.

    It is above 0 exactly for pairs with a common label.

    Args:
        first: Labels of the anchors ``[b, C]``.
        second: Labels of the batch ``[n, C]``.
        statistics: Of the training split.
        options: ``reweighting``, ``gamma``, ``power`` and ``weighting`` are used.
    """
    kind, gamma, by_overlap = options.reweighting, options.gamma, options.weighting == "jaccard"
    weights = first @ second.T
    if options.power == 0 or (kind in ("off", "tilt") and not by_overlap):
        return weights.clamp_(max=1)
    if kind in ("off", "tilt"):
        weights.clamp_(max=1)
    elif kind == "gain":
        weights = weights.exp2_().sub_(1)
    elif kind in ("cooccurrence", "pairwise"):
        n_shared = weights if kind == "pairwise" else None
        weights = _cooccurrence(first, second, statistics.joint.to(first).pow(-gamma))
        if n_shared is not None:  # the mean over S x S
            weights /= n_shared.square_().clamp_(min=1)
    else:
        rarity = statistics.frequency.to(first).pow(-gamma)
        n_shared, weights = weights, (first * rarity) @ second.T
        if kind == "marginal":
            weights /= n_shared.clamp_(min=1)
        else:
            union = torch.addmm(second @ rarity, first * -rarity, second.T)
            union += (first @ rarity)[:, None]
            weights /= union.clamp_(min=torch.finfo(first.dtype).tiny)
    if by_overlap:
        weights *= jaccard(first, second)
    return weights if options.power == 1 else weights.pow_(options.power)


def _cooccurrence(first: Tensor, second: Tensor, rarity: Tensor) -> Tensor:
    """Return ``sum over (c, d) in S_ij x S_ij of rarity_cd`` as ``[b, n]``.

    A pair of labels is a column which an image has if it carries both; so the sum is a product
    of matrices over the pairs of labels that some image carries together.
    """
    by_label = first.T.contiguous(), second.T.contiguous()  # rows are several times faster to take
    both = torch.triu((by_label[0] @ first > 0) & (by_label[1] @ second > 0))
    weights = first.new_zeros(len(first), len(second))
    # Each c < d counts twice, as (c, d) and (d, c).
    twice = torch.triu(rarity) + torch.triu(rarity, 1)
    for pairs in both.nonzero().split(_PAIRS_AT_ONCE):
        c, d = pairs.T
        own, other = (y[c] * y[d] for y in by_label)
        weights.addmm_((own * twice[c, d, None]).T, other)
    return weights


def temperatures(
    y: Tensor, overlap: Tensor, statistics: LabelStatistics, options: _Options
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
    pairs: Pairs, rows: slice, statistics: LabelStatistics, options: _Options
) -> Tensor | float:
    """Return temperatures ``[b, m]``, those of the anchors ``[b, 1]``, or the only one."""
    if options.alpha == options.beta == 0:
        return options.temperature
    own = pairs.y[rows]
    if options.alpha == 0:
        overlap = own.new_zeros(1, 1)
    elif options.overlap == "share":
        overlap = pairs.shared(rows) / own.sum(1).clamp(min=1)[:, None]
    else:
        overlap = pairs.jaccard(rows)
    return temperatures(own, overlap, statistics, options)


def _positive_weights(
    pairs: Pairs, rows: slice, statistics: LabelStatistics, options: _Options
) -> Tensor:
    """Return the weights ``[b, m]`` of positives; all other pairs have 0."""
    kind, weighting = options.reweighting, options.weighting
    tilt = statistics.frequency.to(pairs.y).pow(-options.gamma) if kind == "tilt" else None
    alike = options.power == 0 or (kind in ("off", "tilt") and weighting != "jaccard")
    if alike and (tilt is not None or weighting in ("label", "within")):
        return pairs.label_shares(rows, tilt)[0]
    weights = pair_weights(pairs.y[rows], pairs.other_y, statistics, options)
    weights = pairs.clear_left_out(weights, rows)
    if weighting == "within":
        # sum over the anchor's labels c of w_ip y_pc / sum_p' w_ip' y_p'c, over their number
        whole = weights @ pairs.other_y
        usable = pairs.y[rows] * (whole > 0)
        each = usable / whole.clamp(min=torch.finfo(whole.dtype).tiny)
        each /= usable.sum(1).clamp(min=1)[:, None]
        return weights * (each @ pairs.other_y.T)
    if tilt is None and weighting != "label":
        return weights
    return weights * pairs.label_shares(rows, tilt)[0]


def _shares_out(options: _Options) -> bool:
    """Whether an anchor's labels share out its weight, whatever the number of positives."""
    return options.weighting in ("label", "within") or options.reweighting == "tilt"


def _mean_weight(pairs: Pairs, statistics: LabelStatistics, options: _Options) -> Tensor:
    """Return the weights' mean over positives; over anchors where labels share them out."""
    total, count = pairs.y.new_zeros(()), pairs.y.new_zeros(())
    for rows in pairs.blocks():
        weights = _positive_weights(pairs, rows, statistics, options)
        positive = weights > 0
        total += weights.sum()
        count += (positive.any(1) if _shares_out(options) else positive).sum()
    return total / count.clamp(min=1)


class _OverlapLevels:
    """The distinct overlaps of all pairs; a few dozen in practice.

    The overlap is J_ij, or the share ``|S_ij| / |y_i|`` of the anchor's labels.

    Attributes:
        overlap: ``[levels]``, ascending; 0 is one of them.
    """

    def __init__(self, pairs: Pairs, *, share: bool = False) -> None:
        """Look through all pairs, a block at a time."""
        self._pairs, self._side, self._share = pairs, int(pairs.y.shape[1]) + 1, share
        device = pairs.y.device
        seen = torch.zeros(self._side**2, dtype=torch.bool, device=device)
        seen[0] = True  # nothing shared
        for rows in pairs.blocks():
            seen[self._kind(rows).flatten()] = True
        kinds = torch.arange(self._side**2, device=device)
        overlap = (kinds // self._side).to(pairs.y) / (kinds % self._side).clamp(min=1).to(pairs.y)
        self.overlap, level = overlap[seen].unique(return_inverse=True)
        self._level = torch.zeros_like(kinds).masked_scatter_(seen, level)

    def of(self, rows: slice) -> Tensor:
        """Return each pair's index into ``overlap``, ``[b, m]``."""
        return self._level[self._kind(rows)]

    def _kind(self, rows: slice) -> Tensor:
        """Number the pairs by how many labels they share, and out of how many."""
        shared = self._pairs.shared(rows)
        if self._share:
            whole = self._pairs.y[rows].sum(1)[:, None]
        else:
            whole = self._pairs.union(rows, shared)
        return (shared * self._side + whole).long()


def _row_mode(
    pairs: Pairs,
    z: Tensor,
    other: Tensor,
    rows: slice,
    weights: Tensor,
    levels: _OverlapLevels,
    statistics: LabelStatistics,
    options: _Options,
) -> Tensor:
    """Return ``sum_p w_ip (log sum_a exp(s_ia / tau_ip) - s_ip / tau_ip)`` as ``[b]``.

    Positives of equal overlap have equal temperatures, so each anchor needs one soft-max per
    level of overlap: memory is O(b x levels x m).
    """
    similarity = pairs.without_left_out(z[rows] @ other.T, rows)
    tau = temperatures(pairs.y[rows], levels.overlap[None, :], statistics, options)
    normalizers = torch.logsumexp(similarity[:, None, :] / tau[:, :, None], dim=2)
    level = levels.of(rows)
    per_level = torch.zeros_like(tau).scatter_add_(1, level, weights)
    pulled = weights / tau.gather(1, level) * similarity
    return (per_level * normalizers).sum(1) - pulled.sum(1)

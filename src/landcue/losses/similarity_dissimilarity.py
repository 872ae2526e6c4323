"""Similarity-Dissimilarity loss: what a positive shares counts for it, what it adds against it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from landcue.losses.pairs import (
    check_inputs,
    check_temperature,
    contrast,
    full_precision,
    mean_over_anchors,
    others,
    shared_labels,
)


@dataclass(frozen=True, slots=True)
class SimilarityDissimilarityOptions:
    """Temperature tau > 0."""

    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_temperature(self.temperature)


@full_precision
def similarity_dissimilarity_loss(
    z: Tensor, y: Tensor, options: SimilarityDissimilarityOptions | None = None
) -> Tensor:
    """Weight each positive by its label relation to the anchor.

    ``L = mean over anchors of 1/|P(i)| sum_{p in P(i)} K_ip (log sum_{a != i} exp(s_ia / tau) -
    s_ip / tau)`` with ``K_ip = |S_ip| / |y_i| * 1 / (1 + |y_p without y_i|)``: the share of the
    anchor's labels that p has, lowered by every label that only p has. The two factors are those
    of G. Huang et al., arXiv 2410.13439; K = 1 only for equal label sets. Reconstructed: that K
    multiplies the logarithm. Inside it, K would be constant in z and leave plain SupCon's gradient.

    Args:
        z: Unit-norm embeddings ``[n, d]``.
        y: Labels ``[n, C]`` of 0 and 1.
        options: Temperature (the authors train with 0.07).

    Returns:
        A scalar; 0 with a zero gradient when no image has a positive.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or SimilarityDissimilarityOptions()
    z, y = check_inputs(z, y)
    size = y.sum(1)

    def term(rows: slice) -> tuple[Tensor, Tensor]:
        shared = shared_labels(y[rows], y)
        match = (shared > 0) & others(rows, len(y), y.device)
        n_positives = match.sum(1, keepdim=True)
        similarity = shared / size[rows, None].clamp(min=1)
        dissimilarity = 1 / (1 + size[None, :] - shared)
        weights = similarity * dissimilarity * match / n_positives.clamp(min=1)
        return contrast(z, rows, weights, options.temperature), n_positives[:, 0] > 0

    return mean_over_anchors(term, z)

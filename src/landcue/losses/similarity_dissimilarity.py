"""Similarity-Dissimilarity loss: what a positive shares counts for it, what it adds against it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from landcue.losses.pairs import (
    check_inputs,
    check_temperature,
    clear_self,
    contrast,
    full_precision,
    mean_over_anchors,
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

    def term(rows: slice, z: Tensor) -> tuple[Tensor, Tensor]:
        shared = clear_self(shared_labels(y[rows], y), rows)
        n_positives = (shared > 0).sum(1)
        only_p = size[None, :] - shared  # |y_p without y_i|; wrong for the anchor, whose share is 0
        loss = contrast(z, rows, shared / (1 + only_p), options.temperature)
        return loss / (size[rows] * n_positives).clamp(min=1), n_positives > 0

    return mean_over_anchors(term, z)

"""Similarity-Dissimilarity loss: what a positive shares counts for it, what it adds against it."""

from __future__ import annotations

from torch import Tensor

from landcue.losses.inputs import check_range
from landcue.losses.pairs import PairLoss, Pairs


class SimilarityDissimilarity(PairLoss):
    """Weight each positive by its label relation to the anchor.

    ``L = mean over anchors of 1/|P(i)| sum_{p in P(i)} K_ip (log sum_{a != i} exp(s_ia / tau) -
    s_ip / tau)`` with ``K_ip = |S_ip| / |y_i| * 1 / (1 + |y_p without y_i|)``: the share of the
    anchor's labels that p has, lowered by every label that only p has. The two factors are those
    of G. Huang et al., arXiv 2410.13439; K = 1 only for equal label sets. Reconstructed: that K
    multiplies the logarithm. Inside it, K would be constant in z and leave plain SupCon's gradient.
    Embeddings are scaled to unit norm. The loss is 0 with a zero gradient when no image has a
    positive.

    Args:
        temperature: tau > 0 (the authors train with 0.07).

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings, labels = torch.eye(3), torch.tensor([[1, 1], [1, 0], [0, 1]])
    >>> SimilarityDissimilarity(temperature=1.0)(embeddings, labels)
    tensor(0.3466)
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        self.temperature = temperature

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        return similarity_dissimilarity_loss(pairs, self.temperature)


def similarity_dissimilarity_loss(pairs: Pairs, temperature: float) -> Tensor:
    """Return the loss of :class:`SimilarityDissimilarity`."""
    size, other_size = pairs.y.sum(1), pairs.other_y.sum(1)

    def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        shared = pairs.clear_left_out(pairs.shared(rows), rows)
        n_positives = (shared > 0).sum(1)
        # |y_p without y_i|; too large for pairs left out, whose share is 0.
        only_p = other_size[None, :] - shared
        loss = pairs.contrast(z, other, rows, shared / (1 + only_p), temperature)
        return loss / (size[rows] * n_positives).clamp(min=1), n_positives > 0

    return pairs.mean(term)

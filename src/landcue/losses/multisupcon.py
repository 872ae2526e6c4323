"""MultiSupCon: positives are images whose label sets overlap enough, weighted by the overlap."""

from __future__ import annotations

from torch import Tensor

from landcue.losses.inputs import check_range
from landcue.losses.pairs import PairLoss, Pairs


class MultiSupCon(PairLoss):
    """Pull images together by the Jaccard overlap of their labels.

    ``L = mean over anchors of 1/|N(i)| sum_{p in N(i)} J_ip (log sum_{a != i} exp(s_ia / tau) -
    s_ip / tau)`` with ``N(i) = {p != i: J_ip >= c}``, after "Contrastive Learning for Multi-Label
    Classification" (MultiSupCon). Ours: the mean in place of a sum over anchors, and pairs without
    any common label are never positives, also for c = 0 or for two images without labels.
    Embeddings are scaled to unit norm. The loss is 0 with a zero gradient when no image has a
    positive.

    Args:
        temperature: tau > 0.
        threshold: c, the least overlap of a positive, in 0..1.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings, labels = torch.eye(3), torch.tensor([[1, 1], [1, 0], [0, 1]])
    >>> MultiSupCon(temperature=1.0)(embeddings, labels)
    tensor(0.3466)
    """

    def __init__(self, *, temperature: float = 0.1, threshold: float = 0.5) -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        check_range("threshold", threshold, 0, 1)
        self.temperature, self.threshold = temperature, threshold

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        return multisupcon_loss(pairs, self.temperature, self.threshold)


def multisupcon_loss(pairs: Pairs, temperature: float, threshold: float) -> Tensor:
    """Return the loss of :class:`MultiSupCon`."""

    def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        overlap = pairs.clear_left_out(pairs.jaccard(rows), rows)
        # A threshold such as 0.2 must include an overlap of 1/5 in either precision.
        match = (overlap >= threshold - 1e-6) & (overlap > 0)
        n_positives = match.sum(1)
        loss = pairs.contrast(z, other, rows, overlap * match, temperature)
        return loss / n_positives.clamp(min=1), n_positives > 0

    return pairs.mean(term)

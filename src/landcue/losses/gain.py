"""Losses whose targets are the gains of nDCG, ``2^|S| - 1``: a soft-max, and nDCG made smooth."""

from __future__ import annotations

import torch
from torch import Tensor

from landcue.losses.inputs import check_range
from landcue.losses.pairs import PairLoss, Pairs

NDCG_TAU = 0.05
"""Default temperature of :class:`ApproxNDCG`."""


class GainSoftmax(PairLoss):
    """Cross-entropy of each anchor's soft-max against the gains of its candidates.

    ``L = - mean over anchors of sum_p q_ip log softmax_a(s_ia / tau)_p`` with
    ``q_ip = (1 - m) (2^|S_ip| - 1) / sum_a (2^|S_ia| - 1) + m * share_ip``, where ``share`` is
    MulSupCon's: a mean over the carriers of each label of the anchor. The list-wise loss of
    Z. Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, with
    the gains of nDCG as targets; the mixture is ours. With one temperature the optimum orders the
    candidates by q. Embeddings are scaled to unit norm. The loss is 0 with a zero gradient when no
    image has a positive.

    Args:
        temperature: tau > 0.
        label_share: m in 0..1; 0.5 is half gain, half MulSupCon.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings, labels = torch.eye(3), torch.tensor([[1, 1], [1, 0], [0, 1]])
    >>> GainSoftmax(temperature=1.0)(embeddings, labels)
    tensor(0.6931)
    """

    def __init__(self, *, temperature: float = 0.1, label_share: float = 0.0) -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        check_range("label_share", label_share, 0, 1)
        self.temperature, self.label_share = temperature, label_share

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""

        def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
            gains = _gains(pairs, rows)
            whole = gains.sum(1, keepdim=True)
            targets = (1 - self.label_share) * gains / whole.clamp(min=1)
            if self.label_share:
                targets += self.label_share * pairs.label_shares(rows)[0]
            return pairs.contrast(z, other, rows, targets, self.temperature), whole[:, 0] > 0

        return pairs.mean(term)


class ApproxNDCG(PairLoss):
    """One minus nDCG with smooth ranks.

    ``rank_ip = 1 + sum_{a != p} sigmoid((s_ia - s_ip) / tau)``, and the loss is the mean over
    anchors of ``1 - sum_p (2^|S_ip| - 1) / log2(1 + rank_ip) / IDCG_i``: T. Qin et al., "A general
    approximation framework for direct optimization of information retrieval measures",
    Information Retrieval 13, 2010. Memory for a block of anchors grows with the square of the
    candidates. Embeddings are scaled to unit norm. The loss is 0 with a zero gradient when no
    image has a positive.

    Args:
        temperature: tau > 0; smaller is closer to nDCG, with gradients for near neighbors only.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings, labels = torch.eye(3), torch.tensor([[1, 1], [1, 0], [0, 1]])
    >>> round(ApproxNDCG()(embeddings, labels).item(), 3)  # all tie: every rank is 1.5
    0.186
    """

    def __init__(self, *, temperature: float = NDCG_TAU) -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        self.temperature = temperature

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        return approx_ndcg_loss(pairs, self.temperature)


def approx_ndcg_loss(pairs: Pairs, temperature: float) -> Tensor:
    """Return the loss of :class:`ApproxNDCG`."""
    m = len(pairs.other_y)

    def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        gains = _gains(pairs, rows)
        similarity = pairs.without_left_out(z[rows] @ other.T, rows)
        ahead = torch.sigmoid((similarity[:, None, :] - similarity[:, :, None]) / temperature)
        ranks = ahead.sum(2) + 0.5  # an item is half ahead of itself
        discounts = 1 / torch.log2(2 + torch.arange(m, dtype=z.dtype, device=z.device))
        ideal = gains.sort(1, descending=True).values @ discounts
        some = ideal > 0
        dcg = (gains / torch.log2(1 + ranks)).sum(1)
        # Anchors without a positive have gains of 0 and so a DCG of 0.
        return some.to(dcg) - dcg / ideal.where(some, torch.ones_like(ideal)), some

    return pairs.mean(term, width=m)


def _gains(pairs: Pairs, rows: slice) -> Tensor:
    """Return ``2^|S_ij| - 1`` as ``[b, m]``, 0 for pairs left out."""
    return pairs.clear_left_out(pairs.shared(rows).exp2_().sub_(1), rows)

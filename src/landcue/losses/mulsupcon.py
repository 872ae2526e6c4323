"""MulSupCon: the positives of each label of an anchor form a supervised contrast of their own."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from landcue.losses.inputs import check_choice, check_range
from landcue.losses.pairs import PairLoss, Pairs

Average = Literal["label", "anchor"]


class MulSupCon(PairLoss):
    """Contrast each label of an anchor with the images that carry it.

    ``L_ic = mean over p in P(i), y_pc = 1, of (log sum_{a != i} exp(s_ia / tau) - s_ip / tau)``,
    from P. Zhang and M. Wu, "Multi-Label Supervised Contrastive Learning", AAAI 2024; the mean
    over all (anchor, label) pairs is the default of the authors' program, ``average="anchor"`` its
    other choice. The paper contrasts with a momentum queue. Reconstructed here: the batch (or
    ``ref_emb``) takes the queue's place, and a label that no other image of the batch carries is
    left out of both means. Embeddings are scaled to unit norm. The loss is 0 with a zero gradient
    when no image has a positive.

    Args:
        temperature: tau > 0.
        average: ``label``: over all (anchor, label) pairs of the batch, so that an image with
            many labels counts often; ``anchor``: over the labels of each anchor, then over the
            anchors.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings, labels = torch.eye(3), torch.tensor([[1, 1], [1, 0], [0, 1]])
    >>> MulSupCon(temperature=1.0)(embeddings, labels)
    tensor(0.6931)
    """

    def __init__(self, *, temperature: float = 0.1, average: Average = "label") -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        check_choice("average", average, ("label", "anchor"))
        self.temperature = temperature
        self.average: Average = average

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        return mulsupcon_loss(pairs, self.temperature, self.average)


def mulsupcon_loss(pairs: Pairs, temperature: float, average: Average) -> Tensor:
    """Return the loss of :class:`MulSupCon`."""

    def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        weights, n_labels = pairs.label_shares(rows)
        loss = pairs.contrast(z, other, rows, weights, temperature)
        return (loss, n_labels > 0) if average == "anchor" else (loss * n_labels, n_labels)

    return pairs.mean(term)

"""SupCon: supervised contrast of images with common labels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from landcue.losses.inputs import check_choice, check_range
from landcue.losses.pairs import PairLoss, Pairs

Positives = Literal["any", "all"]


class SupCon(PairLoss):
    """Pull images with common labels together.

    ``L = mean over anchors of 1/|P(i)| sum_{p in P(i)} (log sum_{a != i} exp(s_ia / tau) -
    s_ip / tau)``, P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (``L_out``).
    Embeddings are scaled to unit norm. The loss is 0 with a zero gradient when no image has a
    positive.

    Args:
        temperature: tau > 0.
        positives: ``any``: images that share at least one label; ``all``: with the same non-empty
            label set.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> embeddings = torch.eye(4)
    >>> SupCon(temperature=1.0)(embeddings, torch.tensor([0, 0, 1, 1]))
    tensor(1.0986)
    """

    def __init__(self, *, temperature: float = 0.1, positives: Positives = "any") -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        check_choice("positives", positives, ("any", "all"))
        self.temperature = temperature
        self.positives: Positives = positives

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        return supcon_loss(pairs, self.temperature, self.positives)


def supcon_loss(pairs: Pairs, temperature: float, positives: Positives) -> Tensor:
    """Return the loss of :class:`SupCon`."""
    size, other_size = pairs.y.sum(1), pairs.other_y.sum(1)

    def term(rows: slice, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        shared = pairs.clear_left_out(pairs.shared(rows), rows)
        if positives == "all":
            same = (shared > 0) & (shared == size[rows, None]) & (shared == other_size[None, :])
            positive = same.to(shared)
        else:
            positive = shared.clamp_(max=1)
        n_positives = positive.sum(1)
        loss = pairs.contrast(z, other, rows, positive, temperature)
        return loss / n_positives.clamp(min=1), n_positives > 0

    return pairs.mean(term)

"""MulSupCon: the positives of each label of an anchor form a supervised contrast of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from landcue.losses.pairs import (
    check_choice,
    check_inputs,
    check_temperature,
    clear_self,
    contrast,
    full_precision,
    mean_over_anchors,
)

Average = Literal["label", "anchor"]


@dataclass(frozen=True, slots=True)
class MulSupConOptions:
    """Options.

    Attributes:
        temperature: tau > 0.
        average: ``label``: over all (anchor, label) pairs of the batch, so that an image with
            many labels counts often; ``anchor``: over the labels of each anchor, then over the
            anchors.
    """

    temperature: float = 0.1
    average: Average = "label"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_choice("average", self.average, ("label", "anchor"))


@full_precision
def mulsupcon_loss(z: Tensor, y: Tensor, options: MulSupConOptions | None = None) -> Tensor:
    """Contrast each label of an anchor with the images that carry it.

    ``L_ic = mean over p in P(i), y_pc = 1, of (log sum_{a != i} exp(s_ia / tau) - s_ip / tau)``,
    from P. Zhang and M. Wu, "Multi-Label Supervised Contrastive Learning", AAAI 2024; the mean
    over all (anchor, label) pairs is the default of the authors' program, ``average="anchor"`` its
    other choice. The paper contrasts with a momentum queue. Reconstructed here: the batch takes
    the queue's place, and a label that no other image of the batch carries is left out of both
    means.

    Args:
        z: Unit-norm embeddings ``[n, d]``.
        y: Labels ``[n, C]`` of 0 and 1.
        options: Temperature and the kind of mean.

    Returns:
        A scalar; 0 with a zero gradient when no image has a positive.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or MulSupConOptions()
    z, y = check_inputs(z, y)

    def term(rows: slice, z: Tensor) -> tuple[Tensor, Tensor]:
        weights = per_label_weights(y, rows)
        n_labels = usable_labels(y)[rows].sum(1)
        loss = contrast(z, rows, weights, options.temperature)
        if options.average == "anchor":
            return loss, n_labels > 0
        return loss * n_labels, n_labels

    return mean_over_anchors(term, z)


def usable_labels(y: Tensor) -> Tensor:
    """Return the labels ``[n, C]`` that at least one other image of the batch carries."""
    return y * (y.sum(0) > 1)


def per_label_weights(y: Tensor, rows: slice) -> Tensor:
    """Return each pair's share ``[b, n]``: a mean over the carriers of each label of the anchor.

    The shares of an anchor with a positive sum to 1.
    """
    usable = usable_labels(y)
    carriers = (y.sum(0) - 1).clamp(min=1)  # without the anchor itself
    n_labels = usable[rows].sum(1, keepdim=True).clamp(min=1)
    return clear_self((usable[rows] / carriers / n_labels) @ usable.T, rows)

"""Classification losses of the label head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.single_label import class_numbers


@dataclass(frozen=True, slots=True)
class SoftmaxOptions:
    """Options.

    Attributes:
        label_smoothing: Share of an image's target that all classes get alike, 0..1 (1 excluded).
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"label_smoothing must lie in 0..1 (1 excluded), not {self.label_smoothing}"
            )


def label_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of each label, averaged over images and labels.

    Args:
        logits: ``[n, C]``, any float type; computed in float32 (float64 stays).
        y: Labels ``[n, C]`` of 0 and 1.

    Raises:
        UsageError: The shapes differ.
    """
    logits = _checked(logits, y)
    return F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))


def softmax_loss(logits: Tensor, y: Tensor, options: SoftmaxOptions | None = None) -> Tensor:
    """Cross-entropy of the only label of each image, averaged over images.

    Args:
        logits: ``[n, C]``, any float type; computed in float32 (float64 stays).
        y: Labels ``[n, C]``, one 1 in every row.
        options: Label smoothing (C. Szegedy et al., "Rethinking the Inception Architecture for
            Computer Vision", CVPR 2016, section 7).

    Raises:
        UsageError: The shapes differ, or an image has no label or several.
    """
    smoothing = (options or SoftmaxOptions()).label_smoothing
    logits = _checked(logits, y)
    classes = class_numbers(y, instead="bce or asymmetric")
    return F.cross_entropy(logits, classes, label_smoothing=smoothing)


def _checked(logits: Tensor, y: Tensor) -> Tensor:
    if logits.shape != y.shape:
        raise UsageError(f"logits {list(logits.shape)} and labels {list(y.shape)} differ in shape")
    return logits if logits.dtype == torch.float64 else logits.float()

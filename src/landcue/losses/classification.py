"""Classification losses of the label head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.single_label import class_numbers


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


def softmax_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the only label of each image, averaged over images.

    Args:
        logits: ``[n, C]``, any float type; computed in float32 (float64 stays).
        y: Labels ``[n, C]``, one 1 in every row.

    Raises:
        UsageError: The shapes differ, or an image has no label or several.
    """
    logits = _checked(logits, y)
    return F.cross_entropy(logits, class_numbers(y, instead="bce or asymmetric"))


def _checked(logits: Tensor, y: Tensor) -> Tensor:
    if logits.shape != y.shape:
        raise UsageError(f"logits {list(logits.shape)} and labels {list(y.shape)} differ in shape")
    return logits if logits.dtype == torch.float64 else logits.float()

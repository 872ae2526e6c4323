"""Classification loss of the label head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.errors import UsageError


def label_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of each label, averaged over images and labels.

    Args:
        logits: ``[n, C]``, any float type; computed in float32 (float64 stays).
        y: Labels ``[n, C]`` of 0 and 1.

    Raises:
        UsageError: The shapes differ.
    """
    if logits.shape != y.shape:
        raise UsageError(f"logits {list(logits.shape)} and labels {list(y.shape)} differ in shape")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype))

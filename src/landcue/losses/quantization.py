"""Quantization loss of the hash head."""

from __future__ import annotations

import torch
from torch import Tensor


def quantization_loss(h: Tensor) -> Tensor:
    """Return ``mean (|h| - 1)^2``: how far the relaxed bits are from -1 and 1.

    Args:
        h: Relaxed codes ``[n, K]`` in (-1, 1); computed in float32 (float64 stays).
    """
    h = h if h.dtype == torch.float64 else h.float()
    return (h.abs() - 1).square().mean()

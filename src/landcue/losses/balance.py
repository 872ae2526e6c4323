"""Bit balance of the hash head."""

from __future__ import annotations

import torch
from torch import Tensor


def balance_loss(h: Tensor) -> Tensor:
    """Return the mean over bits of ``(mean of h over the batch)^2``: 0 when bits are even.

    Args:
        h: Relaxed codes ``[n, K]`` in (-1, 1); computed in float32 (float64 stays).
    """
    h = h if h.dtype == torch.float64 else h.float()
    return h.mean(0).square().mean()

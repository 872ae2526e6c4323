"""Terms that shape the relaxed codes of a hash head; they need no labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Quantization(nn.Module):
    """How far relaxed bits ``h`` are from -1 and 1: ``mean (|h| - 1)^2``.

    >>> import torch
    >>> Quantization()(torch.tensor([[1.0, -0.5]]))
    tensor(0.1250)
    """

    def forward(self, codes: Tensor) -> Tensor:
        """Return the term of codes ``[n, K]`` in -1..1, in float32 (float64 stays)."""
        return (_full(codes).abs() - 1).square().mean()


class BitBalance(nn.Module):
    """How uneven the bits are: the mean over bits of ``(mean of h over the batch)^2``.

    >>> import torch
    >>> BitBalance()(torch.tensor([[1.0, -0.5], [0.0, 0.5]]))
    tensor(0.1250)
    """

    def forward(self, codes: Tensor) -> Tensor:
        """Return the term of codes ``[n, K]`` in -1..1, in float32 (float64 stays)."""
        return _full(codes).mean(0).square().mean()


def _full(codes: Tensor) -> Tensor:
    return codes if codes.dtype == torch.float64 else codes.float()

"""What every pairwise multi-label loss needs: checked inputs, label overlap, a masked soft-max."""

from __future__ import annotations

import torch
from torch import Tensor

from landcue.errors import UsageError


def check_inputs(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return embeddings and labels in the precision the loss is computed in.

    Args:
        z: Embeddings ``[n, d]``, any float type; float64 stays, all else becomes float32.
        y: Labels ``[n, C]`` of 0 and 1, any type.

    Raises:
        UsageError: Wrong shapes or labels other than 0 and 1.
    """
    if z.ndim != 2 or y.ndim != 2 or len(z) != len(y):
        raise UsageError(
            f"need embeddings [n, d] and labels [n, C], got {list(z.shape)} and {list(y.shape)}"
        )
    if not z.is_floating_point():
        raise UsageError(f"embeddings must be floating point, not {z.dtype}")
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    y = y.to(dtype)
    if not bool(((y == 0) | (y == 1)).all()):
        raise UsageError("labels must be 0 or 1")
    return z.to(dtype), y


def shared_labels(y: Tensor) -> Tensor:
    """Return how many labels each pair shares, ``|S_ij|``, as ``[n, n]``."""
    return y @ y.T


def jaccard(y: Tensor, shared: Tensor) -> Tensor:
    """Return ``J_ij = |S_ij| / |y_i or y_j|`` as ``[n, n]``; 0 when both are empty."""
    size = y.sum(1)
    union = size[:, None] + size[None, :] - shared
    return shared / union.clamp(min=1)


def off_diagonal(n: int, device: torch.device) -> Tensor:
    """Return a bool mask ``[n, n]`` that is false on the diagonal."""
    return ~torch.eye(n, dtype=torch.bool, device=device)


def logsumexp_over_others(logits: Tensor) -> Tensor:
    """Return ``log sum_{a != i} exp(logits_ia)`` as ``[n]``."""
    others = off_diagonal(len(logits), logits.device)
    return torch.logsumexp(logits.masked_fill(~others, float("-inf")), dim=1)


def zero(z: Tensor) -> Tensor:
    """Return 0 with a zero gradient, for a batch without any positive pair."""
    return (z * 0).sum()

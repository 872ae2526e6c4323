"""What every pairwise multi-label loss needs: checked inputs, label overlap, a masked soft-max.

Pairs are held as blocks: the anchors ``rows`` (a slice, b of them) against all n images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from landcue.errors import UsageError

BLOCK = 9 * 2**20
"""Most pairs held at once; a batch of up to 3,072 images is one block.

In float32 a full block is above 32 MiB, so that the C library maps it and gives it back at once;
smaller ones would fragment its heap to several times what is alive.
"""

Term = Callable[[slice], tuple[Tensor, Tensor]]
"""Maps rows to the loss ``[b]`` of these anchors and the weight ``[b]`` each has in the mean."""

_P = ParamSpec("_P")


def full_precision(
    loss: Callable[Concatenate[Tensor, _P], Tensor],
) -> Callable[Concatenate[Tensor, _P], Tensor]:
    """Switch autocast off inside a loss, which chooses its own precision."""

    @functools.wraps(loss)
    def wrapped(z: Tensor, *args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return loss(z, *args, **kwargs)

    return wrapped


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


def blocks(n: int, width: int = 1) -> Iterator[slice]:
    """Cut n anchors into slices whose pairs, ``width`` values each, stay within ``BLOCK``."""
    size = max(1, BLOCK // max(1, n * width))
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def mean_over_anchors(term: Term, *learned: Tensor, width: int = 1) -> Tensor:
    """Average a loss over its anchors, holding a bounded number of pairs at a time.

    Beyond one block the pairs are computed again in the backward pass instead of being kept.

    Args:
        term: The loss of some anchors, and 0 as the weight of those that have no positive.
        learned: All tensors that ``term`` depends on and that may need a gradient; the first one
            holds the anchors.
        width: Values that ``term`` holds for each pair.

    Returns:
        A scalar; 0 with a zero gradient when all weights are 0.
    """
    cut = list(blocks(len(learned[0]), width))
    if len(cut) > 1 and torch.is_grad_enabled():
        parts = [_recomputed(term, rows) for rows in cut]
    else:
        parts = [term(rows) for rows in cut]
    count = sum(float(weight.sum()) for _, weight in parts)
    if not count:
        return zero(*learned)
    return torch.cat([loss for loss, _ in parts]).sum() / count


def _recomputed(term: Term, rows: slice) -> tuple[Tensor, Tensor]:
    return checkpoint(term, rows, use_reentrant=False, preserve_rng_state=False)


def contrast(z: Tensor, rows: slice, weights: Tensor, temperature: Tensor | float) -> Tensor:
    """Return ``sum_p w_ip (log sum_{a != i} exp(s_ia / tau_ia) - s_ip / tau_ip)`` as ``[b]``.

    Args:
        z: Embeddings ``[n, d]``.
        rows: The anchors i.
        weights: ``[b, n]``, 0 for all pairs but positives.
        temperature: tau, a number or ``[b, n]``.
    """
    logits = z[rows] @ z.T / temperature
    normalizer = logsumexp_over_others(logits, rows)
    return weights.sum(1) * normalizer - (weights * logits).sum(1)


def shared_labels(first: Tensor, second: Tensor) -> Tensor:
    """Return how many labels each pair shares, ``|S_ij|``, as ``[b, n]``."""
    return first @ second.T


def jaccard(first: Tensor, second: Tensor, shared: Tensor) -> Tensor:
    """Return ``J_ij = |S_ij| / |y_i or y_j|`` as ``[b, n]``; 0 when both are empty."""
    return shared / union_size(first, second, shared).clamp(min=1)


def union_size(first: Tensor, second: Tensor, shared: Tensor) -> Tensor:
    """Return ``|y_i or y_j|`` as ``[b, n]``."""
    return first.sum(1)[:, None] + second.sum(1)[None, :] - shared


def others(rows: slice, n: int, device: torch.device) -> Tensor:
    """Return a bool mask ``[b, n]`` that is false where an anchor meets itself."""
    index = torch.arange(n, device=device)
    return index[rows, None] != index[None, :]


def logsumexp_over_others(logits: Tensor, rows: slice) -> Tensor:
    """Return ``log sum_{a != i} exp(logits_ia)`` as ``[b]``."""
    mask = others(rows, logits.shape[1], logits.device)
    return torch.logsumexp(logits.masked_fill(~mask, float("-inf")), dim=1)


def zero(*learned: Tensor) -> Tensor:
    """Return 0 with a zero gradient, for a batch without any positive pair."""
    return torch.stack([(tensor * 0).sum() for tensor in learned]).sum()


def check_temperature(temperature: float) -> None:
    """Raise :class:`UsageError` unless a temperature is above 0."""
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0, not {temperature}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise :class:`UsageError` unless an option has one of its values."""
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")

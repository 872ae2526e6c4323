"""What every pairwise multi-label loss needs: checked inputs, label overlap, a masked soft-max.

Pairs are held as blocks: the anchors ``rows`` (a slice, b of them) against all n images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from landcue.errors import UsageError

BLOCK = 2**20
"""Most pairs held at once. In float32 a block takes 4 MiB, so that its passes stay in cache."""

_NEVER = -1e30  # finite, so that a weight of 0 makes it 0

Term = Callable[..., tuple[Tensor, Tensor]]
"""Maps rows and the learned tensors to the loss ``[b]`` of these anchors and the weight ``[b]``
that each has in the mean."""

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
        UsageError: Wrong shapes, embeddings that are not finite, or labels other than 0 and 1.
    """
    if z.ndim != 2 or y.ndim != 2 or len(z) != len(y):
        raise UsageError(
            f"need embeddings [n, d] and labels [n, C], got {list(z.shape)} and {list(y.shape)}"
        )
    if not z.is_floating_point():
        raise UsageError(f"embeddings must be floating point, not {z.dtype}")
    wrong = ~torch.isfinite(z).all(1)
    if bool(wrong.any()):
        raise UsageError(
            f"embeddings must be finite; {int(wrong.sum())} of {len(z)} rows hold nan or "
            f"infinity, the first is row {int(wrong.nonzero()[0])}"
        )
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

    The gradient is taken block by block in the forward pass, so that nothing of the size of the
    pairs is kept or computed again for the backward pass. Second derivatives are not available.

    Args:
        term: Called with some rows and with ``learned``; the loss of these anchors, and 0 as the
            weight of those that have no positive. A loss of weight 0 must be 0.
        learned: All tensors of ``term`` that may need a gradient; the first holds the anchors.
        width: Values that ``term`` holds for each pair.

    Returns:
        A scalar; 0 with a zero gradient when all weights are 0.
    """
    return cast(Tensor, _MeanOverAnchors.apply(term, width, *learned))


class _MeanOverAnchors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, term: Term, width: int, *learned: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        needed: tuple[bool, ...] = ctx.needs_input_grad[2:]
        leaves = [t.detach().requires_grad_(n) for t, n in zip(learned, needed, strict=True)]
        sought = [leaf for leaf in leaves if leaf.requires_grad]
        gradients = [torch.zeros_like(leaf) for leaf in sought]
        total, count = learned[0].new_zeros(()), learned[0].new_zeros(())
        for rows in blocks(len(learned[0]), width):
            with torch.set_grad_enabled(bool(sought)):
                loss, weight = term(rows, *leaves)
                part = loss.sum()
            if sought:
                for gradient, added in zip(
                    gradients, torch.autograd.grad(part, sought), strict=True
                ):
                    gradient += added
            total += part.detach()
            count += weight.sum()
        count = count.clamp(min=1)  # weights are whole numbers
        ctx.save_for_backward(*(gradient.div_(count) for gradient in gradients))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients = iter(cast(tuple[Tensor, ...], ctx.saved_tensors))
        needed: tuple[bool, ...] = ctx.needs_input_grad[2:]
        return None, None, *(outer * next(gradients) if n else None for n in needed)


def contrast(z: Tensor, rows: slice, weights: Tensor, temperature: Tensor | float) -> Tensor:
    """Return ``sum_p w_ip (log sum_{a != i} exp(s_ia / tau_ia) - s_ip / tau_ip)`` as ``[b]``.

    Args:
        z: Embeddings ``[n, d]``.
        rows: The anchors i.
        weights: ``[b, n]``, 0 for all pairs but positives.
        temperature: tau, a number, ``[b, 1]`` or ``[b, n]``.
    """
    if isinstance(temperature, Tensor) and temperature.shape[1] > 1:
        logits = z[rows] @ z.T / temperature
    else:  # one pass over the pairs less
        logits = (z[rows] / temperature) @ z.T
    return -(weights * torch.log_softmax(without_self(logits, rows), dim=1)).sum(1)


def without_self(logits: Tensor, rows: slice) -> Tensor:
    """Set the logits ``[b, n]`` of anchors with themselves so low, in place, that exp gives 0.

    Autograd does not see it: what it sends back to these logits is 0 by the soft-max itself,
    wherever their weight is 0.
    """
    logits.detach().diagonal(rows.start).fill_(_NEVER)
    return logits


def clear_self(pairs: Tensor, rows: slice) -> Tensor:
    """Set what an anchor has with itself in ``[b, n]`` to 0, in place."""
    pairs.diagonal(rows.start).fill_(0)
    return pairs


def shared_labels(first: Tensor, second: Tensor) -> Tensor:
    """Return how many labels each pair shares, ``|S_ij|``, as ``[b, n]``."""
    return first @ second.T


def jaccard(first: Tensor, second: Tensor, shared: Tensor) -> Tensor:
    """Return ``J_ij = |S_ij| / |y_i or y_j|`` as ``[b, n]``; 0 when both are empty."""
    # An anchor without labels shares none, whatever its union: counting it as 1 avoids 0 / 0.
    union = (first.sum(1).clamp(min=1)[:, None] + second.sum(1)[None, :]).sub_(shared)
    return torch.div(shared, union, out=union)


def label_share(first: Tensor, shared: Tensor) -> Tensor:
    """Return ``|S_ij| / |y_i|`` as ``[b, n]``; 0 for anchors without labels."""
    return shared / first.sum(1).clamp(min=1)[:, None]


def union_size(first: Tensor, second: Tensor, shared: Tensor) -> Tensor:
    """Return ``|y_i or y_j|`` as ``[b, n]``."""
    return (first.sum(1)[:, None] + second.sum(1)[None, :]).sub_(shared)


def check_temperature(temperature: float) -> None:
    """Raise :class:`UsageError` unless a temperature is above 0."""
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0, not {temperature}")


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise :class:`UsageError` unless an option has one of its values."""
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")

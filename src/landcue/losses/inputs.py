"""Checked inputs of a loss: finite embeddings, labels as multi-hot rows, options in their range."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError


def check_batch(
    embeddings: Tensor, labels: Tensor, n_classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return embeddings ``[n, d]`` and multi-hot labels ``[n, C]`` in the precision of the loss.

    float64 stays; every other float type becomes float32.

    Args:
        embeddings: ``[n, d]``, any float type.
        labels: Multi-hot ``[n, C]`` of any type, or class indices, integer ``[n]``.
        n_classes: C, for class indices; without it the classes of this batch are numbered.
    """
    z, y = embeddings, labels
    indices = is_class_indices(y)
    if z.ndim != 2 or not (indices or y.ndim == 2) or len(z) != len(y):
        raise UsageError(
            "need embeddings [n, d] and labels [n, C], or integer class indices [n], "
            f"got {list(z.shape)} and {list(y.shape)}"
        )
    if not z.is_floating_point():
        raise UsageError(f"embeddings must be floating point, not {z.dtype}")
    wrong = ~torch.isfinite(z).all(1)
    if bool(wrong.any()):
        raise UsageError(
            f"embeddings must be finite; {int(wrong.sum())} of {len(z)} rows hold nan or "
            f"infinity, the first is row {int(wrong.nonzero()[0])}"
        )
    z = z if z.dtype == torch.float64 else z.float()
    if indices:
        return z, one_hot(y, n_classes).to(z)
    y = y.to(z)
    check_binary(y)
    return z, y


def check_binary(labels: Tensor) -> None:
    """Raise :class:`UsageError` unless all labels are 0 or 1."""
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise UsageError("labels must be 0 or 1")


def check_reference(embeddings: Tensor | None, labels: Tensor | None) -> None:
    """Raise :class:`UsageError` unless both or neither of what is compared with are given."""
    if (embeddings is None) != (labels is None):
        raise UsageError("ref_emb and ref_labels must be given together")


def is_class_indices(labels: Tensor) -> bool:
    """Return whether labels are class indices, integer ``[n]``."""
    integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return labels.ndim == 1 and integer


def one_hot(indices: Tensor, n_classes: int | None = None) -> Tensor:
    """Return class indices ``[n]`` as int64 ``[n, C]``; without C, of the distinct ones."""
    indices = indices.long()
    if n_classes is None:
        distinct, indices = indices.unique(return_inverse=True)
        return F.one_hot(indices, max(len(distinct), 1))
    wrong = ((indices < 0) | (indices >= n_classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise UsageError(
            f"class indices must lie in 0..{n_classes - 1}; row {row} has {int(indices[row])}"
        )
    return F.one_hot(indices, n_classes)


def count_classes(labels: Any) -> int:
    """Return C of the labels of a training split, ``[M, C]`` or class indices ``[M]``."""
    labels = torch.as_tensor(labels)
    if len(labels) == 0 or not (labels.ndim == 2 or is_class_indices(labels)):
        raise UsageError(
            f"need labels [M >= 1, C] or integer class indices [M], got {list(labels.shape)}"
        )
    return int(labels.shape[1] if labels.ndim == 2 else labels.long().max() + 1)


def class_indices(labels: Tensor, instead: str = "a multi-label loss such as MARC") -> Tensor:
    """Return the class of each image, int64 ``[n]``, from one-hot labels ``[n, C]``.

    Args:
        labels: One-hot labels.
        instead: What the message recommends for others.
    """
    wrong = (labels.sum(1) != 1).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise UsageError(
            f"this loss needs exactly one label per image; image {row} of the batch has "
            f"{int(labels[row].sum())} ({len(wrong)} of {len(labels)} images are such); "
            f"use {instead}"
        )
    return labels.argmax(1)


def check_range(
    name: str, value: float, low: float, high: float = math.inf, *, above: bool = False
) -> None:
    """Raise :class:`UsageError` unless an option lies in its range."""
    inside = (value > low if above else value >= low) and value <= high
    if not inside:
        if math.isfinite(high):
            raise UsageError(f"{name} must lie in {low}..{high}, not {value}")
        raise UsageError(f"{name} must be {'above' if above else 'at least'} {low}, not {value}")


def show_options(loss: nn.Module) -> str:
    """Return a loss's keyword arguments as ``repr`` shows them; they are its attributes."""
    parameters = inspect.signature(type(loss)).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return ", ".join(f"{name}={getattr(loss, name)!r}" for name in names)


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise :class:`UsageError` unless an option has one of its values."""
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")

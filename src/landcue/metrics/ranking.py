"""The order of a gallery: by distance, and by id where distances are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError

Keys = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]

HIDDEN = np.uint32(2**32 - 1)  # after every distance, infinity included


def distance_keys(distances: npt.NDArray[Any]) -> Keys:
    """Return keys uint32 ``[q, n]`` that order and tie within a row as the distances do.

    float32 and whole numbers below ``2**32 - 1`` keep one key for a distance in all rows. float64
    is not rounded: its keys are the places of the distinct distances of a row, which costs a
    slower sort.

    Raises:
        UsageError: A distance is NaN, negative as a whole number, or not a number type.
    """
    if distances.dtype.kind in "iu":
        if distances.size and (int(distances.min()) < 0 or int(distances.max()) >= int(HIDDEN)):
            raise UsageError("whole-number distances must lie in 0..2**32 - 2: give float32 else")
        return distances.astype(np.uint32)
    if distances.dtype.kind != "f":
        raise UsageError(f"distances are {distances.dtype}: give float32 or whole numbers")
    broken = np.isnan(distances)
    if broken.any():
        row, column = (int(i) for i in np.argwhere(broken)[0])
        raise UsageError(
            f"the distance of query {row} and gallery item {column} is NaN: "
            "check the embeddings they come from"
        )
    if distances.dtype.itemsize > 4:
        return _places(distances)
    bits = (distances.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    signs = (bits.view(np.int32) >> 31).view(np.uint32)  # all ones for a negative number
    return bits ^ (signs | np.uint32(2**31))


@dataclass(frozen=True, slots=True)
class Sorted:
    """Rows ``[q, n]`` sorted by key; equal keys by the number that each item carries.

    Attributes:
        packed: Unsigned integers ``[q, n]``, rising: the key above the carried number.
        bits: Bits of the carried number.
    """

    packed: npt.NDArray[np.unsignedinteger[Any]]
    bits: int

    def carried(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the carried numbers in ranked order, ``[q, n]``."""
        return self.packed & self._mask

    def starts(self, *, carried: bool = False) -> Mask:
        """Return bool ``[q, n]``: true where a key differs from the one before it.

        Args:
            carried: Whether the carried number must be equal too for two items to tie.
        """
        starts = np.ones(self.packed.shape, np.bool_)
        changed = self.packed[:, 1:] ^ self.packed[:, :-1]
        np.greater(changed, 0 if carried else self._mask, out=starts[:, 1:])
        return starts

    @property
    def _mask(self) -> np.unsignedinteger[Any]:
        return self.packed.dtype.type(2**self.bits - 1)


def sort_by(keys: Keys, low: npt.NDArray[np.integer[Any]], n_low: int) -> Sorted:
    """Sort every row by (key, low), in the narrowest type that holds both.

    Args:
        keys: uint32 ``[q, n]``.
        low: What orders equal keys and is carried along: 0 to ``n_low - 1``, ``[n]`` or
            ``[q, n]``.
        n_low: At most ``2**32``.
    """
    bits = max(1, (n_low - 1).bit_length())
    width = int(keys.max(initial=0)).bit_length() + bits
    kind = np.uint16 if width <= 16 else np.uint32 if width <= 32 else np.uint64
    packed = keys.astype(kind)
    packed <<= kind(bits)
    packed |= low.astype(kind, copy=False)
    packed.sort(axis=1, kind="stable" if kind is np.uint16 else None)  # stable: a radix sort
    return Sorted(packed, bits)


def hide(keys: Keys, hidden: Mask) -> None:
    """Put hidden items after all others: in place, as one group."""
    keys[hidden] = min(int(keys.max(initial=0)) + 1, int(HIDDEN))


def order(
    distances: npt.NDArray[Any], *, hidden: Mask | None = None
) -> tuple[npt.NDArray[np.int64], Mask]:
    """Order a gallery for each query by (distance, row).

    Args:
        distances: ``[q, n]``, float or whole numbers; rows of the gallery sorted by id make the
            tie rule independent of how the gallery was listed.
        hidden: bool ``[q, n]``, true for items that must not be found; they come last.

    Returns:
        Rows int64 ``[q, n]``, nearest first, and bool ``[q, n]``, true where a group of equal
        distances begins.

    Raises:
        UsageError: The distances cannot be ordered.
    """
    if distances.ndim != 2:
        raise UsageError(f"distances have shape {list(distances.shape)}: give [queries, gallery]")
    keys = distance_keys(distances)
    if hidden is not None:
        hide(keys, hidden)
    n = distances.shape[1]
    ranked = sort_by(keys, np.arange(n), n)
    return ranked.carried().astype(np.int64), ranked.starts()


def _places(distances: npt.NDArray[np.floating[Any]]) -> Keys:
    rows = np.argsort(distances, axis=1, kind="stable")
    ordered = np.take_along_axis(distances, rows, axis=1)
    places = np.zeros(distances.shape, np.uint32)
    np.cumsum(ordered[:, 1:] != ordered[:, :-1], axis=1, out=places[:, 1:])
    keys = np.empty_like(places)
    np.put_along_axis(keys, rows, places, axis=1)
    return keys

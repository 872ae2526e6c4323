"""How well a set of codes uses its bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from landcue.codes.packing import check_codes, to_words, unpack_bits
from landcue.errors import UsageError
from landcue.types import ByteArray

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class CodeStatistics:
    """Bit balance and collisions of n codes.

    Attributes:
        n_codes: Records counted.
        n_bits: Bits of a code.
        bit_means: Share of ones of each bit, ``[n_bits]``; 0.5 is balanced, 0 or 1 says nothing.
        imbalance: Mean over the bits of ``|2 * mean - 1|``; 0 is balanced, 1 means constant bits.
        n_distinct: Different codes.
        collision_rate: Share of the records whose code another record has too, 0..1.
    """

    n_codes: int
    n_bits: int
    bit_means: tuple[float, ...]
    imbalance: float
    n_distinct: int
    collision_rate: float

    def to_json(self) -> dict[str, Any]:
        """Return the values as plain JSON types."""
        return {
            "n_codes": self.n_codes,
            "n_bits": self.n_bits,
            "bit_means": list(self.bit_means),
            "imbalance": self.imbalance,
            "n_distinct": self.n_distinct,
            "collision_rate": self.collision_rate,
        }


def code_statistics(codes: ByteArray, n_bits: int) -> CodeStatistics:
    """Describe packed codes uint8 ``[n, ceil(n_bits / 8)]``.

    Raises:
        UsageError: The codes do not fit ``n_bits``, or there is no code or no bit to describe.
    """
    check_codes(codes, n_bits)
    n = len(codes)
    if n == 0 or n_bits == 0:
        raise UsageError(f"{n} codes of {n_bits} bits cannot be described: give at least one")
    ones = np.zeros(n_bits, np.int64)
    for first in range(0, n, _ROWS_AT_ONCE):
        ones += unpack_bits(codes[first : first + _ROWS_AT_ONCE], n_bits).sum(axis=0)
    means = ones / n

    words = to_words(codes)
    words = words[:, np.lexsort(words)]
    starts = np.flatnonzero(np.any(words[:, 1:] != words[:, :-1], axis=0)) + 1
    group_sizes = np.diff(np.concatenate(([0], starts, [n])))
    return CodeStatistics(
        n_codes=n,
        n_bits=n_bits,
        bit_means=tuple(means.tolist()),
        imbalance=float(np.mean(np.abs(2 * means - 1))),
        n_distinct=len(group_sizes),
        collision_rate=float(group_sizes[group_sizes > 1].sum() / n),
    )

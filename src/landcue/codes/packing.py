"""Bits to bytes and back, and how well a set of codes uses its bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.types import ByteArray

WORD_BITS = 64


def code_width(n_bits: int) -> int:
    """Return the bytes of one packed code of ``n_bits`` bits.

    >>> code_width(20)
    3
    """
    return (n_bits + 7) // 8


def sign_bits(values: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Cut real-valued hash outputs at zero: bool ``[n, K]``, true where ``values > 0``.

    Raises:
        UsageError: ``values`` is not ``[n, K]``, or holds NaN, which has no sign.

    >>> sign_bits(np.array([[0.3, -1.2, 0.0]])).tolist()
    [[True, False, False]]
    """
    if values.ndim != 2:
        raise UsageError(f"hash outputs have shape {list(values.shape)}: pass [n, bits]")
    broken = np.isnan(values)
    if broken.any():
        row = int(np.flatnonzero(broken.any(axis=1))[0])
        raise UsageError(f"hash outputs of row {row} are NaN: check the model that made them")
    return values > 0


def pack_bits(bits: npt.ArrayLike) -> ByteArray:
    """Pack bits ``[n, K]`` (bool, or the numbers 0 and 1) to codes ``[n, ceil(K / 8)]``.

    Bit 0 becomes the least significant bit of byte 0; bits past K are zero.

    Raises:
        UsageError: ``bits`` is not ``[n, K]`` or holds anything but 0 and 1.

    >>> pack_bits([[1, 0, 1], [0, 1, 1]]).tolist()
    [[5], [6]]
    """
    array = np.asarray(bits)
    if array.ndim != 2:
        raise UsageError(f"bits have shape {list(array.shape)}: pass [n, bits]")
    ones = array == 1
    if array.dtype != np.bool_ and not np.all(ones | (array == 0)):
        raise UsageError("bits hold values other than 0 and 1: cut them with sign_bits first")
    return np.packbits(ones, axis=1, bitorder="little")


def unpack_bits(code: ByteArray, n_bits: int) -> npt.NDArray[np.bool_]:
    """Return the bits of packed codes as bool ``[n, n_bits]``.

    Raises:
        UsageError: The codes are not packed codes of ``n_bits`` bits.

    >>> unpack_bits(pack_bits([[1, 0, 1]]), 3).tolist()
    [[True, False, True]]
    """
    check_codes(code, n_bits)
    return np.unpackbits(code, axis=1, count=n_bits, bitorder="little").astype(np.bool_)


def check_codes(code: ByteArray, n_bits: int, name: str = "codes") -> None:
    """Refuse anything but packed codes uint8 ``[n, ceil(n_bits / 8)]`` with zero padding."""
    if n_bits < 0:
        raise UsageError(f"{name} cannot have {n_bits} bits: pass 0 or more")
    if code.dtype != np.uint8:
        raise UsageError(f"{name} are {code.dtype}: pass packed uint8 (see pack_bits)")
    width = code_width(n_bits)
    if code.ndim != 2 or code.shape[1] != width:
        raise UsageError(
            f"{name} have shape {list(code.shape)}: {n_bits} bits need [n, {width}] bytes"
        )
    used = n_bits % 8
    if used and np.any(code[:, -1] >> used):
        row = int(np.flatnonzero(code[:, -1] >> used)[0])
        raise UsageError(
            f"{name} have bits set past bit {n_bits - 1} (first in row {row}): "
            "they were packed with another number of bits"
        )


def to_words(code: ByteArray) -> npt.NDArray[np.uint64]:
    """Lay packed codes ``[n, B]`` out word by word: uint64 ``[ceil(B / 8), n]``, contiguous.

    Bit 0 is the least significant bit of word 0; missing bytes count as zero. Codes of exactly
    8 bytes are not copied where the machine's byte order allows it.
    """
    n, width = code.shape
    n_words = (width + 7) // 8
    if width % 8:
        padded = np.zeros((n, n_words * 8), np.uint8)
        padded[:, :width] = code
        code = padded
    words = np.ascontiguousarray(code).view(np.dtype("<u8")).reshape(n, n_words)
    planes = words.T
    if planes.dtype == np.uint64 and planes.flags.c_contiguous and planes.flags.aligned:
        return planes
    return np.require(planes, dtype=np.uint64, requirements=["C", "A"])


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

    >>> code_statistics(pack_bits([[1, 0], [1, 1], [1, 1]]), 2).bit_means
    (1.0, 0.6666666666666666)
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


def code_statistics(codes: ByteArray, n_bits: int, block: int = 65_536) -> CodeStatistics:
    """Describe packed codes uint8 ``[n, ceil(n_bits / 8)]``, unpacking ``block`` rows at once.

    Raises:
        UsageError: The codes do not fit ``n_bits``, or there is no code or no bit to describe.

    >>> code_statistics(pack_bits([[1, 0], [1, 1], [1, 1]]), 2).n_distinct
    2
    """
    check_codes(codes, n_bits)
    n = len(codes)
    if n == 0 or n_bits == 0:
        raise UsageError(f"{n} codes of {n_bits} bits cannot be described: pass at least one")
    ones = np.zeros(n_bits, np.int64)
    for first in range(0, n, block):
        ones += unpack_bits(codes[first : first + block], n_bits).sum(axis=0)
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

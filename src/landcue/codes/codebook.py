"""Label codes of mutually exclusive classes: which bits say which class."""

from __future__ import annotations

import numpy as np

from landcue.errors import UsageError
from landcue.types import ByteArray


def base2(n_classes: int) -> ByteArray:
    """Return the class numbers in base 2, the shortest label code.

    Bit 0 is the least significant. The distance of two classes is anything from 1 to L and says
    nothing about how alike they are.

    Returns:
        uint8 ``[C, L]`` of 0 and 1, ``L = ceil(log2 C)``; a single class takes no bit.

    Raises:
        UsageError: There is no class.
    """
    _check_classes(n_classes)
    places = np.arange((n_classes - 1).bit_length())
    return (np.arange(n_classes)[:, None] >> places & 1).astype(np.uint8)


def hadamard(n_classes: int, length: int | None = None) -> ByteArray:
    """Return balanced label codes that are all equally far apart.

    Class c takes row c + 1 of the Hadamard matrix of order L in Sylvester's order, -1 written as
    1: bit j is the parity of ``(c + 1) & j``. Row 0, which is constant, is left out. So every
    code has L / 2 ones, any two differ in L / 2 bits, and bit 0 is 0 in all of them.

    Args:
        n_classes: C.
        length: L, a power of two above C; the smallest one without it.

    Returns:
        uint8 ``[C, L]`` of 0 and 1.

    Raises:
        UsageError: There is no class, or ``length`` is no power of two above ``n_classes``.
    """
    _check_classes(n_classes)
    shortest = 1 << n_classes.bit_length()
    if length is None:
        length = shortest
    if length < shortest or length & (length - 1):
        raise UsageError(
            f"{n_classes} classes have no balanced codes of {length} bits: give a power of two, "
            f"{shortest} or more"
        )
    both = np.arange(1, n_classes + 1)[:, None] & np.arange(length)
    return np.bitwise_count(both) & np.uint8(1)


def _check_classes(n_classes: int) -> None:
    if n_classes < 1:
        raise UsageError(f"{n_classes} classes have no label codes: give 1 or more")

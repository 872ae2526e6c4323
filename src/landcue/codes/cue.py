"""Label codes and hash codes side by side, and which bits say which class.

Predicted labels of a single-label model become the code of the predicted class; the published
form of DHCL (Remote Sensing 2022, 14(24), 6358) numbers the classes in base 2. The multi-label
form, one bit per label, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.hamming import MAX_BITS
from landcue.codes.packing import check_codes, pack_bits, unpack_bits
from landcue.errors import UsageError
from landcue.types import ByteArray, FloatArray


def base2(n_classes: int) -> ByteArray:
    """Return the class numbers in base 2, the shortest label code.

    Bit 0 is the least significant. The distance of two classes is anything from 1 to L and says
    nothing about how alike they are.

    Returns:
        uint8 ``[C, L]`` of 0 and 1, ``L = ceil(log2 C)``; a single class takes no bit.

    Raises:
        UsageError: There is no class.

    >>> base2(3).tolist()
    [[0, 0], [1, 0], [0, 1]]
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

    >>> hadamard(3).tolist()
    [[0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0]]
    """
    _check_classes(n_classes)
    shortest = 1 << n_classes.bit_length()
    if length is None:
        length = shortest
    if length < shortest or length & (length - 1):
        raise UsageError(
            f"{n_classes} classes have no balanced codes of {length} bits: pass a power of two, "
            f"{shortest} or more"
        )
    both = np.arange(1, n_classes + 1)[:, None] & np.arange(length)
    return np.bitwise_count(both) & np.uint8(1)


def _check_classes(n_classes: int) -> None:
    if n_classes < 1:
        raise UsageError(f"{n_classes} classes have no label codes: pass 1 or more")


Rows = slice | npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class CueCodes:
    """Label codes and hash codes of n images, each packed on its own.

    Attributes:
        label: uint8 ``[n, ceil(L / 8)]``, bit 0 = least significant bit of byte 0.
        hash: uint8 ``[n, ceil(K / 8)]``.
        n_label_bits: L; 0 for hash codes alone.
        n_hash_bits: K; 0 for label codes alone.

    >>> from landcue.codes import pack_bits
    >>> codes = CueCodes(pack_bits([[1, 0], [0, 1]]), pack_bits([[1, 1], [1, 0]]), 2, 2)
    >>> len(codes), codes.bits
    (2, '2 + 2')
    """

    label: ByteArray
    hash: ByteArray
    n_label_bits: int
    n_hash_bits: int

    def __post_init__(self) -> None:
        most = max(self.n_label_bits, self.n_hash_bits)
        if not 1 <= most <= MAX_BITS:
            raise UsageError(
                f"cue codes of {self.bits} bits: pass 1 to {MAX_BITS} hash bits or label bits"
            )
        check_codes(self.label, self.n_label_bits, "label codes")
        check_codes(self.hash, self.n_hash_bits, "hash codes")
        if len(self.label) != len(self.hash):
            raise UsageError(
                f"{len(self.label)} label codes and {len(self.hash)} hash codes: pass one of "
                "each per image"
            )

    @classmethod
    def from_classes(
        cls,
        classes: npt.NDArray[np.integer[Any]] | FloatArray,
        codebook: ByteArray,
        hash_codes: ByteArray,
        n_hash_bits: int,
    ) -> CueCodes:
        """Take the code of each image's predicted class.

        Args:
            classes: Class numbers, whole ``[n]``, or scores ``[n, C]``, of which the highest
                wins, and the first of equal ones.
            codebook: Bits of every class, 0 and 1 ``[C, L]``: see
                :mod:`landcue.codes.cue`.
            hash_codes: Packed uint8 ``[n, ceil(K / 8)]``.
            n_hash_bits: K.

        Raises:
            UsageError: A class is not in the codebook, a score is NaN, or sizes contradict each
                other.
        """
        if codebook.ndim != 2 or not len(codebook):
            raise UsageError(f"the codebook has shape {list(codebook.shape)}: pass [classes, bits]")
        if classes.ndim == 2:
            _check_scores(classes)
            if classes.shape[1] != len(codebook):
                raise UsageError(
                    f"scores of {classes.shape[1]} classes and a codebook of {len(codebook)}: "
                    "make the codebook for the model's classes"
                )
            numbers = classes.argmax(axis=1)
        elif classes.ndim == 1 and classes.dtype.kind in "iu":
            numbers = classes.astype(np.int64)
        else:
            raise UsageError(
                f"classes are {classes.dtype} {list(classes.shape)}: pass whole numbers [n], or "
                "scores [n, classes]"
            )
        unknown = np.flatnonzero((numbers < 0) | (numbers >= len(codebook)))
        if unknown.size:
            row = int(unknown[0])
            raise UsageError(
                f"row {row} is of class {numbers[row]}, but the codebook has {len(codebook)} "
                "classes, numbered from 0: make it for all classes"
            )
        label = pack_bits(codebook)[numbers]
        return cls(label, hash_codes, int(codebook.shape[1]), n_hash_bits)

    @classmethod
    def from_label_scores(
        cls,
        scores: FloatArray,
        hash_codes: ByteArray,
        n_hash_bits: int,
        threshold: float | npt.ArrayLike = 0.5,
    ) -> CueCodes:
        """Take one bit per label, set where its score reaches the threshold.

        Args:
            scores: ``[n, C]``; bit c is label c.
            hash_codes: Packed uint8 ``[n, ceil(K / 8)]``.
            n_hash_bits: K.
            threshold: One for all labels, or one per label ``[C]``, chosen on a validation part.

        Raises:
            UsageError: A score or threshold is NaN, or sizes contradict each other.
        """
        _check_scores(scores)
        cut = np.asarray(threshold, scores.dtype)  # 0.7 as float32 reaches a threshold of 0.7
        if cut.shape not in ((), (scores.shape[1],)) or np.isnan(cut).any():
            raise UsageError(
                f"thresholds have shape {list(cut.shape)} or hold NaN: pass one number, or one "
                f"per label [{scores.shape[1]}]"
            )
        return cls(pack_bits(scores >= cut), hash_codes, int(scores.shape[1]), n_hash_bits)

    @classmethod
    def split(cls, joined: ByteArray, n_label_bits: int, n_hash_bits: int) -> CueCodes:
        """Undo :meth:`joined`.

        Raises:
            UsageError: The codes are not packed codes of ``n_label_bits + n_hash_bits`` bits.
        """
        if min(n_label_bits, n_hash_bits) < 0:
            raise UsageError(
                f"codes cannot be split into {n_label_bits} label bits and {n_hash_bits} hash "
                "bits: pass 0 or more of each"
            )
        bits = unpack_bits(joined, n_label_bits + n_hash_bits)
        label, rest = pack_bits(bits[:, :n_label_bits]), pack_bits(bits[:, n_label_bits:])
        return cls(label, rest, n_label_bits, n_hash_bits)

    def __len__(self) -> int:
        return len(self.hash)

    @property
    def bits(self) -> str:
        """Stored bits, hash and label apart: ``64 + 5``."""
        return f"{self.n_hash_bits} + {self.n_label_bits}"

    @property
    def label_first(self) -> int:
        """The least weight that orders by label distance first, then by hash: K + 1."""
        return self.n_hash_bits + 1

    def take(self, rows: Rows) -> CueCodes:
        """Return the codes of some images: a slice, row numbers, or one bool per image."""
        return CueCodes(self.label[rows], self.hash[rows], self.n_label_bits, self.n_hash_bits)

    def joined(self, repeat: int = 1) -> ByteArray:
        """Return packed codes ``[n, ceil((repeat * L + K) / 8)]``: label bits, then hash bits.

        With the label bits repeated w times, the Hamming distance is the distance of weight w.
        """
        if repeat == 0:
            return self.hash
        label = np.tile(unpack_bits(self.label, self.n_label_bits), (1, repeat))
        return pack_bits(np.hstack([label, unpack_bits(self.hash, self.n_hash_bits)]))


def _check_scores(scores: npt.NDArray[Any]) -> None:
    if scores.ndim != 2 or scores.dtype.kind != "f" or scores.shape[1] == 0:
        raise UsageError(
            f"label scores are {scores.dtype} {list(scores.shape)}: pass floats [n, labels]"
        )
    broken = np.flatnonzero(np.isnan(scores).any(axis=1))
    if broken.size:
        raise UsageError(
            f"label scores of row {int(broken[0])} are NaN: check the model that made them"
        )

"""Packed binary codes: their bits, exact nearest codes, codes of floats, statistics.

A code of K bits is a row of ``ceil(K / 8)`` bytes, uint8; bit 0 is the least significant bit of
byte 0, and bits past K are zero.

>>> import numpy as np
>>> from landcue import codes
>>> packed = codes.pack_bits([[1, 0, 1], [0, 0, 1], [1, 1, 1]])
>>> distances, rows = codes.CodeIndex(packed, 3).search(packed[:1], k=2)
>>> rows.tolist(), distances.tolist()
([[0, 1]], [[0, 1]])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcue.codes.cue import CueCodes, base2, hadamard
    from landcue.codes.cue_index import CueIndex, cue_distances
    from landcue.codes.hamming import CodeIndex, hamming_distances
    from landcue.codes.hashers import (
        Decoder,
        Hasher,
        fit_decoder,
        fit_hasher,
        fit_itq,
        fit_lsh,
        fit_sign,
    )
    from landcue.codes.packing import (
        CodeStatistics,
        code_statistics,
        code_width,
        pack_bits,
        sign_bits,
        unpack_bits,
    )

_MODULES = {
    "CodeIndex": "hamming",
    "CodeStatistics": "packing",
    "CueCodes": "cue",
    "CueIndex": "cue_index",
    "Decoder": "hashers",
    "Hasher": "hashers",
    "base2": "cue",
    "code_statistics": "packing",
    "code_width": "packing",
    "cue_distances": "cue_index",
    "fit_decoder": "hashers",
    "fit_hasher": "hashers",
    "fit_itq": "hashers",
    "fit_lsh": "hashers",
    "fit_sign": "hashers",
    "hadamard": "cue",
    "hamming_distances": "hamming",
    "pack_bits": "packing",
    "sign_bits": "packing",
    "unpack_bits": "packing",
}
"""Where each public name is defined: it is imported when it is used first."""

__all__ = [
    "CodeIndex",
    "CodeStatistics",
    "CueCodes",
    "CueIndex",
    "Decoder",
    "Hasher",
    "base2",
    "code_statistics",
    "code_width",
    "cue_distances",
    "fit_decoder",
    "fit_hasher",
    "fit_itq",
    "fit_lsh",
    "fit_sign",
    "hadamard",
    "hamming_distances",
    "pack_bits",
    "sign_bits",
    "unpack_bits",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

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

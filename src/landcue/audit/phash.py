"""A 64-bit perceptual hash from the discrete cosine transform, with all turned and flipped forms.

The picture is averaged down to 32 x 32 gray values, transformed (DCT-II), and the signs of the 64
lowest frequencies but the mean are kept. So a change of brightness or of contrast changes no bit,
and re-encoding or a crop by a pixel changes few.

Flipping a picture turns the sign of the odd frequencies and transposing it swaps the two axes. Both
hold for the hash bits too, and the eight forms of a picture cost one transform.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from PIL import Image

from landcue.codes.packing import pack_bits
from landcue.types import ByteArray, FloatArray

SIDE = 32
N_BITS = 64
FORMS = (
    "as it is",
    "flipped left-right",
    "flipped top-bottom",
    "turned by 180°",
    "transposed",
    "turned by 270°",
    "turned by 90°",
    "transposed across",
)
"""What :func:`form` does to a picture; turns are counterclockwise."""


def form(image: npt.NDArray[np.generic], index: int) -> npt.NDArray[np.generic]:
    """Return ``[h, w, ...]`` turned and flipped: ``FORMS[index]``."""
    if index & 4:
        image = np.swapaxes(image, 0, 1)
    if index & 1:
        image = image[:, ::-1]
    if index & 2:
        image = image[::-1]
    return image


def gray(image: ByteArray) -> FloatArray:
    """Average uint8 ``[h, w, 3]`` down (or up) to gray values float32 ``[32, 32]`` in 0..255."""
    # In floats: rounding to whole gray values would flip signs in pictures of low contrast.
    luma = Image.fromarray(image).convert("L").convert("F")
    return np.asarray(luma.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)


def hash_bits(grays: FloatArray) -> npt.NDArray[np.bool_]:
    """Return the hash bits of gray pictures ``[n, 32, 32]``, bool ``[n, 8, 64]``, all forms.

    ``[:, i]`` are the bits of the pictures in the form ``FORMS[i]``.
    """
    basis = _basis()
    low = basis @ grays @ basis.T
    u, v = _frequencies()
    straight, swapped = low[:, u, v], low[:, v, u]
    # A flip mirrors one axis: cosines of odd frequency change their sign.
    across, down = np.where(v % 2, -1, 1), np.where(u % 2, -1, 1)
    forms = [
        values * (across if index & 1 else 1) * (down if index & 2 else 1)
        for values, index in [(straight, i) for i in range(4)] + [(swapped, i) for i in range(4)]
    ]
    return np.stack(forms, axis=1) > 0


def hashes(grays: FloatArray) -> ByteArray:
    """Return packed hashes uint8 ``[n, 8, 8]`` of ``[n, 32, 32]``: one of 8 bytes per form."""
    bits = hash_bits(grays)
    return pack_bits(bits.reshape(-1, N_BITS)).reshape(len(grays), len(FORMS), -1)


@functools.cache
def _basis() -> FloatArray:
    """Return the DCT-II rows ``[9, 32]`` of the frequencies in use, orthonormal up to scale."""
    highest = 1 + max(int(axis.max()) for axis in _frequencies())
    k, x = np.arange(highest)[:, None], np.arange(SIDE)[None]
    return np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE)).astype(np.float32)


@functools.cache
def _frequencies() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows u and columns v of the 64 lowest frequencies, the mean left out."""
    size = 12
    u, v = (axis.ravel() for axis in np.mgrid[:size, :size])
    order = np.lexsort((v, u, u * u + v * v))[1 : N_BITS + 1]
    return u[order], v[order]

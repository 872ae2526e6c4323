"""From images of any kind and size to the squares an encoder takes, without torch."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.types import ByteArray, Images

AT_ONCE = 512
"""Most images whose activations an encoder holds in memory together."""
_MOST_PRECISION = 22
_WEIGHT_LIMIT = 1 << 15
_FEW, _SMALL = 8, 4_000_000
"""So many images of at most so many values are resized without numba, which takes 0.4 s to load."""
_RESIZED = itertools.count()


def to_batch(images: Images, size: int, bands: int) -> ByteArray:
    """Return images as uint8 ``[n, size, size, bands]``; what has that shape is not copied.

    Args:
        images: n image files, Pillow images or uint8 arrays ``[h, w, bands]`` of any sizes, or one
            uint8 array ``[n, h, w, bands]``.
        size: Side in pixels.
        bands: Channels of an image; files and Pillow images have 3, red, green and blue.
    """
    shape = images.shape[1:] if isinstance(images, np.ndarray) else None
    if shape == (size, size, bands) and isinstance(images, np.ndarray) and images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    return np.stack([resize_square(image, size) for image in as_pixels(images, size, bands)])


def as_pixels(images: Images, size: int, bands: int) -> list[ByteArray]:
    """Return the decoded images, uint8 ``[h, w, bands]`` each; see :func:`to_batch`."""
    if isinstance(images, str | Path) or not hasattr(images, "__len__"):
        raise UsageError(f"pass a list of images, not one {type(images).__name__}")
    if not len(images):
        raise UsageError("pass at least one image")
    return [_pixels(image, bands, size) for image in images]


def _pixels(image: Any, bands: int, size: int) -> ByteArray:
    if isinstance(image, str | Path):
        from landcue.data.images import read_picture
        from landcue.data.scenes import SceneOptions

        image = read_picture(Path(image), SceneOptions(channels=bands, side=size)).pixels
    elif not isinstance(image, np.ndarray) and hasattr(image, "convert"):  # of Pillow
        from landcue.data.images import read_pillow

        image = read_pillow(image)
    shape, kind = np.shape(image), getattr(image, "dtype", type(image).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != bands or 0 in shape:
        raise UsageError(f"need uint8 images [h, w, {bands}], got {kind} {list(shape)}")
    return image


def resize_square(image: ByteArray, size: int) -> ByteArray:
    """Resize to ``size`` x ``size`` pixels with an anti-aliased bilinear filter.

    The aspect ratio is not kept: chips are square or nearly so, and a crop would lose labels.
    Equal, byte for byte, to ``torch.nn.functional.interpolate(mode="bilinear", antialias=True)`` of
    bytes, which rounds weights to 16 bits and each of the two passes to bytes; within one gray
    level of Pillow.

    Args:
        image: uint8 ``[h, w, C]``.
        size: Side in pixels.

    Returns:
        uint8 ``[size, size, C]``; the input itself when it already has that size.

    >>> resize_square(np.full((300, 200, 3), 7, np.uint8), 160).shape
    (160, 160, 3)
    """
    height, width, bands = image.shape
    if (height, width) == (size, size):
        return image
    few = image.size <= _SMALL and next(_RESIZED) < _FEW
    resize = _resize_uncompiled if few else _kernel()
    if width != size:
        rows = np.empty((height, size, bands), np.uint8)
        resize(
            np.ascontiguousarray(image).reshape(height, width, bands), *_weights(width, size), rows
        )
        image = rows
    if height != size:
        out = np.empty((1, size, size * bands), np.uint8)
        flat = np.ascontiguousarray(image).reshape(1, height, size * bands)
        resize(flat, *_weights(height, size), out)
        image = out.reshape(size, size, bands)
    return image


def _resize_uncompiled(
    image: ByteArray,
    first: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int32],
    precision: int,
    out: ByteArray,
) -> None:
    """Filter as :func:`_resize` does, to the same bytes, without loading numba."""
    sums = np.full(out.shape, 1 << (precision - 1), np.int32)
    for tap in range(weights.shape[1]):  # weights of pixels beyond the last are 0
        sums += weights[:, tap, None] * image[:, np.minimum(first + tap, image.shape[1] - 1)]
    out[:] = np.minimum(sums >> precision, 255)


@functools.lru_cache(256)
def _weights(n: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int]:
    """Return the filter that maps n pixels to ``size``.

    Returns:
        The first pixel of each output, int64 ``[size]``; its weights, int32 ``[size, taps]``, zero
        beyond the last; and by how many bits their sums are shifted.
    """
    scale = n / size
    support = max(scale, 1.0)
    most = math.ceil(support) * 2 + 1
    centers = scale * (np.arange(size) + 0.5)
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    count = np.clip(np.minimum((centers + support + 0.5).astype(np.int64), n) - first, 0, most)
    taps = np.arange(int(count.max()))
    distance = np.abs((taps + first[:, None] - centers[:, None] + 0.5) * (1 / support))
    weights = np.where(taps < count[:, None], np.maximum(1 - distance, 0), 0)
    weights /= weights.sum(1, keepdims=True)
    precision, largest = 0, float(weights.max())
    while (
        precision < _MOST_PRECISION and int(0.5 + largest * (1 << (precision + 1))) < _WEIGHT_LIMIT
    ):
        precision += 1
    return first, (weights * (1 << precision) + 0.5).astype(np.int32), precision


def _resize(image: Any, first: Any, weights: Any, precision: int, out: Any) -> None:
    """Filter uint8 ``[a, n, b]`` along its second axis into ``out``, uint8 ``[a, size, b]``."""
    sums = np.empty(image.shape[2], np.int32)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            start = first[column]
            taps = min(weights.shape[1], image.shape[1] - start)
            if image.shape[2] == 3:  # the usual case, with its sums in registers
                red = green = blue = np.int32(1 << (precision - 1))
                for tap in range(taps):
                    weight = weights[column, tap]
                    red += weight * np.int32(image[row, start + tap, 0])
                    green += weight * np.int32(image[row, start + tap, 1])
                    blue += weight * np.int32(image[row, start + tap, 2])
                out[row, column, 0] = min(red >> precision, 255)
                out[row, column, 1] = min(green >> precision, 255)
                out[row, column, 2] = min(blue >> precision, 255)
                continue
            sums[:] = 1 << (precision - 1)
            for tap in range(taps):
                weight = weights[column, tap]
                for band in range(image.shape[2]):
                    sums[band] += weight * image[row, start + tap, band]
            for band in range(image.shape[2]):
                out[row, column, band] = min(sums[band] >> precision, 255)


@functools.cache
def _kernel() -> Any:
    """Compile :func:`_resize`, or load it from numba's cache; it releases the interpreter lock."""
    import numba
    from numba import types

    image = types.Array(types.uint8, 3, "C", readonly=True)
    weights = types.int32[:, ::1]
    signature = types.void(image, types.int64[::1], weights, types.int64, types.uint8[:, :, ::1])
    try:
        return numba.njit(signature, cache=True, nogil=True)(_resize)
    except Exception:  # no writable cache folder, or a broken one: compile for this process only
        return numba.njit(signature, nogil=True)(_resize)

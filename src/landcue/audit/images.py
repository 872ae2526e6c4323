"""What an audit keeps of one image: digests, sizes, small gray pictures, a perceptual hash."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from landcue.codes.packing import pack_bits
from landcue.data.images import read_image
from landcue.data.raster import (
    HEAD,
    decoder_of,
    is_raster,
    kind_of,
    open_dataset,
    raster_options,
    without_warnings,
)
from landcue.errors import DataError, StoreError
from landcue.types import ByteArray, FloatArray, Record

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
"""What :func:`landcue.data.north.turned` does by its number; turns are counterclockwise."""


def gray(image: ByteArray) -> FloatArray:
    """Average uint8 ``[h, w, 3]`` down (or up) to gray values float32 ``[32, 32]`` in 0..255."""
    return _averaged(Image.fromarray(image).convert("L"))


def _averaged(luma: Image.Image) -> FloatArray:
    # In floats: rounding to whole gray values would flip signs in pictures of low contrast.
    small = luma.convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


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


CANVAS = 128
"""Side in pixels of the gray picture in which overlaps are looked for."""


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One decoded image.

    Attributes:
        content: BLAKE2b-128 of the file's bytes, hex.
        pixels: BLAKE2b-128 of the decoded size and RGB values, hex.
        size: (height, width) in pixels, as the file stores them.
        kind: Pillow's mode of the stored pixels (``RGB``, ``L`` …), or the type of a raster.
        bands: Stored bands per pixel; a palette is one.
        gray: float32 ``[32, 32]``, the whole picture averaged down.
        canvas: uint8 ``[128, 128]``, its upper left averaged down by the whole number ``factor``.
        factor: Pixels of the image per pixel of ``canvas``.
    """

    content: str
    pixels: str
    size: tuple[int, int]
    kind: str
    bands: int
    gray: FloatArray
    canvas: ByteArray
    factor: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that does not decode; ``content`` is ``None`` where not even its bytes are there."""

    content: str | None
    reason: str


def summarize_image(record: Record) -> tuple[ImageSummary, ByteArray] | Unreadable:
    """Read one file once; return what is kept of it and its decoded RGB pixels."""
    content = None
    try:
        try:
            data = record.path.read_bytes()
        except OSError as error:
            return Unreadable(None, f"cannot be read ({error.strerror})")
        content = _digest(data)
        image = read_image(data, name=record.id)
    except StoreError:  # what a store does not give is not broken
        raise
    except DataError as error:
        return Unreadable(content, str(error).removeprefix(f"{record.id}: "))
    kind, bands = _stored(data)
    luma = Image.fromarray(image).convert("L")
    factor = max(1, round(max(image.shape[:2]) / CANVAS))
    found = ImageSummary(
        content=content,
        pixels=_digest(repr(image.shape).encode(), np.ascontiguousarray(image).data),
        size=(image.shape[0], image.shape[1]),
        kind=kind,
        bands=bands,
        gray=_averaged(luma),
        canvas=_canvas(luma, factor),
        factor=factor,
    )
    return found, image


def _stored(data: bytes) -> tuple[str, int]:
    if is_raster(data[:HEAD]):
        dataset, beside = open_dataset(data)
        with raster_options(beside), dataset:
            return str(dataset.dtypes[0]), int(dataset.count)
    formats = decoder_of(kind_of(data[:HEAD]))
    with without_warnings, Image.open(io.BytesIO(data), formats=formats) as image:
        return image.mode, len(image.getbands())


def _canvas(luma: Image.Image, factor: int) -> ByteArray:
    small = np.asarray(luma.reduce(factor))[:CANVAS, :CANVAS]
    canvas = np.full((CANVAS, CANVAS), round(float(small.mean())), np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that are one picture.

    Attributes:
        rows: Rows of the images, ascending.
        same_bytes: Whether the files are equal byte by byte, and not only when decoded.
    """

    rows: tuple[int, ...]
    same_bytes: bool


def groups_of(keys: Sequence[Hashable | None]) -> list[tuple[int, ...]]:
    """Return the rows that share a key, where two or more do; ``None`` is no key."""
    rows: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            rows.setdefault(key, []).append(row)
    return sorted(tuple(group) for group in rows.values() if len(group) > 1)


def contradictions(pairs: Sequence[tuple[int, ...]], records: Sequence[Record]) -> list[int]:
    """Return the positions in ``pairs`` whose annotated images differ in labels or in group.

    An image without annotation contradicts nothing.
    """
    found: list[int] = []
    for position, rows in enumerate(pairs):
        labels = {frozenset(x) for row in rows if (x := records[row].labels) is not None}
        scenes = {x for row in rows if (x := records[row].group) is not None}
        if len(labels) > 1 or len(scenes) > 1:
            found.append(position)
    return found

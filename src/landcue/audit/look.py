"""What an audit keeps of one image file: digests, sizes and small gray pictures."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from landcue.audit.phash import gray
from landcue.data.images import FORMATS, read_image
from landcue.errors import DataError, StoreError
from landcue.types import ByteArray, FloatArray, Record

CANVAS = 128
"""Side in pixels of the gray picture in which overlaps are looked for."""


@dataclass(frozen=True, slots=True)
class Look:
    """One decoded image.

    Attributes:
        content: BLAKE2b-128 of the file's bytes, hex.
        pixels: BLAKE2b-128 of the decoded size and RGB values, hex.
        size: (height, width) in pixels, as the file stores them.
        kind: Pillow's mode of the stored pixels (``RGB``, ``L``, ``RGBA``, ``I;16`` …).
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


def look(record: Record) -> tuple[Look, ByteArray] | Unreadable:
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
    factor = max(1, round(max(image.shape[:2]) / CANVAS))
    found = Look(
        content=content,
        pixels=_digest(repr(image.shape).encode(), np.ascontiguousarray(image).data),
        size=(image.shape[0], image.shape[1]),
        kind=kind,
        bands=bands,
        gray=gray(image),
        canvas=_canvas(image, factor),
        factor=factor,
    )
    return found, image


def _stored(data: bytes) -> tuple[str, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.mode, len(image.getbands())


def _canvas(image: ByteArray, factor: int) -> ByteArray:
    small = np.asarray(Image.fromarray(image).convert("L").reduce(factor))[:CANVAS, :CANVAS]
    canvas = np.full((CANVAS, CANVAS), round(float(small.mean())), np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()

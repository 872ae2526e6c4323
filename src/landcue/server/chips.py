"""Read the pixels of a record from its image below the source root, as a JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from landcue.archive.manifest import Manifest
from landcue.data.images import is_image_path
from landcue.data.objects import is_object, joined
from landcue.server.decoding import Decoders
from landcue.server.errors import ProblemError
from landcue.types import ByteArray, Window

LARGEST_FILE = 256 << 20
"""Bytes of an image file that a chip is made from; scenes are read window by window instead."""

_QUALITY = 92


def chip_jpeg(
    decoders: Decoders, manifest: Manifest, stored: str, window: Window | None, side: int
) -> bytes:
    """Return the image ``stored``, or a window of it, at most ``side`` pixels on its longer side.

    Raises:
        ProblemError: 404: the file is not there, too large, or not below the source root.
        DataError: It is broken, or costs too much to decode.
    """
    return _jpeg(chip_pixels(decoders, manifest, stored, window), side)


def chip_pixels(
    decoders: Decoders, manifest: Manifest, stored: str, window: Window | None
) -> ByteArray:
    """Return the image ``stored``, or a window of it, as uint8 ``[h, w, C]``.

    Raises:
        ProblemError: 404: the file is not there, too large, or not below the source root.
        DataError: It is broken, or costs too much to decode.
    """
    path = _file(manifest.source_root, stored)
    if window is None:
        return decoders.image(_bytes(path))
    return decoders.chip(path, window, manifest.scenes)


def _file(source_root: str, stored: str) -> Path:
    """Return the file of a record: below the source root, with symbolic links resolved."""
    gone = ProblemError(404, "the image of this record is not available here")
    if is_object(joined(Path(source_root), stored)):
        # Decoders hold no credentials, and clients must not cause requests to the store.
        raise ProblemError(
            404, "the image of this record is in an object store, which the service does not "
            "read; use its thumbnail"
        )  # fmt: skip
    try:
        root = Path(source_root).resolve(strict=True)
        path = (root / stored).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise gone from None
    if not path.is_relative_to(root) or not path.is_file() or not is_image_path(path):
        raise gone
    return path


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ProblemError(404, "the image of this record is too large to be shown")
        return path.read_bytes()
    except OSError:
        raise ProblemError(404, "the image of this record is not available here") from None


def _jpeg(pixels: ByteArray, side: int) -> bytes:
    bands = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3] if bands >= 3 else pixels[..., 0]))
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()

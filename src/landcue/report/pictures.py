"""Thumbnails of images for a page: small JPEGs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from PIL import Image

from landcue.report.subject import Pictures
from landcue.types import ByteArray

SIDE = 96
_QUALITY = 80


def thumbnail(pixels: ByteArray) -> bytes:
    """Return a JPEG of uint8 ``[h, w, 3]`` whose longer side is at most 96 pixels."""
    small = Image.fromarray(pixels)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def pictures_of(ids: Sequence[str], pixels: ByteArray) -> Pictures:
    """Return the thumbnails of decoded images uint8 ``[n, h, w, 3]``, made when asked for."""
    rows = {name: row for row, name in enumerate(ids)}

    def pictures(wanted: Iterable[str]) -> dict[str, bytes]:
        return {name: thumbnail(pixels[rows[name]]) for name in wanted if name in rows}

    return pictures

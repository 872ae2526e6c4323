"""Safe image decoding: an allow-list of formats, a pixel cap, errors that name the file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from landcue.errors import DataError
from landcue.types import ByteArray

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 64_000_000
"""Largest image decoded (8,000 x 8,000); below the level at which Pillow warns (89 M pixels)."""

_ORIENTATION = 0x0112
_JPEG = b"\xff\xd8\xff"
_JPEG_MARKS = (b"Exif\0\0", b"MPF\0")
_JPEG_COLORS = frozenset({"YCbCr", "Gray"})
_SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N"}


def is_image_path(path: Path) -> bool:
    """Return whether a file name is that of a supported image (``._*`` and dot files do not)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(source: Path | bytes, *, name: str | None = None) -> ByteArray:
    """Decode one image to RGB.

    Gray, 16-bit, float, palette, CMYK and alpha images become 8-bit RGB: 16-bit values are
    divided by 256, float values are taken as 0..1, and transparent pixels turn black. An EXIF
    orientation is applied. The first page of a TIFF is taken.

    Args:
        source: The file, or its bytes.
        name: What error messages call it; the path by default.

    Returns:
        uint8 ``[height, width, 3]``.

    Raises:
        DataError: The file is missing, empty, truncated, animated, too large, or not a JPEG, PNG,
            TIFF or WebP image. The message names the file.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    if isinstance(source, Path):
        try:
            source = source.read_bytes()
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    if not source:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    pixels = _read_plain_jpeg(source, name)
    if pixels is not None:
        return pixels
    try:
        # Pillow's own size warning must not reach the terminal: our cap is lower than its level.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source), formats=FORMATS) as image:
                _check_size(*image.size, name)
                _check_still(image, name)
                image.load()
                return np.asarray(_to_rgb(image))
    except UnidentifiedImageError:
        raise DataError(f"{name}: not a JPEG, PNG, TIFF or WebP image") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: larger than {MAX_PIXELS:,} pixels; cut it into chips") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise almost anything on broken bytes
        raise DataError(f"{name}: truncated or corrupt ({error or type(error).__name__})") from None


def _read_plain_jpeg(source: bytes, name: str) -> ByteArray | None:
    """Decode a gray or color JPEG without metadata that matters, in half of Pillow's time.

    Both use libjpeg-turbo and give the same pixels. What may be rotated (EXIF), hold several
    pictures (MPF), have other colors or be broken is left to Pillow: None.
    """
    if not source.startswith(_JPEG) or any(mark in source for mark in _JPEG_MARKS):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(source)
    except ValueError:
        return None
    _check_size(int(width), int(height), name)
    if colors not in _JPEG_COLORS:
        return None
    try:
        return simplejpeg.decode_jpeg(source, strict=True)
    except ValueError:
        return None


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width} x {height} pixels, over the limit of {MAX_PIXELS:,}; "
            "cut it into chips"
        )


def _check_still(image: Image.Image, name: str) -> None:
    # A TIFF's further pages are often its own overviews; other formats' are an animation.
    if image.format != "TIFF" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", 0)
        raise DataError(f"{name}: animated ({frames} frames); save the frame you mean as a still")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.clip(values // 256, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=1.0, neginf=0.0)
        return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")

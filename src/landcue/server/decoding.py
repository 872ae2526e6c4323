"""Decode images in separate processes, with limits on memory and time.

A decoder can crash, hang or use up memory on a malicious file; here it ends a process that holds no
archive and no token, and that is replaced. This module imports only what decoding needs, since each
of those processes imports it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, TimeoutError
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessPool
from PIL import Image

from landcue.data.images import read_picture
from landcue.data.pictures import Scale
from landcue.data.scenes import SceneOptions, check_size
from landcue.errors import DataError
from landcue.types import ByteArray, Window

_log = logging.getLogger("landcue.server")

_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "GDAL_DATA", "PROJ_DATA")


_SMALL_PIXELS = 500_000
"""Of an image that is passed on as it is."""
_QUALITY = 92
_THUMBNAIL = 160
"""Longer side of the thumbnail of an uploaded image, in pixels."""
_BY_RULE: Mapping[str, Any] = {}
_GRACE_SECONDS = 5.0
"""For a process to start, and for the pool to end one that takes too long."""


class Decoders:
    """A pool of processes that decode images; threads may share it."""

    def __init__(
        self,
        processes: int,
        seconds: float,
        memory: int,
        pixels: int,
        grace: float = _GRACE_SECONDS,
    ) -> None:
        """Start nothing yet.

        Args:
            processes: Number of processes.
            seconds: Maximum time to decode one image.
            memory: Address space of a process in bytes, where the system can limit it.
            pixels: Maximum number of pixels of an image.
            grace: Further seconds, for a process to start or to be ended.
        """
        self._seconds, self._grace, self._pixel_limit = seconds, grace, pixels
        spawn: Any = multiprocessing.get_context("spawn")  # of another type on Windows
        self._new = functools.partial(
            ProcessPool,
            max_workers=processes,
            initializer=restrict,
            initargs=(memory,),
            context=spawn,
        )
        self._pool = self._new()
        self._replacing = threading.Lock()

    def image(
        self,
        source: bytes | Path,
        crop: tuple[int, int, int, int] | None = None,
        side: int | None = None,
        scenes: Mapping[str, Any] = _BY_RULE,
    ) -> ByteArray:
        """Return an image as uint8 ``[h, w, C]``: see :func:`decode_image`.

        Raises:
            DataError: Not an image of an accepted format, broken, too large, or too slow.
        """
        return self._pixels(decode_image, source, self._pixel_limit, crop, side, dict(scenes))

    def chip(
        self, path: Path, window: Window, scenes: Mapping[str, Any], side: int | None = None
    ) -> ByteArray:
        """Return a chip of a scene as uint8 ``[h, w, C]``.

        Args:
            path: The file.
            window: In pixels at full resolution.
            scenes: Bands and scale, as stored in the archive.
            side: As :func:`decode_image` has it.

        Raises:
            DataError: It cannot be read, or is too large or too slow.
        """
        bands, scale = scenes.get("bands"), scenes.get("scale")
        return self._pixels(decode_chip, path, window, bands, scale, self._pixel_limit, side)

    def jpeg(
        self, path: Path, window: Window | None, scenes: Mapping[str, Any], side: int
    ) -> bytes:
        """Return an image or a chip as a JPEG, at most ``side`` pixels on its longer side."""
        bands, scale = scenes.get("bands"), scenes.get("scale")
        data = self.run(encode_jpeg, path, window, bands, scale, self._pixel_limit, side)
        if not isinstance(data, bytes):
            raise self._malformed()
        return data

    def thumbnail(
        self, data: bytes, crop: tuple[int, int, int, int] | None, scenes: Mapping[str, Any]
    ) -> bytes:
        """Return an uploaded image as a small JPEG: see :func:`encode_thumbnail`."""
        small = self.run(encode_thumbnail, data, self._pixel_limit, crop, dict(scenes))
        if not isinstance(small, bytes):
            raise self._malformed()
        return small

    def picture(self, data: bytes, scenes: Mapping[str, Any], side: int) -> tuple[bytes, int, int]:
        """Return an uploaded image as a PNG, and its size: see :func:`encode_picture`."""
        match self.run(encode_picture, data, self._pixel_limit, dict(scenes), side):
            case (bytes(png), int(width), int(height)):
                return png, width, height
            case _:
                raise self._malformed()

    def _pixels(self, function: Any, *arguments: Any) -> ByteArray:
        pixels = self.run(function, *arguments)
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3:
            return pixels
        raise self._malformed()

    def _malformed(self) -> DataError:
        """Replace the processes: one that returns something else is not to be trusted."""
        _log.warning("a decoder returned no image", extra={"facts": {}})
        self._replace(self._pool)
        return DataError("image: cannot be decoded")

    def run(self, function: Any, *arguments: Any) -> Any:
        """Run a function of a module in one of the processes and return its result.

        Raises:
            DataError: The process took too long or too much memory, or ended.
            LandcueError: Whatever the function raises.
        """
        pool = self._pool
        try:
            future = pool.schedule(function, arguments, timeout=self._seconds)
            return future.result(self._seconds + self._grace)
        except (
            *(RuntimeError, TimeoutError, ProcessExpired),
            *(CancelledError, MemoryError, OSError),
        ) as error:
            facts = {"error": type(error).__name__, "status": getattr(error, "exitcode", None)}
            _log.warning("a decoder was ended at work", extra={"facts": facts})
            self._replace(pool)
            raise DataError("image: took too long or too much memory to decode") from None

    def _replace(self, pool: ProcessPool) -> None:
        """Start new processes: a pool cannot be used after one of its processes was ended."""
        with self._replacing:
            if self._pool is pool:
                self._pool = self._new()
                threading.Thread(target=_end, args=(pool,), daemon=True).start()

    def close(self) -> None:
        """End the processes."""
        _end(self._pool)


def _end(pool: ProcessPool) -> None:
    pool.stop()
    with contextlib.suppress(TimeoutError):
        pool.join(_GRACE_SECONDS)  # which ends them


def restrict(memory: int) -> None:
    """Clear the environment and limit memory, file sizes and core dumps of this process."""
    for name in set(os.environ) - set(_KEPT):
        del os.environ[name]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)  # libraries print warnings about unusual files
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":  # not supported on macOS
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def decode_image(
    source: bytes | Path,
    most: int,
    crop: tuple[int, int, int, int] | None = None,
    side: int | None = None,
    scenes: Mapping[str, Any] = _BY_RULE,
) -> ByteArray:
    """Return an image of up to ``most`` pixels, or a part of it, as uint8 ``[h, w, C]``.

    Args:
        source: The image.
        most: Largest number of pixels.
        crop: Column, row, width and height of the part.
        side: Size that a model resizes images to. Large ones are resized here, as the model does
            it, so that only small ones reach the service.
        scenes: ``bands`` and ``scale`` of rasters, as stored in the archive, and ``channels`` of
            the model.
    """
    options = _options(scenes, side if crop is None else None)
    try:
        pixels = read_picture(source, options, name="image", most=most).pixels
    except DataError as error:
        problem = str(error)
    else:
        if crop is not None:
            col, row, wide, high = crop
            if col + wide > pixels.shape[1] or row + high > pixels.shape[0]:
                size = f"{pixels.shape[1]} x {pixels.shape[0]}"
                raise DataError(f"crop {list(crop)} exceeds the image of {size} pixels")
            pixels = pixels[row : row + high, col : col + wide]
        return _reduced(pixels, side)
    # A new error: the traceback of the first one would keep the image in memory.
    raise DataError(problem)


def decode_chip(
    path: Path,
    window: Window,
    bands: list[int] | None,
    scale: str | None,
    most: int,
    side: int | None = None,
) -> ByteArray:
    """Return a window with the bands and the scale that the archive was made with."""
    from landcue.search.scene import Chip, read_chip

    check_size(window.width, window.height, "image", most)
    chosen = None if bands is None else tuple(bands)
    chip = read_chip(Chip(path, window, bands=chosen, scale=scale or "auto"), side)
    return _reduced(chip, side)


def encode_jpeg(
    path: Path,
    window: Window | None,
    bands: list[int] | None,
    scale: str | None,
    most: int,
    side: int,
) -> bytes:
    """Return an image, or a window of a scene, as a JPEG of at most ``side`` pixels."""
    if window is None:
        options = _options({"bands": bands, "scale": scale}, side)
        pixels = read_picture(path, options, name="image", most=most).pixels
    else:
        pixels = decode_chip(path, window, bands, scale, most)
    return _jpeg(pixels, side)


def encode_thumbnail(
    data: bytes, most: int, crop: tuple[int, int, int, int] | None, scenes: Mapping[str, Any]
) -> bytes:
    """Return an uploaded image, or a part of it, as a small JPEG."""
    return _jpeg(decode_image(data, most, crop, None, scenes), _THUMBNAIL)


def encode_picture(
    data: bytes, most: int, scenes: Mapping[str, Any], side: int
) -> tuple[bytes, int, int]:
    """Return an uploaded image as the model sees it: a PNG of at most ``side`` pixels, its size."""
    pixels = decode_image(data, most, None, None, scenes)
    height, width, channels = pixels.shape
    if channels not in (1, 3):
        raise DataError(f"image: the model reads {channels} bands, which are no picture")
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=3)
    return out.getvalue(), width, height


def _jpeg(pixels: ByteArray, side: int) -> bytes:
    color = np.ascontiguousarray(pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0])
    image = Image.fromarray(color)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()


def _options(scenes: Mapping[str, Any], side: int | None) -> SceneOptions:
    bands = scenes.get("bands")
    return SceneOptions(
        bands=None if bands is None else tuple(bands),
        channels=len(bands) if bands else int(scenes.get("channels", 3)),
        scale=Scale.parse(str(scenes.get("scale") or "auto")),
        side=side,
    )


def _reduced(pixels: ByteArray, side: int | None) -> ByteArray:
    height, width = pixels.shape[:2]
    if side is None or height * width <= max(_SMALL_PIXELS, side * side):
        return np.ascontiguousarray(pixels)
    from landcue.models.resize import resize_square

    return resize_square(pixels, side)

"""Decode images in separate processes, with limits on memory and time.

A decoder can crash, hang or use up memory on a malicious file; here it ends a process that holds no
archive and no token, and that is replaced. This module imports only what decoding needs, since each
of those processes imports it.
"""

from __future__ import annotations

import contextlib
import functools
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

from landcue.data.images import read_picture
from landcue.errors import DataError
from landcue.types import ByteArray, Window

_log = logging.getLogger("landcue.server")

_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "GDAL_DATA", "PROJ_DATA")


_GRACE_SECONDS = 5.0
"""For a process to start, and for the pool to end one that takes too long."""


class Decoders:
    """A pool of processes that decode images; threads may share it."""

    def __init__(self, processes: int, seconds: float, memory: int, pixels: int) -> None:
        """Start nothing yet.

        Args:
            processes: Number of processes.
            seconds: Maximum time to decode one image.
            memory: Address space of a process in bytes, where the system can limit it.
            pixels: Maximum number of pixels of an image.
        """
        self._seconds, self._pixels = seconds, pixels
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

    def image(self, data: bytes) -> ByteArray:
        """Return an uploaded image as uint8 ``[h, w, 3]``.

        Raises:
            DataError: Not an image of an accepted format, broken, too large, or too slow.
        """
        return self.run(decode_image, data, self._pixels)

    def chip(self, path: Path, window: Window, scenes: Mapping[str, Any]) -> ByteArray:
        """Return a chip of a scene as uint8 ``[h, w, C]``.

        Args:
            path: The file.
            window: In pixels at full resolution.
            scenes: Bands and scale, as stored in the archive.

        Raises:
            DataError: It cannot be read, or is too large or too slow.
        """
        bands, scale = scenes.get("bands"), scenes.get("scale")
        return self.run(decode_chip, path, window, bands, scale, self._pixels)

    def run(self, function: Any, *arguments: Any) -> Any:
        """Run a function of a module in one of the processes and return its result.

        Raises:
            DataError: The process took too long or too much memory, or ended.
            LandcueError: Whatever the function raises.
        """
        pool = self._pool
        try:
            future = pool.schedule(function, arguments, timeout=self._seconds)
            return future.result(self._seconds + _GRACE_SECONDS)
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
                threading.Thread(target=pool.stop, daemon=True).start()

    def close(self) -> None:
        """End the processes."""
        self._pool.stop()
        with contextlib.suppress(TimeoutError):
            self._pool.join(_GRACE_SECONDS)


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


def decode_image(data: bytes, most: int) -> ByteArray:
    """Return an image of up to ``most`` pixels as uint8 ``[h, w, 3]``.

    Raises:
        DataError: It is broken, of another format, or too large.
    """
    try:
        return np.ascontiguousarray(read_picture(data, name="image", most=most).pixels)
    except DataError as error:
        problem = str(error)
    raise DataError(
        problem
    )  # a new error: the traceback of the first one would keep the image in memory


def decode_chip(
    path: Path, window: Window, bands: list[int] | None, scale: str | None, most: int
) -> ByteArray:
    """Return a window with the bands and the scale that the archive was made with.

    Raises:
        DataError: It cannot be read, or is too large.
    """
    from landcue.search.scene import Chip, read_chip

    _check_size(window.width, window.height, most)
    chosen = None if bands is None else tuple(bands)
    chip = read_chip(Chip(path, window, bands=chosen, scale=scale or "auto"))
    return np.ascontiguousarray(chip)


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise DataError(
            f"image: {width} x {height} pixels, over the limit of {most:,}; cut it into chips"
        )

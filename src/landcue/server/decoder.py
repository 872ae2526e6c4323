"""The process that decodes: ``python -m landcue.server.decoder BYTES``, started by the service."""

from __future__ import annotations

import io
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from landcue.data.images import FORMATS, read_image
from landcue.errors import DataError, LandcueError
from landcue.server.decoding import receive, send
from landcue.types import ByteArray, Window


def main() -> None:
    """Answer one message after another until the service closes the pipe."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with answers
    _limit(int(sys.argv[1]))
    while True:
        try:
            asked, data = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            pixels = np.ascontiguousarray(_pixels(asked, data))
        except MemoryError:
            send(out, {"error": "image: takes too much memory to decode"}, b"")
        except LandcueError as error:
            send(out, {"error": str(error)}, b"")
        else:
            send(out, {"shape": list(pixels.shape)}, pixels.data.cast("B"))


def _pixels(asked: dict[str, Any], data: bytes) -> ByteArray:
    most = int(asked["pixels"])
    if asked["op"] == "chip":
        window = Window(*asked["window"])
        _check(window.width, window.height, most)
        return _chip(Path(asked["path"]), window, asked["bands"], asked["scale"])
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except Exception:
        width = height = 0  # the reader below says what is wrong
    _check(width, height, most)
    return read_image(data, name="image")


def _chip(path: Path, window: Window, bands: list[int] | None, scale: str | None) -> ByteArray:
    """Read a window with the bands and the scale that the archive was made with."""
    from landcue.data.raster import read_facts
    from landcue.search.scene import ByScene, read_chip

    chosen = tuple(bands or read_facts(path).colors)
    return read_chip(ByScene(path, window, bands=chosen, scale=scale or "auto"))


def _check(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise DataError(
            f"image: {width} x {height} pixels, over the limit of {most:,}; cut it into chips"
        )


def _limit(size: int) -> None:
    """Take memory, files to write and core dumps away from this process."""
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()

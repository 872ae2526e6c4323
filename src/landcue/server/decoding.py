"""Images decoded in processes of their own, with a limit on memory and time.

A broken decoder can crash, hang or eat memory; here it takes down a process that holds no archive
and no token, and that is replaced.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from landcue.errors import DataError
from landcue.server.settings import Limits
from landcue.types import ByteArray, Window

_log = logging.getLogger("landcue.server")

HEADER = struct.Struct("<II")
"""Lengths of the JSON header and, in further bytes, of what follows it."""

_KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "GDAL_DATA", "PROJ_DATA")


class Decoders:
    """A few processes that decode; threads may share them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free: queue.Queue[subprocess.Popen[bytes] | None] = queue.Queue()
        for _ in range(limits.decoders):
            self._free.put(None)

    def image(self, data: bytes) -> ByteArray:
        """Return an uploaded image as uint8 ``[h, w, 3]``.

        Raises:
            DataError: Not a JPEG, PNG, TIFF or WebP image, broken, too large, or too slow.
        """
        return self._ask({"op": "image", "pixels": self._limits.pixels}, data)

    def chip(self, path: Path, window: Window, scenes: Mapping[str, Any]) -> ByteArray:
        """Return a chip of a scene as uint8 ``[h, w, C]``.

        Args:
            path: The file.
            window: At full resolution.
            scenes: Bands and scale, as the archive notes them.

        Raises:
            DataError: It cannot be read, or is too large or too slow.
        """
        box = [window.col, window.row, window.width, window.height]
        asked = {"op": "chip", "path": str(path), "window": box, "pixels": self._limits.pixels}
        return self._ask({**asked, "bands": scenes.get("bands"), "scale": scenes.get("scale")}, b"")

    def close(self) -> None:
        """End the processes."""
        for _ in range(self._limits.decoders):
            _end(self._free.get())

    def _ask(self, asked: dict[str, Any], data: bytes) -> ByteArray:
        worker = self._free.get()
        try:
            if worker is None or worker.poll() is not None:
                worker = self._start()
            answer, pixels = self._exchange(worker, asked, data)
        except (OSError, EOFError):
            _end(worker)
            ended = None if worker is None else worker.returncode
            _log.warning("a decoder ended at work", extra={"facts": {"status": ended}})
            worker = None
            raise DataError("image: took too long or too much memory to decode") from None
        finally:
            self._free.put(worker)
        if "error" in answer:
            raise DataError(str(answer["error"]))
        return np.frombuffer(pixels, np.uint8).reshape(answer["shape"])

    def _exchange(
        self, worker: subprocess.Popen[bytes], asked: dict[str, Any], data: bytes
    ) -> tuple[dict[str, Any], bytes]:
        timer = threading.Timer(self._limits.decode_seconds, worker.kill)
        timer.start()
        try:
            if worker.stdin is None or worker.stdout is None:
                raise EOFError
            send(worker.stdin, asked, data)
            return receive(worker.stdout)
        finally:
            timer.cancel()

    def _start(self) -> subprocess.Popen[bytes]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.Popen(
            [
                sys.executable,
                "-B",
                "-P",
                "-m",
                "landcue.server.decoder",
                str(self._limits.decode_bytes),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | single,
            close_fds=True,
        )


def send(stream: Any, header: dict[str, Any], data: bytes | memoryview) -> None:
    """Write one message."""
    text = json.dumps(header).encode()
    stream.write(HEADER.pack(len(text), len(data)) + text)
    stream.write(data)
    stream.flush()


def receive(stream: Any) -> tuple[dict[str, Any], bytes]:
    """Read one message.

    Raises:
        EOFError: The other side ended.
    """
    sizes = HEADER.unpack(_exactly(stream, HEADER.size))
    return json.loads(_exactly(stream, sizes[0])), _exactly(stream, sizes[1])


def _exactly(stream: Any, n: int) -> bytes:
    data = stream.read(n)
    if len(data) != n:
        raise EOFError
    return data


def _end(worker: subprocess.Popen[bytes] | None) -> None:
    if worker is None:
        return
    worker.kill()
    for stream in (worker.stdin, worker.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    worker.wait()

"""Hostile images and requests, and a service as a process of its own to send them to."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib

import numpy as np
import psutil
import rasterio
from PIL import Image

SERVE = [sys.executable, "-m", "landcue.cli.main", "serve"]
LONG = 120
"""Seconds after which something that should happen does not, on a busy machine too."""


class Service:
    """``landcue serve`` of some archives."""

    def __init__(self, log, *words):
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*SERVE, *map(str, words), "--port", "0"],
                stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        until(lambda: "\n" in log.read_text() or self.process.poll() is not None)
        line = log.read_text().partition("\n")[0]
        assert line.startswith("serving "), log.read_text()
        self.host, _, port = line.rpartition("/")[-1].partition(":")
        self.port = int(port)
        until(lambda: self.get("/readyz") == 200)

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=LONG)

    def get(self, path):
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def send(self, image, **request):
        """Search with an image; returns status and answer."""
        with contextlib.closing(self.connect()) as connection:
            body = form(image, request)
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            connection.request("POST", "/v1/search", body, kind)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    @property
    def memory(self):
        """Resident bytes of the process that serves, without those that decode."""
        return psutil.Process(self.process.pid).memory_info().rss

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(LONG)
        finally:
            self.process.kill()


class Watch(threading.Thread):
    """Requests /healthz again and again; keeps how long each took, and the most memory."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service = service
        self.seconds, self.failed, self.most = [], [], 0
        self._done = threading.Event()

    def run(self):
        while not self._done.wait(0.02):
            started = time.perf_counter()
            try:
                status = self.service.get("/healthz")
            except OSError as error:
                status = error
            if status != 200:
                self.failed.append(status)
            self.seconds.append(time.perf_counter() - started)
            self.most = max(self.most, self.service.memory)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self.join()


def until(holds):
    for _ in range(LONG * 20):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {LONG} s")


def form(image, request):
    head = 'Content-Disposition: form-data; name="request"'
    file = 'Content-Disposition: form-data; name="image"; filename="x"'
    parts = [f"--b\r\n{head}\r\n\r\n{json.dumps(request)}\r\n--b\r\n{file}\r\n\r\n".encode()]
    return b"".join([*parts, image, b"\r\n--b--\r\n"])


def png(width, height, depth=8, color=0, rows=None):
    """A PNG of any size whose pixels are zeros: a few bytes for millions of pixels."""
    bits = width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = b"\0" * (1 + (bits + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height if rows is None else rows))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    palette = _chunk(b"PLTE", b"\0\0\0") if color == 3 else b""
    body = _chunk(b"IDAT", data + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + palette + body + _chunk(b"IEND", b"")


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(kind, width, height, mode="RGB", seed=0, **options):
    rng = np.random.default_rng(seed)
    bands = len(mode) if mode in ("RGB", "RGBA", "CMYK") else 1
    pixels = rng.integers(0, 256, (height, width, bands), np.uint8)
    image = Image.fromarray(pixels.squeeze(), None if bands > 1 else "L")
    if mode == "CMYK":
        image = Image.frombytes("CMYK", (width, height), pixels.tobytes())
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tiff(width, height, count=1, dtype="uint8", **options):
    """A GeoTIFF without any block of data, whatever its size says."""
    with warnings.catch_warnings(action="ignore"), rasterio.MemoryFile() as file:
        settings = {"driver": "GTiff", "width": width, "height": height, "count": count}
        with file.open(**settings, dtype=dtype, SPARSE_OK=True, **options):
            pass
        return file.read()


def images(n, seed=0):
    """Yield n hostile images: extreme in shape or size, or good ones with changed bytes."""
    yield png(1, 4_000_000)
    yield png(1, 30_000_000, rows=1000)
    yield png(4_000_000, 1)
    yield png(32_000, 31)
    yield png(5_600, 5_600)
    yield png(5_600, 5_600, depth=16, color=6)
    yield png(65_535, 65_535, rows=10)
    yield png(2**31 - 1, 2**31 - 1, rows=1)
    yield png(0, 0)
    yield png(8_000, 4_000, depth=1, color=3)
    yield tiff(300_000, 300_000, tiled=True, blockxsize=512, blockysize=512)
    yield tiff(20_000, 20_000, count=4, tiled=True, blockxsize=512, blockysize=512)
    yield tiff(5_000, 5_000, count=3, dtype="float64", tiled=True)
    yield tiff(1, 32_000)
    yield tiff(64, 64, count=300, interleave="pixel")
    yield picture("JPEG", 5_000, 6_000, quality=5)
    yield picture("JPEG", 3_000, 3_000, progressive=True)
    yield picture("JPEG", 400, 300, mode="CMYK")
    yield picture("WEBP", 4_000, 4_000, quality=1)
    yield picture("TIFF", 300, 200, compression="tiff_lzw")
    rng = np.random.default_rng(seed)
    good = [
        picture(kind, 60 + 40 * i, 50 + 30 * i, mode, seed=i)
        for i, (kind, mode) in enumerate(
            [(kind, "RGB") for kind in ("PNG", "JPEG", "WEBP", "TIFF")]
            + [(kind, mode) for mode in ("RGBA", "L") for kind in ("PNG", "TIFF")]
        )
    ] + [tiff(200, 100, count=3), tiff(128, 128, count=4, dtype="uint16", tiled=True)]
    for i in range(n - 20):
        yield changed(good[i % len(good)], rng)


def changed(data, rng):
    """Cut off, or with some bytes flipped, doubled, or set to extreme values."""
    data = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        del data[rng.integers(1, len(data)) :]
    elif kind == 1:  # in the header, where sizes are
        for at in rng.integers(4, min(200, len(data)), rng.integers(1, 5)):
            data[at] = rng.choice([0, 1, 127, 128, 255])
    elif kind == 2:
        for at in rng.integers(0, len(data), rng.integers(1, 20)):
            data[at] ^= 1 << rng.integers(8)
    else:
        at, length = rng.integers(0, len(data)), rng.integers(1, 400)
        data[at:at] = data[at : at + length] * int(rng.integers(1, 50))
    return bytes(data)

"""GeoTIFF scenes in an object store: GDAL reads them through our own requests, range by range.

GDAL could ask stores itself (``/vsis3/``). It would look for endpoint and credentials in other
places than the rest of LandCue does, keep ranges of objects that have changed since, and tell a
store that asks to slow down as little from a broken file as from anything else.
"""

from __future__ import annotations

import contextvars
import functools
import operator
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer
from rasterio.errors import RasterioError

from landcue.data.object_ranges import ObjectFile
from landcue.data.objects import address, shown, store_of
from landcue.errors import DataError, LandcueError

_NAME = "scene.tif"
_MOST_BYTES = 256 << 20


class ObjectFiles(MultiByteRangeResourceContainer):  # pyright: ignore[reportUntypedBaseClass]
    """An object and what lies beside it, for GDAL: there is nothing else.

    Attributes:
        error: What the store said when it did not give what GDAL wanted. It stays: what GDAL keeps
            of the object may be wrong from then on.
    """

    def __init__(self, path: Path) -> None:
        """Describe an object; nothing is asked yet."""
        self._path = path
        self._files: dict[str, ObjectFile] = {}
        self._handles: list[_Handle] = []  # GDAL holds them by their addresses
        self.error: LandcueError | None = None

    def has(self, suffix: str) -> bool:
        """Tell whether there is an object of the same name followed by ``suffix``.

        Raises:
            StoreError: The store cannot be reached, or refuses.
        """
        return store_of(self._path).exists(address(self._path) + suffix)

    def dataset(self, suffix: str) -> Any:
        """Open such an object as a GeoTIFF.

        Raises:
            DataError: It is missing or has changed, or its pixels lie in pieces too large to fetch.
            StoreError: The store cannot be reached, or refuses.
            RasterioError: It is no GeoTIFF.
        """
        beside = Path(f"{self._path.parts[0]}/{address(self._path)}{suffix}")
        self._files[_NAME + suffix] = ObjectFile(beside if suffix else self._path)
        dataset = ObjectDataset(self, _NAME + suffix)
        if fault := _piece_fault(dataset):
            dataset.close()
            raise DataError(f"{shown(self._path)}: {fault}")
        return dataset

    def open(self, path: str, mode: str = "rb", **kwds: Any) -> _Handle:
        """Open a file for GDAL."""
        if set(mode) & set("wa+"):
            raise FileNotFoundError(path)
        self._handles.append(_Handle(self, self._files[os.path.basename(path)]))
        return self._handles[-1]

    def isfile(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return os.path.basename(path) in self._files

    def isdir(self, path: str) -> bool:
        """Tell that there are no folders."""
        return False

    def ls(self, path: str) -> list[str]:
        """Return the names of all files."""
        return list(self._files)

    def mtime(self, path: str) -> int:
        """Return no time: ETags tell what changed."""
        return 0

    def rm(self, path: str) -> None:
        """Remove nothing."""
        raise FileNotFoundError(path)

    def size(self, path: str) -> int:
        """Return a file's size in bytes."""
        return self._files[os.path.basename(path)].size


class _Handle:
    """A file as GDAL wants it. It must not raise: nobody would hear of it."""

    def __init__(self, files: ObjectFiles, file: ObjectFile) -> None:
        self._files, self._file = files, file
        self._at = 0

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        (data,) = self._ranges([(self._at, self._file.size if size < 0 else size)]) or [b""]
        self._at += len(data)
        return data

    def get_byte_ranges(self, offsets: list[int], sizes: list[int]) -> list[bytes]:
        found = self._ranges(list(zip(offsets, sizes, strict=True))) or [b""] * len(sizes)
        if any(map(operator.ne, map(len, found), sizes)):  # GDAL cannot be told so
            self._fail(DataError("truncated or corrupt (its file ends before its pixels do)"))
        return [data.ljust(size, b"\0") for data, size in zip(found, sizes, strict=True)]

    def _ranges(self, ranges: list[tuple[int, int]]) -> list[bytes] | None:
        if self._files.error is not None:
            return None
        try:
            return self._file.read(ranges)
        except LandcueError as error:
            self._fail(error)
        except Exception as error:
            self._fail(DataError(f"cannot be read ({type(error).__name__}: {error})"))
        return None

    def _fail(self, error: LandcueError) -> None:
        name = f"{shown(self._file.path)}: "
        error = error if str(error).startswith(name) else type(error)(name + str(error))
        self._files.error = self._files.error or error


class ObjectDataset:
    """A dataset (rasterio) of an object, with all its attributes, for one thread at a time.

    Whatever is asked of it, an error of the store comes instead of what GDAL makes of missing
    bytes.
    """

    def __init__(self, files: ObjectFiles, name: str) -> None:
        self._files = files
        # rasterio keeps who opens files in a variable of the context, and each thread has its own;
        # but a dataset may be closed by another thread than it was opened by.
        self._context = contextvars.Context()
        self._dataset: Any = None
        self._dataset = self._do(
            rasterio.open, name, driver="GTiff", sharing=False, opener=files, NUM_THREADS=1
        )

    def __getattr__(self, name: str) -> Any:
        value = self._do(getattr, self._dataset, name)
        return functools.partial(self._do, value) if callable(value) else value

    def __enter__(self) -> ObjectDataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._context.run(self._dataset.close)

    def _do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            value = self._context.run(function, *args, **options)
        except (RasterioError, OSError, ValueError):
            if self._files.error is None:
                raise
            value = None
        if self._files.error is not None:
            raise type(self._files.error)(str(self._files.error))
        return value


def _piece_fault(dataset: Any) -> str | None:
    """Tell what is wrong with pixels that come only all at once: a chip would cost all of them."""
    rows, columns = dataset.block_shapes[0]
    bands = dataset.count if str(dataset.profile.get("interleave")).lower() == "pixel" else 1
    size = rows * columns * bands * max(_bytes(kind) for kind in dataset.dtypes)
    if size <= _MOST_BYTES:
        return None
    return (
        f"its pixels lie in pieces of {size >> 20:,} MiB, too large to fetch; save it as a COG "
        "(gdal_translate -of COG)"
    )


def _bytes(kind: str) -> int:
    import numpy as np

    return 8 if kind.startswith("complex_int") else np.dtype(kind).itemsize

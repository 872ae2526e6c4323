"""Arrays of a code index in one checked file, opened by memory map.

The file is derived and can be written again. It begins with a header of 4,096 bytes:

* bytes 0-7: ``LANDCUE`` and a zero byte;
* bytes 8-11: CRC-32 of the rest of the header, unsigned little-endian;
* bytes 12-15: the length of the JSON object that follows;
* from byte 16: ``{"format": 1, "kind", "bit_order": "little", "size", "facts", "arrays"}``, then
  zeros. ``size`` is that of the whole file, ``facts`` holds whole numbers such as ``n_bits``, and
  ``arrays`` has for each array its ``type``, ``shape``, ``offset`` and ``crc32``.

Arrays are little-endian, C-contiguous, and begin at multiples of 4,096 bytes.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from landcue.errors import ArchiveError
from landcue.files import replacing

FORMAT = 1
_MAGIC = b"LANDCUE\0"
_PAGE = 4096
_BLOCK = 1 << 24


@dataclass(frozen=True, slots=True)
class Stored:
    """What one file holds.

    Attributes:
        path: Where it was read.
        facts: Whole numbers by name.
        arrays: Read-only arrays by name.
    """

    path: Path
    facts: dict[str, int]
    arrays: dict[str, npt.NDArray[Any]]

    def fact(self, name: str) -> int:
        """Return a whole number."""
        if name not in self.facts:
            raise ArchiveError(f"{self.path} does not hold its {name}; rebuild it")
        return self.facts[name]

    def array(self, name: str, kind: type[np.generic], ndim: int) -> npt.NDArray[Any]:
        """Return an array."""
        array = self.arrays.get(name)
        if array is None or array.dtype != kind or array.ndim != ndim:
            raise ArchiveError(f"{self.path} holds no usable {name}; rebuild it")
        return array


def write(
    path: Path, kind: str, facts: Mapping[str, int], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Replace ``path`` so that a crash leaves the old file or the new one.

    Raises:
        LandcueError: The folder cannot be written or the disk is full; the old file stays.
    """
    with replacing(path, parents=False) as temporary, temporary.open("wb") as file:
        file.write(bytes(_PAGE))
        entries: dict[str, Any] = {}
        for name, array in arrays.items():
            offset = file.tell()
            plain = np.require(array, array.dtype.newbyteorder("<"), ["C"])
            content = plain.reshape(-1).view(np.uint8).data
            checksum = 0
            for first in range(0, len(content), _BLOCK):
                block = content[first : first + _BLOCK]
                checksum = zlib.crc32(block, checksum)
                file.write(block)
            file.write(bytes(-len(content) % _PAGE))
            shape, type_ = list(array.shape), plain.dtype.str
            entries[name] = dict(type=type_, shape=shape, offset=offset, crc32=checksum)
        size = file.tell()
        file.seek(0)
        file.write(_header(kind, dict(facts), entries, size))


def read(path: Path, kind: str, *, in_memory: bool = False, verify: bool = False) -> Stored:
    """Open a file of this kind: map its arrays, or read them into memory.

    Its header and size are checked; ``verify`` reads all arrays and compares their checksums.

    Raises:
        ArchiveError: The file is missing, cut off, damaged, newer than this LandCue, or of
            another kind.
    """
    try:
        with path.open("rb") as file:
            header = _check_header(path, file.read(_PAGE), kind)
            size = os.fstat(file.fileno()).st_size
            if size != header["size"]:
                raise ArchiveError(
                    f"{path} has {size:,} bytes instead of {header['size']:,}: it was cut off or "
                    "added to; rebuild it"
                )
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            want_large_pages(content)
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}; rebuild it") from None
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, entry in header["arrays"].items():
        count = int(np.prod(entry["shape"], dtype=np.int64))
        found = np.frombuffer(content, np.dtype(entry["type"]), count, entry["offset"])
        if verify and _checksum(found) != entry["crc32"]:
            raise ArchiveError(f"{path} is damaged: the checksum of its {name} differs; rebuild it")
        found = found.reshape(entry["shape"])
        found = np.require(found, found.dtype.newbyteorder("="))
        arrays[name] = found.copy() if in_memory else found
    return Stored(path, cast("dict[str, int]", header["facts"]), arrays)


def _header(kind: str, facts: dict[str, int], arrays: dict[str, Any], size: int) -> bytes:
    content = dict(
        format=FORMAT, kind=kind, bit_order="little", size=size, facts=facts, arrays=arrays
    )
    text = json.dumps(content).encode()
    rest = (len(text).to_bytes(4, "little") + text).ljust(_PAGE - 12, b"\0")
    return _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


def _check_header(path: Path, header: bytes, kind: str) -> dict[str, Any]:
    if header[:8] != _MAGIC:
        raise ArchiveError(f"{path} is no code index of LandCue, or is damaged; rebuild it")
    if len(header) < _PAGE:
        raise ArchiveError(f"{path} was cut off within its header; rebuild it")
    if zlib.crc32(header[12:]) != int.from_bytes(header[8:12], "little"):
        raise ArchiveError(f"the header of {path} is damaged; rebuild it")
    # The checksum says that the rest is as it was written.
    length = int.from_bytes(header[12:16], "little")
    content: dict[str, Any] = json.loads(header[16 : 16 + length])
    if content["format"] != FORMAT:
        raise ArchiveError(
            f"{path} has format {content['format']}, this LandCue reads {FORMAT}: rebuild it, or "
            "install the LandCue that wrote it"
        )
    if content["bit_order"] != "little":
        raise ArchiveError(f"{path} has bit order {content['bit_order']!r}, not little; rebuild it")
    if content["kind"] != kind:
        raise ArchiveError(f"{path} is a {content['kind']} index, not {kind}; open it as such")
    return content


def _checksum(array: npt.NDArray[Any]) -> int:
    content = array.view(np.uint8).data
    checksum = 0
    for first in range(0, len(content), _BLOCK):
        checksum = zlib.crc32(content[first : first + _BLOCK], checksum)
    return checksum


def want_large_pages(mapped: mmap.mmap | npt.NDArray[Any]) -> None:
    """Ask that a file, or the memory map that an array is a view of, be kept in large pages.

    It matters while the file is written or first read; what is in memory stays as it is. A hint:
    systems that cannot do so go on with small pages. Not for files of which single rows are read,
    because each brings a large page in.
    """
    if sys.platform != "linux":
        return
    found: Any = mapped
    while isinstance(found, np.ndarray):
        found = found.base
    if isinstance(found, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            found.madvise(mmap.MADV_HUGEPAGE)

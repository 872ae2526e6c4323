"""From an image file to all that an archive stores of it but the encoding."""

from __future__ import annotations

import hashlib
import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from landcue.archive.manifest import THUMBNAIL_SIDE
from landcue.archive.plan import MAX_BYTES, Task, with_status
from landcue.archive.schema import Metadata
from landcue.data.geo import Place, read_place
from landcue.data.images import read_image
from landcue.data.objects import is_object, read_file
from landcue.errors import DataError, LandcueError, StoreError, UsageError
from landcue.types import ByteArray, Encoder, Problem

_GEO_KEYS = (b"\xaf\x87\x03\x00", b"\x87\xaf\x00\x03")
"""Tag 34735 (GeoKeyDirectory, 16-bit) as it stands in a TIFF of either byte order."""


@dataclass(frozen=True, slots=True)
class ReadImage:
    """One image, ready for the encoder.

    Attributes:
        metadata: Its columns, with size and time as they were when the file was read.
        content: BLAKE2b-128 of the file's bytes, hex; of a chip, followed by ``-`` and how it was
            made.
        thumbnail: JPEG.
        pixels: What :meth:`landcue.types.Encoder.prepare` made.
        replaces: Whether the archive holds an older row of the same id.
    """

    metadata: Metadata
    content: str
    thumbnail: bytes
    pixels: ByteArray
    replaces: bool


def read_task(task: Task, encoder: Encoder) -> ReadImage | Metadata | Problem:
    """Read one file once: hash it and decode it from the same bytes.

    Returns:
        The image; or only its new metadata when the bytes are those of the stored row; or why
        it must be skipped.

    Raises:
        StoreError: The object store does not answer: what it holds is no less usable for that.
        UsageError: There are no credentials for it.
    """
    try:
        metadata, data = _load(task)
        content = hashlib.blake2b(data, digest_size=16).hexdigest()
        if task.stored is not None and task.stored.content == content:
            return metadata
        image = read_image(data, name=metadata.path)
        # Bounds of older bytes say nothing about these.
        bounds, footprint = task.record.bounds, task.record.footprint
        if bounds is None and (place := _place(task.record.path, data)):
            bounds, footprint = place.bounds, place.footprint
        return ReadImage(
            metadata=replace(metadata, bounds=bounds, footprint=footprint),
            content=content,
            thumbnail=make_thumbnail(image),
            pixels=encoder.prepare(image),
            replaces=task.stored is not None,
        )
    except (StoreError, UsageError):
        raise
    except LandcueError as error:
        path = task.metadata.path
        return Problem(path, str(error).removeprefix(f"{path}: "))


def make_thumbnail(image: ByteArray) -> bytes:
    """Return a JPEG of uint8 ``[h, w, C]`` with a longer side of 65 to 96 pixels, or its own.

    Of more than three bands the first three are taken as red, green and blue, of fewer the first
    as gray.
    """
    bands = image.shape[2]
    small = Image.fromarray(image if bands == 3 else image[..., :3] if bands > 3 else image[..., 0])
    # This runs once per image beside the encoder: means of whole pixels are the cheapest filter.
    factor = -(-max(small.size) // THUMBNAIL_SIDE)
    if factor > 2:
        small = small.reduce(factor)
    else:
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def _load(task: Task) -> tuple[Metadata, bytes]:
    status, data = read_file(task.record.path, MAX_BYTES + 1)
    metadata = with_status(task.metadata, status)
    if len(data) > MAX_BYTES:
        raise DataError("is larger than 1 GiB; cut it into chips")
    return metadata, data


def _place(path: Path, data: bytes) -> Place | None:
    if path.suffix.lower() not in {".tif", ".tiff"}:
        return None
    # Opening a file for its geo-reference costs more than decoding it: look for one first.
    if not any(mark in data for mark in _GEO_KEYS):
        return None
    if not is_object(path):
        return read_place(path)
    with tempfile.NamedTemporaryFile(suffix=path.suffix) as copy:
        copy.write(data)
        copy.flush()
        return read_place(Path(copy.name))

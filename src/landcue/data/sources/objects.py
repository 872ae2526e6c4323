"""Images below a prefix of an object store, as in a folder."""

from __future__ import annotations

from pathlib import Path

from landcue.data.images import is_image_path
from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.objects import ObjectStore, address, url
from landcue.data.sources.folder import folder_record, with_table
from landcue.data.sources.named import local_copy
from landcue.errors import DataError
from landcue.types import Record

_TABLE = "labels.csv"


def read_objects(path: Path, labels: Path | None = None) -> ImageSet:
    """List the images below ``s3://bucket/prefix``; ids are keys relative to it.

    Labels are those that a folder would give: the last part of the prefix, a table named
    ``labels.csv`` directly below it, or ``labels``. Nothing is downloaded but that table.

    Raises:
        DataError: The store cannot be reached or refuses, or holds no image there.
        UsageError: No credentials, or no bucket.
    """
    root = address(path)
    store = ObjectStore(path)
    records: list[Record] = []
    table = None
    for found in store.list(root):
        relative = address(found).removeprefix(f"{root}/")
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if relative == _TABLE:
            table = found
        if not hidden and is_image_path(found):
            records.append(folder_record(Path(relative), found))
    if not records:
        raise DataError(f"{url(path)} holds no usable image; need .jpg, .png, .tif or .webp")
    if labels is not None:
        return with_table(path, records, labels)
    if table is not None:
        with local_copy(table) as copy:
            return with_table(path, records, copy)
    names = sorted({name for record in records for name in record.labels or ()})
    return make_image_set("objects", path, records, names, ())

"""Where images come from: folders, tables, STAC items and scenes."""

from __future__ import annotations

from pathlib import Path

from landcue.data.images import SUFFIXES
from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.names import clean_id
from landcue.data.objects import address, is_object, look_up, shown, store_of
from landcue.data.raster import check_local
from landcue.data.sources.folder import read_folder, read_table
from landcue.errors import DataError
from landcue.types import Record

_PARQUET = {".parquet", ".geoparquet"}
_STAC = {".json", ".geojson", ".ndjson", ".jsonl", ".geojsonl"}
_FILES = {".csv", *_PARQUET, *_STAC, *SUFFIXES}
_KINDS = "a folder, a table (.csv, .parquet), STAC items (.json) or a raster"


def open_source(
    path: str | Path,
    labels: str | Path | None = None,
    asset: str | None = None,
    *,
    folder_labels: bool | None = None,
) -> ImageSet:
    """Read a folder of images, a folder with ``labels.csv``, a table, STAC items, or one scene.

    Args:
        path: A folder, or a ``.csv``, ``.parquet``, ``.json`` or ``.tif`` file; or a prefix or
            such a file of an object store (``s3://bucket/prefix``).
        labels: A label table for the images of a folder.
        asset: Which asset of a STAC item is the image.
        folder_labels: Whether folder names are labels: see :func:`read_folder`.

    Raises:
        DataError: ``path`` is missing or holds no usable image.
        StoreError: The store cannot be reached, or refuses.

    >>> images = open_source("photos")
    >>> images.records[0].id, images.records[0].labels
    ('beach/beach00.webp', ('beach',))
    """
    path = Path(path) if isinstance(path, str) else path
    labels = None if labels is None else Path(labels)
    if is_object(path):
        if path.suffix.lower() in _FILES and store_of(path).exists(address(path)):
            return _open_file(path, labels, asset)
        from landcue.data.sources.folder import read_objects

        return read_objects(path, labels, folder_labels=folder_labels)
    check_local(path)
    if not path.exists():
        raise DataError(f"{shown(path)} does not exist; pass {_KINDS}")
    if path.is_file():
        return _open_file(path, labels, asset)
    if labels is None and (path / "labels.csv").is_file():
        return read_table(path / "labels.csv")
    return read_folder(path, labels, folder_labels=folder_labels)


def _open_file(path: Path, labels: Path | None, asset: str | None) -> ImageSet:
    kind = path.suffix.lower()
    if labels is not None:
        what = "already is a label table" if kind == ".csv" else "is no folder"
        raise DataError(f"{shown(path)} {what}; leave --labels out")
    if kind == ".csv":
        return read_table(path)
    if kind in _PARQUET:
        from landcue.data.sources.parquet import read_parquet

        return read_parquet(path, asset)
    if kind in _STAC:
        from landcue.data.sources.stac import read_stac

        return read_stac(path, asset)
    if kind in SUFFIXES:
        file = look_up(path) if is_object(path) else path
        return make_image_set("scene", path.parent, [Record(clean_id(path.name), file)], (), ())
    raise DataError(f"{shown(path)} is neither a folder nor a .csv, .parquet, .json or .tif file")

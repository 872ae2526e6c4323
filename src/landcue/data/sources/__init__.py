"""Where images come from: folders and label tables."""

from __future__ import annotations

from pathlib import Path

from landcue.data.imageset import ImageSet
from landcue.data.sources.folder import read_folder
from landcue.data.sources.table import read_table
from landcue.errors import DataError


def open_source(path: Path, labels: Path | None = None) -> ImageSet:
    """Read a label table (``.csv``), a folder with ``labels.csv``, or a folder of images.

    Args:
        path: A ``.csv`` file or a folder.
        labels: A label table for the images of a folder.

    Raises:
        DataError: ``path`` is missing or holds no usable image.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a folder of images or a label table (.csv)")
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise DataError(f"{path} is neither a folder nor a .csv label table")
        if labels is not None:
            raise DataError(f"{path} already is a label table; leave --labels out")
        return read_table(path)
    if labels is None and (path / "labels.csv").is_file():
        return read_table(path / "labels.csv")
    return read_folder(path, labels)

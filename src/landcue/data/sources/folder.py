"""A folder of images, one sub-folder per class (or none at all)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from landcue.data.images import SUFFIXES, is_image_path
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.data.label_table import read_label_table
from landcue.types import Problem, Record


def read_folder(root: Path, labels: Path | None = None) -> ImageSet:
    """List the images below ``root``; ids are paths relative to it.

    An image inside a sub-folder is labelled with the sub-folder's name, an image directly in
    ``root`` has no annotation. A label table replaces the folder names.

    Args:
        root: The folder.
        labels: A label table (see :func:`landcue.data.label_table.read_label_table`) whose paths
            are relative to ``root``.

    Raises:
        DataError: Missing folder, no image in it, or a broken table.
    """
    root = existing_folder(root)
    records: list[Record] = []
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            path = Path(folder) / file
            if not is_image_path(path):
                continue
            relative = path.relative_to(root)
            records.append(folder_record(relative, path))
    if labels is not None:
        return with_table(root, records, labels)
    names = sorted({name for record in records for name in record.labels or ()})
    problems: list[Problem] = []
    if not records:
        seen = {path.suffix.lower() for path in root.rglob("*") if path.is_file()} - SUFFIXES
        problems = [Problem(str(root), f"only files of kind {kind!r}") for kind in sorted(seen)]
    return make_image_set("folder", root, records, names, problems)


def folder_record(relative: Path, path: Path) -> Record:
    """Return the record of an image by its path below the source's root."""
    parent = relative.parent.name or None
    return Record(
        id=relative.as_posix(), path=path, labels=(parent,) if parent else None, group=parent
    )


def with_table(root: Path, records: list[Record], labels: Path) -> ImageSet:
    """Give records the labels of a table, which may lie elsewhere."""
    table = read_label_table(labels)
    rows = {Path(row.path).as_posix(): row for row in table.rows}
    problems: list[Problem] = []
    labelled: list[Record] = []
    for record in records:
        row = rows.pop(record.id, None)
        if row is None:
            problems.append(Problem(record.id, f"no row in {labels.name}; kept without labels"))
            labelled.append(replace(record, labels=None))
        else:
            group = row.group or record.group
            labelled.append(
                replace(
                    record,
                    labels=row.labels,
                    group=group,
                    time=row.time,
                    bounds=row.bounds,
                    sensor=row.sensor,
                )
            )
    problems += [
        Problem(f"{labels.name} line {row.line}", f"no image {row.path!r}") for row in rows.values()
    ]
    return make_image_set("folder", root, labelled, table.label_names, problems)

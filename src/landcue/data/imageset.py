"""An image set: records, label names and what had to be skipped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from landcue.data.images import READ
from landcue.data.objects import shown
from landcue.errors import DataError
from landcue.types import ByteArray, Problem, Record


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The readable images of one source, sorted by id.

    Attributes:
        name: ``ucmerced``, ``folder``, ``csv`` …
        root: Folder that relative paths refer to.
        records: Sorted by id; ids are unique.
        label_names: All labels that may occur, in the source's order.
        problems: What was skipped, and why.
        unread: Files and folders that could not be read, so that records of them may be missing.

    >>> from landcue.data import open_source
    >>> len(open_source("photos").records)
    8
    """

    name: str
    root: Path
    records: tuple[Record, ...]
    label_names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    unread: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def subset(self, records: Iterable[Record]) -> ImageSet:
        """Return the same set with only these records."""
        return replace(self, records=tuple(records))

    def part(self, name: str) -> ImageSet:
        """Return the records of one part (``train``, ``val``, ``test``) of an applied split."""
        return self.subset(record for record in self.records if record.part == name)

    def label_matrix(self) -> ByteArray:
        """Return the labels as multi-hot uint8 ``[n, C]``; unannotated images are all zero."""
        return label_matrix([record.labels for record in self.records], self.label_names)


def label_matrix(labels: Sequence[Sequence[str] | None], label_names: Sequence[str]) -> ByteArray:
    """Turn label names into multi-hot uint8 ``[n, C]``."""
    column = {name: index for index, name in enumerate(label_names)}
    matrix = np.zeros((len(labels), len(label_names)), np.uint8)
    for row, names in enumerate(labels):
        for name in names or ():
            if name not in column:
                raise DataError(f"label {name!r} of image {row} is not among {list(label_names)}")
            matrix[row, column[name]] = 1
    return matrix


def labeled_by_group(images: ImageSet) -> ImageSet:
    """Return the set with each image's group (scene class) as its only label."""
    for record in images.records:
        if record.group is None:
            raise DataError(
                f"image {record.id!r} has no group; put images into one folder per scene class"
            )
    names = sorted({record.group for record in images.records if record.group is not None})
    records = [replace(record, labels=(str(record.group),)) for record in images.records]
    return replace(images, records=tuple(records), label_names=tuple(names))


def make_image_set(
    name: str,
    root: Path,
    records: Iterable[Record],
    label_names: Sequence[str],
    problems: Sequence[Problem],
) -> ImageSet:
    """Sort records by id; of several with one id all but the first become problems.

    Raises:
        DataError: There is no record at all.
    """
    ordered: list[Record] = []
    found = list(problems)
    for record in sorted(records, key=lambda record: record.id):
        if ordered and ordered[-1].id == record.id:
            found.append(
                Problem(
                    shown(record.path),
                    f"left out: {shown(ordered[-1].path)} has the same id {record.id!r}",
                )
            )
        else:
            ordered.append(record)
    problems = found
    if not ordered:
        skipped = f" ({len(problems)} skipped, first: {problems[0]})" if problems else ""
        raise DataError(f"{shown(root)} holds no usable image{skipped}; need {READ} files")
    return ImageSet(name, root, tuple(ordered), tuple(label_names), tuple(problems))


def existing_folder(path: Path) -> Path:
    """Return ``path`` when it is a folder."""
    if not path.exists():
        raise DataError(f"{path} does not exist; pass the folder that holds the images")
    if not path.is_dir():
        raise DataError(f"{path} is a file; pass the folder that holds the images")
    return path

"""Folders of images, label tables, and the files that tables and catalogs name."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from landcue.data.images import READ, SUFFIXES, is_image_path
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.data.label_table import read_label_table
from landcue.data.names import clean_id, find_spelling, find_stored, printable
from landcue.data.objects import (
    SCHEME,
    ObjectPath,
    ObjectStore,
    address,
    is_object,
    look_up_all,
    shown,
    store_of,
    url,
)
from landcue.data.raster import HEIC_SUFFIXES, check_local
from landcue.data.stacks import stack_records
from landcue.errors import DataError
from landcue.types import Problem, Record

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")


class NamedFiles:
    """Finds files by the names that a table or a catalog gives them.

    What lies on this machine names files of this machine, and what lies in a store names objects:
    nothing read from far away leads to a file here.
    """

    def __init__(self, root: Path, names: Iterable[str] = ()) -> None:
        """Prepare for some names; in a store they are asked for several at once.

        Args:
            root: Folder of the table, which names are relative to.
            names: Names that may be asked for; the others are not found in a store.
        """
        self._root = root
        self._objects: dict[Path, ObjectPath | None] = {}
        if not is_object(root):
            return
        wanted: list[Path] = []
        for name in names:
            with contextlib.suppress(DataError):
                wanted.append(_object(root, name))
        self._objects = look_up_all(wanted)

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or ``None`` if there is none."""
        if is_object(self._root):
            return self._objects.get(_object(self._root, name))
        check_local(Path(name))
        return find_spelling(find_stored(self._root, name))


@contextlib.contextmanager
def local_copy(path: Path) -> Generator[Path]:
    """Give a file, or a copy of an object for as long as the block lasts.

    Raises:
        DataError: There is no such object; or what the block raises, with the object's name.
        StoreError: The store cannot be reached, or refuses.
    """
    if not is_object(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="landcue-") as folder:
        copy = Path(folder) / path.name
        store_of(path).download(address(path), copy)
        try:
            yield copy
        except DataError as error:
            raise DataError(str(error).replace(str(copy), url(path))) from None


def _object(root: Path, name: str) -> Path:
    """Return the address of an object by its name in a table below ``root``."""
    if name.startswith("s3://"):
        bucket, _, key = name.removeprefix("s3://").partition("/")
    elif name.startswith("/") or _ADDRESS.match(name):
        raise DataError(f"{name}: a table in a store may name only objects: s3://… or relative")
    else:
        bucket, _, folder = address(root).partition("/")
        key = f"{folder}/{name}" if folder else name
    key = posixpath.normpath(key)
    if not bucket or key in ("", ".", "..") or key.startswith(("../", "/")):
        raise DataError(f"{name}: leads out of its bucket")
    if key.lower().endswith(".vrt"):
        check_local(Path(key))
    return Path(f"{SCHEME}/{bucket}/{key}")


def read_folder(
    root: Path, labels: Path | None = None, *, folder_labels: bool | None = None
) -> ImageSet:
    """List the images below ``root``; ids are paths relative to it.

    Folders of other programs (``.name``, ``__MACOSX``, ``@eaDir`` …), links to folders, and images
    of formats that are not read are left out and counted.

    Args:
        labels: A label table (see :func:`landcue.data.label_table.read_label_table`) whose paths
            are relative to ``root``.
        folder_labels: Whether the name of an image's folder is its label. By default it is if
            there are at least two folder names and each holds at least two images.

    Raises:
        DataError: Missing folder, no image in it, or a broken table.
    """
    root = existing_folder(root)
    records: list[Record] = []
    problems: list[Problem] = []
    left_out: Counter[str] = Counter()
    unread: list[Path] = []

    def note_unread(error: OSError) -> None:
        folder = Path(error.filename)
        unread.append(folder)
        where = shown(root) if folder == root else clean_id(folder.relative_to(root).as_posix())
        what = f"this folder cannot be read ({error.strerror}); records of its images stay"
        problems.append(Problem(where, what))

    for folder, folders, files in os.walk(root, onerror=note_unread, followlinks=False):
        below = Path(folder)
        for name in folders:
            if is_system_folder(name):
                left_out[f"folders {printable(name)!r} of other programs"] += 1
            elif os.path.islink(below / name):
                left_out["links to folders, which are not followed"] += 1
        folders[:] = sorted(name for name in folders if not is_system_folder(name))
        for file in sorted(files):
            path = below / file
            if is_image_path(path):
                record = folder_record(path.relative_to(root), path)
                if _may_be_read(path):
                    records.append(record)
                else:  # reading a pipe would wait forever
                    problems.append(Problem(record.id, "is not a file, or a link to none"))
            elif path.suffix.lower() in _OTHER_IMAGES and not file.startswith("."):
                left_out[_not_read(path.suffix.lower(), "files")] += 1
    records, bands, layers = stack_records(records, root)
    if layers:
        left_out["other layers of scenes whose bands are stacked"] = layers
    problems += [Problem(shown(root), f"left out: {n} {what}") for what, n in left_out.items()]
    if bands:
        problems.append(Problem(shown(root), f"{bands} files of one band each stacked to scenes"))
    if labels is not None:
        return replace(with_table(root, records, labels, problems), unread=tuple(unread))
    records, names = with_folder_labels(records, folder_labels)
    if not records and not problems:
        seen = {path.suffix.lower() for path in root.rglob("*") if path.is_file()} - SUFFIXES
        problems = [Problem(shown(root), f"only files of kind {kind!r}") for kind in sorted(seen)]
    found = make_image_set("folder", root, records, names, problems)
    return replace(found, unread=tuple(unread))


def _may_be_read(path: Path) -> bool:
    """Return whether a path is a file, or nothing but its reader can say why it is not."""
    try:
        return path.is_file()
    except OSError:
        return True


_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
_OTHER_IMAGES = {
    *(".jp2", ".j2k", ".avif", ".heic", ".heif", ".jxl", ".bmp", ".gif", ".tga", ".ppm", ".psd"),
    *(".img", ".vrt", ".ecw", ".sid", ".nc", ".hdf", ".h5", ".dng"),
} - SUFFIXES


def _not_read(suffix: str, what: str) -> str:
    """Return the line about files of a format that is not read; ``what`` they are."""
    more = ": pip install 'landcue[formats]'" if suffix in HEIC_SUFFIXES else ""
    return f"{suffix} {what}, which are not read{more}"


def is_system_folder(name: str) -> bool:
    """Return whether a folder is hidden, or made by another program for itself."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def folder_record(relative: Path, path: Path) -> Record:
    """Return the record of an image by its path below the source's root."""
    group = clean_id(relative.parent.name) or None
    return Record(id=clean_id(relative.as_posix()), path=path, group=group)


def with_folder_labels(
    records: list[Record], wanted: bool | None
) -> tuple[list[Record], list[str]]:
    """Label records with the names of their folders, if wanted; also return the label names."""
    counts = Counter(record.group for record in records if record.group is not None)
    if wanted is None:
        wanted = len(counts) > 1 and min(counts.values()) > 1
    if not wanted:
        return records, []
    labeled = [
        replace(record, labels=(record.group,)) if record.group else record for record in records
    ]
    return labeled, sorted(counts)


def with_table(
    root: Path, records: list[Record], labels: Path, problems: Sequence[Problem] = ()
) -> ImageSet:
    """Set the labels of records from a table, which may be in another folder."""
    found = list(problems)
    table = read_label_table(labels, problems=found)
    rows = {clean_id(Path(row.path).as_posix()): row for row in table.rows}
    labeled: list[Record] = []
    without: list[str] = []
    for record in records:
        row = rows.pop(record.id, None)
        if row is None:
            without.append(record.id)
            labeled.append(replace(record, labels=None))
        else:
            group = row.group or record.group
            labeled.append(
                replace(
                    record,
                    labels=row.labels,
                    group=group,
                    datetime=row.datetime,
                    bbox=row.bbox,
                    sensor=row.sensor,
                )
            )
    if len(without) > _NAMED:
        what = (
            f"no row for {len(without):,} images, kept without labels: {', '.join(without[:3])} …"
        )
        found.append(Problem(labels.name, what))
    else:
        what = f"no row in {labels.name}; kept without labels"
        found += [Problem(id_, what) for id_ in without]
    lost = list(rows.values())
    if len(lost) > _NAMED:
        first = ", ".join(repr(row.path) for row in lost[:3])
        found.append(Problem(labels.name, f"no image for {len(lost):,} rows: {first} …"))
    else:
        found += [
            Problem(f"{labels.name} line {row.line}", f"no image {row.path!r}") for row in lost
        ]
    return make_image_set("folder", root, labeled, table.label_names, found)


_TABLE = "labels.csv"
_NAMED = 10
"""Images without a row, or rows without an image, that are named one by one."""


def read_objects(
    path: Path, labels: Path | None = None, *, folder_labels: bool | None = None
) -> ImageSet:
    """List the images below ``s3://bucket/prefix``; ids are keys relative to it.

    Labels are those that :func:`read_folder` would find, or come from a table named ``labels.csv``
    directly below the prefix, or from ``labels``. Nothing is downloaded but that table.

    Raises:
        DataError: The store cannot be reached or refuses, or holds no image there.
        UsageError: No credentials, or no bucket.
    """
    root = address(path)
    store = ObjectStore(path)
    records: list[Record] = []
    left_out: Counter[str] = Counter()
    table = None
    for found in store.list(root):
        relative = address(found).removeprefix(f"{root}/")
        system = next(filter(is_system_folder, relative.split("/")[:-1]), None)
        if relative == _TABLE:
            table = found
        elif system is not None:
            left_out[f"objects in folders {printable(system)!r} of other programs"] += 1
        elif is_image_path(found):
            records.append(folder_record(Path(relative), found))
        elif found.suffix.lower() in _OTHER_IMAGES:
            left_out[_not_read(found.suffix.lower(), "objects")] += 1
    records, bands, layers = stack_records(records, path)
    if layers:
        left_out["other layers of scenes whose bands are stacked"] = layers
    problems = [Problem(url(path), f"left out: {n} {what}") for what, n in left_out.items()]
    if bands:
        problems.append(Problem(url(path), f"{bands} objects of one band each stacked to scenes"))
    if not records:
        raise DataError(f"{url(path)} holds no usable image; need {READ} objects")
    if labels is not None:
        return with_table(path, records, labels, problems)
    if table is not None:
        with local_copy(table) as copy:
            return with_table(path, records, copy, problems)
    records, names = with_folder_labels(records, folder_labels)
    return make_image_set("objects", path, records, names, problems)


def read_table(path: Path) -> ImageSet:
    """Read the images a label table lists; ids are the ``id`` column, or else the paths.

    Rows whose image does not exist are skipped and reported.

    Raises:
        DataError: A broken table, two rows of one id, or no image left.
    """
    problems: list[Problem] = []
    with local_copy(path) as copy:
        table = read_label_table(copy, unlabeled=True, problems=problems)
    problems = [Problem(p.where.replace(str(copy), path.name), p.what) for p in problems]
    root = path.parent
    files = NamedFiles(root, (row.path for row in table.rows))
    records: list[Record] = []
    for row in table.rows:
        try:
            file = files.find(row.path)
        except DataError as error:
            problems.append(Problem(f"{path.name} line {row.line}", str(error)))
            continue
        if file is None:
            problems.append(Problem(f"{path.name} line {row.line}", f"no image {row.path!r}"))
            continue
        records.append(
            Record(
                id=clean_id(row.id or Path(row.path).as_posix()),
                path=file,
                labels=row.labels,
                group=row.group,
                bbox=row.bbox,
                datetime=row.datetime,
                sensor=row.sensor,
            )
        )
    return make_image_set("table", root, records, table.label_names, problems)

"""The sources of an archive: named folders, tables or scenes whose records have ids of their own.

A record keeps the id that its source gives it. Where another source of the archive has this id
already, the new record's id is ``SOURCE:ID``. For chips the whole scene is renamed, so that two
scenes of one name never share a group.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from landcue.archive.schema import Metadata
from landcue.data.images import image_version
from landcue.data.names import clean_id, find_stored, stored_name
from landcue.data.objects import is_object, joined, shown
from landcue.data.scenes import SceneOptions
from landcue.errors import UsageError
from landcue.types import Record

if TYPE_CHECKING:
    from landcue.models.load import Model

_MOST_NAME = 100
_TABLE = "labels.csv"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the records of one source of an archive come from.

    Attributes:
        location: What was indexed: a folder, a table, STAC items, a scene, or an ``s3://`` address.
        root: Absolute folder that relative paths of its records refer to.
        scenes: How its chips were last read, see :attr:`landcue.data.scenes.SceneOptions.note`;
            empty without chips.
    """

    location: str
    root: str
    scenes: Mapping[str, Any] = field(default_factory=lambda: cast("dict[str, Any]", {}))

    @classmethod
    def at(cls, location: Path, root: Path | None = None) -> Source:
        """Return the source at an absolute location; a ``labels.csv`` stands for its folder."""
        place = location.parent if location.name == _TABLE else location
        return cls(stored_name(str(place)), stored_name(str(place if root is None else root)))

    @property
    def shown(self) -> str:
        """The location, as people write it."""
        return shown(Path(self.location))

    @property
    def folder(self) -> Path:
        """The root as a path, whatever the bytes of its name."""
        return find_stored(Path(), self.root)

    def file(self, stored: str) -> Path:
        """Return the image that a record of this source stores."""
        return joined(self.folder, stored)


def check_source_name(name: str) -> str:
    """Return a name that a source may have."""
    if not name.strip() or len(name) > _MOST_NAME or re.search(r"[:/\\]", name):
        raise UsageError(
            f"source name {name!r}: use 1 to {_MOST_NAME} characters without colon and slash"
        )
    if not name.isprintable():
        raise UsageError(f"source name {name!r}: it holds characters that cannot be printed")
    return name


def choose_source(
    sources: Mapping[str, Source],
    source: Source,
    wanted: str | None,
    stored: Mapping[str, Metadata],
) -> str:
    """Return the name of the source that is being indexed.

    In this order: the name that the caller wants; the source with the same location; a source
    whose location is gone and most of whose files lie in the new folder with the same size; a new
    name made from the location.

    Args:
        source: The one being indexed.
        wanted: ``--source-name``; an existing source of this name is taken to have moved.
        stored: Stored records by id.
    """
    here = next((name for name, one in sources.items() if _same_place(one, source)), None)
    if wanted is not None:
        check_source_name(wanted)
        if here not in (None, wanted):
            raise UsageError(
                f"{source.shown} is the source {here!r} of this archive already; leave "
                "--source-name out"
            )
        if wanted not in sources and _begins_ids(wanted, stored):
            raise UsageError(f"source name {wanted!r}: other ids start with '{wanted}:'; choose "
                             "another name")  # fmt: skip
        return wanted
    if here is not None:
        return here
    moved = _moved(sources, source, stored)
    return moved or new_name(sources, Path(source.location), stored)


def name_records(
    records: Sequence[Record],
    source: str,
    sources: Iterable[str],
    stored: Mapping[str, Metadata],
) -> list[Record]:
    """Set the source of records, and put its name before ids that are not free.

    Args:
        sources: Names of all sources of the archive.
    """
    prefix = f"{source}:"
    reserved = tuple(f"{name}:" for name in {*sources, source})
    own, others = _scenes(stored, source)

    def must_rename(record: Record) -> bool:
        if record.source:  # a record of another table of this archive
            return False
        if record.id.startswith(reserved):
            return True
        known = stored.get(record.id)
        if known is not None and known.source == source:
            return False
        if known is not None or prefix + record.id in stored:
            return True
        group = record.group
        if record.window is None or group is None or group in own:
            return False
        return group in others or prefix + group in own

    named: list[Record] = []
    for record in records:
        id_, group = record.id, record.group
        if must_rename(record):
            id_ = prefix + id_
            if record.window is not None and group is not None:
                group = prefix + group
        named.append(replace(record, id=id_, group=group, source=source))
    return named


def _same_place(one: Source, other: Source) -> bool:
    """Return whether two sources have one location, perhaps by different paths."""
    if one.location == other.location:
        return True
    try:
        first, second = (find_stored(Path(), source.location) for source in (one, other))
        return not is_object(first) and not is_object(second) and os.path.samefile(first, second)
    except (OSError, ValueError):
        return False


def _scenes(stored: Mapping[str, Metadata], source: str) -> tuple[set[str], set[str]]:
    """Return the groups of chips of a source, and those of all other sources."""
    groups: tuple[set[str], set[str]] = set(), set()
    for one in stored.values():
        if one.window is not None and one.group is not None:
            groups[one.source != source].add(one.group)
    return groups


def _moved(
    sources: Mapping[str, Source], source: Source, stored: Mapping[str, Metadata]
) -> str | None:
    """Return the source that was moved to the new location, if there is exactly one."""
    if is_object(Path(source.location)):
        return None
    found: list[str] = []
    for name, old in sources.items():
        if is_object(Path(old.location)) or Path(old.location).exists():
            continue
        files = {(row.path, row.size) for row in stored.values() if row.source == name}
        here = sum(_has_size(source.file(path), size) for path, size in files)
        if 2 * here > len(files):
            found.append(name)
    return found[0] if len(found) == 1 else None


def _has_size(path: Path, size: int) -> bool:
    try:
        return image_version(path, path.stat())[0] == size
    except (OSError, ValueError):
        return False


def new_name(sources: Mapping[str, Source], location: Path, stored: Mapping[str, Metadata]) -> str:
    """Return a free name for a source, made from its location."""
    name, parent = (
        _plain(location.stem if location.is_file() else location.name),
        location.parent.name,
    )
    tries = [name, f"{_plain(parent)}-{name}"]
    tries += [f"{name}-{number}" for number in range(2, len(sources) + len(stored) + 3)]
    return next(one for one in tries if one not in sources and not _begins_ids(one, stored))


def _plain(name: str) -> str:
    """Return a folder's name as a source's name."""
    kept = re.sub(r"[:/\\]", "-", clean_id(name))
    return kept.strip()[: _MOST_NAME // 2] or "source"


def _begins_ids(name: str, stored: Mapping[str, Metadata]) -> bool:
    return any(id_.startswith(f"{name}:") for id_ in stored)


def stored_scene_options(model: Model, changed: Mapping[str, Any], source: Source) -> SceneOptions:
    """Return how the rasters and chips of a source were read."""
    note = {**source.scenes, **changed}
    if not note:
        return SceneOptions(channels=model.in_chans, side=model.image_size)
    return SceneOptions.noted(note, channels=model.in_chans, side=model.image_size)

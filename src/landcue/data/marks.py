"""Marks: which records are judged relevant or not, and the labels assigned to them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landcue.data.label_table import read_label_table, read_rows
from landcue.errors import DataError, UsageError, did_you_mean

_GOOD, _BAD = "good", "bad"
_SQLITE = b"SQLite format 3\0"
Given = Mapping[str, bool | str | Iterable[str]]
"""Of each id: whether it is relevant (``True``, ``"good"``, ``False``, ``"bad"``), or labels."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Judgments of some records.

    Attributes:
        name: Of the collection or table.
        relevant: Whether each of these ids is relevant.
        labels: All labels of each of these ids.
    """

    name: str
    relevant: dict[str, bool] = field(default_factory=dict[str, bool])
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    @classmethod
    def of(
        cls, name: str, members: Iterable[tuple[str, str | None, Iterable[str] | None]]
    ) -> Marks:
        """Return marks from members of a collection: id, mark and labels.

        Raises:
            UsageError: A mark is neither ``good`` nor ``bad``.
        """
        marks = cls(name)
        for id_, mark, labels in members:
            if mark:
                marks.relevant[id_] = _relevant(mark, f"record {id_!r}")
            if labels:
                marks.labels[id_] = tuple(labels)
        return marks

    def __len__(self) -> int:
        return len(self.relevant.keys() | self.labels.keys())

    def judged(self, label: str | None = None) -> dict[str, bool]:
        """Return whether each judged id is relevant, or has a label.

        >>> Marks("mine", labels={"a.png": ("ship",), "b.png": ("dock",)}).judged("ship")
        {'a.png': True, 'b.png': False}

        Raises:
            UsageError: No id has the label, or none is marked as relevant or not.
        """
        if label is None:
            if not self.relevant:
                raise UsageError(f"{self.name}: no record is marked as good or bad")
            return dict(self.relevant)
        known = sorted({name for names in self.labels.values() for name in names})
        if label not in known:
            raise UsageError(f"{self.name}: no record has the label {label!r}"
                             f"{did_you_mean(label, known)}")  # fmt: skip
        return {id_: label in names for id_, names in self.labels.items()}

    def label_sets(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of ids; without any, the name of the marks for what is relevant.

        >>> Marks("marinas", {"a.png": True, "b.png": False}).label_sets()
        {'a.png': ('marinas',), 'b.png': ()}
        """
        if self.labels:
            return dict(self.labels)
        return {id_: (self.name,) if good else () for id_, good in self.relevant.items()}


def as_marks(given: Marks | Given | str | os.PathLike[str], collection: str | None = None) -> Marks:
    """Return marks, read from a file if a path is given: see :func:`read_marks`.

    >>> as_marks({"a.png": True, "b.png": "bad"}).relevant
    {'a.png': True, 'b.png': False}
    """
    if isinstance(given, Marks):
        return given
    if isinstance(given, str | os.PathLike):
        return read_marks(Path(given), collection)
    marks = Marks("marks")
    for id_, value in given.items():
        if isinstance(value, str | bool):
            marks.relevant[id_] = _relevant(value, f"record {id_!r}")
        else:
            marks.labels[id_] = tuple(value)
    return marks


def read_marks(path: str | Path, collection: str | None = None) -> Marks:
    r"""Read marks from a file.

    Args:
        path: The file of collections of ``landcue serve --collections``; a collection that the page
            exported (.json); a label table (.csv), see
            :func:`landcue.data.label_table.read_label_table`; or a table with the columns ``id``
            (or ``path``) and ``mark`` (``good``, ``bad`` or blank).
        collection: Name or id of a collection in a file of collections; may be left out if there
            is only one.

    Raises:
        UsageError: No or several collections match.
        DataError: The file cannot be read.

    >>> _ = Path("marks.csv").write_text("id,mark\na.png,good\nb.png,bad\nc.png,\n")
    >>> read_marks("marks.csv").relevant
    {'a.png': True, 'b.png': False}
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    if start == _SQLITE:
        return _read_collection(path, collection)
    if collection is not None:
        raise UsageError(f"{path} is no file of collections: leave the collection's name out")
    if path.suffix.lower() == ".json":
        return _read_json(path)
    return _read_table(path)


def _read_collection(path: Path, wanted: str | None) -> Marks:
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT id, name FROM collections ORDER BY name, id").fetchall()
            chosen = _choose(path, rows, wanted)
            members = database.execute(
                "SELECT record, mark, labels FROM members WHERE collection = ? ORDER BY record",
                (chosen[0],),
            ).fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise DataError(f"{path} is no file of collections ({error})") from None
    return Marks.of(chosen[1], ((id_, mark, json.loads(labels)) for id_, mark, labels in members))


def _choose(path: Path, rows: list[tuple[str, str]], wanted: str | None) -> tuple[str, str]:
    if not rows:
        raise UsageError(f"{path} holds no collection")
    found = [row for row in rows if wanted is None or wanted in row]
    if len(found) == 1:
        return found[0]
    if not found:
        near = did_you_mean(wanted or "", [name for _, name in rows])
        raise UsageError(f"{path} holds no collection {wanted!r}{near}")
    shown = ", ".join(f"{id_} ({name})" for id_, name in found[:5])
    raise UsageError(f"{path} holds {len(found)} such collections: choose one by its id: {shown}")


def _read_json(path: Path) -> Marks:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        members = [(one["id"], one.get("mark"), one.get("labels")) for one in value["members"]]
        return Marks.of(str(value["name"]), members)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is no exported collection") from None


def _read_table(path: Path) -> Marks:
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    names = [name.lower() for name in header]
    id_ = next((name for name in ("id", "path") if name in names), None)
    if "mark" not in names or id_ is None:
        table = read_label_table(path)
        labels = {row.id or row.path: row.labels for row in table.rows if row.labels is not None}
        return Marks(path.stem, labels=labels)
    marks = Marks(path.stem)
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(f"{path} line {line}: {len(cells)} cells, the header has {len(names)}")
        if mark := cells[names.index("mark")]:
            place = f"{path} line {line}"
            marks.relevant[cells[names.index(id_)]] = _relevant(mark, place)
    return marks


def _relevant(mark: bool | str, where: str) -> bool:
    if mark in (True, False):
        return bool(mark)
    if mark not in (_GOOD, _BAD):
        raise UsageError(f"{where}: the mark is {mark!r}; use good or bad")
    return mark == _GOOD

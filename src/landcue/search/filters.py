"""Filters: which records match by label, place, time, source, sensor, group and part."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from landcue.errors import UsageError, did_you_mean
from landcue.interval import Interval, interval_text, parse_interval, with_datetime
from landcue.search import cql2, expression
from landcue.search.expression import Expression, Joined, Label, Not, Word
from landcue.search.place import box_of, check_geometry, inside, read_polygon, touches
from landcue.search.records import Records
from landcue.search.vectors import Vectors
from landcue.types import Bounds

T = TypeVar("T")


class Terms(Protocol[T]):
    """Builds conditions: masks, or expressions of a server."""

    def label(self, name: str) -> T:
        """Require that a record carries a label."""
        ...

    def score(self, name: str, least: float) -> T:
        """Require that the predicted score of a label is at least ``least``."""
        ...

    def touching(self, box: Bounds) -> T:
        """Require that a footprint touches a box."""
        ...

    def inside(self, shape: BaseGeometry) -> T:
        """Require that a footprint touches a polygon."""
        ...

    def after(self, time: np.datetime64) -> T:
        """Require that the time is known and not before ``time``."""
        ...

    def before(self, time: np.datetime64) -> T:
        """Require that the time is known and before ``time``."""
        ...

    def below(self, prefix: str) -> T:
        """Require that a path starts with ``prefix``."""
        ...

    def among(self, column: str, values: Sequence[str]) -> T:
        """Require that ``group``, ``part``, ``sensor`` or ``source`` is one of the values."""
        ...

    def with_ids(self, ids: Sequence[str]) -> T:
        """Require one of the ids; all of them must exist."""
        ...

    def negated(self, part: T) -> T:
        """Negate a condition."""
        ...

    def joined(self, word: Word, parts: Sequence[T]) -> T:
        """Require all parts (``and``), or any of them (``or``)."""
        ...


Mask = npt.NDArray[np.bool_]


PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold.

    A record's labels are the annotated ones, or the predicted ones if it is not annotated.

    Attributes:
        labels: The record carries all of them.
        any_labels: It carries at least one of them; empty for no condition.
        no_labels: It carries none of them.
        expression: Its labels make this true: see :mod:`landcue.search.expression`.
        scores: The predicted score of each of these labels is at least this value, 0..1.
        bbox: Its footprint touches this box; without a footprint it does not match.
        polygon: Its footprint touches this shapely polygon, or a geometry of another type, in
            degrees.
        datetime: Its time lies in this interval; without a time it does not match. As STAC has it:
            ``2024-06-01T00:00:00Z/2024-08-31T12:00:00Z``, both ends included, with ``..`` for an
            open end, or a single time. A year, month or day (``2024``, ``2024-06``, ``2024-06-30``)
            lasts until its end. A ``datetime``, ``date``, or pair of two is converted to text.
            Times without a zone are taken as UTC.
        path: Its path starts with this prefix.
        groups: It belongs to one of these scenes or classes.
        sensors: It was taken by one of these sensors.
        parts: It belongs to one of these parts: ``train``, ``val``, ``test``.
        sources: It comes from one of these sources of the archive, by name.
        ids: Its id is one of these; empty for no condition.
        cql2: It fits this CQL2 filter, text or JSON: see :mod:`landcue.search.cql2`.
    """

    labels: tuple[str, ...] = ()
    bbox: Bounds | None = None
    datetime: Interval | None = None
    any_labels: tuple[str, ...] = ()
    no_labels: tuple[str, ...] = ()
    expression: str | None = None
    scores: tuple[tuple[str, float], ...] = ()
    polygon: BaseGeometry | None = None
    path: str | None = None
    groups: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    cql2: str | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"unknown part {part!r}{did_you_mean(part, PARTS)}")
        if self.datetime is not None:
            text = interval_text(self.datetime)
            parse_interval(text)
            object.__setattr__(self, "datetime", text)

    @classmethod
    def parse(
        cls,
        labels: str | None = None,
        *,
        scores: Iterable[str] = (),
        bbox: str | None = None,
        polygon: str | Path | None = None,
        datetime: Interval | None = None,
        path: str | None = None,
        groups: Iterable[str] = (),
        sensors: Iterable[str] = (),
        parts: Iterable[str] = (),
        sources: Iterable[str] = (),
        ids: str | Path | Iterable[str] = (),
    ) -> Filter:
        """Parse conditions from strings.

        >>> from landcue import Filter
        >>> Filter.parse("water and not ships", bbox="5,50,6,51").bbox
        Bounds(west=5.0, south=50.0, east=6.0, north=51.0)

        Args:
            labels: A label expression; empty for none.
            scores: Labels with their minimum scores: ``ships=0.7``.
            bbox: ``W,S,E,N`` in degrees.
            polygon: WKT, GeoJSON, or a file that holds either.
            datetime: A time or an interval, such as ``2024-06-01/..``.
            path: Prefix of the path.
            groups: Scenes or classes.
            sensors: Sensors.
            parts: ``train``, ``val``, ``test``.
            sources: Names of sources.
            ids: Ids, or what :func:`read_ids` reads.

        Raises:
            UsageError: A value is not valid.
        """
        return cls(
            expression=labels if labels and labels.strip(" ,") else None,
            scores=tuple(_parse_score(text) for text in scores),
            bbox=None if bbox is None else Bounds.parse(bbox),
            polygon=None if polygon is None else read_polygon(polygon),
            datetime=datetime,
            path=path,
            groups=tuple(groups),
            sensors=tuple(sensors),
            parts=tuple(parts),
            sources=tuple(sources),
            ids=tuple(read_ids(ids) if isinstance(ids, str | Path) else ids),
        )

    @property
    def empty(self) -> bool:
        """Whether every record matches."""
        return self == Filter()

    def place(self) -> Bounds | None:
        """Return the box of the filter, or the bounding box of its polygon."""
        if self.bbox is not None or self.polygon is None:
            return self.bbox
        return box_of(self.polygon)

    def mask(self, records: Records, vectors: Vectors) -> Mask:
        """Return bool ``[n]``: true where a record matches.

        Raises:
            UsageError: As :meth:`conditions`.
        """
        mask = np.ones(len(records), np.bool_)
        for _, found in self.conditions(_Masks(records, vectors)):
            mask &= found
        return mask

    def why_empty(self, records: Records, vectors: Vectors) -> str:
        """Return one line with the conditions and how many records each one allows by itself."""
        found = self.conditions(_Masks(records, vectors))
        return why_empty(
            ((name, int(np.count_nonzero(mask))) for name, mask in found), len(records)
        )

    def conditions(self, terms: Terms[T]) -> Iterator[tuple[str, T]]:
        """Yield the conditions, each as text and as a value of ``terms``.

        Raises:
            UsageError: A label, id or source that no record has, a broken expression or polygon,
                or a score that the model does not predict.
        """
        for name in self.labels:
            yield f"label {name}", terms.label(name)
        if self.any_labels:
            parts = [terms.label(name) for name in self.any_labels]
            yield f"any label of {', '.join(self.any_labels)}", terms.joined("or", parts)
        for name in self.no_labels:
            yield f"not label {name}", terms.negated(terms.label(name))
        if self.expression is not None:
            parsed = expression.parse(self.expression)
            found = expression.evaluate(parsed, terms.label, terms.negated, terms.joined)
            yield f"labels {parsed}", found
        for name, least in self.scores:
            yield f"score {name}>={least:g}", terms.score(name, _share(least))
        if self.bbox is not None:
            box = ",".join(f"{edge:g}" for edge in dataclasses.astuple(self.bbox))
            yield f"bbox {box}", terms.touching(self.bbox)
        if self.polygon is not None:
            yield "polygon", terms.inside(check_geometry(self.polygon))
        if self.datetime is not None:
            text = interval_text(self.datetime)
            first, last = parse_interval(text)
            ends = [] if first is None else [terms.after(to_numpy(first))]
            ends += [] if last is None else [terms.before(to_numpy(last) + 1)]
            yield f"datetime {text}", ends[0] if len(ends) == 1 else terms.joined("and", ends)
        if self.path is not None:
            yield f"path {self.path}…", terms.below(self.path)
        for column, values in (
            ("group", self.groups),
            ("sensor", self.sensors),
            ("part", self.parts),
            ("source", self.sources),
        ):
            if values:
                yield f"{column} {' or '.join(values)}", terms.among(column, values)
        if self.ids:
            yield f"ids, {len(self.ids):,} of them", terms.with_ids(self.ids)
        if self.cql2 is not None:
            yield f"filter {self.cql2}", cql2.evaluate(cql2.parse(self.cql2), terms)


class _Masks:
    """Conditions as bool ``[n]`` of an archive's records."""

    def __init__(self, records: Records, vectors: Vectors) -> None:
        self._records, self._vectors = records, vectors
        self.below = records.below

    def label(self, name: str) -> Mask:
        return self._records.having(check_carried(name, self._records.label_names))

    def score(self, name: str, least: float) -> Mask:
        return self._vectors.score(name) >= np.float32(least)

    def touching(self, box: Bounds) -> Mask:
        return touches(self._records.bounds, box)

    def inside(self, shape: BaseGeometry) -> Mask:
        return inside(shape, self._records.bounds, self._records.outlines)

    def after(self, time: np.datetime64) -> Mask:
        return self._records.time >= time  # false for NaT

    def before(self, time: np.datetime64) -> Mask:
        return self._records.time < time

    def among(self, column: str, values: Sequence[str]) -> Mask:
        if column == "source":
            check_sources(values, self._records.values("source"))
        return self._records.among(column, values)

    def with_ids(self, ids: Sequence[str]) -> Mask:
        rows = {id_: self._records.find(id_) for id_ in ids}
        check_ids([id_ for id_, row in rows.items() if row is None], len(rows), self._near)
        mask = np.zeros(len(self._records), np.bool_)
        mask[[row for row in rows.values() if row is not None]] = True
        return mask

    def _near(self, id_: str) -> str:
        return did_you_mean(id_, self._records.near_ids(id_))

    def negated(self, part: Mask) -> Mask:
        return ~part

    def joined(self, word: Word, parts: Sequence[Mask]) -> Mask:
        combine: Any = np.logical_and if word == "and" else np.logical_or
        return functools.reduce(combine, parts)


def check_carried(name: str, names: Collection[str]) -> str:
    """Check that some record carries a label, and return it as records have it.

    A name that differs only in case counts where one label alone matches it.
    """
    if name in names:
        return name
    alike = [one for one in names if one.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    raise UsageError(f"no record has the label {name!r}{did_you_mean(name, names)}")


def check_sources(wanted: Iterable[str], names: Collection[str]) -> None:
    """Check that an archive has records of all sources."""
    for name in wanted:
        if name not in names:
            raise UsageError(f"no record is of the source {name!r}{did_you_mean(name, names)}")


def check_ids(missing: Sequence[str], total: int, near: Callable[[str], str]) -> None:
    """Check that no id of a filter is missing; ``near`` writes the near matches of one."""
    if missing and total == 1:
        raise UsageError(f"no record has the id {missing[0]!r}{near(missing[0])}")
    if missing:
        raise UsageError(
            f"{len(missing):,} of {total:,} ids are of no record, first "
            f"{missing[0]!r}{near(missing[0])}"
        )


def read_ids(given: str | Path) -> list[str]:
    """Read ids from a file, from stdin (``-``), or from a list with commas.

    A file holds one id per line, or a JSON list. Text is a file if there is one of this name.

    >>> read_ids("a.png, b.png")
    ['a.png', 'b.png']
    """
    try:
        if str(given) == "-":
            text = sys.stdin.read()
        elif os.path.isfile(given):  # False, too, for a list that is too long for a name
            text = Path(given).read_text(encoding="utf-8-sig")
        elif isinstance(given, Path):
            raise UsageError(f"{given}: there is no such file of ids")
        else:
            text = given.replace(",", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{given}: cannot be read as text ({error})") from None
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if text.lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            values = json.loads(text)
            if all(isinstance(value, str) for value in values):
                ids = list(values)
    if not ids:
        raise UsageError(f"{str(given)!r} holds no ids")
    return list(dict.fromkeys(ids))


def why_empty(counts: Iterable[tuple[str, int]], total: int) -> str:
    """Return one line with the conditions and how many of all records each one allows."""
    said = [f"{name} ({count} of {total} records)" for name, count in counts]
    return "no record matches " + (" and ".join(said) or "the query")


def _parse_score(text: str) -> tuple[str, float]:
    name, _, least = text.rpartition("=")
    try:
        return name.strip().rstrip(">").strip(), float(least)
    except ValueError:
        raise UsageError(f"score {text!r}: write a label and 0 to 1, as ships=0.7") from None


def _share(score: float) -> float:
    if not 0 <= score <= 1:
        raise UsageError(f"the minimum label score is {score}: use a value from 0 to 1")
    return score


def to_numpy(time: datetime) -> np.datetime64:
    """Return a time with a zone as datetime64[us] in UTC."""
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "us")


def to_request(where: Filter) -> dict[str, Any]:
    """Return a filter as a request of the service holds it."""
    values = to_json(where)
    parts: list[Expression] = [Label(name) for name in where.labels]
    parts += [Not(Label(name)) for name in where.no_labels]
    if where.any_labels:
        parts.append(Joined("or", tuple(map(Label, where.any_labels))))
    if where.expression:
        parts.append(expression.parse(where.expression))
    del values["any_labels"], values["no_labels"], values["expression"]
    values["labels"] = str(Joined("and", tuple(parts))) if parts else None
    values["scores"] = dict(where.scores)
    if where.polygon is not None:
        values["polygon"] = json.loads(shapely.to_geojson(where.polygon))
    return {name: value for name, value in values.items() if value}


def to_json(where: Filter) -> dict[str, Any]:
    """Return a filter as JSON holds it, to keep; see :func:`from_json`."""
    values = {field.name: getattr(where, field.name) for field in dataclasses.fields(where)}
    bbox, polygon = where.bbox, where.polygon
    values["bbox"] = bbox and (bbox.west, bbox.south, bbox.east, bbox.north)
    values["polygon"] = None if polygon is None else shapely.to_wkb(polygon, hex=True)
    return values


def from_json(values: Mapping[str, Any]) -> Filter:
    """Return the filter that :func:`to_json` returned; also of files that knew no ``datetime``."""
    made: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in with_datetime(values).items()
    }
    made["scores"] = tuple((str(name), float(least)) for name, least in made["scores"])
    made["bbox"] = None if made["bbox"] is None else Bounds(*made["bbox"])
    made["polygon"] = None if made["polygon"] is None else shapely.from_wkb(made["polygon"])
    return Filter(**made)

"""Which records may be found: by label, place, time, source, sensor, group and part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from landcue.errors import UsageError, did_you_mean
from landcue.search import expression
from landcue.search.place import box_of, check_polygon, inside, touches
from landcue.search.records import Records
from landcue.search.vectors import Vectors
from landcue.types import Bounds

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold.

    A record's labels are those annotated, or predicted where nobody annotated it.

    Attributes:
        labels: The record carries all of them.
        any_labels: It carries one of them, if there are any here.
        no_labels: It carries none of them.
        expression: Its labels make this true: see :mod:`landcue.search.expression`.
        scores: The model gave each of these labels at least this score, 0..1.
        bbox: Its footprint touches this box; without a footprint it does not match.
        polygon: Its footprint touches this shapely polygon, in degrees.
        after: Its time is this or later; without a time it does not match.
        before: Its time is earlier. Times without a zone are taken as UTC.
        path: Its path starts so.
        groups: It was drawn from one of these scenes or classes.
        sensors: One of these took it.
        parts: It belongs to one of these: ``train``, ``val``, ``test``.
    """

    labels: tuple[str, ...] = ()
    bbox: Bounds | None = None
    after: datetime | None = None
    before: datetime | None = None
    any_labels: tuple[str, ...] = ()
    no_labels: tuple[str, ...] = ()
    expression: str | None = None
    scores: tuple[tuple[str, float], ...] = ()
    polygon: BaseGeometry | None = None
    path: str | None = None
    groups: tuple[str, ...] = ()
    sensors: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether every record matches."""
        return self == Filter()

    def place(self) -> Bounds | None:
        """Return the box that the filter asks for, or the one around its polygon."""
        if self.bbox is not None or self.polygon is None:
            return self.bbox
        return box_of(self.polygon)

    def mask(self, records: Records, vectors: Vectors) -> Mask:
        """Return bool ``[n]``: true where a record matches.

        Raises:
            UsageError: A label that no record carries, a broken expression or polygon, a score
                that the model does not give, or a span of time that is empty.
        """
        mask = np.ones(len(records), np.bool_)
        for _, found in self._conditions(records, vectors):
            mask &= found
        return mask

    def why_empty(self, records: Records, vectors: Vectors) -> str:
        """Return one line that names the conditions, and how many records each leaves alone."""
        counts = [
            f"{name} ({int(np.count_nonzero(found))} of {len(records)} records)"
            for name, found in self._conditions(records, vectors)
        ]
        return "no record matches " + (" and ".join(counts) if counts else "the query")

    def _conditions(self, records: Records, vectors: Vectors) -> Iterator[tuple[str, Mask]]:
        yield from self._label_conditions(records, vectors)
        if self.bbox is not None:
            box = ",".join(f"{edge:g}" for edge in dataclasses.astuple(self.bbox))
            yield f"bbox {box}", touches(records.bounds, self.bbox)
        if self.polygon is not None:
            shape = check_polygon(self.polygon)
            yield "polygon", inside(shape, records.bounds, records.outlines)
        after, before = _instant(self.after), _instant(self.before)
        if after is not None and before is not None and after >= before:
            raise UsageError(f"no time is after {after} and before {before}: swap them")
        if after is not None:
            yield f"after {self.after}", records.time >= after  # false for NaT
        if before is not None:
            yield f"before {self.before}", records.time < before
        if self.path is not None:
            yield f"path {self.path}…", records.below(self.path)
        for column, values in (
            ("group", self.groups),
            ("sensor", self.sensors),
            ("part", self.parts),
        ):
            if values:
                yield f"{column} {' or '.join(values)}", records.among(column, values)

    def _label_conditions(self, records: Records, vectors: Vectors) -> Iterator[tuple[str, Mask]]:
        for name in self.labels:
            yield f"label {name}", _having(records, name)
        if self.any_labels:
            parts = [_having(records, name) for name in self.any_labels]
            yield f"any label of {', '.join(self.any_labels)}", np.logical_or.reduce(parts)
        for name in self.no_labels:
            yield f"not label {name}", ~_having(records, name)
        if self.expression is not None:
            parsed = expression.parse(self.expression)
            for name in expression.names(parsed):
                _check_known(records, name)
            yield f"labels {parsed}", expression.evaluate(parsed, records.having)
        for name, least in self.scores:
            yield f"score {name}>={least:g}", vectors.score(name) >= np.float32(_share(least))


def _having(records: Records, name: str) -> Mask:
    _check_known(records, name)
    return records.having(name)


def _check_known(records: Records, name: str) -> None:
    if name not in records.label_names:
        near = did_you_mean(name, records.label_names)
        raise UsageError(f"no record has the label {name!r}{near}")


def _share(score: float) -> float:
    if not 0 <= score <= 1:
        raise UsageError(f"a label score of {score} was asked for: give 0 to 1")
    return score


def _instant(time: datetime | None) -> np.datetime64 | None:
    if time is None:
        return None
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(time, "us")

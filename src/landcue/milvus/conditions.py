"""A filter as an expression of Milvus, and the polygon, which Milvus cannot compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from shapely.geometry.base import BaseGeometry

from landcue.errors import UsageError, did_you_mean
from landcue.milvus.expressions import NONE, any_of, both, carries, labels_fit, one_of, starts
from landcue.milvus.layout import NO_TIME
from landcue.search import expression
from landcue.search.filters import Filter
from landcue.search.place import box_of, check_polygon
from landcue.types import Bounds

_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a filter.

    Attributes:
        name: In words.
        where: As an expression; of a polygon that of the box around it.
    """

    name: str
    where: str


class Conditions:
    """What a filter asks for.

    Attributes:
        parts: Its conditions.
        polygon: To be compared with exact footprints, if there is one.
    """

    def __init__(
        self,
        where: Filter,
        names: Sequence[str],
        carried: Sequence[str],
        model_names: Sequence[str],
    ) -> None:
        """Translate a filter.

        Args:
            where: The filter.
            names: Of labels, in the order of their numbers.
            carried: Those that some record carries.
            model_names: Names of the labels that the model scores.

        Raises:
            UsageError: As :meth:`landcue.search.filters.Filter.mask`.
        """
        self._numbers = {name: number for number, name in enumerate(names)}
        self._carried, self._model_names = frozenset(carried), tuple(model_names)
        self.polygon: BaseGeometry | None = None
        if where.polygon is not None:
            self.polygon = check_polygon(where.polygon)
        self.parts = tuple(self._conditions(where))

    @property
    def where(self) -> str:
        """All of it as one expression."""
        return both(*(part.where for part in self.parts))

    def _conditions(self, where: Filter) -> Iterator[Condition]:
        yield from self._labels(where)
        if where.bbox is not None:
            box = ",".join(f"{edge:g}" for edge in dataclasses.astuple(where.bbox))
            yield Condition(f"bbox {box}", touching(where.bbox))
        if self.polygon is not None:
            yield Condition("polygon", touching(box_of(self.polygon)))
        after, before = _microseconds(where.after), _microseconds(where.before)
        if after is not None and before is not None and after >= before:
            raise UsageError(f"no time is after {where.after} and before {where.before}: swap them")
        if after is not None:
            yield Condition(f"after {where.after}", f"time >= {after}")
        if before is not None:
            yield Condition(f"before {where.before}", f"time > {NO_TIME} and time < {before}")
        if where.path is not None:
            yield Condition(f"path {where.path}…", starts("path", where.path))
        for field, values in (
            ("group", where.groups),
            ("sensor", where.sensors),
            ("part", where.parts),
        ):
            if values:
                some = [value for value in values if value]  # "" stands for none
                yield Condition(
                    f"{field} {' or '.join(values)}", one_of(field, some) if some else NONE
                )

    def _labels(self, where: Filter) -> Iterator[Condition]:
        for name in where.labels:
            yield Condition(f"label {name}", carries(self._number(name)))
        if where.any_labels:
            parts = [carries(self._number(name)) for name in where.any_labels]
            yield Condition(f"any label of {', '.join(where.any_labels)}", any_of(parts))
        for name in where.no_labels:
            yield Condition(f"not label {name}", f"not ({carries(self._number(name))})")
        if where.expression is not None:
            parsed = expression.parse(where.expression)
            for name in expression.names(parsed):
                self._number(name)
            yield Condition(f"labels {parsed}", labels_fit(parsed, self._numbers))
        for name, least in where.scores:
            if name not in self._model_names:
                near = did_you_mean(name, self._model_names)
                raise UsageError(f"the model scores no label {name!r}{near}")
            if not 0 <= least <= 1:
                raise UsageError(f"a label score of {least} was asked for: give 0 to 1")
            # Scores are kept in single precision, and compared in it.
            number, value = self._model_names.index(name), float(np.float32(least))
            yield Condition(f"score {name}>={least:g}", f"scores[{number}] >= {value!r}")

    def _number(self, name: str) -> int:
        if name not in self._carried:
            near = did_you_mean(name, self._carried)
            raise UsageError(f"no record has the label {name!r}{near}")
        return self._numbers[name]


def touching(box: Bounds) -> str:
    """Return the expression that a footprint and a box share a point.

    As :func:`landcue.search.place.touches`: ``east`` is kept beyond 180 where a footprint crosses
    the antimeridian, and the box is seen from one turn around the Earth on either side.
    """
    box_east = box.east + 360 if box.west > box.east else box.east
    turns = [
        f"west <= {_number(box_east + turn)} and east >= {_number(box.west + turn)}"
        for turn in (-360, 0, 360)
    ]
    upright = f"south <= {_number(box.north)} and north >= {_number(box.south)}"
    return both(upright, any_of(turns))


def _number(value: float) -> str:
    return f"{float(value)!r}"


def _microseconds(time: datetime | None) -> int | None:
    if time is None:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    return (time - _START) // timedelta(microseconds=1)

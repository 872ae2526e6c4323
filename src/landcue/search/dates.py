"""The records of one date of a comparison, and those of one place at all dates."""

from __future__ import annotations

import datetime as dt
import functools
import json
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from landcue.data.cells import cells_of, grid_of
from landcue.data.pairing import Places, same_place
from landcue.errors import DataError, UsageError
from landcue.interval import When, parse_date, parse_interval
from landcue.search.filters import Filter, to_numpy
from landcue.search.local import LocalBackend
from landcue.search.records import Records
from landcue.types import FloatArray

pc: Any = pyarrow.compute

DATES = "write 2013, 2013-06, 2013-06-30 or an interval of two, 2012/2013"
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time.

    Attributes:
        start: First instant, datetime64[us] in UTC; NaT if open.
        end: First instant after it; NaT if open.
        text: As the user wrote it.
    """

    start: np.datetime64
    end: np.datetime64
    text: str

    @classmethod
    def before(cls, when: When) -> Period:
        """Return all times before a date, or an interval ``A/B`` with both of its ends.

        >>> Period.before("2013-06").end
        np.datetime64('2013-06-01T00:00:00.000000')
        """
        found = cls._interval(when, "before")
        return found or cls(np.datetime64("NaT", "us"), span(when, "before")[0], str(when))

    @classmethod
    def after(cls, when: When) -> Period:
        """Return all times from a date on, or an interval ``A/B`` with both of its ends."""
        found = cls._interval(when, "after")
        return found or cls(span(when, "after")[0], np.datetime64("NaT", "us"), str(when))

    @classmethod
    def _interval(cls, when: When, name: str) -> Period | None:
        if not isinstance(when, str) or "/" not in when:
            return None
        first, last = parse_interval(when, name, DATES)
        if first is None or last is None:
            raise UsageError(f"{name}: {when[:60]!r} has an open end: {DATES}")
        return cls(to_numpy(first), to_numpy(last) + 1, when)

    def holds(self, times: npt.NDArray[np.datetime64]) -> Mask:
        """Return bool ``[n]``: which times lie in it; none that is unknown."""
        inside = ~np.isnat(times)
        if not np.isnat(self.start):
            inside &= times >= self.start
        if not np.isnat(self.end):
            inside &= times < self.end
        return inside


def span(when: When | None, name: str) -> tuple[np.datetime64, np.datetime64]:
    """Return the first instants of a year, month, day or time, and after it."""
    first, last = parse_date(when, name, DATES)
    return to_numpy(first), to_numpy(last) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The records of one date: rows int64 ``[n]`` of an opened archive."""

    backend: LocalBackend
    rows: Rows

    @property
    def records(self) -> Records:
        """The records of the archive."""
        return self.backend.records

    @property
    def embedding(self) -> FloatArray:
        """The encoder's own embeddings of all records ``[n, d]``, computed where they are read."""
        return cast(FloatArray, self.backend.own_embeddings)

    def places(self) -> Places:
        """Return where and when they were taken."""
        records = self.records
        outlines = functools.partial(_outlines, records, self.rows)
        ids = records.column("id", self.rows)
        return Places(ids, records.bounds[self.rows], records.time[self.rows], outlines)

    def of(self, rows: Rows) -> Side:
        """Return some of them, by their place among these."""
        return Side(self.backend, self.rows[rows])


def _outlines(records: Records, rows: Rows, wanted: Rows) -> npt.NDArray[Any]:
    return records.outlines(rows[wanted])


def allowed(backend: LocalBackend, where: Filter | None) -> Mask:
    """Return which records pass a filter; raise DataError if none does."""
    if where is None or where.empty:
        return np.ones(len(backend.records), np.bool_)
    mask = where.mask(backend.records, backend.vectors)
    if not mask.any():
        raise DataError(where.why_empty(backend.records, backend.vectors))
    return mask


def side_of(backend: LocalBackend, mask: Mask, period: Period, name: str) -> Side:
    """Return the records of a period, called ``name`` in errors; raise DataError if none is."""
    rows = np.flatnonzero(mask & period.holds(backend.records.time))
    if not len(rows):
        times = backend.records.time[mask]
        times = times[~np.isnat(times)]
        if not len(times):
            raise DataError(
                f"no record of {backend.archive.folder} has a time: index its source again from a "
                "table with a column datetime"
            )
        span = " to ".join(str(t.astype("datetime64[D]")) for t in (times.min(), times.max()))
        raise DataError(f"no record has a time that fits {name} {period.text}; times are {span}")
    return Side(backend, rows)


def why_unpaired(before: Side, after: Side, min_overlap: float) -> str:
    """Return one line that says why no record pairs."""
    grids: list[set[str]] = []
    for name, side in (("before", before), ("after", after)):
        places = side.places()
        if np.isnan(places.bounds).any(axis=1).all():
            return f"no record of {name} has a footprint, so that no places can be compared"
        cells = [cell for cell in pc.unique(cells_of(places.ids)).to_pylist() if cell]
        grids.append({grid_of(cell) for cell in cells})
    if grids[0] and grids[1] and not grids[0] & grids[1]:
        first, second = (", ".join(sorted(one)) for one in grids)
        return (
            f"the grids do not match: {first} before, {second} after; index both dates with the "
            "same --chip, --stride and --grid"
        )
    return f"no place was recorded in both periods with an overlap of at least {min_overlap:g}"


def check_bands(one: Side, other: Side) -> None:
    """Check that both chips of a pair were made of the same bands, if of one sensor."""
    bands = [_bands(side) for side in (one, other)]
    if bands[0] is None or bands[1] is None:
        return
    sensors = [side.records.column("sensor", side.rows).to_pylist() for side in (one, other)]
    for i, (a, b) in enumerate(zip(*bands, strict=True)):
        if a and b and a != b and sensors[0][i] == sensors[1][i]:
            ids = [side.records.id(int(side.rows[i])) for side in (one, other)]
            raise DataError(
                f"{ids[0]} was made of bands {a}, {ids[1]} of bands {b}: index both dates with the "
                "same --bands"
            )


def same_bands(one: Side, other: Side) -> Mask:
    """Return bool ``[m]``: which pairs of records were made of the same bands, as far as known."""
    bands = [_bands(side) for side in (one, other)]
    if bands[0] is None or bands[1] is None:
        return np.ones(len(one.rows), np.bool_)
    return np.array([not a or not b or a == b for a, b in zip(*bands, strict=True)], np.bool_)


def _bands(side: Side) -> list[str] | None:
    """Return the bands of each record as text, empty where unknown; ``None`` if all are equal."""
    archive, known = side.backend.archive, dict[str, str]()
    parts: list[tuple[pa.Array, pa.Array]] = []
    for batch in archive.batches(["id", "reading"]):
        readings = batch["reading"].dictionary_encode()
        texts = [_bands_of(text) for text in readings.dictionary.to_pylist()]
        known |= dict.fromkeys(texts, "")
        bands = pa.array(texts, pa.string()).take(readings.indices)
        parts.append((batch["id"].cast(pa.large_string()), bands))
    if len(known) < 2:
        return None if not known or "" in known else [next(iter(known))] * len(side.rows)
    ids = pa.chunked_array([ids for ids, _ in parts])
    at = pc.index_in(side.records.column("id", side.rows), value_set=ids.combine_chunks())
    return pc.fill_null(pa.chunked_array([b for _, b in parts]).take(at), "").to_pylist()


def _bands_of(reading: str | None) -> str:
    return ",".join(map(str, json.loads(reading).get("bands") or ())) if reading else ""


@dataclass(frozen=True, slots=True)
class Moment:
    """One record of a place.

    Attributes:
        id: Of the record.
        datetime: When it was taken, UTC.
        labels: Annotated labels, or predicted ones where there is no annotation.
        distance: 1 - cosine to the record before it in time; ``None`` of the first.
        sensor: As it was recorded.
    """

    id: str
    datetime: dt.datetime
    labels: tuple[str, ...]
    distance: float | None
    sensor: str | None


def find_timeline(backend: LocalBackend, id_: str, min_overlap: float) -> tuple[Moment, ...]:
    """Return the records of one place: see :meth:`landcue.Archive.timeline`."""
    if not 0 < min_overlap <= 1:
        raise UsageError(f"min_overlap {min_overlap:g}: use a share above 0, up to 1")
    records = backend.records
    row = records.find(id_)
    if row is None:
        raise UsageError(f"no record has the id {id_!r}")
    if np.isnan(records.bounds[row]).any():
        raise DataError(f"record {id_} has no footprint, so that its place is not known")
    rows = same_place(Side(backend, np.arange(len(records))).places(), row, min_overlap)
    rows = rows[~np.isnat(records.time[rows])]
    if not len(rows):
        raise DataError(f"no record of the place of {id_} has a time")
    rows = rows[np.argsort(records.time[rows], kind="stable")]
    vectors = Side(backend, rows).embedding[rows].astype(np.float64)
    steps = 0.5 * np.square(np.diff(vectors, axis=0)).sum(axis=1)
    sensors = records.column("sensor", rows).to_pylist()
    return tuple(
        Moment(facts[0], facts[8], tuple((facts[3] if facts[2] is None else facts[2]) or ()),
               distance, sensor)
        for facts, distance, sensor in zip(records.facts(rows), [None, *steps.tolist()], sensors,
                                           strict=True)
    )  # fmt: skip

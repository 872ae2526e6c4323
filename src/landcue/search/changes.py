"""Change between dates as values: pairs of one place, as tables and as files."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import shapely

from landcue.archive.export import geo_metadata
from landcue.data.label_table import quote_cell
from landcue.errors import UsageError
from landcue.files import replacing
from landcue.search.place import to_geopandas
from landcue.types import Bounds, to_iso

if TYPE_CHECKING:
    import geopandas
    import pandas
    from shapely.geometry.base import BaseGeometry

pq: Any = pyarrow.parquet

_BLOCK = 512
"""Pairs that are decoded at a time."""

_COLUMNS = (
    *("before", "after", "before_datetime", "after_datetime", "p", "z", "distance"),
    *("gained", "lost", "labels_before", "labels_after", "group", "overlap", "rise"),
)


@dataclass(frozen=True, slots=True)
class Change:
    """Two records of one place.

    Attributes:
        before: Id of the earlier record.
        after: Id of the later record.
        before_datetime: When the earlier one was taken, UTC.
        after_datetime: When the later one was taken, UTC.
        p: Conformal p-value: how often an unchanged pair of the group is at least as different.
        z: Robust z-score of the calibrated distance in the group.
        distance: 1 - cosine of the embeddings.
        gained: Labels of the later record that the earlier one lacks.
        lost: Labels of the earlier record that the later one lacks.
        labels_before: Labels of the earlier record.
        labels_after: Labels of the later record.
        group: The pairs that it was calibrated on: seasons, sensors and label, or ``all``.
        overlap: Intersection over union of the footprints.
        rise: By how much the predicted score of the label rose that pairs are ranked by; ``None``
            where they are ranked by no label.
        bbox: Box around the footprint of the later record, in degrees.
        geometry: That footprint as a shapely geometry, in degrees.
    """

    before: str
    after: str
    before_datetime: datetime
    after_datetime: datetime
    p: float
    z: float
    distance: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    labels_before: tuple[str, ...]
    labels_after: tuple[str, ...]
    group: str
    overlap: float
    rise: float | None = None
    bbox: Bounds | None = None
    geometry: BaseGeometry | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, with the box in degrees as ``bbox``."""
        value: dict[str, Any] = {}
        for name in _COLUMNS:
            one = getattr(self, name)
            value[name] = list(one) if isinstance(one, tuple) else one
        value["before_datetime"] = to_iso(self.before_datetime)
        value["after_datetime"] = to_iso(self.after_datetime)
        value["bbox"] = self.bbox and self.bbox.to_list()
        return value


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """What a ranking of changes rests on.

    Attributes:
        pairs: Number of pairs that were compared.
        calibration: Number of pairs that p-values rest on.
        unchanged: Whether those were given as unchanged; otherwise they are all pairs.
        alpha: The false alarm rate of the threshold on p-values.
        flagged: How many of the compared pairs have a p-value of at most ``alpha``.
        matched: How many of the flagged pairs match the filters of labels.
        notes: Lines about what was left out or assumed.
    """

    pairs: int
    calibration: int
    unchanged: bool
    alpha: float
    flagged: int
    matched: int
    notes: tuple[str, ...] = ()


class Changes(Sequence[Change]):
    """Pairs of one place, the most unusual first. Values are decoded on first access.

    Attributes:
        facts: What the ranking rests on.
    """

    def __init__(
        self, n: int, decode: Callable[[int, int], list[Change]], facts: ChangeFacts
    ) -> None:
        self._n, self._decode, self.facts = n, decode, facts
        self._block = functools.cache(self._decoded)

    def _decoded(self, number: int) -> list[Change]:
        return self._decode(number * _BLOCK, min(self._n, (number + 1) * _BLOCK))

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """Ids of the earlier and the later record of each pair."""
        return tuple((one.before, one.after) for one in self)

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Change]:
        for number in range(-(-self._n // _BLOCK)):
            yield from self._block(number)

    @overload
    def __getitem__(self, index: int) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Change, ...]: ...
    def __getitem__(self, index: int | slice) -> Change | tuple[Change, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self._n)))
        if not -self._n <= index < self._n:
            raise IndexError(f"there are {self._n} changes, no {index}")
        number, place = divmod(index % self._n, _BLOCK)
        return self._block(number)[place]

    def __repr__(self) -> str:
        return f"Changes({len(self)} of {self.facts.pairs} pairs, alpha {self.facts.alpha:g})"

    @property
    def summary(self) -> str:
        """One line: how many pairs were compared, and how many of them are unusual."""
        facts = self.facts
        on = f"{facts.calibration:,} pairs taken as unchanged" if facts.unchanged else "all pairs"
        text = f"{facts.pairs:,} pairs, {facts.flagged:,} with p <= {facts.alpha:g}"
        if facts.matched < facts.flagged:
            text += f", {facts.matched:,} of them with the labels asked for"
        return f"{text}; calibrated on {on}"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: the facts and the pairs."""
        facts = {**asdict(self.facts), "notes": list(self.facts.notes)}
        return {**facts, "changes": [one.to_json() for one in self]}

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with a row per pair, indexed by rank from 1."""
        import pandas

        rows = [{name: getattr(one, name) for name in _COLUMNS} for one in self]
        ranks = pandas.RangeIndex(1, len(rows) + 1, name="rank")
        return pandas.DataFrame(rows, index=ranks, columns=list(_COLUMNS))

    def to_geopandas(self) -> geopandas.GeoDataFrame:
        """Return the table of :meth:`to_pandas` with footprints as geometry, in EPSG:4326.

        Raises:
            UsageError: geopandas is not installed.
        """
        return to_geopandas(self.to_pandas(), [one.geometry for one in self])

    def write(self, out: Path | str) -> int:
        """Write all pairs as ``.geojson`` (or ``.json``), ``.parquet`` (GeoParquet) or ``.csv``.

        Lists in CSV are joined by ``;``, and the box stands in ``west``, ``south``, ``east`` and
        ``north``.

        Returns:
            The number of pairs.

        Raises:
            UsageError: Another suffix.
            LandcueError: The file cannot be written.
        """
        out = Path(out)
        check_table(out)
        writers = {".parquet": self._write_parquet, ".csv": self._write_csv}
        writer = writers.get(out.suffix.lower(), self._write_geojson)
        with replacing(out) as path:
            writer(path)
        return len(self)

    def _write_geojson(self, path: Path) -> None:
        features: list[dict[str, Any]] = []
        for one in self:
            value = one.to_json()
            box = value.pop("bbox")
            shape = None if one.geometry is None else json.loads(shapely.to_geojson(one.geometry))
            feature = {"type": "Feature", "geometry": shape, "properties": value}
            features.append(feature if box is None else {**feature, "bbox": box})
        whole = {"type": "FeatureCollection", "features": features}
        path.write_text(json.dumps(whole, ensure_ascii=False, allow_nan=False), encoding="utf-8")

    def _write_csv(self, path: Path) -> None:
        import csv

        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*_COLUMNS, "west", "south", "east", "north"))
            for one in self:
                value = one.to_json()
                cells = [value[name] for name in _COLUMNS]
                cells = [";".join(cell) if isinstance(cell, list) else cell for cell in cells]
                guarded = [quote_cell(cell) if isinstance(cell, str) else cell for cell in cells]
                writer.writerow((*guarded, *(value["bbox"] or ("",) * 4)))

    def _write_parquet(self, path: Path) -> None:
        shapes = np.array([one.geometry for one in self], object)
        present = shapes[~shapely.is_missing(shapes)] if len(shapes) else shapes
        kinds = sorted({shape.geom_type for shape in present})
        whole = shapely.total_bounds(present).tolist() if len(present) else []
        strings, time = pa.list_(pa.string()), pa.timestamp("us", tz="UTC")
        kind: dict[str, Any] = dict.fromkeys(_COLUMNS, pa.string())
        kind |= dict.fromkeys(("p", "z", "distance", "overlap", "rise"), pa.float64())
        kind |= dict.fromkeys(("before_datetime", "after_datetime"), time)
        kind |= dict.fromkeys(("gained", "lost", "labels_before", "labels_after"), strings)
        fields = [*kind.items(), ("geometry", pa.binary())]
        geo = json.dumps(geo_metadata(kinds, whole, covering=False))
        schema = pa.schema(fields, {"geo": geo})
        columns = {name: [getattr(one, name) for one in self] for name in _COLUMNS}
        wkb = list(shapely.to_wkb(shapes, byte_order=1)) if len(shapes) else []
        pq.write_table(pa.table({**columns, "geometry": wkb}, schema=schema), path)


def check_table(out: Path) -> None:
    """Check the suffix of a file that :meth:`Changes.write` is to write."""
    if out.suffix.lower() not in (".geojson", ".json", ".parquet", ".csv"):
        raise UsageError(f"{out}: write .geojson, .parquet or .csv")

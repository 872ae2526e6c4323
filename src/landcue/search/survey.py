"""Where the records of a search lie: clusters with true counts, or single footprints."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.search.filters import check_carried
from landcue.search.place import centers, to_geojson, touches
from landcue.search.result import Result
from landcue.types import Bounds

if TYPE_CHECKING:
    from landcue.search.records import Records

WORLD = Bounds(-180.0, -90.0, 180.0, 90.0)
MOST_ZOOM = 24
CELLS_PER_TILE = 4
"""Cells of clusters along a side of a map tile, so that a cell of 256 pixel tiles has 64 pixels."""
MOST_CLUSTERS = 5_000
"""More are not returned: cells are larger instead."""
_MOST_LATITUDE = 85.0511  # of the Mercator projection


@dataclass(frozen=True, slots=True)
class Cluster:
    """Records whose centers lie in one cell of the map.

    Attributes:
        longitude: Mean of their centers, in degrees.
        latitude: Likewise.
        count: Number of records.
        id: The one of the best score, or the first.
        bbox: West, south, east, north around their centers, in degrees.
        score: The best score; ``None`` where nothing was searched for.
        labeled: How many carry the label that was asked for; ``None`` without one.
    """

    longitude: float
    latitude: float
    count: int
    id: str
    bbox: tuple[float, float, float, float]
    score: float | None
    labeled: int | None


@dataclass(frozen=True, slots=True, eq=False)
class MapView:
    """The records of a search within a box.

    Attributes:
        matched: Number of records that match the search, anywhere.
        placed: Number of these that have a footprint.
        inside: Number of these whose footprint touches the box.
        clusters: They, by cells; empty where ``records`` holds them.
        records: They, one by one; ``None`` where there are too many.
        scored: Whether their scores compare them with a query.
    """

    matched: int
    placed: int
    inside: int
    clusters: tuple[Cluster, ...]
    records: Result | None
    scored: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, with geometries as GeoJSON."""
        value: dict[str, Any] = {
            "matched": self.matched,
            "placed": self.placed,
            "inside": self.inside,
            "clusters": [asdict(cluster) for cluster in self.clusters],
        }
        value["footprints"] = [
            {
                "id": hit.id,
                "geometry": to_geojson(hit.geometry),
                "bbox": hit.bbox.to_list(),
                "labels": list(hit.labels),
                "score": hit.score if self.scored else None,
                "percentile": hit.percentile,
            }
            for hit in self.records or ()
            if hit.geometry is not None and hit.bbox is not None
        ]
        return value


def map_view(
    records: Records,
    found: Result,
    bbox: Bounds = WORLD,
    zoom: int = 0,
    *,
    most: int = 400,
    label: str | None = None,
    scored: bool = False,
) -> MapView:
    """Return what a map shows of a result: see :meth:`landcue.Archive.map_view`."""
    if not 0 <= zoom <= MOST_ZOOM:
        raise UsageError(f"the zoom level is {zoom}: use 0 to {MOST_ZOOM}")
    if label is not None:
        label = check_carried(label, records.label_names)
    rows = found.rows
    boxes = records.bounds[rows]
    placed = int(np.count_nonzero(~np.isnan(boxes[:, 0])))
    places = np.flatnonzero(touches(boxes, bbox))
    if len(places) <= most:
        return MapView(len(rows), placed, len(places), (), found.take(places), scored)
    longitude, latitude = centers(boxes[places])
    scores = found.scores[places] if scored else None
    having = None if label is None else records.having(label)[rows[places]]
    # The first of each cell is the nearest to the query, as places are in the order of ranks.
    numbers = _cells(longitude, latitude, zoom)
    cells, first, members = np.unique(numbers, return_index=True, return_inverse=True)
    counts = np.bincount(members)
    x, y = (np.bincount(members, values) / counts for values in (longitude, latitude))
    order = np.argsort(members, kind="stable")
    starts = np.searchsorted(members[order], np.arange(len(cells)))
    sides = np.stack(
        [
            reduce.reduceat(values[order], starts)
            for reduce in (np.minimum, np.maximum)
            for values in (longitude, latitude)
        ]
    )
    labeled = None if having is None else np.bincount(members, having).astype(np.int64)
    clusters = [
        Cluster(
            round(float(x[i]), 6),
            round(float(y[i]), 6),
            int(counts[i]),
            records.id(int(rows[places[first[i]]])),
            tuple(sides[:, i].round(6).tolist()),
            None if scores is None else float(scores[first[i]]),
            None if labeled is None else int(labeled[i]),
        )
        for i in range(len(cells))
    ]
    return MapView(len(rows), placed, len(places), tuple(clusters), None, scored)


def _cells(
    longitude: npt.NDArray[np.float64], latitude: npt.NDArray[np.float64], zoom: int
) -> npt.NDArray[np.int64]:
    """Return the number of the cell of each point in the square world of map tiles.

    The zoom level is the largest, up to ``zoom``, with at most :data:`MOST_CLUSTERS` cells.
    """
    angle = np.radians(np.clip(latitude, -_MOST_LATITUDE, _MOST_LATITUDE))
    x, y = longitude / 360 + 0.5, 0.5 - np.arcsinh(np.tan(angle)) / (2 * np.pi)

    def at(level: int) -> npt.NDArray[np.int64]:
        side = CELLS_PER_TILE << level
        columns, lines = (np.clip((v * side).astype(np.int64), 0, side - 1) for v in (x, y))
        return lines * side + columns

    if len(x) > MOST_CLUSTERS:
        levels = range(zoom + 1)
        zoom = bisect_right(levels, MOST_CLUSTERS, key=lambda level: len(np.unique(at(level)))) - 1
    return at(max(zoom, 0))

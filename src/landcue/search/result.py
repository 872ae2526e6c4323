"""The result of a search: hits that are decoded on first access, as values and as pictures."""

from __future__ import annotations

import base64
import functools
import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from landcue.archive.schema import window_of
from landcue.codes.regions import region_boxes, region_pixels
from landcue.errors import UsageError
from landcue.search.backend import Facts, View
from landcue.search.pages import Cursor, Page
from landcue.search.place import geometry_of, part_of, to_geojson, to_geopandas
from landcue.search.plan import Plan
from landcue.types import Bounds, ByteArray, Hit, Region, Window, to_iso

if TYPE_CHECKING:
    import geopandas
    import pandas
    from PIL import Image

    from landcue.search.typical import Typical


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The hits of one page, as rows and distances.

    Attributes:
        page: Rows, distances, and near duplicates left out.
        worst: The distance whose score is 0.
        facts: Reads the values of the records, in the order of the page.
        view: The archive; ``None`` if there is no hit.
        parts: Parts of the scores from embeddings and from labels, float64 ``[m, 2]``.
        rerank: How the shortlist was ranked again.
        regions: Which region of each record matches best, int64 ``[m]``, in mode ``regions``.
    """

    page: Page
    worst: float
    facts: Callable[[], list[Facts]]
    view: View | None
    parts: npt.NDArray[np.float64] | None = None
    rerank: str = "none"
    regions: npt.NDArray[np.int64] | None = None

    def take(self, places: npt.NDArray[np.int64]) -> Found:
        """Return only the hits at some places."""
        page, parts = self.page, self.parts
        if self.view is None:
            return self
        some = replace(
            page,
            distances=page.distances[places],
            rows=page.rows[places],
            near=page.near[places],
            before=None,
            more=False,
        )
        read = self.view.read_facts(some.rows)
        parts = None if parts is None else parts[places]
        regions = None if self.regions is None else self.regions[places]
        return replace(self, page=some, facts=read, parts=parts, regions=regions)


_NO_HITS = Found(
    Page(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64), None, more=False),
    worst=1.0,
    facts=lambda: [],
    view=None,
)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The data that a picture of the query needs.

    Attributes:
        id: Id of the record that was the query, if it was one.
        pixels: uint8 ``[h, w, 3]`` of the image that was the query, if it was one.
        thumbnails: Returns the JPEG thumbnails of records by their ids.
        labels_of: Returns the annotated labels of a record.
    """

    id: str | None
    pixels: ByteArray | None
    thumbnails: Callable[[Iterable[str]], Mapping[str, bytes]]
    labels_of: Callable[[str], tuple[str, ...] | None]


class Result(Sequence[Hit]):
    """The nearest records, nearest first; equal distances in the order of their ids.

    A sequence of :class:`landcue.types.Hit`. Results are compared without their plans.

    >>> result = archive.search("a.png", k=2)
    >>> [hit.id for hit in result]
    ['b.png', 'c.png']

    Attributes:
        query: What was searched for: an id, a path, or ``image``, ``vector``, ``all``.
        mode: ``embedding``, ``two-stage`` and ``ann``: distance is 1 - cosine, score the cosine.
            ``code``: distance is the number of differing bits, score the share of equal bits.
            ``fused``: distance is 1 - cosine plus the weighted lack of expected gain, score the
            share of the largest possible score, whose parts are in the hits' ``why``.
            ``regions``: those of ``embedding`` for the region of each image that is nearest, which
            is each hit's ``region``, in the space of :class:`landcue.codes.regions.RegionSpace`.
            Re-ranked by ``k-reciprocal``, the distance of shared neighbors takes the place of most
            of 1 - cosine; by ``alpha-qe``, the cosine is that with the expanded query.
            ``cue``: distance is the differing hash bits plus the label weight times the differing
            label bits, score 1 - distance / largest possible distance. ``place``: distance is that
            from the center of the box in kilometers, score 1 - distance / half the Earth's
            circumference. ``list``: records in the order of ids, distance 0.
        labels: Labels of the query: annotated or predicted.
        note: Why there is no hit, if there is none.
        remark: One line if nothing is very similar to the query: the best hit is farther from it
            than 97.5 % of the records are from their nearest neighbors; or, of an image or vector
            without a filter, it is much farther from a sample of the records than the best hits
            are, as noise is: see :mod:`landcue.search.typical`. It does not depend on k.
        plan: How the search was executed.
    """

    def __init__(
        self,
        query: str,
        mode: str,
        found: Found | None,
        labels: tuple[str, ...] = (),
        end: Cursor | None = None,
        note: str | None = None,
        plan: Plan | None = None,
        picture: Picture | None = None,
        typical: Callable[[], Typical | None] = lambda: None,
    ) -> None:
        """Hold the hits of a search; ``None`` for none, ``end`` if further hits follow."""
        self.query, self.mode, self.labels = query, mode, labels
        self.note, self.plan = note, plan
        self._found, self._end, self._picture = found or _NO_HITS, end, picture
        self._measure = typical

    @property
    def cursor(self) -> str | None:
        """The cursor of :class:`landcue.SearchOptions` for the next page; ``None`` on the last."""
        return None if self._end is None else self._end.encode()

    @functools.cached_property
    def hits(self) -> tuple[Hit, ...]:
        """All hits."""
        found, percentiles = self._found, self.percentiles
        wanted = frozenset(self.labels)
        numbers = zip(
            self._facts,
            self.distances.tolist(),
            self.scores.tolist(),
            found.page.near.tolist(),
            [None] * len(self) if percentiles is None else percentiles.round(1).tolist(),
            strict=True,
        )
        hits = [_hit(wanted, *values) for values in numbers]
        if found.regions is not None and found.view is not None:
            boxes = region_boxes(found.view.manifest.regions)[found.regions].tolist()
            hits = [_with_region(hit, tuple(box)) for hit, box in zip(hits, boxes, strict=True)]
        if found.parts is not None:
            parts = zip(hits, found.parts.tolist(), strict=True)
            hits = [replace(hit, why={"embedding": a, "labels": b}) for hit, (a, b) in parts]
        return tuple(hits)

    @functools.cached_property
    def annotated(self) -> tuple[bool, ...]:
        """Whether the labels of each hit are annotated; otherwise a model predicted them."""
        return tuple([facts[2] is not None for facts in self._facts])

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the hits; this reads less than :attr:`hits`."""
        view = self._found.view
        return () if view is None else tuple(map(view.records.id, self.rows.tolist()))

    @property
    def distances(self) -> npt.NDArray[np.float64]:
        """Distances of the hits, float64 ``[m]``."""
        return self._found.page.distances

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Scores of the hits, float64 ``[m]``."""
        return 1 - self.distances / self._found.worst

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Rows of the hits in the order of ids, int64 ``[m]``."""
        return self._found.page.rows

    def take(self, places: npt.NDArray[np.int64]) -> Result:
        """Return a result of only the hits at some places, int64 ``[m]``, without a cursor.

        >>> archive.search("a.png", k=3).take(np.array([1])).ids
        ('c.png',)
        """
        found, labels = self._found.take(places), self.labels
        about = (None, self.note, self.plan, self._picture, self._measure)
        return Result(self.query, self.mode, found, labels, *about)

    def histogram(self, bins: int = 50) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return how many hits have a score in each of ``bins`` equal ranges, and their edges.

        >>> counts, edges = archive.search_all("a.png").histogram(2)
        >>> counts.tolist(), len(edges)
        ([1, 2], 3)

        Returns:
            Counts int64 ``[bins]`` and edges float64 ``[bins + 1]``, from the lowest score to the
            highest; both empty without a hit.

        Raises:
            UsageError: ``bins`` is less than 1.
        """
        if bins < 1:
            raise UsageError(f"bins is {bins}: use 1 or more")
        if not len(self):
            return np.empty(0, np.int64), np.empty(0)
        scores = np.sort(self.scores)
        edges = np.histogram_bin_edges(scores[[0, -1]], bins)
        below = np.searchsorted(scores, edges[:-1])
        return np.diff(below, append=len(scores)), edges

    def count_from(self, score: float) -> int:
        """Return how many hits have this score or more, as ``min_score`` counts them.

        >>> archive.search_all("a.png").count_from(0.9)
        2
        """
        farthest = (1 - score) * self._found.worst + 1e-9
        return int(np.count_nonzero(self.distances <= farthest))

    def predicted(self) -> list[dict[str, float | None]]:
        """Return the predicted labels of each hit with their scores, 0..1.

        A score is ``None`` where the archive's model does not predict the label.

        >>> archive.search("a.png", k=1).predicted()[0]["trees"]
        0.9177
        """
        view = self._found.view
        if view is None or not len(self):
            return [{} for _ in range(len(self))]
        names = {name: column for column, name in enumerate(view.manifest.label_names)}
        scores = view.read_vectors("scores", self.rows) if names else np.empty((len(self), 0))
        return [
            {
                name: round(float(line[names[name]]), 4) if name in names else None
                for name in facts[3] or ()
            }
            for facts, line in zip(self._facts, scores, strict=True)
        ]

    @functools.cached_property
    def percentiles(self) -> npt.NDArray[np.float64] | None:
        """Percentiles of the hits, float64 ``[m]``: see :class:`landcue.types.Hit`."""
        return None if self._typical is None else self._typical.percentiles(self._apart)

    @property
    def remark(self) -> str | None:
        """One line if nothing is very similar to the query; ``None`` on later pages."""
        if not len(self) or self._found.page.before is not None or self._typical is None:
            return None
        return self._typical.remark(float(self._apart.min()), self._found.page.best)

    @property
    def _apart(self) -> npt.NDArray[np.float64]:
        """The distances without what labels add to them in mode ``fused``."""
        if self._found.parts is None:
            return self.distances
        return 1 - self._found.parts[:, 0] * self._found.worst

    @functools.cached_property
    def _typical(self) -> Typical | None:
        return self._measure()

    @property
    def run(self) -> dict[str, dict[str, float]]:
        """The result as a run, ``{query: {id: score}}``, as :mod:`landcue.metrics` takes it.

        >>> archive.search("a.png", k=1).run  # doctest: +ELLIPSIS
        {'a.png': {'b.png': 0.99...}}
        """
        return {self.query: dict(zip(self.ids, self.scores.tolist(), strict=True))}

    def to_json(self, *, explain: bool = False) -> dict[str, Any]:
        """Return JSON values; ``explain`` adds the plan, which includes the duration.

        >>> archive.search("a.png", k=1).to_json()["hits"][0]["labels"]
        ['water']
        """
        hits = [_plain(hit) for hit in self.hits]
        if self.mode in ("code", "cue"):
            for hit in hits:
                hit["distance"] = int(hit["distance"])
        value: dict[str, Any] = {
            "query": self.query,
            "mode": self.mode,
            "hits": hits,
            "labels": list(self.labels),
            "cursor": self.cursor,
            "note": self.note,
            "remark": self.remark,
        }
        if explain and self.plan is not None:
            value["plan"] = self.plan.to_json()
        return value

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with a row per hit, indexed by rank from 1."""
        import pandas

        rows = self.to_json()["hits"]
        for row, hit in zip(rows, self.hits, strict=True):
            row["datetime"] = hit.datetime
        columns = ["id", "path", "distance", "score", "percentile", "labels", "shared"]
        columns += ["datetime", "sensor", "group", "source", "near"]
        ranks = pandas.RangeIndex(1, len(rows) + 1, name="rank")
        return pandas.DataFrame(rows, index=ranks, columns=columns)

    def to_geopandas(self) -> geopandas.GeoDataFrame:
        """Return the table of :meth:`to_pandas` with footprints as geometry, in EPSG:4326.

        Raises:
            UsageError: geopandas is not installed.
        """
        return to_geopandas(self.to_pandas(), [hit.geometry for hit in self.hits])

    def grid(self, path: Path | str | None = None) -> Image.Image:
        """Draw the query and its hits in ranked rows; write a PNG if a path is given.

        Raises:
            LandcueError: The file cannot be written.
        """
        from landcue.report.grid import draw_grid

        plain = self.mode == "fused" or self._found.rerank == "none"
        thumbnails: Mapping[str, bytes] = {}
        image: ByteArray | bytes | None = None
        labels: Sequence[str] | None = None
        if self._picture is not None:
            thumbnails, image = self._picture.thumbnails(self.ids), self._picture.pixels
            if self._picture.id is not None:
                image = self._picture.thumbnails([self._picture.id])[self._picture.id]
                labels = self._picture.labels_of(self._picture.id)
        return draw_grid(
            None if path is None else Path(path),
            self.hits,
            thumbnails,
            query_title=self.query,
            query_image=image,
            query_labels=labels,
            mode=self.mode if plain else self._found.rerank,
        )

    @functools.cached_property
    def _facts(self) -> list[Facts]:
        return self._found.facts()

    def __len__(self) -> int:
        return len(self._found.page.rows)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def _compared(self) -> tuple[Any, ...]:
        return self.query, self.mode, self.hits, self.labels, self._end, self.note

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash((self.query, self.mode, self.ids))

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self.ids[:3])) + (", …" if len(self) > 3 else "")
        return f"Result(query={self.query!r}, mode={self.mode!r}, {len(self)} hits: {first})"

    def _repr_html_(self) -> str:
        """Return a table of the hits with their thumbnails, for notebooks."""
        thumbnails = {} if self._picture is None else self._picture.thumbnails(self.ids)
        rows: list[str] = []
        for rank, hit in enumerate(self.hits, start=1):
            picture = base64.b64encode(thumbnails.get(hit.id, b"")).decode()
            image = f'<img alt="" src="data:image/jpeg;base64,{picture}">' if picture else ""
            texts = (str(rank), f"{round(hit.distance, 4):g}", hit.id, ", ".join(hit.labels))
            cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
            rows.append(f"<tr><td>{image}</td>{cells}</tr>")
        names = ("", "rank", "distance", "id", "labels")
        head = "".join(f"<th>{name}</th>" for name in names)
        about = html.escape(f"{self.query}: {len(self)} hits, mode {self.mode}")
        return f"<table><caption>{about}</caption><tr>{head}</tr>{''.join(rows)}</table>"


def _hit(
    wanted: frozenset[str],
    facts: Facts,
    distance: float,
    score: float,
    near: int,
    percentile: float | None,
) -> Hit:
    id_, path, annotated, predicted, west, south, east, north, time = facts[:9]
    group, _, sensor, pixel_bbox, wkb, source = facts[9:]
    labels = tuple((predicted if annotated is None else annotated) or ())
    bounds = None if west is None else Bounds(west, south, east, north)
    return Hit(
        id=id_,
        path=path,
        distance=distance,
        score=score,
        labels=labels,
        shared=tuple([label for label in labels if label in wanted]),
        bbox=bounds,
        geometry=geometry_of(bounds, wkb),
        window=window_of(pixel_bbox),
        datetime=time,
        sensor=sensor,
        group=group,
        near=near,
        source=source,
        percentile=percentile,
        annotated=annotated is not None,
    )


def _with_region(hit: Hit, box: tuple[float, float, float, float]) -> Hit:
    window = None
    if hit.window is not None:
        left, top, right, bottom = region_pixels(box, hit.window.height, hit.window.width)
        window = Window(hit.window.col + left, hit.window.row + top, right - left, bottom - top)
    return replace(hit, region=Region(box, window, part_of(hit.geometry, box)))


def _plain(hit: Hit) -> dict[str, Any]:
    """Return a hit as JSON values."""
    box, time = hit.bbox, hit.datetime
    value: dict[str, Any] = {
        "id": hit.id,
        "path": hit.path,
        "distance": hit.distance,
        "score": hit.score,
        "labels": list(hit.labels),
        "annotated": hit.annotated,
        "shared": list(hit.shared),
        "bbox": box and box.to_list(),
        "geometry": to_geojson(hit.geometry),
        "window": hit.window and hit.window.to_list(),
        "datetime": time and to_iso(time),
        "sensor": hit.sensor,
        "group": hit.group,
        "near": hit.near,
        "source": hit.source,
        "percentile": hit.percentile,
    }
    if hit.why is not None:
        value["why"] = dict(hit.why)
    if hit.region is not None:
        value["region"] = {
            "box": [round(part, 6) for part in hit.region.box],
            "window": hit.region.window and hit.region.window.to_list(),
            "geometry": to_geojson(hit.region.geometry),
        }
    return value

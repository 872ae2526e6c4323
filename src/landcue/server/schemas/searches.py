"""Searches and their results: hits, counts of scores, what a map shows."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import html
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from landcue.errors import UsageError
from landcue.interval import NOT_AFTER, parse_interval
from landcue.server.schemas.base import (
    AnswerModel,
    Box,
    Id,
    Name,
    PixelWindow,
    RequestModel,
    Whole,
    check_whole,
)

Mode = Literal[
    "auto", "embedding", "code", "cue", "two-stage", "ann", "fused", "fused-code", "regions"
]

MAX_K = 1_000
_PICTURES = 12

MAX_EXAMPLES = 100

MAX_CORNERS = 5_000
"""Of a polygon."""

MAX_AT_ONE_LATITUDE = 500
"""Edges of a geometry, and its points: a comparison with a footprint looks at all of them."""

MAX_DEPTH = 100_000
"""Rank of the last hit that pages can reach."""

_Names = Annotated[list[Name], Field(max_length=100)]

_Degrees = Annotated[float, Field(ge=-180, le=180)]

_Latitude = Annotated[float, Field(ge=-90, le=90)]

_Share = Annotated[float, Field(ge=0, le=1)]

_Place = Annotated[int, Field(ge=0, le=100_000), BeforeValidator(check_whole)]

_Length = Annotated[int, Field(ge=1, le=100_000), BeforeValidator(check_whole)]


# Not strict: within a body that was parsed before, they are lists.
_Bbox = Annotated[tuple[_Degrees, _Latitude, _Degrees, _Latitude], Strict(False)]

_Crop = Annotated[tuple[_Place, _Place, _Length, _Length], Strict(False)]


def count_positions(value: Any) -> int:
    """Return how many lists that hold no further list there are: the positions of a geometry."""
    count, stack = 0, [value]
    while stack:
        one = stack.pop()
        inner = list(one.values() if isinstance(one, dict) else one)
        nested = [part for part in inner if isinstance(part, dict | list)]
        count += isinstance(one, list) and not nested
        stack += nested
    return count


class Filters(RequestModel):
    """Conditions on the records that a search returns; all must hold."""

    labels: str | None = Field(None, max_length=2_000, examples=["water and not ship"])
    scores: dict[Name, _Share] = Field({}, max_length=100, examples=[{"ship": 0.7}])
    bbox: _Bbox | None = Field(
        None,
        description="West, south, east, north in degrees; west > east crosses the antimeridian.",
    )
    polygon: dict[str, Any] | None = Field(
        None, description="A GeoJSON Polygon in degrees (EPSG:4326)."
    )
    datetime: str | None = Field(
        None,
        max_length=100,
        description="A time or an interval as in the STAC API, both ends included; `..` is an open "
        "end. A year, month or day lasts until its end; UTC where no zone is given.",
        examples=["2024-06-01/2024-08-31", "2024-06-01T00:00:00Z/.."],
    )
    path: str | None = Field(
        None, max_length=1_024, description="Prefix of the image's path, relative to the source."
    )
    groups: _Names = Field([])
    sensors: _Names = Field([])
    parts: list[Literal["train", "val", "test"]] = Field([], max_length=3)
    sources: _Names = Field([], description="Names of the archive's sources.")
    ids: list[Id] = Field([], max_length=1_000, description="Ids of records; all must exist.")

    cql2: str | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="A CQL2 filter, text or JSON; its properties: `/stac/queryables`.",
    )

    @field_validator("bbox")
    @classmethod
    def _check_bbox(cls, value: Box | None) -> Box | None:
        if value is not None and not (all(map(math.isfinite, value)) and value[1] <= value[3]):
            raise ValueError(f"bounds {value}: need -90 <= south <= north <= 90 (order W,S,E,N)")
        return value

    @field_validator("polygon")
    @classmethod
    def _check_polygon(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and count_positions(value) > MAX_CORNERS:
            raise ValueError(f"the polygon has more than {MAX_CORNERS:,} corners: simplify it")
        return value

    @model_validator(mode="before")
    @classmethod
    def _refuse_after_and_before(cls, values: Any) -> Any:
        if isinstance(values, dict) and ("after" in values or "before" in values):
            raise PydanticCustomError("no_such_field", NOT_AFTER)
        return values

    @field_validator("datetime")
    @classmethod
    def _check_datetime(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_interval(value)
            except UsageError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("path")
    @classmethod
    def _check_path(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith(("/", "\\")) or value[1:2] == ":"):
            raise ValueError("the path must be relative to the archive's images")
        return value


class SearchRequest(RequestModel):
    """A search by record, by uploaded images, by several of both, or by filters alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "harbor/harbor07.tif", "k": 20},
                {
                    "id": "harbor/harbor07.tif",
                    "positives": ["harbor/harbor11.tif"],
                    "negatives": ["beach/beach02.tif"],
                    "filters": {"labels": "water and not sand", "bbox": [-10, 35, 30, 60]},
                    "mode": "two-stage",
                },
            ]
        }
    )

    archive: Name | None = Field(None, description="Name of the archive; the first one by default.")
    id: Id | None = Field(
        None, description="Id of the query record, which is left out of the hits."
    )
    positives: list[Id] = Field(
        [],
        max_length=MAX_EXAMPLES,
        description="Ids of records marked as relevant: their labels are not the query's.",
    )
    negatives: list[Id] = Field([], max_length=MAX_EXAMPLES, description="Ids of records to avoid.")
    text: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="Description in words to search for; models with a text tower only.",
    )
    negative_text: str | None = Field(
        None, min_length=1, max_length=500, description="Description in words to avoid."
    )
    vector: list[float] | None = Field(
        None,
        min_length=1,
        max_length=8_192,
        description="Embedding to search for, of the archive's dimensions; any length but 0.",
    )
    space: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Of which space `vector` is: `archive`: of this archive's records; `encoder`: "
        "of its encoder itself, which is converted; or the fingerprint of the model that made it. "
        "Needed where embeddings were fitted to the archive.",
    )
    images_of: Id | None = Field(
        None,
        description="Id of a collection whose kept images are examples, as when it was created.",
    )
    crop: _Crop | None = Field(
        None,
        description="Window of the uploaded `image` to search with: column, row, width, height.",
    )
    rule: Literal["mean", "rocchio", "linear"] = "mean"
    negative_weight: float = Field(0.5, ge=0, le=100)
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    mode: Mode = "auto"
    k: Whole = Field(20, ge=1, le=MAX_K)
    cursor: str | None = Field(None, max_length=4_096, description="`cursor` of the previous page.")
    predicted: bool = Field(
        False, description="Add the predicted labels to each hit; JSON answers only."
    )
    min_score: float | None = Field(None, ge=-1_000, le=1)
    min_percentile: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Leave out hits below this `percentile`; refused where percentiles are `null`.",
    )
    collapse: float | None = Field(None, ge=0, le=0.5)
    label_weight: Whole = Field(1, ge=0, le=1_000)
    shortlist: Whole = Field(200, ge=1, le=10_000)
    rerank: Literal["none", "alpha-qe", "k-reciprocal"] = Field(
        "none", description="How the shortlist is ranked again."
    )
    fused_weight: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Weight of the labels in modes `fused` and `fused-code`; measured by default.",
    )
    recall: _Share = 0.95


class ScoreParts(AnswerModel):
    """Parts of a fused score, which sum to it."""

    embedding: float = Field(description="Part of the embedding.")
    labels: float = Field(description="Part of the predicted labels.")


class HitRegion(AnswerModel):
    """The part of a record's image that matches the query best."""

    box: tuple[float, float, float, float] = Field(
        description="Left, top, right and bottom as shares 0 to 1 of the width and height."
    )
    window: PixelWindow | None = Field(
        description="Column, row, width, height in the scene of a chip; `null` for a whole image."
    )
    geometry: dict[str, Any] | None = Field(description="The same in degrees, GeoJSON.")


class Hit(AnswerModel):
    """A record returned by a search."""

    id: str
    distance: float = Field(description="Smaller is more similar; the unit depends on the mode.")
    score: float = Field(description="Larger is more similar; at most 1.")
    percentile: float | None = Field(
        None,
        description="Percentage of the archive's records whose nearest neighbor is no closer than "
        "this hit; `null` where it was not measured.",
    )
    labels: tuple[str, ...] = Field(
        description="Annotated labels, or predicted ones where there is no annotation."
    )
    annotated: bool = Field(True, description="Whether `labels` are annotated.")
    shared: tuple[str, ...] = Field(description="Labels shared with the query.")
    bbox: Box | None = Field(description="West, south, east, north in degrees.")
    geometry: dict[str, Any] | None = Field(
        description="Footprint, GeoJSON; cut in two where it crosses the antimeridian."
    )
    window: PixelWindow | None = Field(
        description="Column, row, width, height of a chip in its scene; `null` for a whole image."
    )
    datetime: dt.datetime | None = Field(description="Acquisition time, UTC.")
    sensor: str | None
    group: str | None = Field(description="Scene or class that the image belongs to.")
    near: int = Field(description="Number of near duplicates collapsed into this hit.")
    source: str = Field(description="Name of the archive's source that the record belongs to.")
    predicted: tuple[str, ...] | None = Field(
        None, description="Predicted labels, if the search set `predicted`."
    )
    why: ScoreParts | None = Field(None, description="Parts of the score in mode `fused`.")
    region: HitRegion | None = Field(
        None, description="Where in the image the query was found, in mode `regions`."
    )

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The hit as a GeoJSON feature; its geometry is ``None`` where it has no footprint."""
        values = self.model_dump(mode="json", exclude={"geometry", "bbox"})
        return {
            "type": "Feature",
            "id": self.id,
            "geometry": self.geometry,
            "properties": values,
        }


class Plan(AnswerModel):
    """How a search was executed."""

    mode: str = Field(description="Ranking method that was used.")
    why: str = Field(description="Why it was chosen.")
    records: int = Field(description="Number of records in the archive.")
    allowed: int = Field(description="Number of records that pass the filters.")
    scanned: int = Field(description="Number of records compared in the first stage.")
    reranked: int = Field(
        description="Number of candidates ranked by exact distance in the second stage."
    )
    recall: float | None = Field(description="Measured recall of the approximate index.")
    lists: int | None = Field(
        description="Number of inverted lists that the approximate index visited."
    )
    milliseconds: float


class SearchAnswer(AnswerModel):
    """Hits in order of distance; ties are in order of id."""

    archive: str
    query: str
    mode: str
    hits: tuple[Hit, ...]
    labels: tuple[str, ...] = Field(
        description="Labels of the query: annotated, or predicted where there is no annotation."
    )
    cursor: str | None = Field(
        description="Request the next page with it; `null` on the last page."
    )
    note: str | None = Field(description="Why there are no hits, or fewer than were asked for.")
    remark: str | None = Field(None, description="Says so if no hit is very similar to the query.")
    plan: Plan
    _picture: Callable[[str], bytes] | None = PrivateAttr(None)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:  # type: ignore[override]
        return iter(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]

    def __bool__(self) -> bool:
        return True

    def with_pictures(self, picture: Callable[[str], bytes]) -> SearchAnswer:
        """Return the same answer, which shows thumbnails in notebooks."""
        self._picture = picture
        return self

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The hits as a GeoJSON feature collection."""
        features = [hit.__geo_interface__ for hit in self.hits]
        return {"type": "FeatureCollection", "features": features}

    def to_geopandas(self) -> Any:
        """Return a :class:`geopandas.GeoDataFrame` of the hits, in EPSG:4326."""
        import geopandas

        return geopandas.GeoDataFrame.from_features(self, crs="EPSG:4326")

    def _repr_html_(self) -> str:
        """Show a table of the hits in notebooks, the first twelve with their thumbnails."""
        rows: list[str] = []
        for place, hit in enumerate(self.hits):
            image = ""
            if self._picture is not None and place < _PICTURES:
                with contextlib.suppress(Exception):  # a table without pictures is still one
                    data = base64.b64encode(self._picture(hit.id)).decode()
                    image = f'<img height="64" src="data:image/jpeg;base64,{data}">'
            values = (str(place + 1), hit.id, f"{hit.score:.3f}", ", ".join(hit.labels))
            cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
            rows.append(f"<tr><td>{image}</td>{cells}</tr>")
        head = "<th></th><th>rank</th><th>id</th><th>score</th><th>labels</th>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


class ScoresAnswer(AnswerModel):
    """How the scores of all records that match a search are distributed."""

    archive: str
    query: str
    mode: str = Field(description="What the scores mean; `two-stage` and `ann` are `embedding`.")
    records: int = Field(description="Number of records in the archive.")
    matched: int = Field(description="Number of records that pass the filters.")
    passing: int = Field(description="Number of these whose score is `min_score` or more.")
    counts: tuple[int, ...] = Field(description="Number of matched records by range of scores.")
    edges: tuple[float, ...] = Field(description="Edges of the ranges, one more than `counts`.")


class MapCluster(AnswerModel):
    """Records whose centers lie in one cell of a map."""

    longitude: float = Field(description="Mean of the centers, in degrees.")
    latitude: float
    count: int
    id: str = Field(description="The record of the best score, or the first one.")
    bbox: Box = Field(description="Around the centers: west, south, east, north in degrees.")
    score: float | None = Field(description="The best score; `null` without a query.")
    labeled: int | None = Field(description="How many carry `label`; `null` without it.")


class MapRecord(AnswerModel):
    """One record on a map."""

    id: str
    geometry: dict[str, Any] = Field(description="Its footprint, GeoJSON.")
    bbox: Box
    labels: tuple[str, ...]
    score: float | None = Field(description="`null` without a query.")
    percentile: float | None


class PlacesAnswer(AnswerModel):
    """What a map shows of a search: clusters with true counts, or single records."""

    archive: str
    records: int = Field(description="Number of records in the archive.")
    matched: int = Field(description="Number of records that pass the search, anywhere.")
    placed: int = Field(description="Number of these that have a footprint.")
    inside: int = Field(description="Number of these whose footprint touches the box.")
    clusters: tuple[MapCluster, ...] = Field(description="Empty where `footprints` holds them.")
    footprints: tuple[MapRecord, ...]

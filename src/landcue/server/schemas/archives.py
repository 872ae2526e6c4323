"""Archives, their records, labels and values to filter by."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import Field

from landcue.server.schemas.base import AnswerModel, Box, PixelWindow, Times


class Reading(AnswerModel):
    """How the numbers of a raster became a picture."""

    bands: tuple[int, ...] = Field(description="Numbers from 1, in the order red, green, blue.")
    limits: tuple[tuple[float, float], ...] | None = Field(
        description="The values of each band that became 0 and 255; `null`: its bytes as they are."
    )
    rules: tuple[str, ...] = Field(description="What was assumed.")
    warnings: tuple[str, ...] = Field(description="What GDAL reported about the file.")


class RecordAnswer(AnswerModel):
    """All stored values of a record except its path, vectors and thumbnail."""

    archive: str
    id: str
    labels: tuple[str, ...] | None = Field(description="`null` where not annotated.")
    predicted_labels: tuple[str, ...]
    bbox: Box | None = Field(description="West, south, east, north in degrees.")
    geometry: dict[str, Any] | None = Field(description="Its footprint, GeoJSON.")
    window: PixelWindow | None
    datetime: dt.datetime | None = Field(description="Acquisition time, UTC.")
    sensor: str | None
    group: str | None
    part: str | None = Field(description="`train`, `val` or `test`, where a split was applied.")
    reading: Reading | None = Field(description="Of a raster; `null` for other images.")


class LabelCount(AnswerModel):
    """How many records carry a label."""

    name: str
    annotated: int
    predicted: int
    records: int = Field(
        description="Annotated labels, or predicted ones where there is no annotation."
    )


class LabelsAnswer(AnswerModel):
    """The labels of an archive."""

    archive: str
    labels: tuple[LabelCount, ...]


class ValueCount(AnswerModel):
    """How many records have a value."""

    name: str
    records: int


class FacetsAnswer(AnswerModel):
    """Values that the records of an archive can be filtered by."""

    archive: str
    modes: tuple[str, ...] = Field(
        description="Available ranking methods; `ann` only if its index was built."
    )
    groups: tuple[ValueCount, ...] = Field(description="Most records first.")
    sensors: tuple[ValueCount, ...]
    parts: tuple[ValueCount, ...]
    sources: tuple[ValueCount, ...]
    datetime: Times | None = Field(description="First and last acquisition time.")
    bbox: Box | None = Field(
        description="Extent of all footprints: west, south, east, north in degrees; west > east "
        "where one crosses the antimeridian."
    )
    examples: tuple[str, ...] = Field(description="A few ids, spread evenly over the archive.")


class ArchiveSummary(AnswerModel):
    """One of the archives that a service shows."""

    name: str
    records: int
    version: int
    encodes_images: bool = Field(description="Whether images can be queries.")


class ArchivesAnswer(AnswerModel):
    """The archives that a service shows, the default one first."""

    archives: tuple[ArchiveSummary, ...]


class ArchiveAnswer(AnswerModel):
    """Size, version and model of an archive."""

    name: str
    records: int
    version: int
    created: str
    updated: str
    stale: bool = Field(
        description="Whether a newer version is on disk; it is opened within seconds."
    )
    deleted: bool = Field(
        False, description="Whether its folder was deleted; what is in memory still answers."
    )
    landcue: str
    fingerprint: str
    dim: int
    n_bits: int
    label_names: tuple[str, ...]
    metric: str
    model: str | None
    encodes_images: bool
    encodes_text: bool = Field(False, description="Whether texts can be queries.")
    regions: bool = Field(description="Whether the similar regions of a hit can be computed.")
    card: str | None
    scores: dict[str, Any]
    archives: tuple[str, ...]
    basemap: str | None = Field(description="Address template of map tiles for the page.")
    basemap_credit: str | None = Field(description="Attribution of the map tiles.")
    collections: bool = Field(False, description="Whether the service keeps collections.")
    max_pixels: int = Field(0, description="Largest number of pixels of a query image.")
    max_upload_bytes: int = Field(0, description="Largest size of a form with query images.")

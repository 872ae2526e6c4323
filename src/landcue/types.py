"""Value types that every folder shares. NumPy only: importing this never loads torch."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from shapely import MultiPolygon, Polygon
    from shapely.geometry.base import BaseGeometry

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
Images: TypeAlias = Union["Sequence[str | Path | ByteArray | Image]", ByteArray]
"""Image files, uint8 arrays ``[h, w, C]`` of any sizes, Pillow images, or one array of n images."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A footprint in degrees, EPSG:4326.

    ``west > east`` means that the box crosses the antimeridian.

    >>> Bounds(west=179.5, south=-17, east=-179.5, north=-16).west
    179.5
    """

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        values = (self.west, self.south, self.east, self.north)
        if not all(math.isfinite(v) for v in values):
            raise UsageError(f"bounds {values} are not finite: use W,S,E,N in degrees")
        if not (-180 <= self.west <= 180 and -180 <= self.east <= 180):
            raise UsageError(f"bounds {values}: longitudes must lie in -180..180")
        if not -90 <= self.south <= self.north <= 90:
            raise UsageError(f"bounds {values}: need -90 <= south <= north <= 90 (order W,S,E,N)")

    @classmethod
    def parse(cls, text: str) -> Bounds:
        """Read ``W,S,E,N`` in degrees.

        Raises:
            UsageError: It is not four numbers, or not such a box.
        """
        try:
            west, south, east, north = (float(part) for part in text.split(","))
        except ValueError:
            raise UsageError(f"box {text!r}: write W,S,E,N in degrees") from None
        return cls(west, south, east, north)

    def to_list(self) -> list[float]:
        """Return west, south, east and north."""
        return [self.west, self.south, self.east, self.north]


Area: TypeAlias = "Polygon | MultiPolygon"
"""A footprint in degrees, EPSG:4326, as :func:`landcue.data.places.normalize` returns it."""


@dataclass(frozen=True, slots=True)
class Window:
    """The pixels of a scene that make a chip, in pixels of the file at full resolution.

    Attributes:
        col: First column, counted from the left, from 0.
        row: First row, counted from the top, from 0.
        width: Columns.
        height: Rows.
    """

    col: int
    row: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.col < 0 or self.row < 0 or self.width < 1 or self.height < 1:
            raise UsageError(
                f"window {self.col},{self.row},{self.width},{self.height}: need col and row of at "
                "least 0, width and height of at least 1"
            )

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``COL,ROW,WIDTH,HEIGHT`` in pixels."""
        try:
            col, row, width, height = (int(part) for part in text.split(","))
        except ValueError:
            raise UsageError(f"window {text!r}: write COL,ROW,WIDTH,HEIGHT in pixels") from None
        return cls(col, row, width, height)

    def to_list(self) -> list[int]:
        """Return column, row, width and height."""
        return [self.col, self.row, self.width, self.height]


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a source, or one chip of a scene, before it is encoded.

    Attributes:
        id: Unique within its source, stable between runs.
        path: The image file; of a chip, the file of its scene.
        labels: Annotated label names in the source's order; ``None`` if it is not annotated
            (which is not the same as an image annotated with no label, ``()``).
        group: What the image was drawn from (scene class, larger scene), for splits.
        bbox: Box around its footprint, if known without opening the file.
        datetime: Acquisition time in UTC, if known.
        part: ``train``, ``val`` or ``test`` when a split was applied.
        window: The pixels of ``path`` that make the chip; ``None`` for a whole image.
        sensor: What took the image (platform or constellation), if known.
        geometry: Outline in degrees (shapely) as :func:`landcue.data.places.normalize` returns it:
            longitudes -180..180, cut at the antimeridian, exterior rings counterclockwise;
            ``None`` when only a box is known.
        predicted: Labels that a model predicted, of a record of an archive.
        source: Name of its source, of a record of an archive.
        reading: How the numbers of a raster became a picture, of a record of an archive; see
            :meth:`landcue.data.reader.SceneReader.reading`.

    >>> Record("a.png", Path("photos/a.png"), labels=("water", "ship")).labels
    ('water', 'ship')
    """

    id: str
    path: Path
    labels: tuple[str, ...] | None = None
    group: str | None = None
    bbox: Bounds | None = None
    datetime: dt.datetime | None = None
    part: str | None = None
    window: Window | None = None
    sensor: str | None = None
    geometry: Area | None = None
    predicted: tuple[str, ...] = ()
    source: str = ""
    reading: Mapping[str, Any] | None = None


def to_iso(time: dt.datetime) -> str:
    """Return a time in UTC as ISO 8601, with ``Z`` for the zone."""
    return time.isoformat().replace("+00:00", "Z")


def now_iso() -> str:
    """Return the time in UTC as ISO 8601, to the millisecond, with ``Z`` for the zone."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a source that was skipped, and why; counted in reports."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Encoding:
    """The outputs of a model for n images.

    Attributes:
        embedding: float32 ``[n, d]``, unit norm.
        code: packed uint8 ``[n, ceil(n_bits / 8)]``, bit 0 = least significant bit of byte 0;
            ``[n, 0]`` when the model has no hash head.
        n_bits: Bits of a code (0 without a hash head).
        label_scores: float32 ``[n, C]`` in 0..1; ``[n, 0]`` without a label head.
        regions: Embeddings of R regions of each image as int8 ``[n, R * d]``, of any norm; ``None``
            without regions. See :mod:`landcue.codes.regions`.
        model: Fingerprint of the model, so that it is not compared with what another one made;
            empty if it is not known.

    >>> encoding = landcue.load_model("builtin").encode(["photos/harbor/harbor00.webp"])
    >>> encoding.embedding.shape, encoding.code.shape
    ((1, 256), (1, 8))
    """

    embedding: FloatArray
    code: ByteArray
    n_bits: int
    label_scores: FloatArray
    regions: npt.NDArray[np.int8] | None = None
    model: str = ""

    def __len__(self) -> int:
        return int(self.embedding.shape[0])


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a record's image that matches a query best.

    Attributes:
        box: Left, top, right and bottom as shares 0..1 of the image's width and height.
        window: The same in pixels of the scene, of a chip; ``None`` for a whole image.
        geometry: The same in degrees, like :attr:`Hit.geometry`; ``None`` without a footprint.
    """

    box: tuple[float, float, float, float]
    window: Window | None = None
    geometry: BaseGeometry | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One record that a search found; a smaller distance, or a larger score, is nearer.

    Attributes:
        id: Of the record.
        path: Posix path of its image or scene, relative to the root of its source when below it.
        distance: What it is depends on the search's mode.
        score: Likewise; at most 1.
        labels: Annotated labels, or predicted ones if the record is not annotated.
        shared: Those that the query has too.
        bbox: Box around its footprint, in degrees.
        geometry: Its footprint as a shapely geometry in degrees, exterior rings counterclockwise,
            cut in two where it crosses the antimeridian; the box where only bounds are known.
        window: The pixels of a scene that make the chip; ``None`` for a whole image.
        datetime: Acquisition time in UTC.
        sensor: What took the image.
        group: What the image was drawn from.
        near: Number of near duplicates that were left out in its favor.
        source: Name of the archive's source that it belongs to.
        why: Parts of the score that come from the ``embedding`` and from the ``labels``, which sum
            to it; in mode ``fused`` only.
        percentile: Percentage of the archive's records whose nearest neighbor is no closer than
            this hit: near 100 for a duplicate, 0 for what is farther than any nearest neighbor.
            ``None`` where it was not measured.
        region: The part of the image that matches best, in mode ``regions`` only.
        annotated: Whether ``labels`` are annotated; predicted otherwise.

    >>> hit = archive.search("a.png", k=1)[0]
    >>> hit.id, round(hit.score, 3), hit.shared
    ('b.png', 0.996, ('water',))
    """

    id: str
    path: str
    distance: float
    score: float
    labels: tuple[str, ...]
    shared: tuple[str, ...] = ()
    bbox: Bounds | None = None
    geometry: BaseGeometry | None = None
    window: Window | None = None
    datetime: dt.datetime | None = None
    sensor: str | None = None
    group: str | None = None
    near: int = 0
    source: str = ""
    why: Mapping[str, float] | None = field(default=None, hash=False)
    percentile: float | None = None
    region: Region | None = None
    annotated: bool = True


@runtime_checkable
class Encoder(Protocol):
    """All that an archive or a search needs to know of a model.

    >>> isinstance(landcue.load_model("builtin"), Encoder)
    True
    """

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over configuration and weights."""
        ...

    @property
    def dim(self) -> int:
        """Length d of an embedding."""
        ...

    @property
    def n_bits(self) -> int:
        """Bits of a hash code; 0 without a hash head."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the C label scores, in order; empty without a label head."""
        ...

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize one decoded uint8 ``[h, w, C]`` image to the ``[s, s, C]`` that the model sees.

        :meth:`encode` does this itself; a caller that keeps many images waiting saves memory by it.
        """
        ...

    def encode(self, images: Images) -> Encoding:
        """Encode n images: files, Pillow images, or uint8 arrays ``[h, w, C]`` of any sizes."""
        ...


@runtime_checkable
class EncodesRegions(Protocol):
    """What an encoder of regions has besides: see :class:`landcue.models.RegionEncoder`."""

    encoder: Encoder
    regions: int


def regions_of(encoder: object) -> int:
    """Return how many regions a side an encoder divides an image into; 0 for most encoders."""
    return encoder.regions if isinstance(encoder, EncodesRegions) else 0

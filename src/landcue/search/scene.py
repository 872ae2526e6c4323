"""A chip of a scene as a query, read in the same way as when indexing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from landcue.data.header import RasterFacts, read_facts
from landcue.data.objects import shown
from landcue.data.pictures import BandName
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length, Scale, SceneOptions, parse_bands
from landcue.errors import UsageError
from landcue.types import Bounds, ByteArray, Window

_EDGE_POINTS = 9


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip of a raster, by its pixels or by a box in degrees; without either the whole scene.

    Attributes:
        path: The file.
        window: Pixels at full resolution.
        bbox: The chip is the smallest window that covers this box, W,S,E,N in degrees. It must not
            cross the antimeridian.
        bands: Numbers from 1, in the order of the model's inputs; by default those that the
            archive's scenes were read with, or else by the rule of :mod:`landcue.data.pictures`.
        scale: How stored values become bytes, as for ``landcue index --scale``; by default as of
            the archive's scenes.

    >>> Chip("scene.tif", Window(0, 0, 256, 256)).path.suffix
    '.tif'
    """

    path: Path
    window: Window | None = None
    bbox: Bounds | None = None
    bands: tuple[BandName, ...] | None = None
    scale: str | None = None

    def __post_init__(self) -> None:
        given = cast("str | Path", self.path)
        if isinstance(given, str):
            object.__setattr__(self, "path", Path(given))

    @classmethod
    def parse(
        cls,
        path: str | Path,
        *,
        window: str | None = None,
        bbox: str | None = None,
        bands: str | None = None,
        scale: str | None = None,
    ) -> Chip:
        """Parse a chip from strings.

        >>> from landcue.search import Chip
        >>> Chip.parse("scene.tif", window="0,0,64,64", bands="4,3,2").bands
        (4, 3, 2)

        Args:
            path: The file.
            window: ``COL,ROW,WIDTH,HEIGHT`` in pixels.
            bbox: ``W,S,E,N`` in degrees.
            bands: Numbers from 1, separated by commas.
            scale: How stored values become bytes, as for ``landcue index --scale``.

        Raises:
            UsageError: A value is not valid.
        """
        return cls(
            Path(path),
            None if window is None else Window.parse(window),
            None if bbox is None else Bounds.parse(bbox),
            None if bands is None else parse_bands(bands),
            scale,
        )


def read_chip(chip: Chip, side: int | None = None) -> ByteArray:
    """Read the pixels of a chip, uint8 ``[h, w, C]``.

    Args:
        chip: Which chip.
        side: Side of the encoder's input in pixels; larger chips are read at a lower resolution,
            but not below this.
    """
    facts = read_facts(chip.path)
    window = _window(chip, facts)
    options = SceneOptions(
        chip=Length(float(window.width), meters=False),
        bands=chip.bands,
        channels=3 if chip.bands is None else len(chip.bands),
        scale=Scale.parse(chip.scale or "auto"),
        nodata=1.0,
        side=side,
    )
    reader = SceneReader(chip.path, options)
    try:
        pixels = reader.chip(window, reader.rendering())
    finally:
        reader.close()
    if pixels is None:
        raise UsageError(f"{shown(chip.path)}: this chip holds no data; choose another window")
    return pixels


def _window(chip: Chip, facts: RasterFacts) -> Window:
    if chip.window is not None and chip.bbox is not None:
        raise UsageError("use a window in pixels or a box in degrees, not both")
    if chip.bbox is not None:
        return _covering(chip.path, chip.bbox, facts)
    window = chip.window or Window(0, 0, facts.width, facts.height)
    if window.col + window.width > facts.width or window.row + window.height > facts.height:
        raise UsageError(
            f"{shown(chip.path)}: window {window.col},{window.row},{window.width},{window.height} "
            f"is not inside the scene of {facts.width} x {facts.height} pixels"
        )
    return window


def _covering(path: Path, box: Bounds, facts: RasterFacts) -> Window:
    """Return the smallest window that covers a box in degrees, clipped to the scene."""
    from rasterio.warp import transform as project

    if facts.crs is None or facts.transform is None:
        raise UsageError(f"{shown(path)}: has no georeference; use a window in pixels")
    if box.west > box.east:
        raise UsageError("the box of a chip crosses the antimeridian; use a window in pixels")
    steps = np.linspace(0, 1, _EDGE_POINTS)
    across, along = np.meshgrid(
        box.west + (box.east - box.west) * steps, box.south + (box.north - box.south) * steps
    )
    try:
        xs, ys = project("EPSG:4326", facts.crs, across.ravel(), along.ravel())  # pyright: ignore[reportAssignmentType]
    except Exception:  # GDAL's own errors have no class that rasterio exports
        raise UsageError(f"{shown(path)}: the box is outside the scene's projection") from None
    points = np.stack([np.asarray(xs, np.float64), np.asarray(ys, np.float64)])
    a, b, c, d, e, f = tuple(facts.transform)[:6]
    cols, rows = np.linalg.solve(np.array([[a, b], [d, e]]), points - np.array([[c], [f]]))
    edges = np.array([cols.min(), rows.min(), cols.max(), rows.max()])
    if not np.isfinite(edges).all():
        raise UsageError(
            f"{shown(path)}: the box is outside the valid area of the scene's projection"
        )
    # A tolerance of a millionth of a pixel, so that a box cut from whole pixels gives those pixels.
    left, top = np.floor(edges[:2] + 1e-6).astype(int).clip(0).tolist()
    right, bottom = np.ceil(edges[2:] - 1e-6).astype(int).tolist()
    right, bottom = min(right, facts.width), min(bottom, facts.height)
    if left >= right or top >= bottom:
        raise UsageError(f"{shown(path)}: the box is outside the scene")
    return Window(left, top, right - left, bottom - top)

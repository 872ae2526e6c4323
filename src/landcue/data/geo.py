"""Footprints in degrees: of images and chips, and as tables and catalogs give them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from landcue.errors import DataError, LandcueError
from landcue.types import Bounds

if TYPE_CHECKING:
    from landcue.data.header import RasterFacts

Points = npt.NDArray[np.float64]

_EDGE_POINTS = 8
_AT_POLE = 90 - 1e-9
# WGS 84, for lengths on the ground.
_RADIUS = 6_378_137.0
_ECCENTRICITY_2 = 6.694379990141317e-3


@dataclass(frozen=True, slots=True)
class Place:
    """The location of an image: its bounds, and its outline from the top left corner clockwise."""

    bounds: Bounds
    footprint: Polygon


def read_place(path: Path) -> Place | None:
    """Return the location of a raster, or ``None`` without georeference."""
    from landcue.data.header import read_facts

    try:
        return place_of_raster(read_facts(path))
    except DataError:
        return None


def place_of_raster(facts: RasterFacts) -> Place | None:
    """Return the location of a raster by its header, or ``None`` without georeference."""
    if facts.crs is None:
        return None
    window = np.array([[0, 0, facts.width, facts.height]])
    return window_places(facts.crs, facts.transform, window)[0]


def read_footprint(path: Path) -> Bounds | None:
    """Return the bounds of a raster in degrees (EPSG:4326), or ``None`` when it does not say.

    Bounds over the antimeridian come back with ``west > east``.
    """
    place = read_place(path)
    return None if place is None else place.bounds


def window_places(crs: Any, transform: Any, windows: npt.NDArray[np.int64]) -> list[Place | None]:
    """Return the locations of the windows of one raster.

    Edges are followed in eight steps each, because a straight edge of a projection is a curve in
    degrees.

    Args:
        crs: The raster's coordinate reference system (rasterio).
        transform: From (column, row) to coordinates (affine); it may rotate and shear.
        windows: ``[n, 4]``: column, row, width, height in pixels.

    Returns:
        n places; ``None`` where a window reaches off the map.
    """
    outline = _outlines(windows)
    points = to_degrees(crs, transform, outline.reshape(-1, 2)).reshape(outline.shape)
    plane = not crs.is_geographic
    known = np.isfinite(points).all(axis=(1, 2))
    footprints = np.full(len(points), None, object)
    footprints[known] = shapely.polygons(points[known][:, ::_EDGE_POINTS])
    return [
        None if footprint is None else Place(_bounds_of(ring, plane), footprint)
        for ring, footprint in zip(points, footprints, strict=True)
    ]


def to_degrees(crs: Any, transform: Any, pixels: Points) -> Points:
    """Turn (column, row) ``[n, 2]`` into (longitude, latitude) ``[n, 2]``, longitudes -180..180.

    Points that are nowhere on Earth come back as infinities or NaN.
    """
    a, b, c, d, e, f = tuple(transform)[:6]
    cols, rows = pixels.T
    degrees = _project(crs, np.stack([a * cols + b * rows + c, d * cols + e * rows + f], axis=1))
    with np.errstate(invalid="ignore"):
        off = ~np.isfinite(degrees).all(axis=1) | (np.abs(degrees[:, 1]) > 90 + 1e-6)
        degrees[off] = np.nan
        outside = np.abs(degrees[:, 0]) > 180
    degrees[outside, 0] = (degrees[outside, 0] + 180) % 360 - 180
    degrees[:, 1] = np.clip(degrees[:, 1], -90, 90)
    return degrees


def ground_steps(crs: Any, transform: Any, col: float, row: float) -> tuple[float, float]:
    """Return how many metres on the ground a step of one column and one row is at a pixel.

    Raises:
        DataError: The pixel lies nowhere on Earth.
    """
    steps = [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)]
    around = np.array([(col + across, row + along) for across, along in steps])
    right, left, down, up = _cartesian(to_degrees(crs, transform, around))
    lengths = float(np.linalg.norm(right - left)), float(np.linalg.norm(down - up))
    if not all(np.isfinite(lengths)) or min(lengths) <= 0:
        raise DataError("its georeference leads nowhere on Earth; give --chip in pixels (256px)")
    return lengths


def split_at_antimeridian(footprint: Polygon) -> Polygon | MultiPolygon:
    """Cut a footprint at the antimeridian, as GeoJSON wants it.

    Neighboring corners more than 180 degrees of longitude apart are joined over the antimeridian. A
    footprint around a pole becomes one polygon along the antimeridian and over the pole.

    >>> over = Polygon([(179, 1), (-179, 1), (-179, 0), (179, 0)])
    >>> [part.bounds for part in split_at_antimeridian(over).geoms]
    [(179.0, 0.0, 180.0, 1.0), (-180.0, 0.0, -179.0, 1.0)]
    """
    points = np.array(footprint.exterior.coords, np.float64)
    lon = np.unwrap(points[:, 0], period=360)
    turn = lon[-1] - lon[0]
    if abs(turn) > 180:
        return Polygon(_around_pole(points[:-1]))
    points[:, 0] = lon - 360 * np.floor((lon.min() + 180) / 360)
    if points[:, 0].max() <= 180:
        return Polygon(points)
    halves = (_clip(points[:-1], 180.0, 1), _clip(points[:-1], 180.0, -1))
    halves[1][:, 0] -= 360
    return MultiPolygon([Polygon(half) for half in halves])


def _project(crs: Any, points: Points) -> Points:
    """Turn coordinates ``[n, 2]`` into degrees, NaN where there is no answer."""
    from rasterio.warp import transform as project

    x, y = points.T
    try:
        lon, lat, *_ = project(crs, "EPSG:4326", x, y)
    except Exception:  # GDAL's own family, raised for all points because of one
        if len(points) == 1:
            return np.full_like(points, np.nan)
        half = len(points) // 2
        return np.concatenate([_project(crs, points[:half]), _project(crs, points[half:])])
    return np.stack([np.asarray(lon, np.float64), np.asarray(lat, np.float64)], axis=1)


def _outlines(windows: npt.NDArray[np.int64]) -> Points:
    """Return the points along the edges of windows, ``[n, 32, 2]``, from top left clockwise."""
    step = np.arange(_EDGE_POINTS) / _EDGE_POINTS
    zero, one = np.zeros(_EDGE_POINTS), np.ones(_EDGE_POINTS)
    u = np.concatenate([step, one, 1 - step, zero])
    v = np.concatenate([zero, step, one, 1 - step])
    col, row, width, height = (windows[:, [i]].astype(np.float64) for i in range(4))
    return np.stack([col + u * width, row + v * height], axis=2)


def _bounds_of(outline: Points, plane: bool) -> Bounds:
    """Bound a ring of 32 points; in a projected plane it may run around a pole or through it."""
    lon, lat = outline.T
    south, north = float(lat.min()), float(lat.max())
    unwrapped = np.unwrap(np.append(lon, lon[0]), period=360)
    if plane and (abs(unwrapped[-1] - unwrapped[0]) > 180 or max(north, -south) >= _AT_POLE):
        south, north = (south, 90.0) if lat.mean() > 0 else (-90.0, north)
        return Bounds(-180.0, south, 180.0, north)
    west, east = float(unwrapped.min()), float(unwrapped.max())
    turns = 360 * np.floor((west + 180) / 360)
    west, east = float(west - turns), float(east - turns)
    if east - west >= 360:
        return Bounds(-180.0, south, 180.0, north)
    return Bounds(west, south, east - 360 if east > 180 else east, north)


def _around_pole(points: Points) -> list[tuple[float, float]]:
    pole = 90.0 if points[:, 1].mean() > 0 else -90.0
    ordered = points[np.argsort(points[:, 0])]
    first, last = ordered[0], ordered[-1]
    gap = first[0] + 360 - last[0]
    share = (180 - last[0]) / gap if gap > 0 else 0.0
    seam = float(last[1] + share * (first[1] - last[1]))
    inner = [(float(x), float(y)) for x, y in ordered]
    ring = [(-180.0, seam), *inner, (180.0, seam), (180.0, pole), (-180.0, pole), (-180.0, seam)]
    return ring if pole > 0 else ring[::-1]


def _clip(points: Points, at: float, side: int) -> Points:
    """Return the part of a ring with longitudes below (1) or above (-1) ``at``."""
    kept: list[Points] = []
    for p, q in zip(points, np.roll(points, -1, axis=0), strict=True):
        if side * (at - p[0]) >= 0:
            kept.append(p)
        if (p[0] - at) * (q[0] - at) < 0:
            share = (at - p[0]) / (q[0] - p[0])
            kept.append(np.array([at, p[1] + share * (q[1] - p[1])]))
    return np.array(kept)


def _cartesian(degrees: Points) -> Points:
    """Return positions on the ellipsoid in metres from the Earth's centre, ``[n, 3]``."""
    lon, lat = np.radians(degrees).T
    curvature = _RADIUS / np.sqrt(1 - _ECCENTRICITY_2 * np.sin(lat) ** 2)
    return np.stack(
        [
            curvature * np.cos(lat) * np.cos(lon),
            curvature * np.cos(lat) * np.sin(lon),
            (1 - _ECCENTRICITY_2) * curvature * np.sin(lat),
        ],
        axis=1,
    )


_CLOSE = 1e-9


def box_of(values: Sequence[Any]) -> Bounds | None:
    """Read a ``bbox`` of four numbers, or of six with heights; ``None`` when it is no box."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    if len(numbers) == 6:
        numbers = [*numbers[:2], *numbers[3:5]]
    if len(numbers) != 4:
        return None
    try:
        return Bounds(*numbers)
    except LandcueError:
        return None


def place_of(
    geometry: Mapping[str, Any] | bytes | None, most_corners: int = 64
) -> tuple[Bounds | None, Polygon | None]:
    """Return bounds and, of a plain polygon, the outline of a GeoJSON object or of WKB.

    Parts on both sides of the antimeridian that touch it are one footprint over it.
    """
    if geometry is None:
        return None, None
    try:
        found: Any = (
            shapely.from_wkb(geometry) if isinstance(geometry, bytes) else shape(dict(geometry))
        )
        parts = [part.bounds for part in getattr(found, "geoms", [found]) if not part.is_empty]
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None, None
    if not parts or not all(math.isfinite(value) for part in parts for value in part):
        return None, None
    return _bounds(parts), _outline(found, most_corners)


def _bounds(parts: list[tuple[float, float, float, float]]) -> Bounds | None:
    west, east = min(part[0] for part in parts), max(part[2] for part in parts)
    south, north = min(part[1] for part in parts), max(part[3] for part in parts)
    if len(parts) > 1 and west <= -180 + _CLOSE and east >= 180 - _CLOSE:
        left = [part for part in parts if part[0] < 0]
        right = [part for part in parts if part[0] >= 0]
        if left and right and all(part[2] <= 0 for part in left):
            west, east = min(part[0] for part in right), max(part[2] for part in left)
    return box_of((west, south, east, north))


def _outline(shape: BaseGeometry, most_corners: int) -> Polygon | None:
    """Return a polygon as a footprint; ``None`` if it has holes or too many corners."""
    if not isinstance(shape, Polygon) or shape.interiors:
        return None
    plain = shapely.force_2d(shape)
    corners = np.array(plain.exterior.coords[:-1])
    good = 3 <= len(corners) <= most_corners and (np.abs(corners[:, 0]) <= 180).all()
    return plain if good else None

"""Footprints of rasters and of windows of rasters, in degrees."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely import Polygon

from landcue.data.places import Place, Points, normalize
from landcue.errors import DataError
from landcue.types import Bounds

if TYPE_CHECKING:
    from landcue.data.header import RasterFacts

_EDGE_POINTS = 8
_FINE_POINTS = 64
_STRAIGHT = 1e-4
_AT_POLE = 90 - 1e-9
# WGS 84, for lengths on the ground.
_RADIUS = 6_378_137.0
_ECCENTRICITY_2 = 6.694379990141317e-3


def place_of_raster(facts: RasterFacts) -> Place | None:
    """Return the location of a raster by its header, or ``None`` without georeference.

    That of a rotated raster is the outline of its stored pixels, with points between the corners:
    four corners alone are those of a picture.
    """
    if facts.crs is None:
        return None
    grid = facts.stored or facts.grid
    place = window_places(facts.crs, grid.transform, np.array([[0, 0, *grid[1:]]]))[0]
    if place is None or place.geometry is None or facts.stored is None:
        return place
    return replace(place, geometry=shapely.segmentize(place.geometry, place.geometry.length / 8))


def window_places(crs: Any, transform: Any, windows: npt.NDArray[np.int64]) -> list[Place | None]:
    """Return the locations of the windows of one raster.

    Edges are followed in steps, because a straight edge of a projection is a curve in degrees: a
    footprint has corners between those of the window where they differ by more than 1/10,000 of
    its size.

    Args:
        transform: From (column, row) to coordinates (affine); it may rotate and shear.
        windows: ``[n, 4]``: column, row, width, height in pixels.

    Returns:
        n places; ``None`` where a window reaches off the map.
    """
    outline = _outlines(windows, _EDGE_POINTS)
    points = to_degrees(crs, transform, outline.reshape(-1, 2)).reshape(outline.shape)
    known: npt.NDArray[np.bool_] = np.asarray(np.isfinite(points).all(axis=(1, 2)))
    plain = known & _are_plain(points)
    low, high = points.min(axis=1), points.max(axis=1)
    corners = points[:, ::_EDGE_POINTS]
    x, y = np.moveaxis(corners, 2, 0)
    clockwise = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(axis=1) < 0
    corners[clockwise] = corners[clockwise][:, [0, 3, 2, 1]]
    footprints = np.full(len(points), None, object)
    footprints[plain] = shapely.polygons(corners[plain])
    places: list[Place | None] = []
    for i, footprint in enumerate(footprints):
        if footprint is not None:
            places.append(Place(Bounds(*low[i].tolist(), *high[i].tolist()), footprint))
        else:
            places.append(_careful_place(crs, transform, windows[i]) if known[i] else None)
    return places


def _are_plain(points: Points) -> npt.NDArray[np.bool_]:
    """Return bool ``[n]``: rings whose corners suffice, far from pole and antimeridian."""
    with np.errstate(invalid="ignore"):
        size = points.max(axis=1) - points.min(axis=1)
        ends = points[:, ::_EDGE_POINTS]
        middles = points[:, _EDGE_POINTS // 2 :: _EDGE_POINTS]
        sagitta = np.abs(middles - (ends + np.roll(ends, -1, axis=1)) / 2).max(axis=(1, 2))
        width, height = size.T
        flat = sagitta <= _STRAIGHT * np.hypot(width, height)
        return (width <= 90) & flat & (np.abs(points[..., 1]).max(axis=1) < _AT_POLE)


def _careful_place(crs: Any, transform: Any, window: npt.NDArray[np.int64]) -> Place | None:
    """Return the location of a window that is large, or at the antimeridian or a pole."""
    (outline,) = _outlines(window[None], _FINE_POINTS)
    points = to_degrees(crs, transform, outline)
    if not np.isfinite(points).all():
        return None
    if not crs.is_geographic:
        points = _with_poles(points, _pole_inside(crs, transform, window))
    else:
        points[:, 0] = np.unwrap(points[:, 0], period=360)
    low, high = points.min(axis=0), points.max(axis=0)
    if not (high - low > 0).all():
        return None
    ring: Any = shapely.simplify(Polygon(points), _STRAIGHT / 10 * float(np.hypot(*(high - low))))
    return normalize(ring, planar=True)


def _with_poles(points: Points, pole: float | None) -> Points:
    """Return a ring of a projected plane with continuous longitudes, closed along a pole."""
    on_pole = np.abs(points[:, 1]) >= _AT_POLE
    if on_pole.any():  # start after it, and come back to it along the parallel of the pole
        first = int(np.flatnonzero(on_pole)[-1]) + 1
        rolled = np.roll(points, -first, axis=0)
        pole = float(np.sign(rolled[-1, 1]) * 90)
        points = rolled[np.abs(rolled[:, 1]) < _AT_POLE]
        points[:, 0] = np.unwrap(points[:, 0], period=360)
        ends = [(points[-1, 0], pole), (points[0, 0], pole)]
        return np.concatenate([points, np.array(ends)])
    lon = np.unwrap(np.append(points[:, 0], points[0, 0]), period=360)
    points[:, 0] = lon[:-1]
    if abs(lon[-1] - lon[0]) < 180:
        return points
    if pole is None:
        pole = 90.0 if points[:, 1].mean() > 0 else -90.0
    ends = [(lon[-1], points[0, 1]), (lon[-1], pole), (lon[0], pole)]
    return np.concatenate([points, np.array(ends)])


def _pole_inside(crs: Any, transform: Any, window: npt.NDArray[np.int64]) -> float | None:
    """Return the latitude of the pole that lies in a window, if there is one."""
    from rasterio.warp import transform as project

    col, row, width, height = (float(value) for value in window)
    for latitude in (90.0, -90.0):
        try:
            (x,), (y,), *_ = project("EPSG:4326", crs, [0.0], [latitude])
            across, along = ~transform * (x, y)
        except Exception:  # GDAL's own family: the pole is not in this plane
            continue
        if 0 < across - col < width and 0 < along - row < height:
            return latitude
    return None


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
    """Return how many meters on the ground a step of one column and one row is at a pixel.

    Raises:
        DataError: The pixel lies nowhere on Earth.
    """
    steps = [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)]
    around = np.array([(col + across, row + along) for across, along in steps])
    right, left, down, up = _cartesian(to_degrees(crs, transform, around))
    lengths = float(np.linalg.norm(right - left)), float(np.linalg.norm(down - up))
    if not all(np.isfinite(lengths)) or min(lengths) <= 0:
        raise DataError("its georeference is outside the Earth; use --chip in pixels (256px)")
    return lengths


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


def _outlines(windows: npt.NDArray[np.int64], steps: int) -> Points:
    """Return points along the edges of windows, ``[n, 4 * steps, 2]``, from top left clockwise."""
    step = np.arange(steps) / steps
    zero, one = np.zeros(steps), np.ones(steps)
    u = np.concatenate([step, one, 1 - step, zero])
    v = np.concatenate([zero, step, one, 1 - step])
    col, row, width, height = (windows[:, [i]].astype(np.float64) for i in range(4))
    return np.stack([col + u * width, row + v * height], axis=2)


def _cartesian(degrees: Points) -> Points:
    """Return positions on the ellipsoid in meters from the Earth's center, ``[n, 3]``."""
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

"""Places on the Earth in degrees: boxes, polygons, and distances to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
from shapely.geometry.base import BaseGeometry

from landcue.archive.schema import footprint_of
from landcue.data.places import area_of, normalize
from landcue.errors import UsageError
from landcue.types import Area, Bounds

EARTH_KM = 6371.0088
"""Mean radius of the Earth."""
HALFWAY_KM = np.pi * EARTH_KM
"""From a point to its antipode."""

_TURNS = (-360, 0, 360)
_AREAS = {"Polygon", "MultiPolygon"}


def touches(footprints: npt.NDArray[np.float64], box: Bounds) -> npt.NDArray[np.bool_]:
    """Return bool ``[n]``: true where a footprint and ``box`` share a point.

    Args:
        footprints: ``[n, 4]``, west, south, east, north in degrees; ``west > east`` crosses the
            antimeridian, NaN is no footprint and touches nothing.
        box: In degrees; ``west > east`` crosses the antimeridian.
    """
    west, south, east, north = footprints.T
    east = np.where(west > east, east + 360, east)
    box_east = box.east + 360 if box.west > box.east else box.east
    overlap = np.zeros(len(footprints), np.bool_)
    for turn in _TURNS:  # the same box, shifted by 360 degrees
        overlap |= (west <= box_east + turn) & (east >= box.west + turn)
    return overlap & (south <= box.north) & (north >= box.south)


def read_polygon(source: str | Path) -> BaseGeometry:
    """Parse a polygon in degrees from WKT, GeoJSON text, or a file that holds either.

    A polygon across the antimeridian has longitudes beyond 180, or is split in two.

    Raises:
        UsageError: It cannot be parsed, intersects itself, is empty, or is not a polygon.
    """
    text, name = str(source), "polygon"
    if isinstance(source, Path) or not text.lstrip().startswith(("{", "P", "p", "M", "m")):
        name = text
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError):
            raise UsageError(
                f"{name!r} is not a polygon: use WKT, GeoJSON, or the path of such a file"
            ) from None
    try:
        if text.lstrip().startswith("{"):
            shape = shapely.from_geojson(json.dumps(_geometry(json.loads(text))))
        else:
            shape = shapely.from_wkt(text.strip())
    except (shapely.errors.ShapelyError, ValueError, TypeError, RecursionError):
        raise UsageError(f"{name}: not a polygon as WKT or GeoJSON") from None
    return check_polygon(shape, name)


def check_polygon(shape: Any, name: str = "polygon") -> BaseGeometry:
    """Check that a geometry is a valid, non-empty polygon in degrees.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(shape, BaseGeometry) or shape.geom_type not in _AREAS:
        kind = getattr(shape, "geom_type", type(shape).__name__)
        raise UsageError(f"{name}: is a {kind}; use a Polygon or MultiPolygon")
    if shape.is_empty:
        raise UsageError(f"{name}: is empty; at least three corners are needed")
    west, south, east, north = shape.bounds
    if not (-540 <= west <= east <= 540 and -90 <= south <= north <= 90):
        raise UsageError(f"{name}: exceeds longitude -540..540 or latitude -90..90; use degrees")
    if not shape.is_valid:
        why = shapely.is_valid_reason(shape)
        raise UsageError(
            f"{name}: intersects itself or is not valid ({why}); draw a simple outline"
        )
    return shape


def box_of(shape: BaseGeometry) -> Bounds:
    """Return the bounding box of a polygon; longitudes beyond 180 cross the antimeridian."""
    return normalize(shape, planar=True).bounds


def inside(
    shape: BaseGeometry,
    footprints: npt.NDArray[np.float64],
    outlines: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]] | None = None,
) -> npt.NDArray[np.bool_]:
    """Return bool ``[n]``: true where a footprint and a polygon share a point.

    Args:
        shape: In degrees.
        footprints: ``[n, 4]`` as in :func:`touches`.
        outlines: Returns the exact footprints of some rows ``[m]`` as geometries, object ``[m]``,
            ``None`` where only the box is known.
    """
    place = normalize(shape, planar=True)
    near = np.flatnonzero(touches(footprints, place.bounds))
    west, south, east, north = footprints[near].T
    shapes: Any = shapely.box(west, south, np.where(west > east, east + 360, east), north)
    if outlines is not None:
        exact = outlines(near)
        known = np.array([outline is not None for outline in exact], np.bool_)
        shapes = np.where(known, exact, shapes)
    found = np.zeros(len(near), np.bool_)
    for turn in _TURNS:
        moved = shapely.affinity.translate(place.footprint or shape, xoff=turn)
        shapely.prepare(moved)
        found |= shapely.intersects(moved, shapes)
    mask = np.zeros(len(footprints), np.bool_)
    mask[near] = found
    return mask


def geometry_of(bounds: Bounds | None, wkb: bytes | None) -> Area | None:
    """Return a stored footprint, or else the box of its bounds, as RFC 7946 wants it."""
    return footprint_of(wkb) or (None if bounds is None else area_of(bounds))


def center(box: Bounds) -> tuple[float, float]:
    """Return longitude and latitude of the center of a box."""
    east = box.east + 360 if box.west > box.east else box.east
    return _wrap((box.west + east) / 2), (box.south + box.north) / 2


def kilometers(
    footprints: npt.NDArray[np.float64], point: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return the distances float64 ``[n]`` of footprints' centers from a point, in km.

    NaN where there is no footprint. On a sphere (haversine): accurate to half a percent.
    """
    west, south, east, north = footprints.T
    east = np.where(west > east, east + 360, east)
    longitude, latitude = np.radians((west + east) / 2), np.radians((south + north) / 2)
    to_longitude, to_latitude = np.radians(point)
    a = np.sin((latitude - to_latitude) / 2) ** 2
    a += np.cos(latitude) * np.cos(to_latitude) * np.sin((longitude - to_longitude) / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(a, 0, 1)))


def _geometry(value: Any) -> Any:
    """Return the geometry of a GeoJSON feature, or of a collection of one feature."""
    if isinstance(value, dict) and value.get("type") == "FeatureCollection":
        features = value.get("features") or []
        if len(features) != 1:
            raise UsageError(f"the GeoJSON holds {len(features)} features; use one polygon")
        value = features[0]
    if isinstance(value, dict) and value.get("type") == "Feature":
        value = value.get("geometry")
    return value


def _wrap(longitude: float, at: float = -180.0) -> float:
    """Wrap a longitude to -180..180; the antimeridian becomes ``at``."""
    if -180 <= longitude <= 180:
        return longitude
    wrapped = (longitude + 180) % 360 - 180
    return at if wrapped == -180 else wrapped

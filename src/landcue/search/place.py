"""Places on the Earth in degrees: boxes, polygons, and distances to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from landcue.archive.schema import footprint_of
from landcue.data.places import area_of, atoms, joined_at_antimeridian, normalize
from landcue.errors import UsageError
from landcue.types import Area, Bounds

if TYPE_CHECKING:
    import geopandas
    import pandas

EARTH_KM = 6371.0088
"""Mean radius of the Earth."""
HALFWAY_KM = np.pi * EARTH_KM
"""From a point to its antipode."""

_TURNS = (-360, 0, 360)
_QUAD = 0.05
"""Largest share by which a footprint differs from the area of its four corners."""
_AREAS = {"Polygon", "MultiPolygon"}
_GEOMETRY_TEXT = re.compile(
    r"\s*(\{|(MULTI)?(POINT|LINESTRING|POLYGON)\s*(ZM?|M)?\s*(\(|EMPTY))", re.IGNORECASE
)
"""What begins like this is a geometry; all else is the name of a file."""


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
    """
    text, name = str(source), "polygon"
    if isinstance(source, Path) or not _GEOMETRY_TEXT.match(text):
        name = text
        try:
            text = Path(source).read_text(encoding="utf-8-sig")
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
    """Check that a geometry is a valid, non-empty polygon in degrees."""
    if isinstance(shape, BaseGeometry) and shape.geom_type not in _AREAS:
        raise UsageError(f"{name}: is a {shape.geom_type}; use a Polygon or MultiPolygon")
    return check_geometry(shape, name)


def check_geometry(shape: Any, name: str = "polygon") -> BaseGeometry:
    """Check that a value is a geometry of any type, valid, not empty and in degrees."""
    if not isinstance(shape, BaseGeometry):
        raise UsageError(f"{name}: is a {type(shape).__name__}; use a geometry of shapely")
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
    mixed = shape.geom_type == "GeometryCollection"
    return normalize(shape.envelope if mixed else shape, planar=True).bbox


def inside(
    shape: BaseGeometry,
    footprints: npt.NDArray[np.float64],
    outlines: Callable[[npt.NDArray[np.int64]], npt.NDArray[Any]] | None = None,
) -> npt.NDArray[np.bool_]:
    """Return bool ``[n]``: true where a footprint and a polygon share a point.

    Args:
        shape: In degrees; points and lines may be among its parts.
        footprints: ``[n, 4]`` as in :func:`touches`.
        outlines: Returns the exact footprints of some rows ``[m]`` as geometries, object ``[m]``,
            ``None`` where only the box is known.
    """
    areas = [part for part in atoms(shape) if isinstance(part, Polygon)]
    others = [part for part in atoms(shape) if not isinstance(part, Polygon)]
    if areas and others:
        some = (
            inside(shapely.GeometryCollection(p), footprints, outlines) for p in (areas, others)
        )
        return np.logical_or(*some)
    place = normalize(shape, planar=True)
    near = np.flatnonzero(touches(footprints, place.bbox))
    west, south, east, north = footprints[near].T
    shapes: Any = shapely.box(west, south, np.where(west > east, east + 360, east), north)
    if outlines is not None:
        exact = outlines(near)
        known = np.array([outline is not None for outline in exact], np.bool_)
        shapes = np.where(known, exact, shapes)
    found = np.zeros(len(near), np.bool_)
    for turn in _TURNS:
        moved = shapely.affinity.translate(place.geometry or shape, xoff=turn)
        shapely.prepare(moved)
        found |= shapely.intersects(moved, shapes)
    mask = np.zeros(len(footprints), np.bool_)
    mask[near] = found
    return mask


def most_at_one_latitude(shape: BaseGeometry) -> int:
    """Return how many edges of a geometry lie at one latitude, where most do, and all its points.

    The time of a comparison with one footprint grows with this number.

    >>> most_at_one_latitude(shapely.box(0, 0, 1, 1).boundary)
    2
    """
    spans: list[npt.NDArray[np.float64]] = []
    for part in atoms(shape):
        for line in shapely.get_rings(part).tolist() or [part]:
            y = shapely.get_coordinates(line)[:, 1]
            spans.append(np.array([y[:-1], y[1:]] if len(y) > 1 else [[-90.0], [90.0]]))
    low, high = np.sort(np.concatenate(spans, axis=1), axis=0)
    starts, ends = np.sort(low), np.sort(high)
    begun = np.arange(1, len(starts) + 1)
    return int((begun - np.searchsorted(ends, starts, "right")).max())


def geometry_of(bounds: Bounds | None, wkb: bytes | None) -> Area | None:
    """Return a stored footprint, or else the box of its bounds, as RFC 7946 wants it."""
    return footprint_of(wkb) or (None if bounds is None else area_of(bounds))


def to_geojson(geometry: BaseGeometry | None) -> dict[str, Any] | None:
    """Return a geometry as GeoJSON values."""
    return None if geometry is None else json.loads(shapely.to_geojson(geometry))


def to_geopandas(
    table: pandas.DataFrame, geometry: Sequence[BaseGeometry | None]
) -> geopandas.GeoDataFrame:
    """Return a table with footprints as geometry, in EPSG:4326."""
    try:
        import geopandas
    except ImportError:
        raise UsageError("this table needs geopandas: run pip install geopandas") from None
    return geopandas.GeoDataFrame(table, geometry=geometry, crs="EPSG:4326")


def center(box: Bounds) -> tuple[float, float]:
    """Return longitude and latitude of the center of a box."""
    (longitude,), (latitude,) = centers(np.array([box.to_list()]))
    return float(longitude), float(latitude)


def centers(
    footprints: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return longitudes and latitudes ``[n]`` of the centers of footprints ``[n, 4]``."""
    west, south, east, north = footprints.T
    longitude = (west + np.where(west > east, east + 360, east)) / 2
    return np.where(longitude > 180, longitude - 360, longitude), (south + north) / 2


def kilometers(
    footprints: npt.NDArray[np.float64], point: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """Return the distances float64 ``[n]`` of footprints' centers from a point, in km.

    NaN where there is no footprint. On a sphere (haversine): accurate to half a percent.
    """
    longitude, latitude = np.radians(centers(footprints))
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


def part_of(area: BaseGeometry | None, box: tuple[float, float, float, float]) -> Area | None:
    """Return the outline of a part of an image in degrees, of the footprint of the image.

    Images are read with north upward, so the four corners of the footprint are those of the image.
    Where it is no quadrilateral, the part is one of its bounding box.

    >>> part_of(shapely.box(10, 50, 14, 52), (0.5, 0.0, 1.0, 0.5)).bounds
    (12.0, 51.0, 14.0, 52.0)

    Args:
        area: Footprint; ``None`` for none.
        box: Left, top, right and bottom as shares of the width and height.
    """
    if not isinstance(area, Polygon | MultiPolygon):
        return None
    whole = joined_at_antimeridian(area)
    if whole is None:
        return None
    west, south, east, north = whole.bounds
    corners = shapely.get_coordinates(whole.exterior)
    x = (corners[:, 0] - west) / max(east - west, 1e-12)
    y = (corners[:, 1] - south) / max(north - south, 1e-12)
    order = [int(np.argmax(key)) for key in (y - x, x + y, x - y, -x - y)]  # clockwise from NW
    quad = corners[order]
    if len({*order}) < 4 or abs(Polygon(quad).area / whole.area - 1) > _QUAD:
        quad = np.array([(west, north), (east, north), (east, south), (west, south)])
    left, top, right, bottom = box
    points: list[npt.NDArray[np.float64]] = []
    for u, v in ((left, bottom), (right, bottom), (right, top), (left, top)):
        upper, lower = (1 - u) * quad[0] + u * quad[1], (1 - u) * quad[3] + u * quad[2]
        points.append((1 - v) * upper + v * lower)
    return normalize(Polygon(points)).geometry

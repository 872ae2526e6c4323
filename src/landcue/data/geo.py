"""Footprints in degrees: of images and chips, and as tables and catalogs give them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
import shapely.geometry
from shapely import MultiPolygon, Polygon
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from landcue.errors import DataError
from landcue.types import Area, Bounds

if TYPE_CHECKING:
    from landcue.data.header import RasterFacts

Points = npt.NDArray[np.float64]

_EDGE_POINTS = 8
_FINE_POINTS = 64
_STRAIGHT = 1e-4
_AT_POLE = 90 - 1e-9
# WGS 84, for lengths on the ground.
_RADIUS = 6_378_137.0
_ECCENTRICITY_2 = 6.694379990141317e-3


@dataclass(frozen=True, slots=True)
class Place:
    """The location of an image in degrees.

    Attributes:
        bounds: The smallest box around it; ``west > east`` over the antimeridian.
        footprint: Its outline as RFC 7946 wants it: longitudes -180..180, cut at the antimeridian,
            exterior rings counterclockwise, no edge longer than 180 degrees. ``None`` where only a
            box is known.
    """

    bounds: Bounds
    footprint: Area | None


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

    Edges are followed in steps, because a straight edge of a projection is a curve in degrees: a
    footprint has corners between those of the window where they differ by more than 1/10,000 of
    its size.

    Args:
        crs: The raster's coordinate reference system (rasterio).
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


_TURN = 360.0
_MOST_LONGITUDE = 361.0
_MOST_PLANAR = 540.0
_LONG_EDGE = 90.0


def normalize(shape: BaseGeometry, *, planar: bool = False) -> Place:
    """Return any geometry in longitude and latitude as RFC 7946 wants it.

    Longitudes beyond 180 are wrapped, rings across the antimeridian are cut there, rings around a
    pole are closed along it, edges longer than 180 degrees get points between their ends, and
    exterior rings run counterclockwise. Points and lines have bounds alone.

    >>> over = Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)])
    >>> [part.bounds for part in normalize(over).footprint.geoms]
    [(179.0, 0.0, 180.0, 1.0), (-180.0, 0.0, -179.0, 1.0)]

    Args:
        shape: In degrees; longitudes -361..361, or -540..540 if planar.
        planar: Take edges as they are drawn. Otherwise an edge of more than 180 degrees runs the
            short way over the antimeridian, unless it joins -180 and 180, or the ring has
            longitudes beyond 180.

    Raises:
        DataError: It is empty, not finite, has an impossible latitude or longitude, or is not a
            valid polygon.
    """
    plain = shapely.force_2d(shape)
    most = _MOST_PLANAR if planar else _MOST_LONGITUDE
    _check_degrees(shapely.get_coordinates(plain), most)
    areas = [part for part in _atoms(plain) if isinstance(part, Polygon)]
    pieces: list[Polygon] = []
    for area in areas:
        pieces += _wrapped(_valid(area if planar else _continuous(area)))
    if len(areas) > 1 or (pieces and _width(pieces) > _TURN - 1e-9):
        pieces = [p for p in _atoms(shapely.union_all(pieces)) if isinstance(p, Polygon)]
    if areas:
        found: Any = shapely.orient_polygons([_densified(piece) for piece in pieces])
        footprint = found[0] if len(found) == 1 else MultiPolygon(list(found))
        spans = [(piece.bounds[0], piece.bounds[2]) for piece in pieces]
        heights = shapely.bounds(found)[:, [1, 3]]
        return Place(_bounds(spans, heights.min(), heights.max()), footprint)
    spans: list[tuple[float, float]] = []
    for part in _atoms(plain):
        points = shapely.get_coordinates(part)
        lon = points[:, 0] if planar else np.unwrap(points[:, 0], period=_TURN)
        spans += _wrapped_span(float(lon.min()), float(lon.max()))
    _, south, _, north = plain.bounds
    return Place(_bounds(spans, south, north), None)


def area_of(bounds: Bounds) -> Area:
    """Return a box as a geometry that starts at its south-west corner, as RFC 7946 wants it."""
    sides = [(bounds.west, bounds.east)]
    if bounds.west > bounds.east:
        sides = [(bounds.west, 180.0), (-180.0, bounds.east)]
    parts = [
        _densified(Polygon([(w, bounds.south), (e, bounds.south), (e, bounds.north),
                            (w, bounds.north)]))
        for w, e in sides
        if w < e or len(sides) == 1
    ]  # fmt: skip
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def joined_at_antimeridian(footprint: Area) -> Polygon | None:
    """Return a cut footprint as one polygon, whose longitudes go on past 180.

    ``None`` if it has several parts that do not touch at the antimeridian.
    """
    if isinstance(footprint, Polygon):
        return footprint
    east: Any = [
        shapely.affinity.translate(part, _TURN) if part.bounds[0] == -180 else part
        for part in footprint.geoms
    ]
    whole = shapely.union_all(east)
    return whole if isinstance(whole, Polygon) else None


def _atoms(shape: Any) -> list[BaseGeometry]:
    """Return the parts of a geometry that are no collections, without empty ones."""
    parts: list[BaseGeometry] = []
    for part in shapely.get_parts(shape).tolist():
        nested = shapely.get_num_geometries(part) > 1 or part.geom_type == "GeometryCollection"
        parts += _atoms(part) if nested else [part]
    return [part for part in parts if not part.is_empty]


def _check_degrees(points: Points, most: float = _MOST_LONGITUDE) -> None:
    if not len(points):
        raise DataError("its geometry is empty")
    if not np.isfinite(points).all():
        raise DataError("its geometry holds coordinates that are not finite")
    lon, lat = (float(column[np.abs(column).argmax()]) for column in points.T)
    if abs(lat) > 90:
        swapped = " (are longitude and latitude swapped?)" if abs(lat) <= 180 else ""
        raise DataError(f"its geometry has the latitude {lat:g}, not -90..90{swapped}")
    if abs(lon) > most:
        raise DataError(f"its geometry has the longitude {lon:g}; use degrees")


def _continuous(area: Polygon) -> Polygon:
    """Return a polygon whose edges run the short way, with longitudes that may go past 180."""
    ring = _unwrapped(area.exterior.coords)
    middle = (ring[:, 0].min() + ring[:, 0].max()) / 2
    holes = [_unwrapped(hole.coords) for hole in area.interiors]
    for hole in holes:
        hole[:, 0] += _TURN * np.round((middle - hole[:, 0].mean()) / _TURN)
    return Polygon(ring, holes)


def _unwrapped(coords: Any) -> Points:
    points = np.array(coords, np.float64)
    if np.abs(points[:, 0]).max() > 180:  # it goes on past 180 already
        return points
    steps = np.diff(points[:, 0])
    far = (np.abs(steps) > 180) & (np.abs(steps) != _TURN)
    far |= (np.abs(steps) == _TURN) & (np.abs(points[:-1, 0]) != 180)
    steps[far] -= _TURN * np.round(steps[far] / _TURN)
    points[1:, 0] = points[0, 0] + np.cumsum(steps)
    turn = points[-1, 0] - points[0, 0]
    if abs(turn) > 180:
        pole = 90.0 if points[:, 1].mean() > 0 else -90.0
        points = np.concatenate([points, [(points[-1, 0], pole), (points[0, 0], pole)], points[:1]])
    return points


def _valid(area: Polygon) -> list[Polygon]:
    if area.is_valid and area.area > 0:
        return [area]
    why = shapely.is_valid_reason(area)
    parts = [part for part in _atoms(shapely.make_valid(area)) if isinstance(part, Polygon)]
    if not parts:
        raise DataError(f"its geometry is not a polygon with an area ({why})")
    return parts


def _wrapped(areas: list[Polygon]) -> list[Polygon]:
    """Cut polygons at the antimeridian and move the parts to longitudes -180..180."""
    parts: list[Polygon] = []
    for area in areas:
        west, _, east, _ = area.bounds
        if west >= -180 and east <= 180:
            parts.append(area)
            continue
        for turn in range(int((west + 180) // _TURN), int(-(-(east + 180) // _TURN))):
            at = _TURN * turn
            cut = shapely.intersection(area, shapely.box(at - 180, -90, at + 180, 90))
            moved = shapely.affinity.translate(cut, -at)
            parts += [part for part in _atoms(moved) if isinstance(part, Polygon)]
    return parts


def _wrapped_span(west: float, east: float) -> list[tuple[float, float]]:
    if east - west >= _TURN:
        return [(-180.0, 180.0)]
    turns = _TURN * np.floor((west + 180) / _TURN)
    west, east = west - turns, east - turns
    return [(west, east)] if east <= 180 else [(west, 180.0), (-180.0, east - _TURN)]


def _width(parts: list[Polygon]) -> float:
    return sum(part.bounds[2] - part.bounds[0] for part in parts)


def _densified(area: Polygon) -> Polygon:
    lon = np.array(area.exterior.coords)[:, 0]
    return shapely.segmentize(area, _LONG_EDGE) if np.abs(np.diff(lon)).max() > 180 else area


def _bounds(spans: Sequence[tuple[float, float]], south: float, north: float) -> Bounds:
    """Return the smallest box around spans of longitude: the widest gap stays outside."""
    merged: list[tuple[float, float]] = []
    for west, east in sorted(spans):
        if merged and west <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], east)
        else:
            merged.append((west, east))
    west, east = merged[0][0], merged[-1][1]
    widest = west + _TURN - east
    for (_, before), (after, _) in itertools.pairwise(merged):
        if after - before > widest:
            west, east, widest = after, before, after - before
    return Bounds(float(west), float(south), float(east), float(north))


def box_of(values: Sequence[Any]) -> Bounds:
    """Read west, south, east, north, or six numbers with heights; longitudes are wrapped.

    >>> box_of([190, -10, 200, 10])
    Bounds(west=-170.0, south=-10.0, east=-160.0, north=10.0)

    Raises:
        DataError: It is no such box.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise DataError(f"its box {list(values)} does not hold numbers") from None
    if len(numbers) == 6:
        numbers = [*numbers[:2], *numbers[3:5]]
    if len(numbers) != 4:
        raise DataError(f"its box has {len(numbers)} numbers, not 4 or 6")
    west, south, east, north = numbers
    _check_degrees(np.array([(west, south), (east, north)]))
    if east - west > _MOST_LONGITUDE:
        raise DataError(f"its box is {east - west:g} degrees wide, more than 360")
    if south > north:
        raise DataError(f"its box has south {south:g} above north {north:g}")
    if not (abs(west) <= 180 and abs(east) <= 180):
        if east - west >= _TURN:
            west, east = -180.0, 180.0
        else:
            west, east = (_wrap(value, end) for value, end in ((west, -180.0), (east, 180.0)))
    return Bounds(west, south, east, north)


def _wrap(longitude: float, at: float) -> float:
    """Wrap a longitude to -180..180; the antimeridian becomes ``at``."""
    if -180 < longitude < 180:
        return longitude
    wrapped = (longitude + 180) % _TURN - 180
    return at if wrapped == -180 else wrapped


def place_of(
    geometry: Mapping[str, Any] | bytes | str | BaseGeometry | None,
    box: Sequence[Any] | None = None,
) -> Place | None:
    """Return the location that a table or a catalog gives; its geometry wins over its box.

    The box tells how an edge of more than 180 degrees is meant: on the box's way, if the box is
    that wide; else over the antimeridian.

    Args:
        geometry: GeoJSON, WKB, WKT or shapely; ``None`` where there is none.
        box: West, south, east, north; or ``None``.

    Raises:
        DataError: The one that counts is not a place on the Earth; the message says why.
    """
    if geometry is None:
        return None if box is None else Place(box_of(box), None)
    try:
        if isinstance(geometry, bytes):
            found: Any = shapely.from_wkb(geometry)
        elif isinstance(geometry, str):
            found = shapely.from_wkt(geometry)
        else:
            found = (
                shapely.geometry.shape(dict(geometry))
                if isinstance(geometry, Mapping)
                else geometry
            )
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"its geometry cannot be read ({line})") from None
    if found is None:
        return None
    wide = False
    if box is not None:
        with contextlib.suppress(DataError):
            around = box_of(box)
            wide = around.east - around.west > 180
    return normalize(found, planar=wide)

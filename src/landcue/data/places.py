"""Places in degrees as tables, catalogs and rasters give them, in the form of RFC 7946."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
import shapely.affinity
import shapely.geometry
from shapely import MultiPolygon, Polygon
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from landcue.errors import DataError, first_line
from landcue.types import Area, Bounds


@dataclass(frozen=True, slots=True)
class Place:
    """The location of an image in degrees.

    Attributes:
        bbox: The smallest box around it; ``west > east`` over the antimeridian.
        geometry: Its outline as RFC 7946 wants it: longitudes -180..180, cut at the antimeridian,
            exterior rings counterclockwise, no edge longer than 180 degrees. ``None`` where only a
            box is known.
    """

    bbox: Bounds
    geometry: Area | None


Points = npt.NDArray[np.float64]

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
    >>> [part.bounds for part in normalize(over).geometry.geoms]
    [(179.0, 0.0, 180.0, 1.0), (-180.0, 0.0, -179.0, 1.0)]

    Args:
        shape: In degrees; longitudes -361..361, or -540..540 if planar.
        planar: Take edges as they are drawn. Otherwise an edge of more than 180 degrees runs the
            short way over the antimeridian, unless it joins -180 and 180, or the ring has
            longitudes beyond 180.
    """
    plain = shapely.force_2d(shape)
    most = _MOST_PLANAR if planar else _MOST_LONGITUDE
    _check_degrees(shapely.get_coordinates(plain), most)
    areas = [part for part in atoms(plain) if isinstance(part, Polygon)]
    pieces: list[Polygon] = []
    for area in areas:
        pieces += _wrapped(_valid(area if planar else _continuous(area)))
    if len(areas) > 1 or (pieces and _width(pieces) > _TURN - 1e-9):
        pieces = [p for p in atoms(shapely.union_all(pieces)) if isinstance(p, Polygon)]
    if areas:
        found: Any = shapely.orient_polygons([_densified(piece) for piece in pieces])
        footprint = found[0] if len(found) == 1 else MultiPolygon(list(found))
        spans = [(piece.bounds[0], piece.bounds[2]) for piece in pieces]
        heights = shapely.bounds(found)[:, [1, 3]]
        return Place(_bounds(spans, heights.min(), heights.max()), footprint)
    spans: list[tuple[float, float]] = []
    for part in atoms(plain):
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
    south, north = bounds.south, bounds.north
    parts: list[Polygon] = []
    for w, e in sides:
        if w < e or len(sides) == 1:
            part: Any = shapely.polygons([(w, south), (e, south), (e, north), (w, north)])
            parts.append(_densified(part, e - w))
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


def atoms(shape: Any) -> list[BaseGeometry]:
    """Return the parts of a geometry that are no collections, without empty ones."""
    parts: list[BaseGeometry] = []
    for part in shapely.get_parts(shape).tolist():
        nested = shapely.get_num_geometries(part) > 1 or part.geom_type == "GeometryCollection"
        parts += atoms(part) if nested else [part]
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
    parts = [part for part in atoms(shapely.make_valid(area)) if isinstance(part, Polygon)]
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
            parts += [part for part in atoms(moved) if isinstance(part, Polygon)]
    return parts


def _wrapped_span(west: float, east: float) -> list[tuple[float, float]]:
    if east - west >= _TURN:
        return [(-180.0, 180.0)]
    turns = _TURN * np.floor((west + 180) / _TURN)
    west, east = west - turns, east - turns
    return [(west, east)] if east <= 180 else [(west, 180.0), (-180.0, east - _TURN)]


def _width(parts: list[Polygon]) -> float:
    return sum(part.bounds[2] - part.bounds[0] for part in parts)


def _densified(area: Polygon, longest: float | None = None) -> Polygon:
    """Divide edges of more than half a turn; ``longest`` is their width in degrees, if known."""
    if longest is None:
        longest = float(np.abs(np.diff(shapely.get_coordinates(area.exterior)[:, 0])).max())
    return shapely.segmentize(area, _LONG_EDGE) if longest > 180 else area


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
    """
    if geometry is None:
        return None if box is None else Place(box_of(box), None)
    try:
        if isinstance(geometry, bytes):
            found: Any = shapely.from_wkb(geometry)
        elif isinstance(geometry, str):
            found = shapely.from_wkt(geometry)
        else:
            whole = isinstance(geometry, BaseGeometry)
            found = geometry if whole else shapely.geometry.shape(dict(geometry))
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DataError(f"its geometry cannot be read ({first_line(error)})") from None
    if found is None:
        return None
    wide = False
    if box is not None:
        with contextlib.suppress(DataError):
            around = box_of(box)
            wide = around.east - around.west > 180
    return normalize(found, planar=wide)

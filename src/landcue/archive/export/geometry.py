"""Footprints as GeoJSON geometry and WKB, cut in two where they cross the antimeridian."""

from __future__ import annotations

import itertools
from typing import Any

from landcue.archive.schema import from_wkb
from landcue.data.geo import split_ring
from landcue.types import Bounds

Row = dict[str, Any]
Point = tuple[float, float]


def bounds_of(row: Row) -> Bounds | None:
    """Return the box of a stored row."""
    if row["west"] is None:
        return None
    return Bounds(row["west"], row["south"], row["east"], row["north"])


def geometry_of(row: Row) -> dict[str, Any] | None:
    """Return the footprint of a stored row, or else its box, as GeoJSON (RFC 7946).

    Exterior rings run counterclockwise. What crosses the antimeridian becomes a MultiPolygon with
    a part on each side (section 3.1.9).
    """
    if row["geometry"] is not None:
        rings = split_ring(from_wkb(row["geometry"]))
    else:
        bounds = bounds_of(row)
        if bounds is None:
            return None
        rings = _box_rings(bounds)
    polygons = [[_counterclockwise(ring)] for ring in rings]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def to_wkb(geometry: dict[str, Any] | None) -> bytes | None:
    """Return GeoJSON geometry as little-endian WKB."""
    import shapely
    import shapely.geometry

    if geometry is None:
        return None
    return shapely.to_wkb(shapely.geometry.shape(geometry), byte_order=1)


def planar_box(geometry: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return least x and y, largest x and y of a geometry; -180 to 180 if it crosses."""
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    points = [point for polygon in polygons for ring in polygon for point in ring]
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def geojson_box(row: Row, geometry: dict[str, Any]) -> list[float]:
    """Return west, south, east, north; west > east over the antimeridian (section 5.2)."""
    bounds = bounds_of(row)
    if bounds is None:
        return list(planar_box(geometry))
    return [bounds.west, bounds.south, bounds.east, bounds.north]


def _box_rings(box: Bounds) -> list[list[Point]]:
    if box.west <= box.east:
        return [_ring(box.west, box.south, box.east, box.north)]
    sides = [(box.west, 180.0), (-180.0, box.east)]
    return [_ring(west, box.south, east, box.north) for west, east in sides if west < east]


def _ring(west: float, south: float, east: float, north: float) -> list[Point]:
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def _counterclockwise(ring: list[Point]) -> list[list[float]]:
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring))
    ordered = ring if area >= 0 else ring[::-1]
    return [[x, y] for x, y in ordered]

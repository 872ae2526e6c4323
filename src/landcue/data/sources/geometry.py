"""Footprints that tables and catalogs bring along, in longitude and latitude."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from landcue.errors import LandcueError
from landcue.types import Bounds, Ring

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


def place_of(geometry: Mapping[str, Any] | bytes | None) -> tuple[Bounds | None, Ring | None]:
    """Return bounds and, of a plain polygon, corners of a GeoJSON object or of WKB.

    Parts on both sides of the antimeridian that touch it are one footprint over it.
    """
    import shapely
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

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
    return _bounds(parts), _corners(found)


def _bounds(parts: list[tuple[float, float, float, float]]) -> Bounds | None:
    west, east = min(part[0] for part in parts), max(part[2] for part in parts)
    south, north = min(part[1] for part in parts), max(part[3] for part in parts)
    if len(parts) > 1 and west <= -180 + _CLOSE and east >= 180 - _CLOSE:
        left = [part for part in parts if part[0] < 0]
        right = [part for part in parts if part[0] >= 0]
        if left and right and all(part[2] <= 0 for part in left):
            west, east = min(part[0] for part in right), max(part[2] for part in left)
    return box_of((west, south, east, north))


def _corners(found: Any) -> Ring | None:
    if found.geom_type != "Polygon" or found.interiors:
        return None
    ring = tuple((float(x), float(y)) for x, y, *_ in found.exterior.coords[:-1])
    return ring if 3 <= len(ring) <= 64 and all(abs(x) <= 180 for x, _ in ring) else None

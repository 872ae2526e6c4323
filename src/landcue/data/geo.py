"""Footprints of geo-referenced images."""

from __future__ import annotations

import warnings
from pathlib import Path

from landcue.types import Bounds

_GEO_SUFFIXES = {".tif", ".tiff"}


def read_footprint(path: Path) -> Bounds | None:
    """Return where a GeoTIFF lies, in degrees (EPSG:4326), or ``None`` when it does not say.

    A footprint over the antimeridian comes back with ``west > east``.
    """
    if path.suffix.lower() not in _GEO_SUFFIXES:
        return None
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a TIFF without geo-reference is no event
            with rasterio.open(path) as scene:
                if scene.crs is None:
                    return None
                west, south, east, north = transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
    except (RasterioError, ValueError, OSError):
        return None
    return Bounds(_wrap(west), max(south, -90.0), _wrap(east), min(north, 90.0))


def _wrap(longitude: float) -> float:
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180

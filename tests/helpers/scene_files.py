"""Small GeoTIFFs for tests."""

from __future__ import annotations

import warnings

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_500_000, 10, 10)}


def write_scene(path, values, **options):
    """Write ``[C, h, w]``; tags, mask, overviews, colorinterp and nodata as given."""
    tags, mask = options.pop("tags", None), options.pop("mask", None)
    overviews, colors = options.pop("overviews", None), options.pop("colors", None)
    place = options.pop("place", UTM)
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count,
            dtype=values.dtype, **place, **options,
        ) as scene:  # fmt: skip
            if colors:
                scene.colorinterp = colors
            scene.write(values)
            if mask is not None:
                scene.write_mask(mask)
            if tags:
                scene.update_tags(**tags)
            if overviews:
                scene.build_overviews(overviews)
    return path


def noise(seed, bands=3, height=300, width=300, low=1, high=3000, dtype="uint16"):
    values = np.random.default_rng(seed).integers(low, high, (bands, height, width))
    return values.astype(dtype)

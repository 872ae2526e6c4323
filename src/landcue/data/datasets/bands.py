"""Multi-band images, as one file or as one file per band, stacked or as RGB."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.datasets.bigearthnet import SENTINEL_2, band_files
from landcue.data.images import MAX_PIXELS, read_image
from landcue.data.raster import open_dataset, raster_options, short_error
from landcue.errors import DataError, UsageError, did_you_mean
from landcue.types import ByteArray, Record

UShortArray = npt.NDArray[np.uint16]

WHITE = 3_000
"""Sentinel-2 value that becomes 255: reflectance 0.3; brighter surfaces saturate."""

EUROSAT_BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A",
)  # fmt: skip
"""Order of the bands in the 13-band files of EuroSAT."""

RGB = ("B04", "B03", "B02")
_SUFFIXES = {".tif", ".tiff"}


def stack_bands(files: Sequence[Path]) -> UShortArray:
    """Read one band per file and stack them at the size of the largest.

    Smaller bands are enlarged bilinearly, as the 20 m and 60 m bands of Sentinel-2 need.

    Returns:
        uint16 ``[bands, height, width]``.
    """
    if not files:
        raise DataError("no band files were given")
    width, height = max((raster_size(path) for path in files), key=lambda size: size[0] * size[1])
    return np.concatenate([_read(path, [1], (height, width)) for path in files])


def read_rgb(record: Record) -> ByteArray:
    """Read any image of a benchmark dataset as RGB.

    The folder of a BigEarthNet patch gives its bands B04, B03 and B02, a 13-band Sentinel-2 file
    of EuroSAT the same three, both scaled so that :data:`WHITE` is 255. Every other file goes
    through :func:`landcue.data.images.read_image`.

    Returns:
        uint8 ``[height, width, 3]``.
    """
    if record.path.is_dir() or is_band_file(record):
        return read_bands(record, RGB)
    return read_image(record.path)


def read_bands(record: Record, bands: Sequence[str]) -> ByteArray:
    """Read chosen bands of a Sentinel-2 image, scaled so that :data:`WHITE` is 255.

    Args:
        record: The folder of a BigEarthNet patch, or a 13-band file of EuroSAT.
        bands: Their names, such as ``B08``, in the order of the result.

    Returns:
        uint8 ``[height, width, len(bands)]``.

    Raises:
        DataError: Missing, broken or too large, or not an image of Sentinel-2 bands; the message
            names the file.
        UsageError: A band that such images do not have.
    """
    path = record.path
    if path.is_dir():
        files = band_files(path)
        _check_known(bands, files)
        return _to_bytes(stack_bands([files[band] for band in bands]))
    if not is_band_file(record):
        raise DataError(f"{path}: has no bands named {', '.join(bands)}; leave data.bands out")
    _check_known(bands, EUROSAT_BANDS)
    return _to_bytes(_read(path, [1 + EUROSAT_BANDS.index(band) for band in bands]))


def is_band_file(record: Record) -> bool:
    """Return whether an image is one file of Sentinel-2 bands."""
    return record.sensor == SENTINEL_2 and record.path.suffix.lower() in _SUFFIXES


def raster_size(path: Path) -> tuple[int, int]:
    """Return width and height of a GeoTIFF."""
    with _open(path) as raster:
        return int(raster.width), int(raster.height)


@contextlib.contextmanager
def _open(path: Path) -> Generator[Any]:
    from rasterio.errors import RasterioError

    if not path.is_file():
        raise DataError(f"{path} is missing")
    raster, beside = open_dataset(path)
    try:
        with raster_options(beside, path), raster:
            yield raster
    except (RasterioError, OSError) as error:
        raise DataError(f"{path}: truncated or corrupt ({short_error(error, path)})") from None


def _read(path: Path, bands: list[int], size: tuple[int, int] | None = None) -> UShortArray:
    from rasterio.enums import Resampling

    with _open(path) as raster:
        if raster.count < max(bands):
            n = len(EUROSAT_BANDS)
            raise DataError(f"{path}: has {raster.count} bands, need 1 per file or {n} in one")
        if raster.width * raster.height > MAX_PIXELS:
            raise DataError(f"{path}: larger than {MAX_PIXELS:,} pixels; cut it into chips")
        if set(raster.dtypes) != {"uint16"}:
            raise DataError(f"{path}: holds {raster.dtypes[0]} values, need 16-bit bands")
        shape = None if size is None else (len(bands), *size)
        return raster.read(bands, out_shape=shape, resampling=Resampling.bilinear)


def _check_known(bands: Iterable[str], known: Iterable[str]) -> None:
    names = list(known)
    for band in bands:
        if band not in names:
            near = did_you_mean(band, names)
            raise UsageError(f"data.bands: no band {band!r}{near} (known: {', '.join(names)})")


def _to_bytes(stack: UShortArray) -> ByteArray:
    scaled = np.clip(stack.astype(np.float32) * (255 / WHITE), 0, 255)
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8).transpose(1, 2, 0))

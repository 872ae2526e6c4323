"""GeoTIFF scenes, opened so that a file can only ever lead to itself."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from landcue.data.objects import address, attempts, endpoint, is_object, look_up, shown, store_of
from landcue.errors import DataError

RASTER_SUFFIXES = frozenset({".tif", ".tiff"})

_SIDECARS = (".ovr", ".msk")
_OPTIONS: dict[str, Any] = {
    # A GeoTIFF may name other files: headers beside it, overviews elsewhere, even addresses.
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".nothing",
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "GDAL_HTTP_MAX_RETRY": "0",
    "CPL_DEBUG": "OFF",
    "GDAL_CACHEMAX": 128 << 20,  # bytes
}
BLOCK = 128 << 10
"""Bytes of a store's object that are fetched at least; the environment's
``CPL_VSIL_CURL_CHUNK_SIZE`` takes precedence."""
MOST_BYTES = 256 << 20
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
_TIME_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "DATETIME", "TIFFTAG_DATETIME")
_SENSOR_TAGS = ("SATELLITEID", "PLATFORM", "SPACECRAFT_ID", "SPACECRAFT_NAME")
_TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What the header of a scene holds.

    Attributes:
        width: Columns.
        height: Rows.
        count: Bands.
        colors: Numbers of the bands that hold measurements, from 1: all but alpha bands.
        crs: Coordinate reference system (rasterio), or ``None``.
        transform: From (column, row) to coordinates (affine), or ``None``.
        time: Acquisition time in UTC, if a tag has it.
        sensor: Satellite, if a tag has it.
    """

    width: int
    height: int
    count: int
    colors: tuple[int, ...]
    crs: Any
    transform: Any
    time: datetime | None
    sensor: str | None


def check_local(path: Path) -> None:
    """Refuse what is not a plain file: ``/vsi…`` paths, addresses and virtual rasters (VRT).

    Raises:
        DataError: Names the path.
    """
    text = path.as_posix()
    if text.startswith("/vsi") or _ADDRESS.match(text):
        raise DataError(f"{text}: only files on this machine are read; download it first")
    if path.suffix.lower() == ".vrt":
        raise DataError(f"{text}: a VRT can name any other file and is refused; save a GeoTIFF")


def open_dataset(path: Path, *, most_bytes: int = MOST_BYTES) -> tuple[Any, bool]:
    """Open a GeoTIFF (a COG is one) for reading; nothing but the file itself is read.

    Overviews and masks beside the file (``.ovr``, ``.msk``) are used when they are plain TIFFs too.
    Of an object in a store only the ranges are read that GDAL asks for.

    Args:
        path: A file, or an object in a store.
        most_bytes: Largest piece (block) of pixels in an object: a chip costs at least one.

    Returns:
        The dataset (rasterio), for the caller to close, and whether there are files beside it;
        :func:`raster_options` wants to know when the dataset is read.

    Raises:
        DataError: Neither a local GeoTIFF nor one in a store, a broken one, or one that names
            other files.
        StoreError: The store cannot be reached, or refuses.
    """
    from rasterio.errors import RasterioError

    if is_object(path):
        path = look_up(path)
    else:
        check_local(path)
    try:
        sidecars = _check_sidecars(path, "", most_bytes)
        with raster_options(sidecars, path):
            return _open(path, "", most_bytes), sidecars
    except (RasterioError, OSError, ValueError) as error:
        check_object(path)
        line = short_error(error, path)
        if "not recognized as being in a supported file format" in line:
            raise DataError(f"{shown(path)}: is not a GeoTIFF") from None
        raise DataError(f"{shown(path)}: cannot be read ({line})") from None


@contextlib.contextmanager
def raster_options(sidecars: bool, path: Path | None = None) -> Generator[None]:
    """Set GDAL's options for this thread, for opening a raster and for reading it.

    Args:
        sidecars: Whether files beside the raster are used.
        path: The raster, if it may lie in a store.
    """
    import rasterio

    options: Any = {**_OPTIONS, "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE" if sidecars else "EMPTY_DIR"}
    if path is not None and is_object(path):
        options |= _store_options(path)
    with rasterio.Env(**options):
        yield


def _store_options(path: Path) -> dict[str, Any]:
    """Return the options of GDAL's reader of stores, for one object and what lies beside it."""
    suffix = path.suffix
    names = (suffix, *(suffix + "".join(s) for n in (1, 2) for s in product(_SIDECARS, repeat=n)))
    options: dict[str, Any] = {
        "AWS_REGION": store_of(path).region,
        "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ",".join(names),
        "CPL_VSIL_CURL_CHUNK_SIZE": os.environ.get("CPL_VSIL_CURL_CHUNK_SIZE") or BLOCK,
        "CPL_VSIL_CURL_CACHE_SIZE": 128 << 20,
        # An object may be replaced: nothing of it is kept after it is closed.
        "CPL_VSIL_CURL_NON_CACHED": "/vsis3/",
        "GDAL_HTTP_MAX_RETRY": attempts() - 1,
        "GDAL_HTTP_RETRY_DELAY": 0.2,
        "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504",
    }
    if (where := endpoint()) is not None:
        parts = urlsplit(where)
        options["AWS_S3_ENDPOINT"] = parts.netloc
        options["AWS_HTTPS"] = "YES" if parts.scheme == "https" else "NO"
        options["AWS_VIRTUAL_HOSTING"] = "FALSE"
    return options


def check_object(path: Path) -> None:
    """Find out whether an object is still the one that was opened; a local file always is.

    Raises:
        DataError: It is gone, or another one by now.
        StoreError: The store cannot be reached, or refuses.
    """
    if is_object(path):
        look_up(path)


def read_facts(path: Path) -> RasterFacts:
    """Read the header of a scene.

    Raises:
        DataError: See :func:`open_dataset`; or its values are complex numbers.
    """
    from rasterio.enums import ColorInterp

    scene, sidecars = open_dataset(path)
    with raster_options(sidecars, path), scene:
        if any(kind.startswith("complex") for kind in scene.dtypes):
            raise DataError(f"{shown(path)}: complex values; save amplitudes first")
        placed = scene.crs is not None and not scene.transform.is_identity
        tags = {**scene.tags(), **scene.tags(ns="IMAGERY")}
        tags = {str(name).upper(): str(value).strip() for name, value in tags.items()}
        return RasterFacts(
            width=int(scene.width),
            height=int(scene.height),
            count=int(scene.count),
            colors=tuple(
                band
                for band, kind in zip(scene.indexes, scene.colorinterp, strict=True)
                if kind != ColorInterp.alpha
            ),
            crs=scene.crs if placed else None,
            transform=scene.transform if placed else None,
            time=_time(tags),
            sensor=next((tags[name] for name in _SENSOR_TAGS if tags.get(name)), None),
        )


def _exists(path: Path, suffix: str) -> bool:
    if is_object(path):
        return store_of(path).exists(address(path) + suffix)
    return path.with_name(path.name + suffix).exists()


def _dataset(path: Path, suffix: str, most_bytes: int) -> Any:
    import rasterio

    if is_object(path):
        name = f"/vsis3/{address(path)}{suffix}"
    else:
        file = path.with_name(path.name + suffix)
        if not file.is_file():
            raise DataError(f"{file}: {'is no file' if file.exists() else 'does not exist'}")
        name = file.resolve()
    # Another driver would follow what the file says about other files.
    dataset = rasterio.open(name, driver="GTiff", sharing=False)
    if is_object(path) and (fault := _piece_fault(dataset, most_bytes)):
        dataset.close()
        raise DataError(f"{shown(path)}: {fault}")
    return dataset


def _piece_fault(dataset: Any, most_bytes: int) -> str | None:
    """Return what is wrong with pixels in one large piece: a chip would cost all of it."""
    rows, columns = dataset.block_shapes[0]
    bands = dataset.count if str(dataset.profile.get("interleave")).lower() == "pixel" else 1
    kinds = (8 if k.startswith("complex_int") else np.dtype(k).itemsize for k in dataset.dtypes)
    size = rows * columns * bands * max(kinds)
    if size <= most_bytes:
        return None
    return (
        f"its pixels lie in pieces of {size >> 20:,} MiB, too large to fetch; save it as a COG "
        "(gdal_translate -of COG)"
    )


def _open(path: Path, suffix: str, most_bytes: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a TIFF without georeference is expected
        dataset = _dataset(path, suffix, most_bytes)
    if dataset.tags(ns="OVERVIEWS"):
        dataset.close()
        name = shown(path) + suffix
        raise DataError(f"{name}: its overviews lie in another file; save it as a COG")
    return dataset


def _check_sidecars(path: Path, suffix: str, most_bytes: int) -> bool:
    """Check overviews and masks beside a file like the file; return whether there are any."""
    found = [suffix + beside for beside in _SIDECARS if _exists(path, suffix + beside)]
    for beside in found:
        _check_sidecars(path, beside, most_bytes)
        with raster_options(False, path):
            _open(path, beside, most_bytes).close()
    return bool(found)


def _time(tags: dict[str, str]) -> datetime | None:
    for name in _TIME_TAGS:
        text = tags.get(name, "")
        for form in _TIME_FORMATS:
            with contextlib.suppress(ValueError):
                return datetime.strptime(text, form).replace(tzinfo=UTC)
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(text)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return None


def short_error(error: Exception, path: Path) -> str:
    """Return the first line of GDAL's message without the file's name."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    local = (str(path.resolve()), str(path), path.name)
    far = (f"/vsis3/{address(path)}", path.name) if is_object(path) else ()
    for name in far or local:
        line = re.sub(rf"'?{re.escape(name)}(\.ovr|\.msk)*'?", "the file", line)
    return re.sub(r"^(the file:\s*)+", "", line)

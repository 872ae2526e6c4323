"""GeoTIFF scenes, opened so that a file can only ever lead to itself."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from landcue.data.objects import is_object, shown
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
_VIRTUAL = re.compile(r"'?(/vsiriopener_\w+/)?\bscene\.tif(\.ovr|\.msk)*'?")
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
_TIME_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "DATETIME", "TIFFTAG_DATETIME")
_SENSOR_TAGS = ("SATELLITEID", "PLATFORM", "SPACECRAFT_ID", "SPACECRAFT_NAME")
_TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What the header of a scene says.

    Attributes:
        width: Columns.
        height: Rows.
        count: Bands.
        colors: Numbers of the bands that hold measurements, from 1: all but alpha bands.
        crs: Coordinate reference system (rasterio), or ``None``.
        transform: From (column, row) to coordinates (affine), or ``None``.
        time: Acquisition time in UTC, if a tag tells it.
        sensor: Satellite, if a tag tells it.
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


def open_dataset(path: Path) -> tuple[Any, bool]:
    """Open a GeoTIFF (a COG is one) for reading; nothing but the file itself is read.

    Overviews and masks beside the file (``.ovr``, ``.msk``) are used when they are plain TIFFs too.
    Of an object in a store only the ranges are read that GDAL asks for.

    Returns:
        The dataset (rasterio), for the caller to close, and whether there are files beside it;
        :func:`raster_options` wants to know when the dataset is read.

    Raises:
        DataError: Neither a local GeoTIFF nor one in a store, a broken one, or one that names
            other files.
        StoreError: The store cannot be reached, or refuses.
    """
    from rasterio.errors import RasterioError

    if not is_object(path):
        check_local(path)
    try:
        files = _files_of(path)
        sidecars = _check_sidecars(files, path, "")
        with raster_options(sidecars):
            return _open(files, path, ""), sidecars
    except (RasterioError, OSError, ValueError) as error:
        line = short_error(error, path)
        if "not recognized as being in a supported file format" in line:
            raise DataError(f"{shown(path)}: is not a GeoTIFF") from None
        raise DataError(f"{shown(path)}: cannot be read ({line})") from None


@contextlib.contextmanager
def raster_options(sidecars: bool) -> Generator[None]:
    """Set GDAL's options for this thread, for opening a raster and for reading it."""
    import rasterio

    listing = "TRUE" if sidecars else "EMPTY_DIR"
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing, **_OPTIONS):
        yield


def read_facts(path: Path) -> RasterFacts:
    """Read the header of a scene.

    Raises:
        DataError: See :func:`open_dataset`; or its values are complex numbers.
    """
    from rasterio.enums import ColorInterp

    scene, sidecars = open_dataset(path)
    with scene, raster_options(sidecars):
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


class _Files(Protocol):
    """A scene and the files beside it."""

    def has(self, suffix: str) -> bool:
        """Tell whether there is a file of the scene's name followed by ``suffix``."""
        ...

    def dataset(self, suffix: str) -> Any:
        """Open that file with rasterio."""
        ...


class _LocalFiles:
    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, suffix: str) -> bool:
        return self._of(suffix).exists()

    def dataset(self, suffix: str) -> Any:
        import rasterio

        path = self._of(suffix)
        if not path.is_file():
            raise DataError(f"{path}: {'is no file' if path.exists() else 'does not exist'}")
        # Another driver would follow what the file says about other files.
        return rasterio.open(path.resolve(), driver="GTiff", sharing=False)

    def _of(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)


def _files_of(path: Path) -> _Files:
    if not is_object(path):
        return _LocalFiles(path)
    from landcue.data.raster_objects import ObjectFiles

    return ObjectFiles(path)


def _open(files: _Files, path: Path, suffix: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a TIFF without geo-reference is no event
        dataset = files.dataset(suffix)
    if dataset.tags(ns="OVERVIEWS"):
        dataset.close()
        name = shown(path) + suffix
        raise DataError(f"{name}: its overviews lie in another file; save it as a COG")
    return dataset


def _check_sidecars(files: _Files, path: Path, suffix: str) -> bool:
    """Check overviews and masks beside a file like the file itself; tell whether there are any."""
    found = [suffix + beside for beside in _SIDECARS if files.has(suffix + beside)]
    for beside in found:
        _check_sidecars(files, path, beside)
        with raster_options(False):
            _open(files, path, beside).close()
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
    line = _VIRTUAL.sub("the file", line)
    names = () if is_object(path) else (str(path.resolve()), str(path), path.name)
    for name in names:
        line = line.replace(f"'{name}'", "the file").replace(name, "the file")
    return re.sub(r"^(the file:\s*)+", "", line)

"""Rasters, opened with GDAL so that a file can only ever lead to itself, and their headers."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Generator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from landcue.data.aws_settings import attempts, endpoint
from landcue.data.objects import address, is_object, look_up, object_path, shown, store_of
from landcue.errors import DataError, first_line

RASTER_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".j2k"})
"""Files that GDAL always reads; the other images only where they are cut into chips."""
KINDS = "JPEG, PNG, TIFF, WebP, JPEG 2000, BMP, GIF or AVIF"
HEIC_SUFFIXES = frozenset({".heic", ".heif"})
NO_HEIC = "HEIC images need pip install 'landcue[formats]'; or save it as JPEG or PNG"

_MAGIC = (
    (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"II+\0", "TIFF"), (0, b"MM\0+", "TIFF"),
    (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (8, b"WEBP", "WEBP"),
    (0, b"\0\0\0\x0cjP  \r\n", "JPEG2000"), (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"BM", "BMP"), (0, b"GIF8", "GIF"), (4, b"ftypavif", "AVIF"), (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"), (4, b"ftypmif1", "HEIC"),
)  # fmt: skip
_DRIVERS = {
    "TIFF": "GTiff", "JPEG": "JPEG", "PNG": "PNG", "WEBP": "WEBP", "JPEG2000": "JP2OpenJPEG",
    "BMP": "BMP", "GIF": "GIF", "AVIF": "GTiff", "HEIC": "GTiff",  # see _as_tiff
}  # fmt: skip
_BY_SUFFIX = {
    ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG",
    ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF",
}  # fmt: skip
_BY_PILLOW = ("AVIF", "HEIC")
HEAD = 32

_SIDECARS = (".ovr", ".msk")
_OPTIONS: dict[str, Any] = {
    # A GeoTIFF may name other files: headers beside it, overviews elsewhere, even addresses.
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".nothing",
    "CPL_VSIL_CURL_USEHEAD": "NO",
    "GDAL_HTTP_MAX_RETRY": "0",
    "CPL_DEBUG": "OFF",
    "GDAL_CACHEMAX": 128 << 20,  # bytes
}
BLOCK = 128 << 10
"""Bytes of a store's object that are fetched at least; the environment's
``CPL_VSIL_CURL_CHUNK_SIZE`` takes precedence."""
MOST_BYTES = 256 << 20
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")


class _WithoutWarnings:
    """Ignores warnings while any thread is inside.

    :func:`warnings.catch_warnings` is for one thread: of two, the first to leave ends it for both.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stack.close()


without_warnings = _WithoutWarnings()


def kind_of(head: bytes) -> str | None:
    """Return the format of a file by its first 32 bytes; ``None`` if it is no accepted image.

    >>> kind_of(b"GIF89a...."), kind_of(b"hello")
    ('GIF', None)
    """
    return next((kind for at, mark, kind in _MAGIC if head[at : at + len(mark)] == mark), None)


def reads_heic() -> bool:
    """Return whether the optional decoder of HEIC images is installed."""
    try:
        return importlib.util.find_spec("pillow_heif") is not None
    except ValueError:  # hidden: sys.modules holds None
        return False


def decoder_of(kind: str | None) -> list[str]:
    """Return the formats of Pillow for an image of a kind; of HEIC, load its decoder."""
    if kind != "HEIC":
        return list(FORMATS)
    if not reads_heic():
        raise DataError(NO_HEIC)
    import pillow_heif

    pillow_heif.register_heif_opener()
    return ["HEIF"]


FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF")
"""What Pillow decodes; TIFF, JPEG 2000 and 16-bit PNG go through GDAL."""


def is_raster(head: bytes) -> bool:
    """Return whether an image is read with GDAL: TIFF, JPEG 2000, and PNG of 16 bits."""
    kind = kind_of(head)
    return kind in ("TIFF", "JPEG2000") or (kind == "PNG" and head[24:25] == b"\x10")


def check_local(path: Path) -> None:
    """Refuse what is not a plain file: ``/vsi…`` paths, addresses and virtual rasters (VRT).

    Raises:
        DataError: Names the path.
    """
    text = shown(path)
    if text.startswith("/vsi") or _ADDRESS.match(text):
        raise DataError(f"{text}: only files on this machine are read; download it first")
    if path.suffix.lower() == ".vrt":
        raise DataError(f"{text}: a VRT can name any other file and is refused; save a GeoTIFF")


def open_dataset(path: Path | bytes, *, most_bytes: int = MOST_BYTES) -> tuple[Any, bool]:
    """Open an image with GDAL for reading; nothing but the file itself is read.

    Overviews and masks beside the file (``.ovr``, ``.msk``) are used when they are plain TIFFs too.
    Of an object in a store only the ranges are read that GDAL asks for.

    Args:
        path: A file, an object in a store, or the bytes of a file.
        most_bytes: Largest piece (block) of pixels: a chip costs at least one.

    Returns:
        The dataset (rasterio), for the caller to close, and whether there are files beside it;
        :func:`raster_options` wants to know when the dataset is read.

    Raises:
        DataError: Not an image of an accepted format, a broken one, or one that names other files.
        StoreError: The store cannot be reached, or refuses.
    """
    from rasterio.errors import RasterioError

    if isinstance(path, Path):
        if is_object(path):
            path = look_up(path)
        else:
            check_local(path)
    try:
        sidecars = isinstance(path, Path) and _check_sidecars(path, "", most_bytes)
        if sidecars and isinstance(path, Path) and not is_utf8(path):
            raise DataError(f"{display_name(path)}: {_RENAME}")
        with raster_options(sidecars, path):
            return _open(path, "", most_bytes), sidecars
    except (RasterioError, OSError, ValueError) as error:
        check_object(path)
        line = short_error(error, path)
        if "not recognized as being in a supported file format" in line:
            raise DataError(f"{display_name(path)}: not a {KINDS} image") from None
        raise DataError(f"{display_name(path)}: cannot be read ({line})") from None


def display_name(path: Path | bytes) -> str:
    """Return what messages call a source of pixels."""
    return shown(path) if isinstance(path, Path) else "image"


@contextlib.contextmanager
def raster_options(sidecars: bool, path: Path | bytes | None = None) -> Generator[None]:
    """Set GDAL's options for this thread, for opening a raster and for reading it.

    What GDAL reports meanwhile goes to :func:`reports`, not to the terminal.

    Args:
        sidecars: Whether files beside the raster are used.
        path: The raster, if it may lie in a store.
    """
    import rasterio

    options: Any = {**_OPTIONS, "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE" if sidecars else "EMPTY_DIR"}
    if isinstance(path, Path) and is_object(path):
        options |= _store_options(path)
    _listen()
    with rasterio.Env(**options):
        yield


class _Reports(logging.Handler):
    """Collects what GDAL reports, for each thread."""

    heard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        lines: dict[str, None] | None = getattr(self.heard, "lines", None)
        if lines is not None and record.levelno >= logging.WARNING and len(lines) < _MOST_REPORTS:
            text = re.sub(r"^CPLE_\w+ in ", "", record.getMessage().splitlines()[0])
            lines[re.sub(r"^[^:]*:\s*(?=\w+:)", "", text)] = None


_MOST_REPORTS = 8
_REPORTS = _Reports()


def _listen() -> None:
    # With a handler, Python prints none of these lines without a file's name on stderr.
    logger = logging.getLogger("rasterio")
    if _REPORTS not in logger.handlers:
        logger.addHandler(_REPORTS)


@contextlib.contextmanager
def reports() -> Generator[dict[str, None]]:
    """Collect the warnings of GDAL in this thread, each once, without the file's name."""
    lines: dict[str, None] = {}
    before = getattr(_REPORTS.heard, "lines", None)
    _REPORTS.heard.lines = lines
    try:
        yield lines
    finally:
        _REPORTS.heard.lines = before


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


def check_object(path: Path | bytes) -> None:
    """Find out whether an object is still the one that was opened; a local file always is.

    Raises:
        DataError: It is gone, or another one by now.
        StoreError: The store cannot be reached, or refuses.
    """
    if isinstance(path, Path) and is_object(path):
        look_up(path)


def _exists(path: Path, suffix: str) -> bool:
    if is_object(path):
        return store_of(path).exists(address(path) + suffix)
    return path.with_name(path.name + suffix).exists()


def _dataset(path: Path | bytes, suffix: str, most_bytes: int) -> Any:
    import rasterio

    whole = (
        not suffix and isinstance(path, Path) and path.suffix.lower() in (".avif", *HEIC_SUFFIXES)
    )
    if isinstance(path, bytes) or (whole and is_object(path)):
        data = path if isinstance(path, bytes) else object_path(path).read_bytes()
        driver, name = _driver(data[:HEAD], display_name(path)), io.BytesIO(data)
        if kind_of(data[:HEAD]) in _BY_PILLOW:
            name = _as_tiff(data, display_name(path))
    elif is_object(path):
        kind = _BY_SUFFIX.get(path.suffix.lower(), "TIFF")
        driver = _DRIVERS["TIFF" if suffix else kind]
        name = f"/vsis3/{address(path)}{suffix}"
    else:
        file = path.with_name(path.name + suffix)
        if not file.is_file():
            raise DataError(f"{file}: {'is no file' if file.exists() else 'does not exist'}")
        with file.open("rb") as opened:
            head = opened.read(HEAD)
        if suffix and kind_of(head) != "TIFF":
            raise DataError(f"{file}: not a TIFF; repair or remove it")
        driver, name = _driver(head, str(file)), file.resolve()
        if not is_utf8(name):  # GDAL cannot be given such a name
            name = io.BytesIO(file.read_bytes())
        if kind_of(head) in _BY_PILLOW:
            name = _as_tiff(file, str(file))
    # Another driver would follow what the file says about other files.
    dataset = rasterio.open(name, driver=driver, sharing=False)
    if fault := _piece_fault(dataset, most_bytes):
        dataset.close()
        raise DataError(f"{display_name(path)}: {fault}")
    return dataset


_RENAME = (
    "its name is not UTF-8, so that overviews and masks beside it are not found; rename all of them"
)


def is_utf8(path: Path) -> bool:
    """Return whether a path is valid text: GDAL opens no others."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _driver(head: bytes, name: str) -> str:
    """Return the GDAL driver that opens a file."""
    kind = kind_of(head)
    if not head:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    if kind == "HEIC" and not reads_heic():
        raise DataError(f"{name}: {NO_HEIC}")
    if kind is None:
        raise DataError(f"{name}: not a {KINDS} image")
    return _DRIVERS[kind]


def _as_tiff(source: Path | bytes, name: str) -> io.BytesIO:
    """Decode an AVIF or HEIC image, which GDAL may not read; return it as a TIFF in memory."""
    from PIL import Image

    from landcue.data.scenes import MAX_PIXELS

    out = io.BytesIO()
    data = source if isinstance(source, bytes) else source.read_bytes()
    kind = kind_of(data[:HEAD])
    try:
        with Image.open(io.BytesIO(data), formats=decoder_of(kind)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{name}: {image.width} x {image.height} pixels, too many for an {kind} image; "
                    "save it as TIFF"
                )
            if kind == "AVIF" and getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{name}: is animated; save one frame as PNG or TIFF")
            mode = "RGBA" if image.has_transparency_data else "RGB"
            image.convert(mode).save(out, "TIFF")
    except Image.UnidentifiedImageError:
        raise DataError(f"{name}: truncated or corrupt") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: truncated or corrupt ({error})") from None
    out.seek(0)
    return out


def _piece_fault(dataset: Any, most_bytes: int) -> str | None:
    """Return what is wrong with pixels in one large piece: a chip would cost all of it."""
    rows, columns = dataset.block_shapes[0]
    bands = dataset.count if str(dataset.profile.get("interleave")).lower() == "pixel" else 1
    kinds = (8 if k.startswith("complex_int") else np.dtype(k).itemsize for k in dataset.dtypes)
    size = rows * columns * bands * max(kinds)
    if size <= most_bytes:
        return None
    return (
        f"its pixels lie in pieces of {size >> 20:,} MiB, too large to read; save it as a COG "
        "(gdal_translate -of COG)"
    )


def _open(path: Path | bytes, suffix: str, most_bytes: int) -> Any:
    with without_warnings:  # a TIFF without georeference is expected
        dataset = _dataset(path, suffix, most_bytes)
    if dataset.tags(ns="OVERVIEWS"):
        dataset.close()
        name = display_name(path) + suffix
        raise DataError(f"{name}: its overviews lie in another file; save it as a COG")
    return dataset


def sidecar_files(path: Path) -> list[Path]:
    """Return the overviews and the mask beside a file on this machine."""
    return [Path(name) for s in _SIDECARS if os.path.isfile(name := f"{path}{s}")]


def _check_sidecars(path: Path, suffix: str, most_bytes: int) -> bool:
    """Check overviews and masks beside a file like the file; return whether there are any."""
    found = [suffix + beside for beside in _SIDECARS if _exists(path, suffix + beside)]
    for beside in found:
        _check_sidecars(path, beside, most_bytes)
        with raster_options(False, path):
            _open(path, beside, most_bytes).close()
    return bool(found)


def short_error(error: Exception, path: Path | bytes) -> str:
    """Return the first line of GDAL's message without the file's name."""
    if isinstance(error.__cause__, Exception) and "previous exception" in str(error):
        error = error.__cause__
    line = first_line(error)
    if isinstance(path, bytes):
        return re.sub(r"'?/vsimem/\S*'?", "the file", line)
    local = (str(path.resolve()), str(path), path.name)
    far = (f"/vsis3/{address(path)}", path.name) if is_object(path) else ()
    for name in far or local:
        line = re.sub(rf"'?{re.escape(name)}(\.ovr|\.msk)*'?", "the file", line)
    return re.sub(r"^(the file:\s*)+", "", line)

"""Safe image decoding: an allow-list of formats, a pixel cap, errors that name the file."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from landcue.data.geo import place_of_raster, window_places
from landcue.data.header import (
    FROM_WORLD_FILE,
    NO_PRJ,
    OFF_MAP,
    place_files,
    shown_north_up,
    world_file,
    world_names,
)
from landcue.data.north import Grid, Pixels, resampled, turned
from landcue.data.objects import is_object
from landcue.data.pictures import Scale
from landcue.data.raster import (
    HEAD,
    HEIC_SUFFIXES,
    KINDS,
    RASTER_SUFFIXES,
    decoder_of,
    is_raster,
    kind_of,
    reads_heic,
    sidecar_files,
    without_warnings,
)
from landcue.data.reader import SceneReader
from landcue.data.scenes import MAX_PIXELS, SceneOptions, check_size
from landcue.data.stacks import band_files
from landcue.errors import DataError
from landcue.types import Area, Bounds, ByteArray, Window

SUFFIXES = (
    RASTER_SUFFIXES
    | {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".avif"}
    | (HEIC_SUFFIXES if reads_heic() else frozenset())
)
READ = ".jpg, .png, .tif, .webp, .jp2, .bmp, .gif" + (
    ", .avif or .heic" if reads_heic() else " or .avif"
)
"""The formats that are read, for messages; each by its usual suffix."""

_ORIENTATION = 0x0112
_JPEG = b"\xff\xd8\xff"
_JPEG_MARKS = (b"Exif\0\0", b"MPF\0")
_JPEG_COLORS = frozenset({"YCbCr", "Gray"})
_DEFAULT = SceneOptions()


def is_image_path(path: Path) -> bool:
    """Return whether a file name is that of a supported image (``._*`` and dot files do not)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def files_beside(path: Path, present: Collection[str] | None = None) -> list[Path]:
    """Return the other files of an image: bands, overviews, a mask, a world file and its ``.prj``.

    None of an object: its store returns the digests of what is read.

    Args:
        path: The image.
        present: What :func:`names_beside` returns of its folder, so that nothing is looked for that
            is not there.
    """
    if is_object(path):
        return []
    bands = list(band_files(path).values())[1:]
    if present is not None:
        names = (f"{path}.ovr", f"{path}.msk", *world_names(path))
        if not any(_as_listed(os.path.basename(name)) in present for name in names):
            return bands
    return [*bands, *sidecar_files(path), *place_files(path)]


def names_beside(folder: Path) -> frozenset[str] | None:
    """Return the names in a folder that overviews, masks and world files may have.

    In Unicode form NFC and lower case, as some systems list or find them in another form and case;
    ``None`` if it cannot be listed.
    """
    try:
        names = map(_as_listed, os.listdir(folder))
    except OSError:
        return None
    return frozenset(name for name in names if name.endswith((".ovr", ".msk", ".wld", "w")))


def _as_listed(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def image_version(
    path: Path, status: os.stat_result, present: Collection[str] | None = None
) -> tuple[int, int]:
    """Return what changes with any file of an image: the bytes of all, and the latest change in ns.

    Args:
        path: The image.
        status: Of the image itself.
        present: As for :func:`files_beside`.
    """
    return version_of_files(status, files_beside(path, present))


def version_of_files(status: os.stat_result, others: Iterable[Path]) -> tuple[int, int]:
    """Return :func:`image_version` of an image whose :func:`files_beside` are known."""
    size, time = status.st_size, status.st_mtime_ns
    for file in others:
        with contextlib.suppress(OSError):  # it was removed just now
            beside = file.stat()
            size, time = size + beside.st_size, max(time, beside.st_mtime_ns)
    return size, time


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: uint8 ``[h, w, C]``.
        reading: How a raster's numbers became these pixels; ``None`` where a file holds a picture.
        bbox: Box around its footprint in degrees, of a photo the point where it was taken.
        geometry: Outline in degrees, if known.
        datetime: When it was taken, UTC; a photo's clock without a time zone is taken as UTC.
        sensor: What took it, if a raster says so.
    """

    pixels: ByteArray
    reading: Mapping[str, Any] | None = None
    bbox: Bounds | None = None
    geometry: Area | None = None
    datetime: dt.datetime | None = None
    sensor: str | None = None


def read_image(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    bands: Sequence[int | str] | None = None,
    scale: str = "auto",
    side: int | None = None,
) -> ByteArray:
    """Decode one image to RGB, or to the bands that are named.

    Gray, palette, CMYK and alpha images become 8-bit RGB, transparent pixels turn black, and an
    EXIF orientation is applied. TIFF, JPEG 2000 and 16-bit PNG follow the rule of
    :mod:`landcue.data.pictures`; the first page of a TIFF is taken.

    >>> read_image("photo.jpg").shape                                  # doctest: +SKIP
    (600, 800, 3)
    >>> read_image("scene.tif", bands=[8, 4, 3], scale="fixed:0,3000")  # doctest: +SKIP

    Args:
        source: The file, or its bytes.
        options: How rasters are read.
        name: What error messages call it; the path by default.
        bands: Of a raster: numbers from 1, or names in the file.
        scale: Of a raster: ``auto``, ``percentile:2,98`` or ``fixed:0,3000``.
        side: Side of the encoder's input: rasters more than twice as large are read at a coarser
            resolution, but not below this.

    Returns:
        uint8 ``[height, width, 3]``, or as many bands as are named.

    Raises:
        DataError: The file is missing, empty, truncated, animated, too large, of another format,
            or a raster whose bands are not clear. The message names the file.
        UsageError: ``scale`` is not valid.
    """
    source = Path(source) if isinstance(source, str) else source
    options = SceneOptions(
        bands=None if bands is None else tuple(bands),
        channels=3 if bands is None else len(bands),
        scale=Scale.parse(scale),
        side=side,
    )
    return read_picture(source, options, name=name).pixels


def read_bands(
    path: str | Path,
    bands: Sequence[int | str],
    *,
    window: Window | None = None,
    side: int | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Read the stored numbers of bands of a raster, for models that scale them themselves.

    >>> values, valid = read_bands("x_B04.tif", ["B08", "B04"])  # doctest: +SKIP
    >>> values.dtype, values.shape, valid.shape                        # doctest: +SKIP
    (dtype('uint16'), (2, 512, 512), (512, 512))

    Args:
        path: The file; the red band's file of a scene of one file a band stands for all of them.
        bands: Numbers from 1, or names in the file.
        window: The pixels to read; by default all.
        side: As for :func:`read_image`.

    Returns:
        ``[C, h, w]`` in the file's type and orientation, and where there is data, bool ``[h, w]``.

    Raises:
        DataError: It cannot be read, is too large, or lacks a band.
    """
    path = Path(path) if isinstance(path, str) else path  # an object keeps what is known of it
    reader = SceneReader(path, SceneOptions(bands=tuple(bands), channels=len(bands), side=side))
    try:
        return reader.values(window or reader.whole())
    finally:
        reader.close()


def read_picture(
    source: str | Path | bytes,
    options: SceneOptions = _DEFAULT,
    *,
    name: str | None = None,
    most: int = MAX_PIXELS,
    path: str | Path | None = None,
) -> Picture:
    """Decode one image like :func:`read_image`, with what was assumed of a raster.

    Args:
        source: The file, or its bytes.
        name: What error messages call it; the path by default.
        most: Largest number of pixels.
        path: The file that ``source`` was read from, to find a world file beside it.

    Raises:
        DataError: As :func:`read_image`; or a raster holds too little data.

    >>> read_picture("photos/harbor/harbor00.webp").pixels.shape
    (128, 128, 3)
    """
    source = Path(source) if isinstance(source, str) else source
    path = Path(path) if isinstance(path, str) else path
    name = name or (str(source) if isinstance(source, Path) else "image")
    if isinstance(source, Path):
        path = source
        try:
            with source.open("rb") if not is_object(source) else io.BytesIO() as file:
                head = file.read(HEAD)
            stacked = is_object(source) and bool(band_files(source))
            if not is_raster(head) and not stacked:
                source = source.read_bytes()
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    if isinstance(source, Path) or is_raster(source[:HEAD]):
        return _read_raster(source, options, name, most)
    if not source:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    if options.channels != 3:
        raise DataError(
            f"{name}: has 3 bands, the model takes {options.channels}; index rasters with it"
        )
    pixels = _read_plain_jpeg(source, name, most)
    picture = _read_with_pillow(source, name, most) if pixels is None else Picture(pixels)
    return picture if path is None or is_object(path) else _placed(picture, path)


def _placed(picture: Picture, path: Path) -> Picture:
    """Add the place that a world file beside an image says."""
    found = world_file(path)
    if found is None:
        return picture
    transform, crs = found
    pixels = picture.pixels
    if crs is None:
        return replace(picture, reading={"rules": [NO_PRJ]})
    height, width, colors = pixels.shape
    (place,) = window_places(crs, transform, np.array([[0, 0, width, height]]))
    if place is None:
        return picture
    grid, stored, turn, how = shown_north_up(Grid(transform, width, height))
    if stored is not None:

        def read(area: Window) -> Pixels:
            part = picture.pixels[area.row : area.row + area.height]
            part = part[:, area.col : area.col + area.width]
            return part, np.ones(part.shape[:2], np.bool_)

        whole, blank = Window(0, 0, grid.width, grid.height), np.zeros(colors, np.uint8)
        pixels, _ = resampled(read, stored, grid, whole, blank)
    return replace(
        picture, pixels=np.ascontiguousarray(turned(pixels, turn)),
        reading={"rules": [FROM_WORLD_FILE, *how]}, bbox=place.bbox, geometry=place.geometry,
    )  # fmt: skip


def _read_raster(source: Path | bytes, options: SceneOptions, name: str, most: int) -> Picture:
    reader = SceneReader(source, options, name=name)
    try:
        window = reader.whole(most)
        rendering = reader.rendering()
        pixels = reader.chip(window, rendering)
    finally:
        reader.close()
    if pixels is None:
        raise DataError(f"{name}: holds too little data; check its nodata value, or raise --nodata")
    facts, place = reader.facts, place_of_raster(reader.facts)
    reading = reader.reading(rendering)
    if place is None and facts.crs is not None:
        reading["rules"].append(OFF_MAP)
    return Picture(
        pixels, reading, None if place is None else place.bbox,
        None if place is None else place.geometry, facts.time, facts.sensor,
    )  # fmt: skip


def _read_with_pillow(source: bytes, name: str, most: int) -> Picture:
    kind = kind_of(source[:HEAD])
    try:
        formats = decoder_of(kind)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    try:
        # Pillow's own size warning must not reach the terminal: our cap is lower than its level.
        with without_warnings, Image.open(io.BytesIO(source), formats=formats) as image:
            check_size(*image.size, name, most)
            if kind != "HEIC":  # of a burst, the first picture is shown
                _check_still(image, name)
            image.load()
            bounds, time = _exif(image)
            return Picture(np.asarray(_to_rgb(image)), bbox=bounds, datetime=time)
    except UnidentifiedImageError:
        if kind == "HEIC":
            raise DataError(f"{name}: truncated or corrupt") from None
        raise DataError(f"{name}: not a {KINDS} image") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: larger than {most:,} pixels; cut it into chips") from None
    except DataError:
        raise
    except Exception as error:  # decoders raise almost anything on broken bytes
        raise DataError(f"{name}: truncated or corrupt ({error or type(error).__name__})") from None


def _read_plain_jpeg(source: bytes, name: str, most: int) -> ByteArray | None:
    """Decode a gray or color JPEG without metadata that matters, in half of Pillow's time.

    Both use libjpeg-turbo and give the same pixels. What may be rotated (EXIF), hold several
    pictures (MPF), have other colors or be broken is left to Pillow: None.
    """
    if not source.startswith(_JPEG) or any(mark in source for mark in _JPEG_MARKS):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(source)
    except ValueError:
        return None
    check_size(int(width), int(height), name, most)
    if colors not in _JPEG_COLORS:
        return None
    try:
        return simplejpeg.decode_jpeg(source, strict=True)
    except ValueError:
        return None


def _check_still(image: Image.Image, name: str) -> None:
    if getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", 0)
        raise DataError(f"{name}: animated ({frames} frames); save the frame you mean as a still")


_EXIF, _GPS = 0x8769, 0x8825
_TAKEN, _OFFSET = 0x9003, 0x9011


def _exif(image: Image.Image) -> tuple[Bounds | None, dt.datetime | None]:
    """Return where and when a photo was taken, as far as its EXIF data says."""
    exif = image.getexif()
    bounds = time = None
    with contextlib.suppress(Exception):  # of values of any type
        facts = exif.get_ifd(_EXIF)
        taken = dt.datetime.strptime(str(facts[_TAKEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        offset = dt.datetime.strptime(str(facts.get(_OFFSET, "+00:00")).strip("\0 "), "%z").tzinfo
        time = taken.replace(tzinfo=offset).astimezone(dt.UTC)
    with contextlib.suppress(Exception):
        gps = exif.get_ifd(_GPS)
        lat, lon = (sum(float(v) / 60**i for i, v in enumerate(gps[tag])) for tag in (2, 4))
        lat, lon = lat * (1 - 2 * (gps[1] == "S")), lon * (1 - 2 * (gps[3] == "W"))
        bounds = None if lat == lon == 0 else Bounds(lon, lat, lon, lat)
    return bounds, time


def read_pillow(image: Image.Image) -> ByteArray:
    """Return a Pillow image as its file is read, uint8 ``[h, w, 3]``; see :func:`read_image`."""
    if image.mode[0] in "IF":  # 16 bits or more
        held = io.BytesIO()
        image.save(held, "TIFF")
        return read_image(held.getvalue(), name=f"the image of mode {image.mode}")
    return np.asarray(_to_rgb(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        return Image.fromarray(_on_black(image))
    return image if image.mode == "RGB" else image.convert("RGB")


_STRIP = 1 << 22
"""Pixels that are blended at once."""


def _on_black(image: Image.Image) -> ByteArray:
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        strip = image.crop((0, top, image.width, bottom)).convert("RGBA")
        black = Image.new("RGBA", strip.size, (0, 0, 0, 255))
        rgb[top:bottom] = np.asarray(Image.alpha_composite(black, strip))[..., :3]
    return rgb

"""The header of a raster: size, bands, place, orientation and time."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from landcue.data.north import Grid, has_area, north_up, north_up_grid
from landcue.data.objects import address, is_object, object_path, store_of
from landcue.data.raster import (
    HEAD,
    display_name,
    kind_of,
    raster_options,
    short_error,
    without_warnings,
)
from landcue.errors import DataError, LandcueError, UsageError
from landcue.interval import in_utc

_TIME_TAGS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "DATETIME", "TIFFTAG_DATETIME")
_SENSOR_TAGS = ("SATELLITEID", "PLATFORM", "SPACECRAFT_ID", "SPACECRAFT_NAME")
_TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class RasterFacts:
    """What the header of a scene holds.

    Attributes:
        width: Columns; of a rotated raster those of its north-up grid.
        height: Rows, likewise.
        count: Bands.
        colors: Numbers of the bands that hold measurements, from 1: all but alpha bands.
        crs: Coordinate reference system (rasterio), or ``None``.
        transform: From (column, row) to coordinates (affine), or ``None``.
        time: Acquisition time in UTC, if a tag has it.
        sensor: Satellite, if a tag has it.
        interpretations: Color interpretation of each band, in GDAL's words.
        dtypes: Type of the values of each band.
        names: Description of each band, or an empty string.
        bits: Bits of a value where they are fewer than those of its type.
        inverted: Whether 0 is white.
        turn: How the pixels are turned to be shown, see :func:`landcue.data.north.turned`.
        notes: What was assumed of place and orientation.
        stored: The grid of the file, if it is rotated and read on another one.
    """

    width: int
    height: int
    count: int
    colors: tuple[int, ...]
    crs: Any
    transform: Any
    time: datetime | None
    sensor: str | None
    interpretations: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    bits: int = 0
    inverted: bool = False
    turn: int = 0
    notes: tuple[str, ...] = ()
    stored: Grid | None = None

    @property
    def grid(self) -> Grid:
        """The pixels that windows count."""
        return Grid(self.transform, self.width, self.height)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the file."""
        return (self.width, self.height) if self.stored is None else self.stored[1:]


def read_facts(path: Path) -> RasterFacts:
    """Read the header of a scene.

    Raises:
        DataError: See :func:`open_dataset`; or its values are complex numbers.
    """
    from landcue.data.stacks import open_scene

    scene, sidecars, _ = open_scene(path)
    with raster_options(sidecars, path), scene:
        return facts_of(scene, path)


def facts_of(scene: Any, path: Path | bytes) -> RasterFacts:
    """Return the facts of an opened dataset.

    Raises:
        DataError: Its values are complex numbers, or it is broken.
    """
    try:
        return _facts_of(scene, path)
    except LandcueError:
        raise
    except Exception as error:  # GDAL's own family
        line = short_error(error, path)
        raise DataError(f"{display_name(path)}: truncated or corrupt ({line})") from None


def _facts_of(scene: Any, path: Path | bytes) -> RasterFacts:
    from rasterio.enums import ColorInterp

    if any(kind.startswith("complex") for kind in scene.dtypes):
        raise DataError(f"{display_name(path)}: complex values; save amplitudes first")
    crs, transform, notes = _reference(scene, path)
    tags = {**scene.tags(), **scene.tags(ns="IMAGERY")}
    tags = {str(name).upper(): str(value).strip() for name, value in tags.items()}
    grid = Grid(transform, int(scene.width), int(scene.height))
    stored = None
    if crs is None:
        turn = _ORIENTATIONS.get(_orientation(path), 0)
        notes += (ORIENTED,) if turn else ()
    else:
        grid, stored, turn, how = shown_north_up(grid)
        notes += how
    structure = scene.tags(ns="IMAGE_STRUCTURE")
    notes += (STACKED,) if scene.driver == "VRT" else ()
    return RasterFacts(
        width=grid.width,
        height=grid.height,
        count=int(scene.count),
        colors=tuple(
            band
            for band, kind in zip(scene.indexes, scene.colorinterp, strict=True)
            if kind != ColorInterp.alpha
        ),
        crs=crs,
        transform=grid.transform,
        time=_time(tags),
        sensor=next((tags[name] for name in _SENSOR_TAGS if tags.get(name)), None),
        interpretations=tuple(kind.name for kind in scene.colorinterp),
        dtypes=tuple(scene.dtypes),
        names=tuple(name or "" for name in scene.descriptions),
        bits=int(scene.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 0)),
        inverted=structure.get("MINISWHITE") == "YES",
        turn=turn,
        notes=notes,
        stored=stored,
    )


def shown_north_up(grid: Grid) -> tuple[Grid, Grid | None, int, tuple[str, ...]]:
    """Return how the pixels of a grid are shown north up.

    Returns:
        The grid that windows count; if it is another one, the stored grid; the turn; and a line for
        the record.
    """
    turn, rotated = north_up(grid.transform)
    if not rotated:
        return grid, None, turn, (TURNED,) if turn else ()
    found = north_up_grid(grid)
    return (grid, None, turn, (OBLIQUE,)) if found is None else (found, grid, 0, (RESAMPLED,))


STACKED = "one file a band, stacked"
FROM_GCPS = "placed by ground control points"
FROM_RPCS = "placed by rational polynomial coefficients, at their mean height"
FROM_WORLD_FILE = "placed by a world file"
NO_PRJ = "world file not used: add a .prj file with its coordinate reference system"
NO_CRS = "transform not used: there is no coordinate reference system"
OFF_MAP = "reaches off the map of its reference system: no footprint"
NO_AREA = "georeference not used: its pixels have no area"
ON_A_LINE = "ground control points not used: they lie on a line"
NOT_PLACED = "ground control points not used: they give no coordinate reference system"
TURNED = "turned to show north up"
RESAMPLED = "grid is rotated: resampled north up, each pixel from the nearest stored one"
OBLIQUE = "grid is rotated or sheared too much to be resampled: turned by quarters, north not up"
ORIENTED = "turned as its orientation tag says"


def _reference(scene: Any, path: Path | bytes) -> tuple[Any, Any, tuple[str, ...]]:
    """Return coordinate reference system and transform, or ``None``, and where they come from."""
    crs, transform, notes = _stated_reference(scene, path)
    if crs is not None and not has_area(transform):
        return None, None, (NO_AREA,)
    return crs, transform, notes


def _stated_reference(scene: Any, path: Path | bytes) -> tuple[Any, Any, tuple[str, ...]]:
    from rasterio.transform import from_gcps

    if scene.crs is not None and not scene.transform.is_identity:
        return scene.crs, scene.transform, ()
    points, crs = scene.gcps
    if len(points) >= 3:
        if crs is None:
            return None, None, (NOT_PLACED,)
        spread = [[(p.col, p.row) for p in points], [(p.x, p.y) for p in points]]
        if any(np.linalg.matrix_rank(np.array(s) - np.mean(s, axis=0)) < 2 for s in spread):
            return None, None, (ON_A_LINE,)
        return crs, from_gcps(points), (FROM_GCPS,)
    if scene.rpcs is not None:
        from rasterio.crs import CRS

        return CRS.from_epsg(4326), _rpc_transform(scene), (FROM_RPCS,)
    found = world_file(path) if isinstance(path, Path) and not is_object(path) else None
    if found is None:
        return None, None, () if scene.transform.is_identity else (NO_CRS,)
    transform, crs = found
    crs = scene.crs or crs
    return (None, None, (NO_PRJ,)) if crs is None else (crs, transform, (FROM_WORLD_FILE,))


def _rpc_transform(scene: Any) -> Any:
    """Return the affine transform to degrees that fits the corners best."""
    from rasterio.transform import Affine, RPCTransformer

    rows = np.array([0, 0, scene.height, scene.height], np.float64)
    cols = np.array([0, scene.width, 0, scene.width], np.float64)
    with RPCTransformer(scene.rpcs, RPC_HEIGHT=scene.rpcs.height_off) as rpc:
        xs, ys = rpc.xy(rows, cols, offset="ul")
    fit = np.linalg.lstsq(
        np.stack([cols, rows, np.ones(4)], axis=1), np.stack([xs, ys], axis=1), rcond=None
    )[0]
    return Affine(*fit[:, 0], *fit[:, 1])


def world_file(path: Path) -> tuple[Any, Any] | None:
    """Return transform and coordinate reference system of a world file and a ``.prj`` beside it.

    A world file is named like ``a.jgw``, ``a.jpgw`` or ``a.wld`` for ``a.jpg``. The reference
    system is ``None`` without a readable ``.prj``.

    Raises:
        DataError: A world file that does not hold six numbers.
    """
    for file in map(Path, filter(os.path.isfile, world_names(path))):
        from rasterio.crs import CRS
        from rasterio.errors import CRSError
        from rasterio.transform import Affine

        numbers: list[float] = []
        with contextlib.suppress(OSError, ValueError):
            numbers = [float(line) for line in file.read_text().split()]
        if len(numbers) != 6 or not np.isfinite(numbers).all():
            raise DataError(f"{file}: a world file holds six numbers; repair or remove it")
        a, d, b, e, c, f = numbers
        if not has_area(Affine(a, b, c, d, e, f)):
            raise DataError(f"{file}: its pixels have no area; repair or remove it")
        crs = None
        with contextlib.suppress(OSError, CRSError, UnicodeDecodeError):
            crs = CRS.from_wkt(path.with_suffix(".prj").read_text())
        # A world file gives the center of the first pixel.
        return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2), crs
    return None


def place_files(path: Path) -> list[Path]:
    """Return the files beside an image that may say its place: its world file and ``.prj``."""
    found = [Path(name) for name in world_names(path) if os.path.isfile(name)][:1]
    prj = path.with_suffix(".prj")
    return [*found, prj] if found and prj.is_file() else found


def world_names(path: Path) -> Iterator[str]:
    """Yield the paths that a world file of an image may have."""
    stem, suffix = os.path.splitext(path)  # for every image: much faster than with_suffix
    suffix = suffix[1:]
    for name in (f"{suffix[:1]}{suffix[-1:]}w", f"{suffix}w", "wld"):
        if name != suffix:
            yield f"{stem}.{name}"


_ORIENTATIONS = {2: 1, 3: 3, 4: 2, 5: 4, 6: 5, 7: 7, 8: 6}


def _orientation(path: Path | bytes) -> int:
    """Return the orientation tag of a file; 1 where there is none."""
    with contextlib.ExitStack() as stack:
        if isinstance(path, Path) and is_object(path):
            found = object_path(path)
            opened: Any = store_of(found).open(address(found), found.known[0])
        else:
            opened = path.open("rb") if isinstance(path, Path) else io.BytesIO(path)
        file = stack.enter_context(opened)
        head = file.read(HEAD)
        if kind_of(head) == "TIFF":
            with contextlib.suppress(struct.error, OSError):
                return _tiff_orientation(file, head)
            return 1
        from PIL import Image

        with contextlib.suppress(Exception), without_warnings:
            file.seek(0)
            return int(Image.open(file).getexif().get(_ORIENTATION, 1))
    return 1


_ORIENTATION = 0x0112
_MOST_TAGS = 4096


def _tiff_orientation(file: Any, head: bytes) -> int:
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    counted, size = ("Q", 20) if big else ("H", 12)
    file.seek(start)
    (n,) = struct.unpack(order + counted, file.read(struct.calcsize(counted)))
    entries = file.read(size * min(n, _MOST_TAGS))
    for at in range(0, len(entries) - size + 1, size):
        if struct.unpack_from(order + "HH", entries, at) == (_ORIENTATION, 3):
            return int(struct.unpack_from(order + "H", entries, at + size - (8 if big else 4))[0])
    return 1


def _time(tags: dict[str, str]) -> datetime | None:
    for name in _TIME_TAGS:
        text = tags.get(name, "")
        if not text:
            continue
        for form in _TIME_FORMATS:
            with contextlib.suppress(ValueError):
                return datetime.strptime(text, form).replace(tzinfo=UTC)
        with contextlib.suppress(ValueError, UsageError):
            return in_utc(datetime.fromisoformat(text))
    return None

"""Similarity as a raster: the scores of all chips of a fixed grid, a pixel for each cell."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.cells import cells_of
from landcue.errors import DataError, LandcueError, UsageError, did_you_mean
from landcue.files import replacing
from landcue.search.local import LocalBackend
from landcue.types import FloatArray

NODATA = -9999.0
"""Value of a pixel without a chip."""
_MOST = 400_000_000
_CHUNK = 65_536
_NAME = re.compile(r"utm(\d{2})([NS])-([0-9.]+)m(?:@([0-9.]+)m)?-n(\d+)-e(\d+)")


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A raster of scores that was written.

    Attributes:
        path: The file.
        grid: Zone, side and pitch of its cells, such as ``utm33N-640m``.
        crs: Its coordinate reference system, such as ``EPSG:32633``.
        width: Columns.
        height: Rows, the first in the north.
        cells: Pixels with a score.
        chips: Chips that they come from: of several in one cell the best counts.
    """

    path: Path
    grid: str
    crs: str
    width: int
    height: int
    cells: int
    chips: int


def write_map(
    backend: LocalBackend,
    embedding: FloatArray,
    out: Path,
    *,
    mask: npt.NDArray[np.bool_],
    grid: str | None,
    tags: dict[str, str],
) -> ScoreMap:
    """Write a raster for a query's embedding ``[1, d]``; see :meth:`landcue.Archive.map`."""
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError(f"{out}: write a .tif file")
    rows = np.flatnonzero(mask)
    cells = cells_of(backend.records.column("id", rows)).to_pylist()
    kinds = Counter(cell.rsplit("-", 2)[0] for cell in cells if cell)
    if not kinds:
        raise DataError("no chip lies on a fixed grid: index the scenes with --grid utm")
    if grid is None and len(kinds) > 1:
        found = ", ".join(f"{kind} ({n:,} chips)" for kind, n in kinds.most_common())
        raise UsageError(f"chips lie on several grids: choose one with --grid: {found}")
    chosen = grid or next(iter(kinds))
    if chosen not in kinds:
        raise UsageError(f"no chip lies on the grid {chosen!r}{did_you_mean(chosen, kinds)}")
    mine = [i for i, cell in enumerate(cells) if cell and cell.rsplit("-", 2)[0] == chosen]
    parsed = [_NAME.fullmatch(cells[i]) for i in mine]
    place = np.array([[int(m[5]), int(m[6])] for m in parsed if m], np.int64)
    first = parsed[0]
    if first is None:  # cells_of() lets no other name through
        raise DataError(f"{chosen} is no grid")
    zone, half, side = int(first[1]), first[2], float(first[3])
    pitch = float(first[4] or side)
    low, high = place.min(axis=0), place.max(axis=0)
    height, width = (int(n) for n in high - low + 1)
    if height * width > _MOST:
        raise DataError(
            f"the map would have {width:,} x {height:,} pixels: restrict it with --bbox"
        )
    image = np.full((height, width), np.float32(NODATA))
    at = high[0] - place[:, 0], place[:, 1] - low[1]
    np.maximum.at(image, at, _scores(backend, embedding, rows[mine]))
    margin = (side - pitch) / 2  # an overlapping cell has the pixel in its middle
    west, north = low[1] * pitch + margin, (high[0] + 1) * pitch + margin
    crs = f"EPSG:{(32600 if half == 'N' else 32700) + zone}"
    _write(out, image, crs, (float(west), float(north), pitch), {**tags, "grid": chosen})
    count = int(np.count_nonzero(image != NODATA))
    return ScoreMap(out, chosen, crs, width, height, count, len(mine))


def _scores(
    backend: LocalBackend, embedding: FloatArray, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    parts = [
        backend.vectors.embedding[rows[i : i + _CHUNK]] @ embedding[0]
        for i in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(parts).astype(np.float32)


def _write(
    out: Path,
    image: npt.NDArray[np.float32],
    crs: str,
    place: tuple[float, float, float],
    tags: dict[str, str],
) -> None:
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    west, north, pitch = place
    height, width = image.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "float32",
        "crs": crs, "transform": from_origin(west, north, pitch, pitch), "nodata": NODATA,
    }  # fmt: skip
    levels = max(0, math.ceil(math.log2(max(width, height) / 512)))
    try:
        with MemoryFile() as memory:
            with memory.open(**profile) as file:
                file.write(image, 1)
                file.set_band_description(1, "score")
                file.update_tags(**tags)
            with replacing(out) as path, memory.open() as source:
                copy(
                    source, path, driver="COG", compress="DEFLATE", predictor="YES",
                    overviews="AUTO" if levels else "NONE", overview_resampling="AVERAGE",
                )  # fmt: skip
    except RasterioError as error:
        raise LandcueError(f"{out} cannot be written: {error}") from None

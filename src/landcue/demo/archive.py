"""Write the synthetic archive to disk: GeoTIFF chips that tile an invented area, and labels."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from landcue.demo.canvas import LABELS, METERS_PER_PIXEL
from landcue.demo.scenes import THEMES, check_size, render_chip
from landcue.errors import DataError, UsageError
from landcue.files import exclusive, read_json, write_atomic
from landcue.types import ByteArray

CRS = "EPSG:32633"
ORIGIN = (390_000.0, 5_000_000.0)
"""Easting and northing (meters, UTM zone 33N) of the area's upper left corner."""

_FORMAT = 1  # raise it when the same seed starts to give other pixels
_README = """# LandCue demo archive

{n} synthetic images, drawn by LandCue with seed {seed}. No place, building or ship in them exists;
the coordinates (UTM zone 33N, {crs}) only make them tile a map without gaps.

* `images/<theme>/*.tif`: {size} x {size} pixels of {resolution} m, 8-bit RGB, GeoTIFF
* `labels.csv`: path, group (the theme), time (invented, UTC) and labels, joined with `;`
* labels: {labels}

A label is given when the thing covers a visible share of the image: 2 % for surfaces and trees,
0.3 % for cars, 0.5 % for other objects. What something else hides does not count.

License: CC0 1.0. Do with it what you like.
"""


@dataclass(frozen=True, slots=True)
class _Tile:
    index: int
    path: str  # posix, relative to the folder
    theme: str
    west: float
    north: float


def write_demo_archive(
    folder: str | Path,
    n: int = 600,
    size: int = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw an archive of ``n`` labeled chips; the same arguments give the same files.

    A run that was cut short is completed by the next one; a complete archive is left as it is.

    Args:
        folder: Where ``images/``, ``labels.csv``, ``README.md`` and ``demo.json`` go; empty, new,
            or an earlier demo archive with the same parameters.
        n: Number of images, themes taking equal shares.
        size: Side of an image in pixels of 0.5 m.
        seed: Not negative.
        progress: Called with (images done, images in all) after each image.

    Returns:
        ``folder``.

    Raises:
        UsageError: ``n``, ``size`` or ``seed`` out of range.
        DataError: The folder holds something else, or an archive with other parameters.
        LandcueError: The folder cannot be written.

    >>> folder = write_demo_archive("demo", n=14, size=32)
    >>> len(list((folder / "images").glob("harbor/*")))
    1
    """
    folder = Path(folder)
    if n < 1:
        raise UsageError(f"n {n}: pass at least 1 image")
    if seed < 0:
        raise UsageError(f"seed {seed}: pass 0 or more")
    check_size(size)
    parameters = {"format": _FORMAT, "n": n, "size": size, "seed": seed}
    with exclusive(folder, DataError, "writing"):
        _claim(folder, parameters)
        tiles = list(_lay_out(n, size))
        _explain(folder, n, size, seed)
        table = folder / "labels.csv"
        if table.is_file() and all((folder / tile.path).is_file() for tile in tiles):
            return folder
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("path", "group", "time", "labels"))
        for tile in tiles:
            # Drawn again even if the file exists: its labels come from drawing it.
            rng = np.random.default_rng([seed, tile.index])
            time = _time(rng)
            image, labels = render_chip(rng, tile.theme, size)
            if not (folder / tile.path).is_file():
                write_atomic(folder / tile.path, _encode(image, tile))
            rows.writerow((tile.path, tile.theme, time, ";".join(sorted(labels))))
            if progress is not None:
                progress(tile.index + 1, n)
        write_atomic(table, text.getvalue())
    return folder


def _claim(folder: Path, parameters: dict[str, int]) -> None:
    """Record the parameters in a new folder, or compare them with those of an earlier run."""
    record = folder / "demo.json"
    if record.exists():
        found = read_json(record, DataError, "choose an empty folder for the demo archive")
        if found != parameters:
            was = ", ".join(f"{name} {value}" for name, value in found.items())
            now = ", ".join(f"{name} {value}" for name, value in parameters.items())
            raise DataError(
                f"{folder} holds a demo archive with other parameters ({was}; asked for {now}); "
                "remove it or choose another folder"
            )
        return
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise DataError(f"{folder} holds other files; choose an empty folder for the demo archive")
    write_atomic(record, json.dumps(parameters) + "\n")


def _explain(folder: Path, n: int, size: int, seed: int) -> None:
    if (folder / "README.md").is_file():
        return
    about = _README.format(
        n=n,
        size=size,
        seed=seed,
        crs=CRS,
        resolution=METERS_PER_PIXEL,
        labels=", ".join(LABELS),
    )
    write_atomic(folder / "README.md", about)


def _lay_out(n: int, size: int) -> Iterator[_Tile]:
    """Give each image a theme and a cell of a nearly square grid.

    Cells are walked in strips, up and down, so that the images of a theme form a district.
    """
    columns = math.ceil(math.sqrt(n))
    strip = max(1, round(math.sqrt(n / len(THEMES))))

    def walk(cell: int) -> tuple[int, int, int]:
        row, column = divmod(cell, columns)
        return column // strip, row if column // strip % 2 == 0 else -row, column

    side = size * METERS_PER_PIXEL
    numbers = dict.fromkeys(THEMES, 0)
    names = list(THEMES)
    for index, cell in enumerate(sorted(range(n), key=walk)):
        theme = names[index * len(names) // n] if n >= len(names) else names[index]
        numbers[theme] += 1
        row, column = divmod(cell, columns)
        yield _Tile(
            index=index,
            path=f"images/{theme}/{theme}_{numbers[theme]:04d}.tif",
            theme=theme,
            west=ORIGIN[0] + column * side,
            north=ORIGIN[1] - row * side,
        )


def _time(rng: np.random.Generator) -> str:
    """A moment between 8 and 15 h UTC of some day of 2024, as ISO 8601."""
    start = datetime(2024, 1, 1, 8, tzinfo=UTC)
    day, minute = int(rng.integers(366)), int(rng.integers(7 * 60))
    return (start + timedelta(days=day, minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(image: ByteArray, tile: _Tile) -> bytes:
    """GeoTIFF bytes of uint8 ``[size, size, 3]``."""
    from rasterio import Affine
    from rasterio.io import MemoryFile

    height, width, bands = image.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype="uint8",
            crs=CRS,
            transform=Affine(METERS_PER_PIXEL, 0, tile.west, 0, -METERS_PER_PIXEL, tile.north),
            photometric="RGB",
            interleave="pixel",
            compress="deflate",
            predictor=2,
        ) as file:
            file.write(image.transpose(2, 0, 1))
        return bytes(memory.read())

"""Chips of scenes: where a scene is cut, and how rasters are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.cells import GRIDS
from landcue.data.geo import ground_steps
from landcue.data.header import RasterFacts
from landcue.data.pictures import (
    BandName,
    Choice,
    Scale,
    choose_bands,
)
from landcue.errors import DataError, UsageError, counted, did_you_mean

MAX_SIDE = 8000
"""Longest side of a chip, in pixels."""

_LENGTH = re.compile(r"^(\d+(?:\.\d+)?)(px|m|km)$")
_NOMINAL = 0.01


@dataclass(frozen=True, slots=True)
class Length:
    """A side of a chip or the way to the next one, in pixels or in meters on the ground."""

    value: float
    meters: bool

    def __str__(self) -> str:
        return f"{self.value:g}{'m' if self.meters else 'px'}"

    @classmethod
    def parse(cls, text: str, option: str) -> Length:
        """Read ``256px``, ``120m`` or ``1.2km``.

        >>> Length.parse("1.2km", "--chip")
        Length(value=1200.0, meters=True)
        """
        match = _LENGTH.match(text.strip())
        value = float(match[1]) if match else 0.0
        if match is None or value <= 0 or (match[2] == "px" and not value.is_integer()):
            raise UsageError(f"{option} {text!r}: use pixels or meters, such as 256px or 120m")
        if match[2] == "px":
            return cls(value, meters=False)
        return cls(value * (1000 if match[2] == "km" else 1), meters=True)


def pixels_of(length: Length, steps: tuple[float, float] | None) -> tuple[int, int]:
    """Turn a length into columns and rows.

    Args:
        length: In pixels or meters.
        steps: Meters a column and a row of the scene are wide (see :func:`pixel_meters`); ``None``
            without georeference.
    """
    if not length.meters:
        return int(length.value), int(length.value)
    if steps is None:
        raise DataError(f"has no georeference, so that {length} means nothing; use pixels")
    columns, rows = (round(length.value / step) for step in steps)
    if min(columns, rows) < 1:
        raise DataError(f"{length} is less than one of its pixels ({max(steps):.3g} m)")
    return columns, rows


def pixel_meters(crs: Any, transform: Any, width: int, height: int) -> tuple[float, float]:
    """Return how many meters a column and a row are wide in the middle of a scene.

    A projection whose own meters are true to 1 % there is taken at its word, so that 120 m are
    12 pixels of 10 m all over a UTM zone; elsewhere (degrees, Web Mercator) the ground counts.
    """
    ground = ground_steps(crs, transform, width / 2, height / 2)
    if not crs.is_projected:
        return ground
    unit = float(crs.linear_units_factor[1])
    a, b, _, d, e, _ = tuple(transform)[:6]
    nominal = float(np.hypot(a, d)) * unit, float(np.hypot(b, e)) * unit
    near = all(abs(g / n - 1) <= _NOMINAL for g, n in zip(ground, nominal, strict=True))
    return nominal if near else ground


def grid(
    width: int, height: int, chip: tuple[int, int], stride: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Return the windows of a scene, row after row, int64 ``[n, 4]``: col, row, width, height.

    Windows start every ``stride`` pixels. The last of a row or column is moved back so that it
    ends at the scene's edge: no pixel is left out and no chip is padded. A scene smaller than a
    chip is one chip.
    """
    side = min(chip[0], width), min(chip[1], height)
    cols, rows = _starts(width, side[0], stride[0]), _starts(height, side[1], stride[1])
    row, col = (axis.ravel() for axis in np.meshgrid(rows, cols, indexing="ij"))
    return np.stack([col, row, np.full_like(col, side[0]), np.full_like(row, side[1])], axis=1)


def _starts(length: int, side: int, stride: int) -> npt.NDArray[np.int64]:
    starts = np.arange(0, length - side + 1, stride, dtype=np.int64)
    if starts[-1] + side < length:
        starts = np.append(starts, length - side)
    return starts


_AUTO = Scale()


MAX_PIXELS = 64_000_000
"""Largest image read whole, and largest chip (8,000 x 8,000)."""
MAX_LENGTH = 32_768
"""Longest side of an image read whole."""
MAX_ASPECT = 200
"""Longest side of an image over its shortest."""


def check_size(width: int, height: int, name: str, most: int = MAX_PIXELS) -> None:
    """Check that an image is not too large, too long or too narrow to be read whole."""
    what = f"{name}: {width} x {height} pixels, "
    if width * height > most:
        raise DataError(f"{what}over the limit of {most:,}; cut it into chips")
    if max(width, height) > MAX_LENGTH:
        raise DataError(f"{what}over the limit of {MAX_LENGTH:,} a side; cut it into chips")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DataError(f"{what}more than {MAX_ASPECT} times as long as wide; cut it into chips")


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """How rasters are cut and turned into images.

    Attributes:
        chip: Side of a chip; ``None``: they are read whole.
        stride: Way from one chip to the next; ``None``: the side, without overlap.
        bands: Numbers of the bands to take, from 1, or their names in the file, in the order the
            encoder wants; ``None``: by the rule of :mod:`landcue.data.pictures`.
        channels: Bands that the encoder takes.
        scale: From stored numbers to bytes.
        nodata: Largest share of pixels without data that an image may have, 0..1; ``None``: 0.5
            for chips, 1 for whole images.
        side: Pixels a side that the encoder takes: larger chips are read at a coarser resolution,
            from overviews where the file has them, but never below this. ``None``: always at full
            resolution.
        grid: ``utm``: chips are the cells of a fixed grid (:mod:`landcue.data.cells`), and ``chip``
            and ``stride`` are in meters; ``None``: they start at the scene's upper left corner.
    """

    chip: Length | None = None
    stride: Length | None = None
    bands: tuple[BandName, ...] | None = None
    channels: int = 3
    scale: Scale = _AUTO
    nodata: float | None = None
    side: int | None = None
    grid: str | None = None

    def __post_init__(self) -> None:
        if self.grid is not None:
            self._check_grid()
        for length in (self.chip, self.stride):
            if length is not None and not length.meters and length.value > MAX_SIDE:
                raise UsageError(f"{length} is too long; a chip may have {MAX_SIDE} pixels a side")
        if self.nodata is not None and not 0 <= self.nodata <= 1:
            raise UsageError(f"--nodata {self.nodata:g}: use a share in 0..1")
        numbers = [band for band in self.bands or () if isinstance(band, int)]
        if self.bands is not None and (not self.bands or min(numbers, default=1) < 1):
            raise UsageError("--bands: pass band numbers from 1, such as 4,3,2")
        if self.bands is not None and len(self.bands) != self.channels:
            given = ",".join(map(str, self.bands))
            raise UsageError(
                f"--bands {given} names {counted(len(self.bands), 'band')}, but the model takes "
                f"{self.channels}; name as many"
            )

    def _check_grid(self) -> None:
        if self.grid not in GRIDS:
            raise UsageError(f"unknown grid {self.grid!r}{did_you_mean(str(self.grid), GRIDS)}")
        if self.chip is None:
            raise UsageError("--grid is for chips; add their side: --chip 640m")
        for option, length in (("--chip", self.chip), ("--stride", self.stride)):
            if length is not None and not length.meters:
                raise UsageError(f"{option} {length}: a grid needs meters, such as 640m")
        if self.stride is not None and self.stride.value > self.chip.value:
            raise UsageError(f"--stride {self.stride} is longer than --chip {self.chip}")

    @property
    def most_missing(self) -> float:
        """Largest share of pixels without data that an image may have, 0..1."""
        return (1.0 if self.chip is None else 0.5) if self.nodata is None else self.nodata

    @property
    def recipe(self) -> str:
        """Digest of all that decides a chip's pixels besides file and window, 16 hex digits."""
        facts = (self.bands, self.channels, str(self.scale), self.most_missing, self.side)
        return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()

    @property
    def note(self) -> dict[str, Any]:
        """What an archive remembers of these options; empty for whole images read by the rule."""
        if self.chip is None and self.bands is None and self.scale == _AUTO and not self.nodata:
            return {}
        bands = None if self.bands is None else list(self.bands)
        return {"bands": bands, "scale": str(self.scale), "nodata": self.most_missing}

    @classmethod
    def noted(cls, note: Mapping[str, Any], *, channels: int, side: int | None) -> SceneOptions:
        """Return the options of a note, for chips whose windows are known."""
        bands = note.get("bands")
        return cls(
            chip=Length(side or MAX_SIDE, meters=False),
            bands=None if bands is None else tuple(bands),
            channels=channels,
            scale=Scale.parse(str(note.get("scale", "auto"))),
            nodata=float(note.get("nodata", 0.5)),
            side=side,
        )

    def choose(self, facts: RasterFacts) -> Choice:
        """Return the bands to read from a raster."""
        return choose_bands(facts, self.bands, self.channels)


def parse_bands(text: str) -> tuple[BandName, ...]:
    """Read numbers, or names of bands as the files give them.

    >>> parse_bands("4,3,2"), parse_bands("B04,B03,B02")
    ((4, 3, 2), ('B04', 'B03', 'B02'))
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"--bands {text!r}: pass band numbers from 1, such as 4,3,2")
    try:
        return tuple(int(part) if part.lstrip("-").isdecimal() else part for part in parts)
    except ValueError:
        raise UsageError(f"--bands {text!r}: pass band numbers from 1, such as 4,3,2") from None

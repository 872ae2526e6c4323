"""Chips of scenes: where a scene is cut, and the reader of its pixels."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.geo import ground_steps
from landcue.data.header import RasterFacts, facts_of, turned
from landcue.data.objects import CHANGED, is_object, object_path
from landcue.data.pictures import (
    INVERTED,
    NO_ALPHA,
    SCALED,
    ZEROS,
    BandName,
    Choice,
    Rendering,
    Scale,
    choose_bands,
    is_alpha,
    limits,
    to_bytes,
)
from landcue.data.raster import (
    check_object,
    display_name,
    raster_options,
    reports,
    short_error,
)
from landcue.data.stacks import open_scene
from landcue.errors import DataError, UsageError
from landcue.types import ByteArray, Window

MAX_SIDE = 8000
"""Longest side of a chip, in pixels."""

_LENGTH = re.compile(r"^(\d+(?:\.\d+)?)(px|m|km)$")
_NOMINAL = 0.01


@dataclass(frozen=True, slots=True)
class Length:
    """A side of a chip or the way to the next one, in pixels or in metres on the ground."""

    value: float
    metres: bool

    def __str__(self) -> str:
        return f"{self.value:g}{'m' if self.metres else 'px'}"

    @classmethod
    def parse(cls, text: str, option: str) -> Length:
        """Read ``256px``, ``120m`` or ``1.2km``.

        >>> Length.parse("1.2km", "--chip")
        Length(value=1200.0, metres=True)

        Raises:
            UsageError: Another form, or not a whole number of pixels of at least 1.
        """
        match = _LENGTH.match(text.strip())
        value = float(match[1]) if match else 0.0
        if match is None or value <= 0 or (match[2] == "px" and not value.is_integer()):
            raise UsageError(f"{option} {text!r}: give pixels or metres, such as 256px or 120m")
        if match[2] == "px":
            return cls(value, metres=False)
        return cls(value * (1000 if match[2] == "km" else 1), metres=True)


def pixels_of(length: Length, steps: tuple[float, float] | None) -> tuple[int, int]:
    """Turn a length into columns and rows.

    Args:
        length: In pixels or metres.
        steps: Metres a column and a row of the scene are wide (see :func:`pixel_metres`); ``None``
            without georeference.

    Raises:
        DataError: Metres without georeference, or less than one pixel.
    """
    if not length.metres:
        return int(length.value), int(length.value)
    if steps is None:
        raise DataError(f"has no georeference, so that {length} means nothing; give pixels")
    columns, rows = (round(length.value / step) for step in steps)
    if min(columns, rows) < 1:
        raise DataError(f"{length} is less than one of its pixels ({max(steps):.3g} m)")
    return columns, rows


def pixel_metres(crs: Any, transform: Any, width: int, height: int) -> tuple[float, float]:
    """Return how many metres a column and a row are wide in the middle of a scene.

    A projection whose own metres are true to 1 % there is taken at its word, so that 120 m are
    12 pixels of 10 m all over a UTM zone; elsewhere (degrees, Web Mercator) the ground counts.

    Raises:
        DataError: The scene lies nowhere on Earth.
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

    Args:
        width: Of the scene.
        height: Of the scene.
        chip: Columns and rows of a chip.
        stride: Columns and rows from one chip to the next.
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
_SAMPLE_SIDE = 1024


MAX_PIXELS = 64_000_000
"""Largest image read whole, and largest chip (8,000 x 8,000)."""
MAX_LENGTH = 32_768
"""Longest side of an image read whole."""
MAX_ASPECT = 200
"""Longest side of an image over its shortest."""


def check_size(width: int, height: int, name: str, most: int = MAX_PIXELS) -> None:
    """Check that an image is not too large, too long or too narrow to be read whole.

    Raises:
        DataError: It is; the message names the image.
    """
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
    """

    chip: Length | None = None
    stride: Length | None = None
    bands: tuple[BandName, ...] | None = None
    channels: int = 3
    scale: Scale = _AUTO
    nodata: float | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        for length in (self.chip, self.stride):
            if length is not None and not length.metres and length.value > MAX_SIDE:
                raise UsageError(f"{length} is too long; a chip may have {MAX_SIDE} pixels a side")
        if self.nodata is not None and not 0 <= self.nodata <= 1:
            raise UsageError(f"--nodata {self.nodata:g}: give a share in 0..1")
        numbers = [band for band in self.bands or () if isinstance(band, int)]
        if self.bands is not None and (not self.bands or min(numbers, default=1) < 1):
            raise UsageError("--bands: give band numbers from 1, such as 4,3,2")
        if self.bands is not None and len(self.bands) != self.channels:
            given = ",".join(map(str, self.bands))
            raise UsageError(
                f"--bands {given} names {len(self.bands)} bands, but the model takes "
                f"{self.channels}; name as many"
            )

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
        """Return the options of a note, for chips whose windows are known.

        Raises:
            UsageError: The note's bands are not as many as ``channels``.
        """
        bands = note.get("bands")
        return cls(
            chip=Length(side or MAX_SIDE, metres=False),
            bands=None if bands is None else tuple(bands),
            channels=channels,
            scale=Scale.parse(str(note.get("scale", "auto"))),
            nodata=float(note.get("nodata", 0.5)),
            side=side,
        )

    def choose(self, facts: RasterFacts) -> Choice:
        """Return the bands to read from a raster.

        Raises:
            DataError: It lacks one, or has another number than the encoder takes.
        """
        return choose_bands(facts, self.bands, self.channels)


def parse_bands(text: str) -> tuple[BandName, ...]:
    """Read numbers, or names of bands as the files give them.

    >>> parse_bands("4,3,2"), parse_bands("B04,B03,B02")
    ((4, 3, 2), ('B04', 'B03', 'B02'))

    Raises:
        UsageError: An empty one.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"--bands {text!r}: give band numbers from 1, such as 4,3,2")
    try:
        return tuple(int(part) if part.lstrip("-").isdecimal() else part for part in parts)
    except ValueError:
        raise UsageError(f"--bands {text!r}: give band numbers from 1, such as 4,3,2") from None


_STRIP = 1 << 22
"""Pixels that are converted at once."""


class SceneReader:
    """One open raster, for one thread at a time.

    Args:
        path: The file, or its bytes.
        options: Bands, scaling, nodata share and encoder size.
        name: What messages call it; the path by default.

    Attributes:
        facts: Its header.
        choice: The bands that are read.

    Raises:
        DataError: It cannot be opened, or its bands are not clear.
    """

    def __init__(
        self, path: Path | bytes, options: SceneOptions, *, name: str | None = None
    ) -> None:
        self.path = object_path(path) if isinstance(path, Path) and is_object(path) else path
        self._name = name or display_name(self.path)
        self._options = options
        self._heard: dict[str, None] = {}
        dataset = None
        try:
            with self._reading():
                dataset, self._sidecars = open_scene(self.path)
                with raster_options(self._sidecars, self.path):
                    self.facts = facts_of(dataset, self.path)
                    self.choice = options.choose(self.facts)
        except DataError as error:
            if dataset is not None:
                dataset.close()
            text = str(error).removeprefix(f"{self._name}: ")
            text = text.removeprefix(f"{display_name(self.path)}: ")
            raise DataError(f"{self._name}: {text}") from None
        self._dataset = dataset

    def close(self) -> None:
        """Close the file."""
        with raster_options(self._sidecars, self.path):
            self._dataset.close()

    def reading(self, rendering: Rendering) -> dict[str, Any]:
        """Return how the numbers became pixels, as JSON values.

        ``bands`` are numbers from 1, ``limits`` the values of each that became 0 and 255, ``rules``
        what was assumed, ``warnings`` what GDAL reported.
        """
        limits = None if rendering.limits is None else rendering.limits.tolist()
        return {
            "bands": list(self.choice.bands),
            "limits": limits,
            "rules": list(rendering.notes),
            "warnings": list(self._heard),
        }

    def whole(self, most: int = MAX_PIXELS) -> Window:
        """Return the window of all pixels.

        Raises:
            DataError: They are too many to be read at once.
        """
        check_size(self.facts.width, self.facts.height, self._name, most)
        return Window(0, 0, self.facts.width, self.facts.height)

    def rendering(self) -> Rendering:
        """Decide on scale and missing data from the header and a coarse read.

        Raises:
            DataError: The file is broken.
        """
        with self._reading(), raster_options(self._sidecars, self.path):
            return self._rendering()

    def _rendering(self) -> Rendering:
        scale, facts, bands = self._options.scale, self.facts, self.choice.bands
        alpha = [i for i in range(1, facts.count + 1) if i not in facts.colors and i not in bands]
        declared = [self._dataset.nodatavals[band - 1] for band in bands]
        kept = self.choice.kind == "palette" or all(
            scale.keeps(facts.dtypes[band - 1]) for band in bands
        )
        notes = (*self.choice.notes, *facts.notes, *((INVERTED,) if facts.inverted else ()))
        unsigned = all(facts.dtypes[band - 1].startswith("u") for band in bands)
        sampled = None
        if alpha or not (kept or (scale.kind == "fixed" and unsigned)):
            every = [*bands, *alpha[:1]]
            sampled = self._read(self._sample_window(), every, self._coarse, "nearest")
        masked, shown = self._has_mask(), 0
        if alpha and sampled is not None:
            shown = alpha[0] if is_alpha(sampled[-1]) else 0
            notes = notes if shown else (*notes, NO_ALPHA)
        values = None if sampled is None else sampled[: len(bands)]
        blanks = tuple(None if value is None else float(value) for value in declared)
        undeclared = not (masked or shown) and all(blank is None for blank in blanks)
        negative = values is not None and not unsigned and bool((values < 0).any())
        if undeclared and not negative and self.choice.kind != "palette":
            blanks = (0.0,) * len(bands)
            notes = notes if kept else (*notes, ZEROS)
        found = Rendering(None, masked, shown, blanks, notes)
        if kept:
            top = (1 << facts.bits) - 1 if 0 < facts.bits < 8 else 0
            return replace(found, limits=np.array([[0.0, top]] * len(bands))) if top else found
        if values is None:
            empty = np.empty((len(bands), 0, 0))
            return replace(found, limits=limits(scale, empty, np.empty((0, 0), np.bool_)))
        if scale.kind == "auto":
            found = replace(found, notes=(*notes, SCALED))
        valid = self._valid(values, found, self._sample_window(), self._coarse)
        return replace(found, limits=limits(scale, values, valid))

    def chip(self, window: Window, rendering: Rendering) -> ByteArray | None:
        """Read one chip, uint8 ``[h, w, C]``; ``None`` when too much of it holds no data.

        Raises:
            DataError: The file is broken, or smaller than the window.
        """
        if (
            window.col + window.width > self._dataset.width
            or window.row + window.height > self._dataset.height
        ):
            raise DataError(f"{self._name}: {CHANGED}")
        side = self._options.side
        factor = 1 if side is None else max(1, min(window.width, window.height) // side)
        rows = window.height if factor > 1 else max(1, _STRIP // window.width)
        parts: list[ByteArray] = []
        known = 0
        for row in range(0, window.height, rows):
            strip = Window(
                window.col, window.row + row, window.width, min(rows, window.height - row)
            )
            pixels, valid = self._picture(strip, factor, rendering)
            parts.append(pixels)
            known += int(valid.sum())
        image = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not known or known / (image.shape[0] * image.shape[1]) < 1 - self._options.most_missing:
            return None
        return np.ascontiguousarray(turned(image, self.facts.turn))

    def _picture(
        self, window: Window, factor: int, rendering: Rendering
    ) -> tuple[ByteArray, npt.NDArray[np.bool_]]:
        palette = self.choice.kind == "palette"
        how = "nearest" if palette or factor == 1 else "average"
        values = self._read(window, list(self.choice.bands), factor, how)
        valid = self._valid(values, rendering, window, factor)
        if palette:
            table = self._palette()
            valid &= table[values[0], 3] > 0
            return np.where(valid[..., None], table[values[0], :3], np.uint8(0)), valid
        image = to_bytes(values, valid, rendering.limits)
        if self.facts.inverted:
            image = np.where(valid[..., None], 255 - image, np.uint8(0))
        return np.repeat(image, 3, axis=2) if self.choice.kind == "gray" else image, valid

    def _palette(self) -> ByteArray:
        table = np.zeros((256, 4), np.uint8)
        with raster_options(self._sidecars, self.path):
            for value, color in self._dataset.colormap(self.choice.bands[0]).items():
                if value < len(table):
                    table[value] = color
        return table

    @property
    def _coarse(self) -> int:
        return -(-max(self.facts.width, self.facts.height) // _SAMPLE_SIDE)

    def _sample_window(self) -> Window:
        return Window(0, 0, self.facts.width, self.facts.height)

    def _has_mask(self) -> bool:
        from rasterio.enums import MaskFlags

        flags = {f for band in self.choice.bands for f in self._dataset.mask_flag_enums[band - 1]}
        return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags

    def _read(
        self, window: Window, bands: list[int], factor: int, how: str, *, masks: bool = False
    ) -> npt.NDArray[Any]:
        """Read ``[C, h, w]`` at 1/factor of the resolution: values, or masks."""
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        area = RasterWindow(window.col, window.row, window.width, window.height)  # pyright: ignore[reportCallIssue]
        shape = len(bands), -(-window.height // factor), -(-window.width // factor)
        options: dict[str, Any] = {
            "window": area, "out_shape": shape, "resampling": Resampling[how],
        }  # fmt: skip
        try:
            with self._reading(), raster_options(self._sidecars, self.path):
                read = self._dataset.read_masks if masks else self._dataset.read
                values = read(bands, **options)
        except (RasterioError, OSError) as error:
            check_object(self.path)
            line = short_error(error, self.path)
            raise DataError(f"{self._name}: truncated or corrupt ({line})") from None
        check_object(self.path)  # a range does not say which version it is of
        return values

    def _valid(
        self, values: npt.NDArray[Any], rendering: Rendering, window: Window, factor: int
    ) -> npt.NDArray[np.bool_]:
        """Return where any band has data, ``[h, w]``."""
        finite = np.asarray(np.isfinite(values).any(axis=0))
        if rendering.masked:
            masks = self._read(window, list(self.choice.bands), factor, "nearest", masks=True)
            return np.asarray((masks > 0).any(axis=0) & finite)
        if rendering.alpha:
            return (self._read(window, [rendering.alpha], factor, "nearest")[0] > 0) & finite
        valid = np.zeros(values.shape[1:], np.bool_)
        for blank, plane in zip(rendering.blanks, values, strict=True):
            if blank is None:
                return finite
            valid |= ~np.isnan(plane) if np.isnan(blank) else plane != blank
        return valid & finite

    @contextlib.contextmanager
    def _reading(self) -> Generator[None]:
        with reports() as heard:
            try:
                yield
            finally:
                self._heard |= heard

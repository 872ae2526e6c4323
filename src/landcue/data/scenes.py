"""Chips of scenes: where a scene is cut, and how its numbers become bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.data.geo import ground_steps
from landcue.data.objects import CHANGED, is_object, object_path, shown
from landcue.data.raster import RasterFacts, check_object, open_dataset, raster_options, short_error
from landcue.errors import DataError, UsageError
from landcue.types import ByteArray, Window

MAX_SIDE = 8192
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


_FORMS = "give auto, percentile:2,98 or fixed:0,3000"


@dataclass(frozen=True, slots=True)
class Scale:
    """How stored numbers become 0..255.

    Attributes:
        kind: ``fixed`` maps ``low`` to 0 and ``high`` to 255; ``percentile`` does so with these
            percentiles of each band of the scene; ``auto`` keeps bytes and takes the percentiles
            2 and 98 of anything else.
        low: As stored, or in percent.
        high: As stored, or in percent.
    """

    kind: Literal["auto", "percentile", "fixed"] = "auto"
    low: float = 2.0
    high: float = 98.0

    def __str__(self) -> str:
        return self.kind if self.kind == "auto" else f"{self.kind}:{self.low:g},{self.high:g}"

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``auto``, ``percentile:LOW,HIGH`` or ``fixed:LOW,HIGH``.

        >>> Scale.parse("fixed:0,3000")
        Scale(kind='fixed', low=0.0, high=3000.0)

        Raises:
            UsageError: Another form, or numbers that make no range.
        """
        kind, _, numbers = text.strip().partition(":")
        if kind == "auto" and not numbers:
            return cls()
        if kind not in ("percentile", "fixed"):
            raise UsageError(f"--scale {text!r}: {_FORMS}")
        try:
            low, high = (float(number) for number in numbers.split(","))
        except ValueError:
            raise UsageError(f"--scale {text!r}: {_FORMS}") from None
        if not np.isfinite([low, high]).all() or low >= high:
            raise UsageError(f"--scale {text!r}: the first number must be below the second")
        if kind == "percentile" and not 0 <= low < high <= 100:
            raise UsageError(f"--scale {text!r}: percentiles lie in 0..100")
        return cls("percentile" if kind == "percentile" else "fixed", low, high)

    def keeps(self, dtype: npt.DTypeLike) -> bool:
        """Return whether values are taken as they are."""
        return self.kind == "auto" and np.dtype(dtype) == np.uint8


def limits(
    scale: Scale, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return which values of each band become 0 and 255, float64 ``[C, 2]``.

    Args:
        scale: ``fixed``, or percentiles of ``values``.
        values: A sample of the scene, ``[C, h, w]``.
        valid: bool ``[h, w]``, false where there is no data. Without any valid pixel the limits
            are 0 and 1.
    """
    if scale.kind == "fixed":
        return np.tile([scale.low, scale.high], (len(values), 1)).astype(np.float64)
    found = np.tile([0.0, 1.0], (len(values), 1))
    for band, sample in enumerate(values):
        known = sample[valid & np.isfinite(sample)]
        if len(known):
            found[band] = np.percentile(known, [scale.low, scale.high])
    return found


def to_bytes(
    values: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    limits: npt.NDArray[np.float64] | None,
) -> ByteArray:
    """Return uint8 ``[h, w, C]``, 0 where there is no data.

    Args:
        values: ``[C, h, w]``.
        valid: bool ``[h, w]``.
        limits: ``[C, 2]``, or ``None`` to keep bytes as they are.
    """
    if limits is None:
        image = np.where(valid, values, 0)
        return np.ascontiguousarray(image.transpose(1, 2, 0), np.uint8)
    low, high = limits.astype(np.float32).T[:, :, None, None]
    width = np.maximum(high - low, np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((values.astype(np.float32) - low) / width, 0, 1) * 255 + 0.5
    scaled[~(np.isfinite(scaled) & valid)] = 0
    return np.ascontiguousarray(scaled.transpose(1, 2, 0).astype(np.uint8))


_AUTO = Scale()
_SAMPLE_SIDE = 1024


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """How scenes are cut and turned into images.

    Attributes:
        chip: Side of a chip.
        stride: Way from one chip to the next; ``None``: the side, without overlap.
        bands: Numbers of the bands to take, from 1, in the order the encoder wants; ``None``: all
            measured ones.
        channels: Bands that the encoder takes.
        scale: From stored numbers to bytes.
        nodata: Largest share of pixels without data that a chip may have, 0..1.
        side: Pixels a side that the encoder takes: larger chips are read at a coarser resolution,
            from overviews where the file has them, but never below this. ``None``: always at full
            resolution.
    """

    chip: Length
    stride: Length | None = None
    bands: tuple[int, ...] | None = None
    channels: int = 3
    scale: Scale = _AUTO
    nodata: float = 0.5
    side: int | None = None

    def __post_init__(self) -> None:
        for length in (self.chip, self.stride):
            if length is not None and not length.metres and length.value > MAX_SIDE:
                raise UsageError(f"{length} is too long; a chip may have {MAX_SIDE} pixels a side")
        if not 0 <= self.nodata <= 1:
            raise UsageError(f"--nodata {self.nodata:g}: give a share in 0..1")
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise UsageError("--bands: give band numbers from 1, such as 4,3,2")
        if self.bands is not None and len(self.bands) != self.channels:
            given = ",".join(map(str, self.bands))
            raise UsageError(
                f"--bands {given} names {len(self.bands)} bands, but the model takes "
                f"{self.channels}; name as many"
            )

    @property
    def recipe(self) -> str:
        """Digest of all that decides a chip's pixels besides file and window, 16 hex digits."""
        facts = (self.bands, self.channels, str(self.scale), self.nodata, self.side)
        return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()

    @property
    def note(self) -> dict[str, Any]:
        """What an archive remembers of these options; the rest follows from the model."""
        bands = None if self.bands is None else list(self.bands)
        return {"bands": bands, "scale": str(self.scale), "nodata": self.nodata}

    @classmethod
    def noted(cls, note: Mapping[str, Any], *, channels: int, side: int | None) -> SceneOptions:
        """Return the options of a note, for chips whose windows are known.

        Raises:
            UsageError: The note's bands are not as many as ``channels``.
        """
        bands = note.get("bands")
        return cls(
            chip=Length(side or MAX_SIDE, metres=False),
            bands=None if bands is None else tuple(int(band) for band in bands),
            channels=channels,
            scale=Scale.parse(str(note.get("scale", "auto"))),
            nodata=float(note.get("nodata", 0.5)),
            side=side,
        )

    def choose(self, facts: RasterFacts) -> tuple[int, ...]:
        """Return the bands to read from a scene.

        Raises:
            DataError: The scene lacks one, or has another number than the encoder takes.
        """
        have = len(facts.colors)
        if self.bands is None and have != self.channels:
            example = ",".join(str(1 + i % max(have, 1)) for i in range(self.channels))
            raise DataError(
                f"has {have} band{'s' * (have != 1)}, the model takes {self.channels}; choose "
                f"with --bands, such as --bands {example}"
            )
        bands = self.bands or facts.colors
        if max(bands) > facts.count:
            raise DataError(f"has no band {max(bands)}, only {facts.count}; change --bands")
        return bands


def parse_bands(text: str) -> tuple[int, ...]:
    """Read ``4,3,2``.

    >>> parse_bands("4,3,2")
    (4, 3, 2)

    Raises:
        UsageError: Not whole numbers joined by commas.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise UsageError(f"--bands {text!r}: give band numbers from 1, such as 4,3,2") from None


class SceneReader:
    """One open scene, for one thread at a time.

    Args:
        path: The file.
        bands: Numbers of the bands, from 1.
        options: Scaling, nodata share and encoder size.

    Raises:
        DataError: The file cannot be opened.
    """

    def __init__(self, path: Path, bands: tuple[int, ...], options: SceneOptions) -> None:
        self.path = object_path(path) if is_object(path) else path
        self._bands = list(bands)
        self._options = options
        self._dataset, self._sidecars = open_dataset(self.path)
        with raster_options(self._sidecars, self.path):
            self._kind, self._blanks = _missing(self._dataset, self._bands)

    def close(self) -> None:
        """Close the file."""
        with raster_options(self._sidecars, self.path):
            self._dataset.close()

    def limits(self) -> npt.NDArray[np.float64] | None:
        """Estimate the scaling of the scene from a coarse read; ``None``: bytes stay as they are.

        Raises:
            DataError: The file is broken.
        """
        scale, dataset = self._options.scale, self._dataset
        if all(scale.keeps(dataset.dtypes[band - 1]) for band in self._bands):
            return None
        if scale.kind == "fixed":
            empty = np.empty((len(self._bands), 0, 0))
            return limits(scale, empty, np.empty((0, 0), np.bool_))
        whole = Window(0, 0, dataset.width, dataset.height)
        factor = -(-max(whole.width, whole.height) // _SAMPLE_SIDE)
        return limits(scale, *self._values(whole, factor, average=False))

    def chip(self, window: Window, limits: npt.NDArray[np.float64] | None) -> ByteArray | None:
        """Read one chip, uint8 ``[h, w, C]``; ``None`` when too much of it holds no data.

        Raises:
            DataError: The file is broken, or smaller than the window.
        """
        if (
            window.col + window.width > self._dataset.width
            or window.row + window.height > self._dataset.height
        ):
            raise DataError(f"{shown(self.path)}: {CHANGED}")
        side = self._options.side
        factor = 1 if side is None else max(1, min(window.width, window.height) // side)
        values, valid = self._values(window, factor, average=True)
        if valid.mean() < 1 - self._options.nodata or not valid.any():
            return None
        return to_bytes(values, valid, limits)

    def _values(
        self, window: Window, factor: int, *, average: bool
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read ``[C, h, w]`` at 1/factor of the resolution, and where there is data ``[h, w]``."""
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioError
        from rasterio.windows import Window as RasterWindow

        area = RasterWindow(window.col, window.row, window.width, window.height)  # pyright: ignore[reportCallIssue]
        shape = len(self._bands), -(-window.height // factor), -(-window.width // factor)
        kind = Resampling.average if average and factor > 1 else Resampling.nearest
        options: dict[str, Any] = {"window": area, "out_shape": shape, "resampling": kind}
        try:
            with raster_options(self._sidecars, self.path):
                values = self._dataset.read(self._bands, **options)
                if self._kind == "mask":
                    options["resampling"] = Resampling.nearest
                    valid = (self._dataset.read_masks(self._bands, **options) > 0).any(axis=0)
                else:
                    valid = self._with_data(values)
        except (RasterioError, OSError) as error:
            check_object(self.path)
            line = short_error(error, self.path)
            raise DataError(f"{shown(self.path)}: truncated or corrupt ({line})") from None
        check_object(self.path)  # a range does not say which version it is of
        return values, valid & np.isfinite(values).any(axis=0)

    def _with_data(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return where any band has data; without a declared nodata value, 0 in all means none."""
        valid = np.zeros(values.shape[1:], np.bool_)
        for blank, plane in zip(self._blanks, values, strict=True):
            valid |= ~np.isnan(plane) if np.isnan(blank) else plane != blank
        return valid


def _missing(dataset: Any, bands: list[int]) -> tuple[Literal["mask", "value"], list[float]]:
    """Return how a scene marks pixels without data, and the value of each band that means none."""
    from rasterio.enums import MaskFlags

    flags = {flag for band in bands for flag in dataset.mask_flag_enums[band - 1]}
    kind = "mask" if flags & {MaskFlags.per_dataset, MaskFlags.alpha} else "value"
    declared = (dataset.nodatavals[band - 1] for band in bands)
    return kind, [0.0 if value is None else float(value) for value in declared]

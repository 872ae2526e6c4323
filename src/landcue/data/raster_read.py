"""Chips of one open scene: bands, nodata and scaling, read window by window."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.data.objects import CHANGED, shown
from landcue.data.raster import RasterFacts, open_dataset, raster_options, short_error
from landcue.data.raster_grid import MAX_SIDE, Length
from landcue.data.raster_scale import Scale, limits, to_bytes
from landcue.errors import DataError, UsageError
from landcue.types import ByteArray, Window

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
        self.path = path
        self._bands = list(bands)
        self._options = options
        self._dataset, self._sidecars = open_dataset(path)
        self._kind, self._blanks = _missing(self._dataset, self._bands)

    def close(self) -> None:
        """Close the file."""
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
            with raster_options(self._sidecars):
                values = self._dataset.read(self._bands, **options)
                if self._kind == "mask":
                    options["resampling"] = Resampling.nearest
                    valid = (self._dataset.read_masks(self._bands, **options) > 0).any(axis=0)
                else:
                    valid = self._with_data(values)
        except (RasterioError, OSError) as error:
            line = short_error(error, self.path)
            raise DataError(f"{shown(self.path)}: truncated or corrupt ({line})") from None
        return values, valid & np.isfinite(values).any(axis=0)

    def _with_data(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Tell where any band has data; without a declared nodata value, 0 in all means none."""
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

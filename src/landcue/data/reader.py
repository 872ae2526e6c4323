"""The reader of a raster's pixels: whole or in windows, as pictures or as stored numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.header import facts_of
from landcue.data.north import Pixels, resampled, turned
from landcue.data.objects import CHANGED, is_object, object_path
from landcue.data.pictures import (
    INVERTED,
    NO_ALPHA,
    SCALED,
    ZEROS,
    Rendering,
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
from landcue.data.scenes import MAX_PIXELS, SceneOptions, check_size
from landcue.data.stacks import open_scene
from landcue.errors import DataError, StoreError
from landcue.types import ByteArray, Window

_SAMPLE_SIDE = 1024
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
                dataset, self._sidecars, self._files = open_scene(self.path)
                with raster_options(self._sidecars, self.path):
                    self.facts = facts_of(dataset, self.path)
                    self.choice = options.choose(self.facts)
        except DataError as error:
            if dataset is not None:
                dataset.close()
            if isinstance(error, StoreError):  # what a store does not give is not broken
                raise
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
        """Return the window of all pixels, of a rotated raster those of its north-up grid.

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
            window.col + window.width > self.facts.width
            or window.row + window.height > self.facts.height
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
            pixels, valid = self._north_up_picture(strip, factor, rendering)
            parts.append(pixels)
            known += int(valid.sum())
        image = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not known or known / (image.shape[0] * image.shape[1]) < 1 - self._options.most_missing:
            return None
        return np.ascontiguousarray(turned(image, self.facts.turn))

    def values(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read the stored numbers of a window, not scaled and not turned by quarters.

        Larger windows than the encoder's side are read at a coarser resolution, as in :meth:`chip`.

        Returns:
            The chosen bands, ``[C, h, w]`` in the type of the file, and where any of them has
            data, ``[h, w]``.

        Raises:
            DataError: The file is broken.
        """
        side = self._options.side
        factor = 1 if side is None else max(1, min(window.width, window.height) // side)
        how = "nearest" if factor == 1 else "average"
        bands, rendering = list(self.choice.bands), self.rendering()

        def read(window: Window) -> Pixels:
            found = self._read(window, bands, factor, how)
            return found.transpose(1, 2, 0), self._valid(found, rendering, window, factor)

        blank = np.zeros(len(bands), self._dataset.dtypes[bands[0] - 1])
        found, valid = self._north_up(read, window, blank, factor)
        return found.transpose(2, 0, 1), valid

    def _north_up(
        self, read: Callable[[Window], Pixels], window: Window, blank: npt.NDArray[Any], factor: int
    ) -> Pixels:
        if self.facts.stored is None:
            return read(window)
        return resampled(read, self.facts.stored, self.facts.grid, window, blank, factor)

    def _north_up_picture(self, window: Window, factor: int, rendering: Rendering) -> Pixels:
        colors = len(self.choice.bands) if self.choice.kind == "bands" else 3
        blank = np.zeros(colors, np.uint8)
        return self._north_up(
            lambda area: self._picture(area, factor, rendering), window, blank, factor
        )

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
        return -(-max(self.facts.size) // _SAMPLE_SIDE)

    def _sample_window(self) -> Window:
        return Window(0, 0, *self.facts.size)

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
            self._check_same(bands)
            line = short_error(error, self.path)
            raise DataError(f"{self._name}: truncated or corrupt ({line})") from None
        self._check_same(bands)
        return values

    def _check_same(self, bands: list[int]) -> None:
        """Check that objects are those that were opened: a range does not say its version."""
        for file in {self._files[band - 1] for band in bands} if self._files else (self.path,):
            check_object(file)

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

"""How pictures are brought north up: turned by quarters, or resampled where a grid is rotated.

A raster whose grid is rotated or sheared is read on another grid of the same coordinate reference
system, whose rows run east and whose columns run south, and which just covers the raster. Each of
its pixels is the stored pixel that holds its center; where there is none, data is missing. A column
is as wide as the step of the stored grid that lies nearest to east, and a pixel has the area of a
stored one. Windows of such a raster, its chips among them, count the pixels of this grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from landcue.types import Window

_STRAIGHT = 0.02
_MOST_GROWTH = 8
_TILE = 1024
_TIE = 1e-7
_NO_AREA = 1e-12


class Grid(NamedTuple):
    """Pixels of a raster: from (column, row) to coordinates (affine), columns and rows."""

    transform: Any
    width: int
    height: int


def turned(image: Any, turn: int) -> Any:
    """Return ``[h, w, ...]`` transposed (4), then mirrored left to right (1) and top to bottom (2).

    >>> turned(np.array([[1, 2], [3, 4]]), 4 | 1).tolist()
    [[3, 1], [4, 2]]
    """
    if turn & 4:
        image = np.swapaxes(image, 0, 1)
    if turn & 1:
        image = image[:, ::-1]
    if turn & 2:
        image = image[::-1]
    return image


def has_area(transform: Any) -> bool:
    """Return whether a transform is finite, and its pixels are no lines or points."""
    a, b, _, d, e, _ = numbers = np.array(tuple(transform)[:6], np.float64)
    with np.errstate(all="ignore"):
        area, most = abs(a * e - b * d), np.hypot(a, d) * np.hypot(b, e)
    return bool(np.isfinite([*numbers, most]).all() and area > _NO_AREA * most)


def north_up(transform: Any) -> tuple[int, bool]:
    """Return the turn that brings the y axis nearest to up, and whether it is off afterwards.

    Less than 2 % (1.1 degrees) is not off.
    """
    a, b, _, d, e, _ = tuple(transform)[:6]
    swapped = abs(b * d) > abs(a * e)
    x, y = (b, d) if swapped else (a, e)
    turn = 4 * swapped + (x < 0) + 2 * (y > 0)
    off = max(abs(a), abs(e)) if swapped else max(abs(b), abs(d))
    return turn, off > _STRAIGHT * max(abs(a), abs(b), abs(d), abs(e))


def north_up_grid(stored: Grid) -> Grid | None:
    """Return the grid on which a rotated raster is read.

    ``None`` if it would have over 8 times as many pixels: of long strips and of extreme shear.
    """
    from rasterio.transform import Affine

    a, b, c, d, e, f = tuple(stored.transform)[:6]
    corners = np.array([(0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1)]) * (*stored[1:], 1)
    x, y = (corners @ np.array([(a, d), (b, e), (c, f)])).T
    turn, _ = north_up(stored.transform)
    across = np.hypot(b, e) if turn & 4 else np.hypot(a, d)
    along = abs(a * e - b * d) / across
    size = np.array([np.ptp(x) / across, np.ptp(y) / along])
    if size.prod() > _MOST_GROWTH * stored.width * stored.height:
        return None
    width, height = np.ceil(size - 1e-6).clip(1).astype(int).tolist()
    return Grid(Affine(across, 0, x.min(), 0, -along, y.max()), width, height)


Pixels = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]


def resampled(
    read: Callable[[Window], Pixels],
    stored: Grid,
    grid: Grid,
    window: Window,
    blank: npt.NDArray[Any],
    factor: int = 1,
) -> Pixels:
    """Read a window of a north-up grid from stored pixels, each from the one that holds its center.

    Args:
        read: Reads a window of the stored grid at 1/factor of its resolution: values
            ``[h, w, C]``, and where there is data, ``[h, w]``.
        stored: The grid that is read.
        grid: The grid of the result.
        window: Of ``grid``.
        blank: A pixel outside of the stored ones, ``[C]``, in the type of what ``read`` returns.
        factor: Pixels of the grid, each way, that become one.

    Returns:
        Values and where there is data, as ``read`` returns them.
    """
    width, height = -(-window.width // factor), -(-window.height // factor)
    values = np.tile(blank, (height, width, 1))
    valid = np.zeros((height, width), np.bool_)
    (across, down), start = _pixel_steps(stored.transform, grid.transform)
    x = window.col + (np.arange(width) + 0.5) * (window.width / width)
    y = window.row + (np.arange(height)[:, None] + 0.5) * (window.height / height)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            part = np.s_[top : top + _TILE, left : left + _TILE]
            cols, rows = (
                np.floor(across[i] * x[part[1]] + down[i] * y[part[0]] + start[i] + _TIE)
                for i in (0, 1)
            )
            inside = (cols >= 0) & (cols < stored.width) & (rows >= 0) & (rows < stored.height)
            if not inside.any():
                continue
            cols, rows = (axis[inside].astype(np.int64) for axis in (cols, rows))
            area = _around(cols, rows, stored, factor)
            found, known = read(area)
            high, wide = known.shape
            at = (rows - area.row) * high // area.height, (cols - area.col) * wide // area.width
            values[part][inside] = found[at]
            valid[part][inside] = known[at]
    return values, valid


def _pixel_steps(
    stored: Any, grid: Any
) -> tuple[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    """Return the steps of a grid's column and row and its origin, in stored (columns, rows)."""
    a, b, c, d, e, f = tuple(stored)[:6]
    inverse = np.array([(e, -b), (-d, a)]) / (a * e - b * d)
    across, _, west, _, down, north = tuple(grid)[:6]
    return (
        (inverse @ (across, 0.0), inverse @ (0.0, down)),
        inverse @ (west - c, north - f),  # small numbers: nothing of the last digits is lost
    )


def _around(
    cols: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], stored: Grid, factor: int
) -> Window:
    """Return the window around stored pixels that whole pixels of 1/factor of the size fill."""
    left, top = int(cols.min()) // factor * factor, int(rows.min()) // factor * factor
    right = min((int(cols.max()) // factor + 1) * factor, stored.width)
    bottom = min((int(rows.max()) // factor + 1) * factor, stored.height)
    return Window(left, top, right - left, bottom - top)

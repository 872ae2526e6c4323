"""Where a scene is cut: chips of one size on a regular grid that covers every pixel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.geo import ground_steps
from landcue.errors import DataError, UsageError

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
            without geo-reference.

    Raises:
        DataError: Metres without geo-reference, or less than one pixel.
    """
    if not length.metres:
        return int(length.value), int(length.value)
    if steps is None:
        raise DataError(f"has no geo-reference, so that {length} means nothing; give pixels")
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

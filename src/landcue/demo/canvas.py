"""The canvas of the synthetic archive: color, height and owning label of every pixel, then light.

Painters never draw a shadow: they raise the height map, and one sun shades slopes and casts
shadows when the canvas is developed. Each pixel belongs to the label painted on it last, so what
is hidden counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from landcue.types import ByteArray, FloatArray

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.floating]
Color = Sequence[float] | Values
T = TypeVar("T")

LABELS: tuple[str, ...] = (
    "bare-soil",
    "buildings",
    "cars",
    "courts",
    "docks",
    "field",
    "grass",
    "pavement",
    "sand",
    "ships",
    "tanks",
    "trees",
    "water",
)
MIN_SHARE = {name: 0.02 for name in LABELS} | {
    "buildings": 0.005,
    "cars": 0.003,
    "courts": 0.005,
    "docks": 0.005,
    "ships": 0.005,
    "tanks": 0.005,
}
"""Share of the chip a label must own to be given: surfaces 2 %, objects 0.5 %, cars 0.3 %."""

METERS_PER_PIXEL = 0.5
_OVERSAMPLING = 2
_PER_METER = _OVERSAMPLING / METERS_PER_PIXEL
_NO_OWNER = 255


@dataclass(frozen=True, slots=True)
class Area:
    """A window of a canvas with axes of its own.

    Attributes:
        window: Rows and columns of the canvas.
        u: float32 ``[h, w]``, meters along the area's direction, 0 at its center.
        v: float32 ``[h, w]``, meters across it.
    """

    window: tuple[slice, slice]
    u: FloatArray
    v: FloatArray

    def box(self, length: float, width: float, u: float = 0.0, v: float = 0.0) -> Mask:
        """Mask of a rectangle, in meters, centered at ``u, v``."""
        return (np.abs(self.u - u) < length / 2) & (np.abs(self.v - v) < width / 2)


@dataclass(frozen=True, slots=True)
class Air:
    """What lies between the ground and the sensor.

    Attributes:
        gain: Factor of the brightness.
        tint: Factor of red, green and blue.
        haze: Share of haze, 0..1.
        noise: Standard deviation of the sensor's noise, in gray levels.
    """

    gain: float
    tint: tuple[float, float, float]
    haze: float
    noise: float


class Canvas:
    """A square of ground seen from above, drawn at twice the resolution of the chip.

    Lengths are meters; x runs east, y runs south, angles in radians from x to y.

    Args:
        rng: Every random choice of the scene comes from here.
        size: Side of the chip in pixels of 0.5 m.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.side = size * _OVERSAMPLING
        self.extent = size * METERS_PER_PIXEL
        self.color = np.zeros((3, self.side, self.side), np.float32)
        self.height = np.zeros((self.side, self.side), np.float32)
        self.owner = np.full((self.side, self.side), _NO_OWNER, np.uint8)
        self._axis = ((np.arange(self.side) + 0.5) / _PER_METER).astype(np.float32)
        # North of the tropics the sun stands in the south: shadows fall to the upper side.
        self.sun_angle = math.radians(self.uniform(25, 155))
        self.sun_height = math.radians(self.uniform(36, 58))

    def uniform(self, low: float, high: float) -> float:
        """A random number in ``low..high``."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Toss a coin that shows True with ``probability``."""
        return bool(self.rng.random() < probability)

    def pick(self, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        return choices[int(self.rng.integers(len(choices)))]

    def vary(self, color: Color, spread: float = 0.08) -> FloatArray:
        """``color`` with another brightness and a slightly other hue; float32 ``[3, 1, 1]``."""
        gain = 1 + self.uniform(-spread, spread) + self.rng.normal(0, spread / 4, (3, 1, 1))
        return (_planes(color) * gain).astype(np.float32)

    def noise(self, feature: float, octaves: int = 6) -> FloatArray:
        """Value noise: features of ``feature`` meters and, at 2/3 of the strength, of each half.

        Returns:
            float32 ``[side, side]``, mean about 0, nearly all within -1..1.
        """
        cells = max(2, math.ceil(self.extent / feature) + 1)
        field = self._random(cells)
        strength = 1.0
        for _ in range(octaves - 1):
            if 2 * cells > self.side:
                break
            cells *= 2
            strength *= 0.66
            field = _resize(field, cells) + strength * self._random(cells)
        return _resize(field, self.side)

    def _random(self, cells: int) -> FloatArray:
        return self.rng.random((cells, cells), np.float32) * np.float32(1.7) - np.float32(0.85)

    @cached_property
    def leaves(self) -> FloatArray:
        """Noise of leaf clumps, shared by all trees; float32 ``[side, side]``."""
        return self.noise(1.6, 3)

    def area(self, x: float, y: float, angle: float = 0.0, reach: float | None = None) -> Area:
        """Axes at ``x, y``, turned by ``angle``; the window reaches ``reach`` meters around it.

        The window is the whole canvas without a ``reach``, and empty where it misses the canvas.
        """
        rows = cols = slice(None)
        if reach is not None:
            rows, cols = self._span(y, reach), self._span(x, reach)
        dx = self._axis[cols][None, :] - np.float32(x)
        dy = self._axis[rows][:, None] - np.float32(y)
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        return Area((rows, cols), np.asarray(along, np.float32), np.asarray(across, np.float32))

    def indices(self, meters: float | Values) -> npt.NDArray[np.intp]:
        """Rows or columns of the pixels nearest to ``meters`` from the upper or left edge."""
        pixels = np.floor(np.asarray(meters) * _PER_METER)
        return np.clip(pixels, 0, self.side - 1).astype(np.intp)

    def _span(self, center: float, reach: float) -> slice:
        low, high = int((center - reach) * _PER_METER), math.ceil((center + reach) * _PER_METER)
        return slice(min(max(low, 0), self.side), min(max(high, 0), self.side))

    def paint(
        self,
        area: Area,
        mask: Mask,
        color: Color,
        label: str | None = None,
        height: float | Values | None = None,
    ) -> None:
        """Cover ``mask`` (bool ``[h, w]`` of the area's window).

        Args:
            area: Where.
            mask: Which pixels of its window.
            color: RGB 0..255, ``[3]`` or ``[3, h, w]``.
            label: New label of the pixels; unchanged when ``None`` (a road marking).
            height: Meters above the ground, one or ``[h, w]``; unchanged when ``None``.
        """
        np.copyto(self.color[:, *area.window], _planes(color), where=mask)
        if label is not None:
            self.owner[area.window][mask] = LABELS.index(label)
        if height is not None:
            np.copyto(self.height[area.window], np.asarray(height, np.float32), where=mask)

    def blend(self, area: Area, alpha: Values, color: Color) -> None:
        """Mix ``color`` in by ``alpha`` (0..1, ``[h, w]``); owner and height stay."""
        view = self.color[:, *area.window]
        view += alpha.astype(np.float32) * (_planes(color) - view)

    def owned(self, *labels: str) -> Mask:
        """Mask of the pixels that belong to one of ``labels``; bool ``[side, side]``."""
        wanted = np.zeros(256, np.bool_)
        wanted[[LABELS.index(name) for name in labels]] = True
        return wanted[self.owner]

    def is_free(self, area: Area, mask: Mask, *labels: str) -> bool:
        """Return whether ``mask`` is flat ground with only these ``labels``."""
        below = self.owner[area.window][mask]
        if not below.size or self.height[area.window][mask].max() > 0.2:
            return False
        return set(np.unique(below).tolist()) <= {LABELS.index(name) for name in labels}

    def labels(self) -> frozenset[str]:
        """Labels that own at least their minimal share of the canvas."""
        counts = np.bincount(self.owner.ravel(), minlength=256)
        return frozenset(
            name
            for index, name in enumerate(LABELS)
            if counts[index] >= MIN_SHARE[name] * self.owner.size
        )

    def develop(
        self, air: Air | None = None, crop: tuple[int, int, int] | None = None
    ) -> ByteArray:
        """Light the scene, reduce it to the chip's resolution and add the sensor's traits.

        Args:
            air: What lies between ground and sensor; random if ``None``.
            crop: First row and column of the canvas (half pixels of the chip), and the side of the
                chip in pixels; ``None`` for all of it.

        Returns:
            uint8 ``[size, size, 3]``.
        """
        lit = self._light() * self.color
        if crop is not None:
            top, left, size = crop
            lit = lit[:, top : top + 2 * size, left : left + 2 * size]
        rows = lit[:, 0::2] + lit[:, 1::2]
        image = np.ascontiguousarray((rows[..., 0::2] + rows[..., 1::2]).transpose(1, 2, 0))
        image *= np.float32(0.25 * (self.uniform(0.86, 1.12) if air is None else air.gain))
        tint = self.rng.normal(1, 0.018, 3) if air is None else np.asarray(air.tint)
        image *= tint.astype(np.float32)
        haze = self.uniform(0.0, 0.12) if air is None else air.haze
        image += np.float32(haze) * (np.array((168, 178, 190), np.float32) - image)
        noise = self.rng.standard_normal(image.shape, np.float32)
        image += noise * np.float32(self.uniform(1.2, 3.2) if air is None else air.noise)
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _light(self) -> FloatArray:
        """Brightness of each pixel, 1 on flat ground in the sun; float32 ``[side, side]``."""
        if not self.height.any():
            return np.ones_like(self.height)
        east, south = np.zeros_like(self.height), np.zeros_like(self.height)
        half = np.float32(_PER_METER / 2)
        np.multiply(self.height[:, 2:] - self.height[:, :-2], half, out=east[:, 1:-1])
        np.multiply(self.height[2:] - self.height[:-2], half, out=south[1:-1])
        np.clip(east, -1.3, 1.3, out=east)
        np.clip(south, -1.3, 1.3, out=south)
        flat = 1 / math.tan(self.sun_height)
        facing = 1 - flat * (math.cos(self.sun_angle) * east + math.sin(self.sun_angle) * south)
        facing /= np.sqrt(1 + east * east + south * south)
        direct = np.clip(facing, 0, 1.5) * (1 - self._shadow())
        return np.asarray(0.4 + 0.6 * direct, np.float32)

    def _shadow(self) -> FloatArray:
        """How much of the sun is hidden, 0..1, by walking from each pixel toward the sun."""
        ground = self.height[::2, ::2]
        size = ground.shape[0]
        drop = METERS_PER_PIXEL * math.tan(self.sun_height)
        highest = np.zeros_like(ground)
        for step in range(1, min(size, math.ceil(float(ground.max()) / drop)) + 1):
            dx = round(step * math.cos(self.sun_angle))
            dy = round(step * math.sin(self.sun_angle))  # never negative: the sun is in the south
            here = slice(max(0, -dx), size - max(0, dx))
            there = slice(max(0, dx), size - max(0, -dx))
            view = highest[: size - dy, here]
            np.maximum(view, ground[dy:, there] - np.float32(step * drop), out=view)
        hidden = np.clip((highest - ground - 0.15) / 0.7, 0, 1)
        return np.repeat(np.repeat(hidden, _OVERSAMPLING, 0), _OVERSAMPLING, 1)


def wrap(values: FloatArray, period: float) -> FloatArray:
    """``values`` modulo ``period``, several times faster than ``%``; float32, same shape."""
    turns = values * np.float32(1 / period)
    return np.asarray((turns - np.floor(turns)) * np.float32(period), np.float32)


def mix(first: Color, second: Color, share: Values) -> FloatArray:
    """Colors between two; ``share`` ``[h, w]`` is 0 at the first, 1 at the second.

    Returns:
        float32 ``[3, h, w]``.
    """
    start = _planes(first)
    return np.asarray(start + share.astype(np.float32) * (_planes(second) - start), np.float32)


def _planes(color: Color) -> FloatArray:
    """``color`` with an axis for rows and one for columns; float32 ``[3, 1, 1]`` or larger."""
    values = np.asarray(color, np.float32)
    return values[:, None, None] if values.ndim == 1 else values


def _resize(field: Values, side: int) -> FloatArray:
    image = Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)

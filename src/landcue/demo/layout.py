"""Helpers that place things: borders, roads, traffic, houses along a street."""

from __future__ import annotations

import math

import numpy as np

from landcue.demo.canvas import Canvas, Mask, Values
from landcue.demo.objects import building, car, truck
from landcue.demo.surfaces import Road, field, grass, soil
from landcue.types import FloatArray

QUARTER = math.pi / 2


def everywhere(canvas: Canvas) -> Mask:
    """All of the canvas; bool ``[side, side]``."""
    return np.ones((canvas.side, canvas.side), np.bool_)


def anywhere(canvas: Canvas) -> tuple[float, float]:
    """A random point."""
    return canvas.uniform(0, canvas.extent), canvas.uniform(0, canvas.extent)


def beyond(canvas: Canvas, share: float, rough: float, angle: float | None = None) -> FloatArray:
    """Meters past a line that leaves about ``share`` of the canvas on its far side.

    Args:
        canvas: What to cut.
        share: Between 0 and 1.
        rough: How far the line wanders, meters; 0 for a straight one.
        angle: Where the far side lies, radians; random when ``None``.

    Returns:
        float32 ``[side, side]``, positive on the far side.
    """
    middle = canvas.extent / 2
    turn = canvas.uniform(0, 2 * math.pi) if angle is None else angle
    line = canvas.area(middle, middle, turn).u - np.float32(canvas.extent * (0.5 - share))
    return line + np.float32(rough) * canvas.noise(24, 5) if rough else line


def on_line(canvas: Canvas, angle: float, offset: float) -> tuple[float, float]:
    """A random point of the line ``offset`` meters from the center along ``angle``."""
    aside = canvas.uniform(-0.25, 0.25) * canvas.extent
    x, y, _ = Road(canvas.extent / 2, canvas.extent / 2, angle).at(offset, aside)
    return x, y


def way(canvas: Canvas, width: float, off: float = 0.25, bend: float = 0.004) -> Road:
    """A road of ``width`` meters in a random direction; ``off`` is its way off the center."""
    spot = [canvas.extent * (0.5 + canvas.uniform(-off, off)) for _ in range(2)]
    return Road(spot[0], spot[1], canvas.uniform(0, math.pi), width, canvas.uniform(-bend, bend))


def traffic(
    canvas: Canvas, lane_of: Road, count: int, *, trucks: float = 0.15, lanes: int = 2
) -> None:
    """Put ``count`` vehicles (per 64 m) on a road's lanes, a share of them trucks."""
    lane = (lane_of.width - 1) / lanes
    for _ in range(round(count * canvas.extent / 64)):
        index = int(canvas.rng.integers(lanes))
        across = (index + 0.5) * lane - (lane_of.width - 1) / 2
        x, y, angle = lane_of.at(canvas.uniform(-0.75, 0.75) * canvas.extent, across)
        angle += math.pi if across > 0 else 0
        (truck if canvas.chance(trucks) else car)(canvas, x, y, angle)


def houses(canvas: Canvas, street: Road, *grounds: str) -> None:
    """Two rows of houses on each side of ``street``, some with a paved drive and a car on it."""
    reach = 0.75 * canvas.extent
    for side in (-1, 1):
        for row in (0, 1):
            along = canvas.uniform(0, 8) - reach
            while along < reach:
                length, width = canvas.uniform(9, 14), canvas.uniform(7.5, 10)
                setback = street.width / 2 + 7.5 + width / 2 + row * 24 + canvas.uniform(0, 2)
                x, y, angle = street.at(along, side * setback)
                turned = angle + (QUARTER if canvas.chance(0.25) else 0)
                next_to = along + length / 2 + canvas.uniform(1, 2)
                along += length + canvas.uniform(4.5, 9)
                if canvas.chance(0.15):
                    continue
                built = building(canvas, x, y, length, width, turned, kind="house", grounds=grounds)
                if built and not row and canvas.chance(0.55):
                    _drive(canvas, street, next_to, side, *grounds)


def _drive(canvas: Canvas, street: Road, along: float, side: int, *grounds: str) -> None:
    x, y, angle = street.at(along, side * (street.width / 2 + 1))
    angle += side * QUARTER
    area = canvas.area(x, y, angle, 14)
    free = canvas.owned(*grounds)[area.window] & (canvas.height[area.window] == 0)
    canvas.paint(area, area.box(9, 3.2, 4) & free, canvas.vary((150, 147, 140)), "pavement")
    if canvas.chance(0.7):
        car(canvas, x + 4.6 * math.cos(angle), y + 4.6 * math.sin(angle), angle)


def countryside(canvas: Canvas, cover: Mask | Values, angle: float) -> None:
    """Cover with what farm land bears: mostly crops, else grass or bare soil."""
    kind = canvas.rng.random()
    if kind < 0.5:
        field(canvas, cover, angle)
    elif kind < 0.8:
        grass(canvas, cover, dry=canvas.chance(0.3))
    else:
        soil(canvas, cover)

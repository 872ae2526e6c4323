"""The themes of the synthetic archive, and the one function that renders a chip."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from landcue.demo import nature
from landcue.demo.canvas import Canvas, wrap
from landcue.demo.nature import scatter_trees
from landcue.demo.objects import (
    COURT_COLORS,
    QUARTER,
    anywhere,
    beyond,
    building,
    car,
    countryside,
    court,
    dock,
    everywhere,
    houses,
    ship,
    tank,
    traffic,
    truck,
    way,
)
from landcue.demo.surfaces import Road, grass, pavement, road, soil, water
from landcue.errors import UsageError, did_you_mean
from landcue.types import ByteArray


def harbor(canvas: Canvas) -> None:
    """A quay with piers and boats or with ships; halls, tanks or cars ashore."""
    angle = canvas.uniform(0, 2 * math.pi)
    share = canvas.uniform(0.5, 0.75)
    shore = beyond(canvas, share, 0, angle)
    if canvas.chance(0.75):
        pavement(canvas, everywhere(canvas), concrete=canvas.chance(0.6))
    else:
        soil(canvas, everywhere(canvas))
    if canvas.chance(0.4):
        grass(canvas, -shore - np.float32(canvas.uniform(10, 16)))
    water(canvas, shore)
    canvas.paint(canvas.area(0, 0), np.abs(shore + 0.5) < 0.5, (188, 184, 174), "pavement")
    ground = ("pavement", "bare-soil", "grass")
    ashore = canvas.rng.random()
    for _ in range(6):
        x, y = anywhere(canvas)
        if ashore < 0.55:
            long, wide = canvas.uniform(14, 26), canvas.uniform(10, 14)
            building(canvas, x, y, long, wide, angle + QUARTER, kind="hall", grounds=ground)
        elif ashore < 0.75:
            tank(canvas, x, y, canvas.uniform(5, 8), *ground)
    if canvas.chance(0.5):
        for _ in range(12):
            car(canvas, *anywhere(canvas), angle + canvas.pick((0, QUARTER)))
    if canvas.chance(0.35):
        scatter_trees(canvas, 40, "grass", "bare-soil")
    marina = canvas.chance(0.65)
    if marina:
        _marina(canvas, angle, canvas.extent * (0.5 - share))
    if not marina or canvas.chance(0.3):
        for _ in range(6):
            length = canvas.uniform(20, 36)
            ship(canvas, *anywhere(canvas), length, angle + QUARTER, wake=False)


def _marina(canvas: Canvas, angle: float, quay: float) -> None:
    """Piers at right angles to a quay ``quay`` meters from the center, boats on both sides."""
    axis = Road(canvas.extent / 2, canvas.extent / 2, angle)
    gap = canvas.uniform(15, 22)
    for index in range(math.ceil(1.2 * canvas.extent / gap)):
        aside = (index + 0.5) * gap - canvas.extent * 0.6
        x, y, _ = axis.at(quay, aside)
        length, pitch = canvas.uniform(18, 34), canvas.uniform(3.4, 4.4)
        dock(canvas, x, y, length, canvas.uniform(2, 3), angle)
        for berth in range(int((length - 6) / pitch)):
            for side in (-1, 1):
                if canvas.chance(0.6):
                    boat = canvas.uniform(6, 9)
                    x, y, _ = axis.at(quay + 4 + berth * pitch, aside + side * (1.8 + boat / 2))
                    ship(canvas, x, y, boat, angle - side * QUARTER, wake=False)


def suburb(canvas: Canvas) -> None:
    """Houses and gardens along a street."""
    grass(canvas, everywhere(canvas), dry=canvas.chance(0.2))
    if canvas.chance(0.25):
        soil(canvas, beyond(canvas, canvas.uniform(0.15, 0.3), 3))
    street = way(canvas, 6.5, bend=0.003)
    road(canvas, street, walk=canvas.pick((0.0, 1.6)))
    if canvas.chance(0.15):
        court(canvas, *anywhere(canvas), street.angle, canvas.pick(COURT_COLORS), "grass")
    houses(canvas, street, "grass")
    if canvas.chance(0.6):
        traffic(canvas, street, 5, trucks=0)
    if canvas.chance(0.85):
        scatter_trees(canvas, canvas.pick((25, 60, 110)), "grass", radius=(1.4, 3.6))


def city(canvas: Canvas) -> None:
    """A street crossing between flat-roofed blocks; courtyards of grass or asphalt."""
    pavement(canvas, everywhere(canvas), concrete=True)
    angle = canvas.uniform(0, math.pi)
    x, y = (canvas.extent * canvas.uniform(0.3, 0.7) for _ in range(2))
    avenue = Road(x, y, angle, canvas.pick((7.5, 10.0)))
    street = Road(x, y, angle + QUARTER, 7.5)
    away = np.minimum(np.abs(avenue.across(canvas)), np.abs(street.across(canvas)))
    if canvas.chance(0.55):
        grass(canvas, (away > canvas.uniform(13, 20)) & (canvas.noise(16, 2) > -0.5))
    road(canvas, avenue)
    crossing = canvas.chance(0.7)
    if crossing:
        road(canvas, street)
    ground = ("pavement", "grass")
    if canvas.chance(0.2):
        x, y, _ = avenue.at(canvas.pick((-24.0, 24.0)), canvas.pick((-18.0, 18.0)))
        court(canvas, x, y, angle, canvas.pick(COURT_COLORS), *ground)
    for side in (-1, 1):
        for flank in (-1, 1):
            along = 8.0
            while along < canvas.extent * 0.8:
                length, width = canvas.uniform(12, 22), canvas.uniform(11, 17)
                center = flank * (along + length / 2)
                kind = "block" if canvas.chance(0.8) else "house"
                front = avenue.width / 2 + 3.5
                x, y, _ = avenue.at(center, side * (front + width / 2))
                building(canvas, x, y, length, width, angle, kind=kind, grounds=ground)
                if canvas.chance(0.6):
                    x, y, _ = avenue.at(center, side * (front + 5.5 + 1.4 * width))
                    deep = canvas.uniform(9, 13)
                    building(canvas, x, y, length, deep, angle, kind="block", grounds=ground)
                along += length + canvas.pick((2.2, 2.2, 7.0))
    if canvas.chance(0.8):
        traffic(canvas, avenue, 10)
        if crossing:
            traffic(canvas, street, 7)
    if canvas.chance(0.7):
        scatter_trees(canvas, 130, "grass", radius=(1.6, 3.2))
        verge = np.abs(np.abs(avenue.across(canvas)) - avenue.width / 2 - 1.7) < 0.6
        scatter_trees(canvas, 400, "pavement", inside=verge, radius=(1.4, 2.2))


def sports(canvas: Canvas) -> None:
    """Courts or a pitch in a park, with paths, a clubhouse or cars."""
    angle = canvas.uniform(0, math.pi)
    grass(canvas, everywhere(canvas), mown=canvas.chance(0.6))
    middle = canvas.extent / 2
    center = Road(middle + canvas.uniform(-8, 8), middle + canvas.uniform(-8, 8), angle)
    if canvas.chance(0.3):
        pavement(canvas, beyond(canvas, canvas.uniform(0.25, 0.45), 0, angle))
    open_ground = everywhere(canvas)
    if canvas.chance(0.25):
        area = canvas.area(center.x, center.y, angle)
        lines = area.box(52, 34) & ~area.box(51.4, 33.4)
        lines |= (np.abs(area.u) < 0.3) & (np.abs(area.v) < 17)
        lines |= np.abs(np.hypot(area.u, area.v) - 7) < 0.3
        canvas.blend(area, lines * np.float32(0.7), (228, 232, 220))
        open_ground = ~area.box(56, 38)
    else:
        colors = canvas.pick(COURT_COLORS)
        for col in (0, -1, 1):
            for row in (0, -1, 1):
                if canvas.chance(0.65):
                    x, y, _ = center.at(col * 34, row * 20.5)
                    court(canvas, x, y, angle, colors, "grass", "pavement")
    if canvas.chance(0.4):
        x, y, _ = center.at(0, canvas.uniform(17, 26))
        path = Road(x, y, angle + canvas.pick((0, QUARTER))).across(canvas)
        strip = (np.abs(path) < 1.6) & canvas.owned("grass") & open_ground
        (soil if canvas.chance(0.4) else pavement)(canvas, strip)
    ground = ("grass", "pavement")
    if canvas.chance(0.5):
        kind = canvas.pick(("house", "block"))
        for _ in range(5):
            if building(canvas, *anywhere(canvas), 14, 9, angle, kind=kind, grounds=ground):
                break
    if canvas.chance(0.4):
        for _ in range(16):
            car(canvas, *anywhere(canvas), angle + QUARTER)
    if canvas.chance(0.75):
        scatter_trees(canvas, canvas.pick((50, 120)), "grass", inside=open_ground)


def parking(canvas: Canvas) -> None:
    """A car park next to a hall, a court, or a strip of grass or soil with trees."""
    angle = canvas.uniform(0, math.pi)
    pavement(canvas, everywhere(canvas))
    lot = Road(canvas.extent / 2, canvas.extent / 2, angle)
    beside = canvas.rng.random()
    if beside < 0.6:
        strip = beyond(canvas, canvas.uniform(0.15, 0.35), 0, angle + QUARTER)
        (soil if canvas.chance(0.15) else grass)(canvas, strip)
    elif beside < 0.85:
        x, y, _ = lot.at(canvas.uniform(-8, 8), canvas.extent * canvas.uniform(0.28, 0.4))
        long = canvas.uniform(26, 44)
        building(canvas, x, y, long, 18, angle, kind="hall", grounds=("pavement",))
    elif beside < 0.95:
        court(canvas, *anywhere(canvas), angle, canvas.pick(COURT_COLORS), "pavement")
    _stalls(canvas, lot, islands=canvas.chance(0.5))
    if beside < 0.6 or canvas.chance(0.5):
        scatter_trees(canvas, 180, "grass", radius=(1.5, 3.0))


def _stalls(canvas: Canvas, lot: Road, *, islands: bool) -> None:
    """Blocks of nine stalls of 2.7 x 5 m in double rows, lines, cars, islands of grass."""
    start, full = canvas.uniform(0, 8), canvas.uniform(0.15, 0.9)
    area = canvas.area(lot.x, lot.y, lot.angle)
    row = wrap(area.v - start, 16.4)
    in_row = (np.abs(row - 2.5) < 2.5) | (np.abs(row - 13.7) < 2.5)
    along = wrap(area.u, 29.7) - 14.85
    divider = (np.abs(wrap(along, 2.7) - 1.35) < 0.13) & (np.abs(along) < 12.4)
    ground = canvas.owned("pavement") & (canvas.height < 0.2)
    canvas.paint(area, divider & in_row & ground, canvas.vary((206, 206, 200), 0.05))
    if islands:
        ends = in_row & (np.abs(along) > 13.4) & ground
        canvas.paint(area, ends, canvas.vary((92, 112, 62)) * (1 + 0.1 * canvas.leaves), "grass")
    blocks = math.ceil(0.71 * canvas.extent / 29.7)
    doubles = math.ceil(0.71 * canvas.extent / 16.4)
    for double in range(-doubles - 1, doubles + 1):
        for across in (2.5, 13.7):
            for block in range(-blocks, blocks):
                for stall in range(-4, 5):
                    if canvas.chance(full):
                        u = 29.7 * block + 14.85 + 2.7 * stall
                        v = start + 16.4 * double + across + canvas.uniform(-0.25, 0.25)
                        x, y, angle = lot.at(u, v)
                        car(canvas, x, y, angle + canvas.pick((-QUARTER, QUARTER)))


def industrial(canvas: Canvas) -> None:
    """Storage tanks or halls on concrete, yards of soil or grass, trucks."""
    angle = canvas.uniform(0, math.pi)
    pavement(canvas, everywhere(canvas), concrete=canvas.chance(0.5))
    if canvas.chance(0.5):
        cover = soil if canvas.chance(0.6) else grass
        cover(canvas, beyond(canvas, canvas.uniform(0.25, 0.5), 1, angle))
    ground = ("pavement", "bare-soil", "grass")
    kind = canvas.rng.random()
    if kind < 0.65:
        radius = canvas.uniform(5, 9.5)
        pitch = 2 * radius + 4
        yard = Road(canvas.extent * canvas.uniform(0.3, 0.7), canvas.extent / 2, angle)
        for col in range(-2, 3):
            for row in range(-1, 2):
                if canvas.chance(0.55):
                    x, y, _ = yard.at(col * pitch, row * pitch)
                    tank(canvas, x, y, radius * canvas.pick((1, 1, 0.75)), *ground)
    if kind > 0.45:
        for _ in range(10):
            long, wide = canvas.uniform(16, 32), canvas.uniform(12, 20)
            turn = angle + canvas.pick((0, QUARTER))
            building(canvas, *anywhere(canvas), long, wide, turn, kind="hall", grounds=ground)
    if canvas.chance(0.5):
        for _ in range(14):
            vehicle = truck if canvas.chance(0.6) else car
            vehicle(canvas, *anywhere(canvas), angle + canvas.pick((0, QUARTER)))
    if canvas.chance(0.3):
        scatter_trees(canvas, 50, "grass", "bare-soil")


def highway(canvas: Canvas) -> None:
    """Two carriageways with a median and whatever the land beside them bears."""
    route = way(canvas, 11.5, off=0.12, bend=0.0015)
    grass(canvas, everywhere(canvas), dry=canvas.chance(0.4))
    if canvas.chance(0.5):
        countryside(canvas, route.across(canvas) - 20, route.angle)
    median = canvas.uniform(2, 7)
    for side in (-1, 1):
        x, y, _ = route.at(0, side * (median + route.width) / 2)
        carriageway = Road(x, y, route.angle, route.width, route.bend)
        road(canvas, carriageway, lanes=3)
        if canvas.chance(0.85):
            count = int(canvas.rng.integers(3, 12))
            traffic(canvas, carriageway, count, trucks=0.3, lanes=3)
    if canvas.chance(0.2):
        ground = ("grass", "bare-soil", "field")
        for _ in range(4):
            x, y = anywhere(canvas)
            building(canvas, x, y, 22, 12, route.angle, kind="hall", grounds=ground)
    if canvas.chance(0.65):
        scatter_trees(canvas, canvas.pick((60, 200)), "grass")


_MIN_SIZE, _MAX_SIZE = 32, 1024

THEMES: dict[str, Callable[[Canvas], None]] = {
    "city": city,
    "coast": nature.coast,
    "desert": nature.desert,
    "farmland": nature.farmland,
    "forest": nature.forest,
    "harbor": harbor,
    "highway": highway,
    "industrial": industrial,
    "lake": nature.lake,
    "orchard": nature.orchard,
    "parking": parking,
    "river": nature.river,
    "sports": sports,
    "suburb": suburb,
}
"""What draws each theme."""


def check_size(size: int) -> None:
    """Refuse a chip size that holds no scene or does not fit in memory."""
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise UsageError(f"size {size}: pass {_MIN_SIZE} to {_MAX_SIZE} pixels")


def render_chip(
    rng: np.random.Generator | int, theme: str, size: int = 128
) -> tuple[ByteArray, frozenset[str]]:
    """Draw one scene seen from above at 0.5 m per pixel.

    Args:
        rng: Source of every random choice, or a seed for one.
        theme: One of :data:`THEMES`.
        size: Side in pixels.

    Returns:
        uint8 ``[size, size, 3]``, and the labels that own at least their minimal share of it.

    Raises:
        UsageError: Unknown theme, or ``size`` not between 32 and 1024.

    >>> image, labels = render_chip(0, "lake", 64)
    >>> image.shape, sorted(labels)
    ((64, 64, 3), ['grass', 'ships', 'trees', 'water'])
    """
    canvas = draw(rng, theme, size)
    return canvas.develop(), canvas.labels()


def draw(rng: np.random.Generator | int, theme: str, size: int = 128) -> Canvas:
    """Paint a scene but do not develop it: the canvas still holds the label of each pixel."""
    if theme not in THEMES:
        raise UsageError(f"no theme {theme!r}{did_you_mean(theme, THEMES)}")
    check_size(size)
    canvas = Canvas(np.random.default_rng(rng), size)
    THEMES[theme](canvas)
    return canvas

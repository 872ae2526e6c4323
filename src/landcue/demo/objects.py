"""Things on the ground, drawn from above, and helpers that place them."""

from __future__ import annotations

import math

import numpy as np

from landcue.demo.canvas import Canvas, Color, Mask, Values, mix, wrap
from landcue.demo.surfaces import Road, field, grass, soil
from landcue.types import FloatArray

_CAR_COLORS = (
    (226, 226, 224),
    (236, 236, 234),
    (176, 178, 182),
    (128, 130, 134),
    (62, 64, 68),
    (40, 42, 46),
    (150, 44, 40),
    (48, 72, 122),
    (120, 104, 82),
)
_TILES = ((164, 92, 68), (146, 80, 60), (122, 84, 68), (112, 110, 112), (92, 94, 100))
_FLAT_ROOFS = ((176, 174, 168), (206, 204, 198), (134, 132, 130), (150, 140, 126), (104, 106, 110))
_SHEETS = ((150, 164, 174), (196, 198, 196), (128, 142, 132), (168, 122, 104))
COURT_COLORS = (
    ((62, 104, 128), (74, 112, 82)),
    ((70, 112, 84), (150, 92, 72)),
    ((172, 104, 74), (166, 100, 72)),
    ((60, 92, 132), (60, 84, 116)),
)
_HULLS = ((226, 226, 222), (60, 74, 96), (136, 60, 52), (84, 88, 90))
_CRATES = ((150, 64, 52), (58, 88, 124), (86, 120, 92), (190, 184, 172), (196, 140, 70))


def building(
    canvas: Canvas,
    x: float,
    y: float,
    length: float,
    width: float,
    angle: float,
    *,
    kind: str,
    grounds: tuple[str, ...],
) -> bool:
    """A ``house`` (gable or hip roof), a ``block`` (flat roof) or a ``hall`` (sheet metal).

    Returns:
        Whether it fitted: all of it within the canvas's flat ``grounds``.
    """
    area = canvas.area(x, y, angle, math.hypot(length, width) / 2 + 1)
    mask = area.box(length, width)
    if not canvas.is_free(area, area.box(length + 2, width + 2), *grounds):
        return False
    across, along = width / 2 - np.abs(area.v), length / 2 - np.abs(area.u)
    grain = canvas.leaves[area.window]
    if kind == "block":
        eave = canvas.uniform(6, 13)
        rim = np.minimum(across, along) < 0.5
        color = canvas.vary(canvas.pick(_FLAT_ROOFS)) * (1 + 0.05 * grain + 0.1 * rim)
        canvas.paint(area, mask, color, "buildings", eave + 0.7 * rim)
        for _ in range(int(length * width / 45)):
            u = canvas.uniform(-0.38, 0.38) * length
            v = canvas.uniform(-0.36, 0.36) * width
            box = area.box(canvas.uniform(1, 2.6), canvas.uniform(1, 2.2), u, v)
            canvas.paint(area, box, canvas.vary((168, 170, 172), 0.2), None, eave + 1.4)
        return True
    slope, eave = (0.12, canvas.uniform(5, 8)) if kind == "hall" else (0.75, 3.2)
    rise = np.minimum(across, along) if kind == "house" and canvas.chance(0.35) else across
    ridges = np.sin(area.u * np.float32(2 * math.pi / (1.2 if kind == "hall" else 0.7)))
    base = canvas.vary(canvas.pick(_SHEETS if kind == "hall" else _TILES), 0.12)
    color = base * (1 + 0.08 * grain + 0.04 * ridges)
    canvas.paint(area, mask, color, "buildings", eave + slope * rise)
    if kind == "hall":
        for u in np.arange(-length / 2 + 4, length / 2 - 3, 6):
            for side in (-1, 1):  # roof lights
                light = area.box(0.9, width * 0.25, float(u), side * width * 0.24)
                canvas.paint(area, light, (206, 214, 216))
    else:
        chimney = area.box(0.9, 0.9, canvas.uniform(-0.3, 0.3) * length, width * 0.12)
        canvas.paint(area, chimney, (120, 96, 84), None, eave + slope * width / 2 + 0.9)
    return True


def car(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """A passenger car heading along ``angle``, where pavement or bare soil has room for it."""
    length, width = canvas.uniform(4.0, 4.9), canvas.uniform(1.75, 1.95)
    area = canvas.area(x, y, angle, 2.9)
    nose = 1 - np.clip(np.abs(area.u) - length / 2 + 0.5, 0, 1) * 0.5
    mask = (np.abs(area.u) < length / 2) & (np.abs(area.v) < width / 2 * nose)
    if not canvas.is_free(area, mask, "pavement", "bare-soil"):
        return
    cabin = area.box(2.5, width, -0.25)
    canvas.paint(area, mask, canvas.vary(canvas.pick(_CAR_COLORS)), "cars", 0.9 + 0.5 * cabin)
    for window in (area.box(0.75, width - 0.3, 0.75), area.box(0.5, width - 0.4, -1.45)):
        canvas.paint(area, window & mask, (38, 46, 56))


def truck(canvas: Canvas, x: float, y: float, angle: float) -> None:
    """A truck with a box body, on pavement."""
    length = canvas.uniform(8, 13)
    area = canvas.area(x, y, angle, length / 2 + 1.5)
    mask = area.box(length, 2.5)
    if not canvas.is_free(area, mask, "pavement"):
        return
    canvas.paint(area, mask, canvas.vary(canvas.pick(((222, 222, 218), *_CRATES))), "cars", 3.4)
    canvas.paint(area, area.box(0.5, 2.5, length / 2 - 2.4), (60, 60, 62), None, 1.2)
    front = area.box(2.2, 2.5, length / 2 - 1.1)
    canvas.paint(area, front, canvas.vary(canvas.pick(_CAR_COLORS)), None, 2.6)
    canvas.paint(area, area.box(0.5, 2.1, length / 2 - 0.5), (44, 52, 60))


def court(
    canvas: Canvas, x: float, y: float, angle: float, colors: tuple[Color, Color], *grounds: str
) -> bool:
    """A tennis or basketball court with its run-off; returns whether it fits on ``grounds``."""
    tennis = canvas.chance(0.7)
    length, width = (23.8, 11.0) if tennis else (25.0, 14.0)
    area = canvas.area(x, y, angle, 20)
    ground = area.box(length + 7, width + 5)
    if not canvas.is_free(area, ground, *grounds):
        return False
    inner, outer = colors
    grain = 1 + 0.05 * canvas.leaves[area.window]
    canvas.paint(area, ground, canvas.vary(outer) * grain, "courts")
    canvas.paint(area, area.box(length, width), canvas.vary(inner) * grain)
    u, v = np.abs(area.u), np.abs(area.v)
    half = 0.16
    lines = area.box(length + 0.3, width + 0.3) & ~area.box(length - 0.3, width - 0.3)
    if tennis:
        lines |= (np.abs(v - 4.1) < half) & (u < length / 2)
        lines |= (np.abs(u - 6.4) < half) & (v < 4.1)
        lines |= (v < half) & (u < 6.4)
    else:
        lines |= ((u < half) & (v < width / 2)) | (np.abs(np.hypot(u, v) - 1.8) < half)
        arc = np.abs(np.hypot(length / 2 - 1.5 - u, v) - 6.0) < half
        lines |= (arc & (u < length / 2)) | (
            (np.abs(u - length / 2 + 5.8) < half) & (v < 2.45)
            | (np.abs(v - 2.45) < half) & (u > length / 2 - 5.8) & (u < length / 2)
        )
    canvas.paint(area, lines, (226, 228, 222))
    if tennis:
        canvas.paint(area, area.box(0.25, 12.2), (60, 64, 64), None, 0.9)
    return True


def tank(canvas: Canvas, x: float, y: float, radius: float, *grounds: str) -> bool:
    """A round storage tank with a low cone as its roof; returns whether it fits."""
    area = canvas.area(x, y, canvas.uniform(0, math.pi), radius + 1.5)
    distance = np.hypot(area.u, area.v)
    if not canvas.is_free(area, distance < radius + 1, *grounds):
        return False
    mask = distance < radius
    tone = canvas.vary(canvas.pick(((232, 231, 226), (222, 220, 212), (196, 194, 188))), 0.04)
    rust = np.clip(canvas.leaves[area.window], 0, 1) * 0.08
    rings = 0.035 * (wrap(distance, radius / 3) < 0.25)
    spokes = 0.025 * (np.abs(np.sin(4 * np.arctan2(area.v, area.u))) < 0.08)
    color = tone * (1 - rust - rings - spokes)
    wall = min(radius * 1.1, 9.0)
    canvas.paint(area, mask, color, "tanks", wall + 0.22 * (radius - distance))
    canvas.paint(area, mask & (distance > radius - 0.4), tone * 0.82)
    canvas.paint(area, area.box(radius, 0.5, radius / 2), (140, 140, 138))
    return True


def ship(canvas: Canvas, x: float, y: float, length: float, angle: float, *, wake: bool) -> bool:
    """A vessel with a pointed bow; returns whether it fits on open water."""
    half = length * canvas.uniform(0.11, 0.14) + 0.3
    area = canvas.area(x, y, angle, length * 0.62)
    along = area.u / np.float32(length / 2)
    beam = half * (1 - np.clip((along - 0.2) / 0.8, 0, 1) ** 2) * (along < 1)
    mask = (np.abs(area.v) < beam) & (along > -1)
    if not canvas.is_free(area, area.box(length, half * 2 + 0.5), "water"):
        return False
    if wake:
        _wake(canvas, x, y, length, half, angle)
    deck = (np.abs(area.v) < beam - 0.12 * half - 0.2) & (np.abs(along) < 0.94)
    hull = canvas.vary(canvas.pick(_HULLS))
    canvas.paint(area, mask, hull, "ships", 1.2)
    canvas.paint(
        area, deck, canvas.vary(canvas.pick(((196, 186, 166), (150, 112, 92), hull * 0.9)))
    )
    stern = -length * (0.33 if length > 12 else 0.12)
    bridge = area.box(length * 0.2, half * 1.35, stern)
    canvas.paint(area, bridge & mask, canvas.vary((232, 232, 228), 0.04), None, 3.0)
    glass = area.box(max(0.5, length * 0.03), half * 1.2, stern + length * 0.1)
    canvas.paint(area, glass & mask, (48, 58, 70))
    if length > 18:
        for u in np.arange(-length * 0.16, length * 0.3, 2.8):
            for v in (-half * 0.36, half * 0.36):
                crate = area.box(2.5, half * 0.62, float(u), v)
                height = 1.5 + 1.2 * float(canvas.rng.integers(1, 3))
                canvas.paint(area, crate & mask, canvas.vary(canvas.pick(_CRATES)), None, height)
    return True


def _wake(canvas: Canvas, x: float, y: float, length: float, half: float, angle: float) -> None:
    area = canvas.area(x, y, angle)
    behind = -area.u - length * 0.45
    spread = half * 0.9 + 0.22 * np.maximum(behind, 0)
    arms = np.exp(-((np.abs(area.v) - spread) ** 2) / 0.5) + 0.7 * np.exp(
        -((area.v / (half * 0.8)) ** 2)
    )
    fade = np.exp(-np.maximum(behind, 0) / (length * 0.9)) * (behind > 0)
    foam = arms * fade * np.clip(0.6 + 0.7 * canvas.leaves, 0, 1) * canvas.owned("water")
    canvas.blend(area, np.clip(foam, 0, 0.8), (226, 236, 236))


def dock(canvas: Canvas, x: float, y: float, length: float, width: float, angle: float) -> None:
    """A pier of planks from ``x, y`` along ``angle``; only the part over water is drawn."""
    area = canvas.area(x, y, angle)
    mask = area.box(length, width, length / 2) & canvas.owned("water")
    planks = 0.1 * np.sin(area.u * np.float32(2 * math.pi / 0.9)) + 0.1 * canvas.leaves
    tone = canvas.vary(canvas.pick(((158, 138, 112), (146, 140, 130), (176, 170, 158))))
    canvas.paint(area, mask, mix(tone, tone * 1.6, planks), "docks", 1.0)


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

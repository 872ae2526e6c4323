"""What covers the ground of a synthetic scene: soils, plants, asphalt, water, roads.

A surface covers a mask, bool ``[side, side]``, or softly whatever lies past a border, float32
``[side, side]`` in meters (positive inside).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from landcue.demo.canvas import LABELS, Canvas, Color, Mask, Values, mix, wrap
from landcue.types import FloatArray

_CROPS = (
    ((84, 112, 52), (112, 138, 66)),
    ((176, 156, 92), (204, 184, 118)),
    ((112, 132, 64), (142, 154, 84)),
    ((58, 92, 48), (84, 116, 60)),
    ((178, 166, 80), (160, 154, 74)),
)
_GRASSES = (((84, 106, 56), (118, 132, 76)), ((74, 104, 52), (98, 124, 66)))
_DRY_GRASS = ((116, 120, 70), (142, 140, 86))
_SOILS = (
    ((128, 98, 70), (160, 128, 96)),
    ((140, 96, 68), (172, 126, 92)),
    ((112, 94, 76), (142, 124, 102)),
)
_ASPHALTS = (((86, 87, 90), (108, 108, 110)), ((112, 112, 112), (132, 131, 128)))
_CONCRETE = ((150, 148, 142), (172, 169, 160))


def _cover(canvas: Canvas, cover: Mask | Values, color: FloatArray, label: str) -> None:
    """Paint all of a mask; meters past a border instead fade in over half a meter."""
    whole = canvas.area(0, 0)
    if cover.dtype == np.bool_:
        canvas.paint(whole, cast(Mask, cover), color, label)
        return
    alpha = np.clip(cover + 0.5, 0, 1)
    canvas.blend(whole, alpha, color)
    canvas.owner[alpha > 0.5] = LABELS.index(label)


def _blotches(canvas: Canvas, colors: tuple[Color, Color], feature: float) -> FloatArray:
    share = canvas.noise(feature) * 0.6 + 0.5
    return mix(canvas.vary(colors[0]), canvas.vary(colors[1]), share)


def grass(canvas: Canvas, cover: Mask | Values, *, mown: bool = False, dry: bool = False) -> None:
    """Meadow; ``mown`` adds the stripes of a lawn mower."""
    color = _blotches(canvas, _DRY_GRASS if dry else canvas.pick(_GRASSES), 14)
    if mown:
        area = canvas.area(0, 0, canvas.uniform(0, math.pi))
        stripes = np.sign(np.sin(area.u * np.float32(math.pi / canvas.uniform(2.5, 5))))
        color *= 1 + 0.04 * stripes
    _cover(canvas, cover, color, "grass")


def field(canvas: Canvas, cover: Mask | Values, angle: float) -> None:
    """A crop in furrows that run along ``angle``, with tramlines of the tractor."""
    crop = canvas.pick(_CROPS)
    area = canvas.area(0, 0, angle)
    wobble = canvas.noise(12, 5)
    spacing = canvas.uniform(0.9, 2.0)
    furrow = np.sin((area.v + 0.35 * wobble) * np.float32(2 * math.pi / spacing))
    color = mix(canvas.vary(crop[0]), canvas.vary(crop[1]), wobble * 0.45 + 0.5)
    color *= 1 + (0.1 + 0.05 * wobble) * furrow
    every = canvas.uniform(12, 20)
    lane = np.abs(wrap(area.v + canvas.uniform(0, every), every) - 2.0)
    color *= 1 - 0.2 * (np.abs(lane - 0.9) < 0.3)
    _cover(canvas, cover, color, "field")


def soil(canvas: Canvas, cover: Mask | Values) -> None:
    """Bare earth with stones and the tracks of machines."""
    color = _blotches(canvas, canvas.pick(_SOILS), 9)
    if canvas.chance(0.6):
        middle = canvas.extent / 2
        area = canvas.area(middle, middle, canvas.uniform(0, math.pi))
        v = area.v - canvas.uniform(-0.01, 0.01) * area.u**2
        for offset in canvas.rng.uniform(-middle, middle, 4):
            rut = np.abs(np.abs(v - np.float32(offset)) - 0.9) < 0.28
            color *= 1 - 0.13 * rut
    _cover(canvas, cover, color, "bare-soil")


def sand(canvas: Canvas, cover: Mask | Values, *, dunes: bool = False) -> None:
    """Beach, or with ``dunes`` the ripples and slopes that wind makes."""
    color = _blotches(canvas, ((198, 180, 142), (222, 206, 170)), 16)
    if dunes:
        area = canvas.area(0, 0, canvas.uniform(0, math.pi))
        bend = canvas.noise(22, 3)
        ridge = np.sin((area.u + 5 * bend) * np.float32(2 * math.pi / canvas.uniform(11, 22)))
        ripple = np.sin((area.u + 1.6 * bend) * np.float32(2 * math.pi / 1.7))
        color *= 1 + 0.1 * ridge * np.abs(ridge) + 0.025 * ripple
        color *= np.array((1.0, 0.95, 0.87), np.float32)[:, None, None]
    _cover(canvas, cover, color, "sand")


def pavement(canvas: Canvas, cover: Mask | Values, *, concrete: bool = False) -> None:
    """Asphalt with stains and seams, or slabs of concrete."""
    color = _blotches(canvas, _CONCRETE if concrete else canvas.pick(_ASPHALTS), 10)
    area = canvas.area(0, 0, canvas.uniform(0, math.pi))
    slab = 5.0 if concrete else canvas.uniform(9, 18)
    seams = (wrap(area.u, slab) < 0.25) | (wrap(area.v, slab) < 0.25)
    color *= 1 - (0.1 if concrete else 0.05) * seams
    _cover(canvas, cover, color, "pavement")


def water(canvas: Canvas, shore: Values, *, sea: bool = False) -> None:
    """Water where ``shore`` (meters from the shoreline, float32 ``[side, side]``) is positive.

    It darkens with the distance from the shore; a ``sea`` is bluer and breaks in foam, and the
    ground next to any water is wet.
    """
    if sea:
        shallow, deep = canvas.vary((112, 152, 150)), canvas.vary((34, 76, 104), 0.15)
    else:
        shallow, deep = canvas.vary((102, 108, 78)), canvas.vary((42, 64, 62), 0.2)
    whole = canvas.area(0, 0, canvas.uniform(0, math.pi))
    wet = np.where(shore <= 0, np.exp(np.minimum(shore, 0) / 0.9), 0)
    canvas.blend(whole, 0.45 * wet, deep)
    noise = canvas.noise(7)
    depth = 1 - np.exp(-np.maximum(shore, 0) / np.float32(canvas.uniform(4, 9)))
    color = mix(shallow, deep, depth)
    wave = np.sin((whole.u + 1.4 * noise) * np.float32(2 * math.pi / canvas.uniform(1.8, 3.4)))
    color *= 1 + 0.045 * wave * (0.4 + np.abs(noise)) + 0.09 * noise
    _cover(canvas, shore > 0, color, "water")
    if sea:
        reach = shore + 1.3 * noise
        foam = np.exp(-((reach - 0.7) ** 2) / 0.5) + 0.6 * np.exp(-((reach - 5.5) ** 2) / 0.25)
        foam *= (shore > -0.6) * np.clip(0.75 + 0.6 * canvas.noise(9, 4), 0, 1)
        canvas.blend(whole, np.clip(foam * 0.8, 0, 0.85), (232, 238, 236))


@dataclass(frozen=True, slots=True)
class Road:
    """A strip of pavement through ``x, y``.

    Attributes:
        x: Meters.
        y: Meters.
        angle: Radians.
        width: Meters of asphalt.
        bend: Curvature: meters sideways per squared meter along.
    """

    x: float
    y: float
    angle: float
    width: float = 7.0
    bend: float = 0.0

    def at(self, along: float, across: float) -> tuple[float, float, float]:
        """Position and heading of a point: ``x, y, angle``."""
        v = across + self.bend * along**2
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        heading = self.angle + math.atan(2 * self.bend * along)
        return self.x + along * cos - v * sin, self.y + along * sin + v * cos, heading

    def across(self, canvas: Canvas) -> FloatArray:
        """Signed distance of each pixel from the middle line; float32 ``[side, side]``."""
        area = canvas.area(self.x, self.y, self.angle)
        return np.asarray(area.v - np.float32(self.bend) * area.u**2, np.float32)


def road(canvas: Canvas, way: Road, *, walk: float = 0.0, lanes: int = 2) -> None:
    """Draw ``way`` with lane markings and, with ``walk`` meters, sidewalks of concrete."""
    across = way.across(canvas)
    distance = np.abs(across)
    if walk:
        pavement(canvas, distance < way.width / 2 + walk, concrete=True)
    pavement(canvas, distance < way.width / 2)
    area = canvas.area(way.x, way.y, way.angle)
    paint = canvas.vary((214, 212, 200))
    worn = canvas.uniform(0.55, 0.9)
    edges = np.abs(distance - (way.width / 2 - 0.5)) < 0.13
    dashes = wrap(area.u + canvas.uniform(0, 9), 9) < 4
    lines = edges.copy()
    lane = (way.width - 1) / lanes
    for index in range(1, lanes):
        lines |= (np.abs(across - (index * lane - (way.width - 1) / 2)) < 0.14) & dashes
    canvas.blend(area, lines * np.float32(worn), paint)
    from_lane = wrap(across + (way.width - 1) / 2, lane) - lane / 2
    tires = np.exp(-((np.abs(from_lane) - 0.85) ** 2) / 0.15)  # they polish the asphalt
    tires *= distance < way.width / 2 - 0.5
    canvas.blend(area, 0.16 * tires, (58, 58, 60))


def track(canvas: Canvas, way: Road) -> None:
    """Draw ``way`` as a dirt road: two ruts with grass or stones between them."""
    across = way.across(canvas) + 0.3 * canvas.noise(6, 3)
    soil(canvas, np.abs(across) < way.width / 2)
    area = canvas.area(0, 0)
    ruts = np.exp(-((np.abs(across) - 0.85) ** 2) / 0.1)
    canvas.blend(area, 0.4 * ruts, (196, 174, 140))

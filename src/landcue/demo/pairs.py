"""One synthetic place at two dates, with or without change: to measure change detection."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.demo.canvas import LABELS, Air, Canvas, Mask
from landcue.demo.objects import building, everywhere
from landcue.demo.scenes import THEMES, draw
from landcue.demo.surfaces import field, grass, pavement, soil, water
from landcue.errors import UsageError, did_you_mean
from landcue.types import ByteArray, FloatArray

_SEASONS: dict[str, dict[str, tuple[tuple[int, int, int], float]]] = {
    "spring": {"grass": ((96, 132, 62), 0.35), "field": ((104, 134, 66), 0.35)},
    "summer": {},
    "autumn": {
        "trees": ((150, 104, 58), 0.45),
        "grass": ((140, 130, 84), 0.4),
        "field": ((168, 142, 98), 0.5),
    },
    "winter": {
        "trees": ((104, 92, 80), 0.55),
        "grass": ((122, 112, 86), 0.55),
        "field": ((120, 98, 78), 0.55),
    },
}
"""The color that plants turn to in a season, and how far."""


@dataclass(frozen=True, slots=True)
class SceneDate:
    """What all places of a scene share at its date.

    Attributes:
        season: ``spring``, ``summer``, ``autumn`` or ``winter``.
        sun_angle: Direction of the sun in radians from east to south.
        sun_height: Height of the sun above the horizon in radians.
        air: Between the ground and the sensor.
    """

    season: str
    sun_angle: float
    sun_height: float
    air: Air

    @classmethod
    def random(cls, rng: np.random.Generator) -> SceneDate:
        """Return a date of random season, light and haze."""
        season = list(_SEASONS)[int(rng.integers(len(_SEASONS)))]
        low, high = {"winter": (26, 36), "summer": (46, 60)}.get(season, (36, 50))
        red, green, blue = rng.normal(1, 0.03, 3).tolist()
        air = Air(
            gain=float(rng.uniform(0.8, 1.2)),
            tint=(red, green, blue),
            haze=float(rng.uniform(0, 0.25)),
            noise=float(rng.uniform(1.2, 3.2)),
        )
        angle = math.radians(float(rng.uniform(40, 140)))
        return cls(season, angle, math.radians(float(rng.uniform(low, high))), air)


def _new_houses(canvas: Canvas, plot: Mask) -> None:
    soil(canvas, plot)
    if canvas.chance(0.5):
        pavement(canvas, plot & (canvas.noise(20, 3) > 0))
    rows, columns = np.nonzero(plot)
    step = canvas.extent / canvas.side
    angle = canvas.uniform(0, math.pi)
    kind = canvas.pick(("house", "house", "block", "hall"))
    for _ in range(60):
        at = int(canvas.rng.integers(len(rows)))
        x, y = float(columns[at]) * step, float(rows[at]) * step
        length, width = canvas.uniform(9, 15), canvas.uniform(7, 11)
        grounds = ("bare-soil", "pavement")
        building(canvas, x, y, length, width, angle, kind=kind, grounds=grounds)


def _new_water(canvas: Canvas, plot: Mask) -> None:
    water(canvas, np.where(plot, np.float32(6), np.float32(-6)))


def _new_field(canvas: Canvas, plot: Mask) -> None:
    before = canvas.color[:, plot].mean(axis=1)
    for _ in range(8):  # until it looks different from what was there
        draw_on = canvas.pick((field, soil, grass))
        if draw_on is field:
            field(canvas, plot, canvas.uniform(0, math.pi))
        else:
            (soil if draw_on is soil else grass)(canvas, plot)
        if float(np.abs(canvas.color[:, plot].mean(axis=1) - before).max()) > 25:
            return


CHANGES: dict[str, Callable[[Canvas, Mask], None]] = {
    "houses": _new_houses,
    "water": _new_water,
    "field": _new_field,
}
"""What can appear at a place."""


def render_pair(
    rng: np.random.Generator | int,
    theme: str,
    dates: tuple[SceneDate, SceneDate],
    change: str | None = None,
    size: int = 128,
) -> tuple[ByteArray, ByteArray]:
    """Draw one place at two dates, shifted against each other by up to one pixel.

    >>> rng = np.random.default_rng(0)
    >>> dates = SceneDate.random(rng), SceneDate.random(rng)
    >>> before, after = render_pair(0, "suburb", dates, "water", size=64)
    >>> before.shape, after.shape
    ((64, 64, 3), (64, 64, 3))

    Args:
        rng: Source of every random choice, or a seed for one.
        theme: One of :data:`landcue.demo.scenes.THEMES`.
        dates: Season, light and haze of both.
        change: One of :data:`CHANGES`, which covers 10 to 35 % of the chip at the later date;
            ``None``: nothing but season, light, haze, noise and the shift differ.
        size: Side of a chip in pixels.

    Returns:
        Two images, uint8 ``[size, size, 3]``.
    """
    if change is not None and change not in CHANGES:
        raise UsageError(f"no change {change!r}{did_you_mean(change, CHANGES)}")
    canvas = draw(rng, theme, size + 2)
    later = copy.deepcopy(canvas)
    if change is not None:
        plot = _plot(later)
        wet = later.owned("water")
        for _ in range(20):  # water is new on land alone
            if change != "water" or wet[plot].mean() < 0.3:
                break
            plot = _plot(later)
        later.height[plot] = 0
        CHANGES[change](later, plot)
    first, second = (_seen(c, date, size) for c, date in zip((canvas, later), dates, strict=True))
    return first, second


def render_scene(
    seed: int, places: int = 14, share: float = 0.15, size: int = 128
) -> tuple[ByteArray, ByteArray, npt.NDArray[np.int64]]:
    """Draw places of all themes at two random dates.

    Args:
        seed: The same seed gives the same pixels.
        places: Number of places of each theme.
        share: Probability that a place changes.
        size: Side of a chip in pixels.

    Returns:
        Images of both dates uint8 ``[n, size, size, 3]``; and int64 ``[n]``: 0 for a place that has
        not changed, else 1 + the number of its change in :data:`CHANGES`.
    """
    rng = np.random.default_rng(seed)
    dates = SceneDate.random(rng), SceneDate.random(rng)
    pairs: list[tuple[ByteArray, ByteArray]] = []
    kinds: list[int] = []
    for number, theme in enumerate(THEMES):
        for place in range(places):
            own = np.random.default_rng([seed, number, place])
            kind = int(own.integers(len(CHANGES)))
            changes = own.random() < share
            change = list(CHANGES)[kind] if changes else None
            pairs.append(render_pair(own, theme, dates, change, size))
            kinds.append(1 + kind if changes else 0)
    before, after = (np.stack(side) for side in zip(*pairs, strict=True))
    return before, after, np.array(kinds, np.int64)


def _plot(canvas: Canvas) -> Mask:
    """Return a blob or a rectangle of 10 to 35 % of the canvas, within it for the most part."""
    share = canvas.uniform(0.1, 0.35)
    x, y = (canvas.extent * canvas.uniform(0.25, 0.75) for _ in range(2))
    area = canvas.area(x, y, canvas.uniform(0, math.pi))
    stretch = canvas.uniform(1, 2)
    u, v = area.u / np.float32(stretch), area.v * np.float32(stretch)
    if canvas.chance(0.5):
        away: FloatArray = np.maximum(np.abs(u), np.abs(v))
    else:
        away = np.hypot(u, v) + 4 * canvas.noise(20, 3)
    return away <= np.quantile(away, share)


def _seen(canvas: Canvas, date: SceneDate, size: int) -> ByteArray:
    """Return a chip of a canvas at a date; the canvas is used up."""
    canvas.sun_angle, canvas.sun_height = date.sun_angle, date.sun_height
    whole = canvas.area(0, 0)
    for label, (color, share) in _SEASONS[date.season].items():
        owned = canvas.owner == LABELS.index(label)
        patches = 1 + 0.5 * canvas.noise(15, 3)
        alpha = np.clip(share * canvas.uniform(0.7, 1.3) * patches, 0, 1) * owned
        canvas.blend(whole, alpha, color)
    gray = 1 + 0.08 * canvas.noise(30, 2)  # moisture and dust
    canvas.color *= np.where(everywhere(canvas), gray, 1).astype(np.float32)
    top, left = (int(canvas.rng.integers(0, 3)) for _ in range(2))
    return canvas.develop(date.air, (top, left, size))

"""Trees, woods and orchards, and scenes of nature: one function per theme."""

from __future__ import annotations

import math

import numpy as np

from landcue.demo.canvas import Canvas, Mask
from landcue.demo.objects import (
    QUARTER,
    anywhere,
    beyond,
    building,
    countryside,
    dock,
    everywhere,
    houses,
    on_line,
    ship,
    tank,
    traffic,
    way,
)
from landcue.demo.surfaces import Road, field, grass, road, sand, soil, track, water

_FOLIAGE = ((62, 88, 46), (74, 98, 50), (54, 80, 48), (90, 108, 58), (82, 92, 48))


def tree(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """One crown: a dome with bumps of leaf clumps and a ragged outline."""
    area = canvas.area(x, y, reach=radius * 1.25)
    leaves = canvas.leaves[area.window]
    dome = 1 - (area.u**2 + area.v**2) / (radius * (1 + 0.22 * leaves)) ** 2
    top = radius * (0.8 + np.sqrt(np.maximum(dome, 0))) + 0.35 * leaves
    mask = (dome > 0) & (top > canvas.height[area.window])
    color = canvas.vary(canvas.pick(_FOLIAGE), 0.12)
    canvas.paint(area, mask, color * (1 + 0.3 * leaves), "trees", top)


def scatter_trees(
    canvas: Canvas,
    count: int,
    *grounds: str,
    inside: Mask | None = None,
    radius: tuple[float, float] = (1.8, 4.2),
) -> None:
    """Try to plant ``count`` trees (per 64 x 64 m) in clumps on ``grounds`` that are free."""
    allowed = canvas.owned(*grounds) & (canvas.noise(18, 3) > -0.15)
    if inside is not None:
        allowed &= inside
    for _ in range(round(count * (canvas.extent / 64) ** 2)):
        x, y = canvas.uniform(0, canvas.extent), canvas.uniform(0, canvas.extent)
        size = canvas.uniform(*radius)
        if not allowed[canvas.indices(y), canvas.indices(x)]:
            continue
        area = canvas.area(x, y, reach=max(0.6, size * 0.4))
        if canvas.is_free(area, area.box(size * 0.8, size * 0.8), *grounds):
            tree(canvas, x, y, size)


def canopy(
    canvas: Canvas,
    mask: Mask,
    *,
    spacing: tuple[float, float],
    radius: tuple[float, float],
    jitter: float,
    angle: float = 0.0,
    gaps: float = 0.0,
) -> None:
    """Crowns at the points of a grid, all at once: a wood (large jitter) or an orchard (none).

    Args:
        canvas: What to paint on.
        mask: Where trees may stand, bool ``[side, side]``; crowns reach beyond it.
        spacing: Meters between grid points along and across ``angle``.
        radius: Smallest and largest crown, meters; below the spacing.
        jitter: How far a tree may stand off its grid point, in shares of the spacing.
        angle: Direction of the rows, radians.
        gaps: Share of missing trees.
    """
    middle = canvas.extent / 2
    area = canvas.area(middle, middle, angle)
    cells = math.ceil(canvas.extent * 0.75 / min(spacing)) + 2
    shape = (2 * cells + 1, 2 * cells + 1)
    random = canvas.rng.random((4, *shape), np.float32)
    reach = radius[0] + (radius[1] - radius[0]) * random[2]
    reach = np.where(random[3] < gaps, np.float32(0.01), reach)
    tones = np.stack([canvas.vary(canvas.pick(_FOLIAGE), 0.1).ravel() for _ in range(16)], 1)
    tone = canvas.rng.integers(0, 16, shape)
    col, row = np.round(area.u / spacing[0]), np.round(area.v / spacing[1])
    inside_u, inside_v = area.u - col * spacing[0], area.v - row * spacing[1]
    base = (row.astype(np.intp) + cells) * shape[1] + col.astype(np.intp) + cells
    shift_u = ((random[0] - 0.5) * 2 * jitter * spacing[0]).ravel()
    shift_v = ((random[1] - 0.5) * 2 * jitter * spacing[1]).ravel()
    at_v, at_u = (axis.ravel() for axis in np.mgrid[-cells : cells + 1, -cells : cells + 1])
    at_u, at_v = at_u * spacing[0] + shift_u, at_v * spacing[1] + shift_v
    x = middle + at_u * math.cos(angle) - at_v * math.sin(angle)
    y = middle + at_u * math.sin(angle) + at_v * math.cos(angle)
    stands = mask[canvas.indices(y), canvas.indices(x)]
    ragged = 1 + 0.2 * canvas.leaves
    best = np.zeros_like(canvas.height)
    owner = np.zeros(base.shape, np.intp)
    flat_reach = np.where(stands, reach.ravel(), 0.01).astype(np.float32)
    for step_v in (-1, 0, 1):
        for step_u in (-1, 0, 1):
            cell = base + (step_v * shape[1] + step_u)
            du = inside_u - step_u * spacing[0] - shift_u[cell]
            dv = inside_v - step_v * spacing[1] - shift_v[cell]
            size = flat_reach[cell] * ragged
            top = size - (du * du + dv * dv) / size
            higher = top > best
            np.copyto(best, top, where=higher)
            np.copyto(owner, cell, where=higher)
    trunk = flat_reach[owner] * 0.9
    top = trunk + np.sqrt(best * flat_reach[owner]) + 0.35 * canvas.leaves
    color = tones[:, tone.ravel()[owner]] * (1 + 0.28 * canvas.leaves)
    canvas.paint(area, (best > 0.02) & (top > canvas.height), color, "trees", top)


def coast(canvas: Canvas) -> None:
    """Sea, usually a beach, and land behind it with a road, houses or trees."""
    share = canvas.uniform(0.3, 0.7)
    angle = canvas.uniform(0, 2 * math.pi)
    shore = beyond(canvas, share, 4, angle)
    beach = canvas.uniform(6, 22) if canvas.chance(0.8) else 0.0
    grass(canvas, everywhere(canvas), dry=canvas.chance(0.4))
    if beach:
        sand(canvas, shore + np.float32(beach))
    inland = canvas.extent * (0.5 - share) - max(beach, 6) - 8
    x, y, _ = Road(canvas.extent / 2, canvas.extent / 2, angle).at(inland, 0)
    street = Road(x, y, angle + QUARTER)
    built = canvas.chance(0.4)
    if built:
        road(canvas, street, walk=canvas.pick((0.0, 2.5)))
    water(canvas, shore, sea=True)
    if built:
        traffic(canvas, street, int(canvas.rng.integers(0, 7)))
        if canvas.chance(0.6):
            houses(canvas, street, "grass")
    if canvas.chance(0.65):
        scatter_trees(canvas, 60, "grass")
    if canvas.chance(0.2):
        x, y = on_line(canvas, angle, canvas.extent * (0.5 - share) - 4)
        dock(canvas, x, y, canvas.uniform(18, 32), canvas.uniform(2.2, 3.5), angle)
    if canvas.chance(0.4):
        for _ in range(8):
            heading = angle + QUARTER + canvas.uniform(-0.6, 0.6)
            sails = canvas.chance(0.7)
            if ship(canvas, *anywhere(canvas), canvas.uniform(9, 24), heading, wake=sails):
                break


def river(canvas: Canvas) -> None:
    """A winding river with banks of sand or trees, sometimes bridged."""
    course = way(canvas, canvas.uniform(14, 30), off=0.15, bend=0.006)
    across = course.across(canvas) + 4 * canvas.noise(28, 4)
    bank = np.float32(course.width / 2)
    shore = bank - np.abs(across)
    grass(canvas, everywhere(canvas))
    if canvas.chance(0.55):
        countryside(canvas, across - bank - 9, course.angle)
    if canvas.chance(0.35):
        countryside(canvas, -across - bank - 9, course.angle)
    if canvas.chance(0.4):
        sand(canvas, shore + 5 * canvas.noise(18, 3) + 2)
    water(canvas, shore)
    if canvas.chance(0.25):
        for _ in range(3):
            x, y, angle = course.at(canvas.uniform(-20, 20), canvas.uniform(-3, 3))
            ship(canvas, x, y, canvas.uniform(12, 26), angle, wake=canvas.chance(0.8))
    wooded = (shore < -1) & (shore > -canvas.uniform(8, 25))
    if canvas.chance(0.35):
        x, y, angle = course.at(canvas.uniform(-16, 16), 0)
        bridge = Road(x, y, angle + QUARTER + canvas.uniform(-0.3, 0.3), 8)
        road(canvas, bridge, walk=1.2)
        traffic(canvas, bridge, 7)
        wooded &= np.abs(bridge.across(canvas)) > 7
    if canvas.chance(0.4):
        pitch = canvas.uniform(4.5, 6)
        wooded &= canvas.noise(20, 3) > -0.3
        canopy(canvas, wooded, spacing=(pitch, pitch), radius=(2.2, 4.4), jitter=0.42)
    elif canvas.chance(0.6):
        scatter_trees(canvas, 220, "grass", "field", inside=wooded)


def lake(canvas: Canvas) -> None:
    """Still water among meadows and trees, sometimes a beach, a jetty, boats or a house."""
    angle = canvas.uniform(0, 2 * math.pi)
    share = canvas.uniform(0.3, 0.65)
    shore = beyond(canvas, share, 9, angle)
    grass(canvas, everywhere(canvas), dry=canvas.chance(0.2))
    if canvas.chance(0.3):
        field(canvas, -shore - np.float32(canvas.uniform(10, 16)), angle)
    if canvas.chance(0.3):
        sand(canvas, shore + np.float32(canvas.uniform(3, 8)))
    water(canvas, shore)
    if canvas.chance(0.4):
        x, y = on_line(canvas, angle, canvas.extent * (0.5 - share) - 6)
        dock(canvas, x, y, canvas.uniform(18, 26), canvas.uniform(2, 3), angle)
    if canvas.chance(0.3):
        for _ in range(10):
            heading = angle + canvas.uniform(-2, 2)
            ship(canvas, *anywhere(canvas), canvas.uniform(6, 11), heading, wake=False)
    if canvas.chance(0.35):
        for _ in range(4):
            ground = ("grass", "field")
            building(canvas, *anywhere(canvas), 12, 9, angle, kind="house", grounds=ground)
    if canvas.chance(0.35):
        pitch = canvas.uniform(4.5, 6)
        wood = (shore < -4) & (canvas.noise(26, 3) > -0.2)
        canopy(canvas, wood, spacing=(pitch, pitch), radius=(2.4, 4.6), jitter=0.4)
    elif canvas.chance(0.7):
        scatter_trees(canvas, 110, "grass")


def forest(canvas: Canvas) -> None:
    """Closed canopy with clearings of grass or bare soil, a track, a pond or a cabin."""
    (soil if canvas.chance(0.3) else grass)(canvas, everywhere(canvas))
    wood = canvas.noise(30, 3) > canvas.uniform(-0.9, 0.1)
    if canvas.chance(0.25):
        pond = canvas.noise(40, 3) * 12 - np.float32(canvas.uniform(3, 6))
        water(canvas, pond)
        wood &= pond < -1.5
    if canvas.chance(0.5):
        path = way(canvas, 4.5)
        wood &= np.abs(path.across(canvas)) > 4
        if canvas.chance(0.45):
            path = Road(path.x, path.y, path.angle, 6.5, path.bend)
            road(canvas, path)
            traffic(canvas, path, 4)
        else:
            track(canvas, path)
    if canvas.chance(0.2):
        x, y = anywhere(canvas)
        clearing = canvas.area(x, y)
        wood &= np.hypot(clearing.u, clearing.v) > 11
        angle = canvas.uniform(0, math.pi)
        building(canvas, x, y, 11, 8, angle, kind="house", grounds=("grass", "bare-soil"))
    pitch = canvas.uniform(4.2, 6.5)
    canopy(
        canvas,
        wood,
        spacing=(pitch, pitch),
        radius=(0.5 * pitch, 0.85 * pitch),
        jitter=0.42,
        angle=canvas.uniform(0, 1),
    )


def orchard(canvas: Canvas) -> None:
    """Trees in rows over grass or bare soil, beside a field, a track or a barn."""
    angle = canvas.uniform(0, math.pi)
    planted = everywhere(canvas)
    (soil if canvas.chance(0.45) else grass)(canvas, planted)
    if canvas.chance(0.5):
        border = beyond(canvas, canvas.uniform(0.15, 0.4), 0, angle)
        countryside(canvas, border, angle)
        planted = border < -1.5
    if canvas.chance(0.5):
        x, y = anywhere(canvas)
        path = Road(x, y, angle + canvas.pick((0, QUARTER)), 4.5)
        track(canvas, path)
        planted &= np.abs(path.across(canvas)) > 4
    if canvas.chance(0.25):
        x, y = anywhere(canvas)
        ground = ("grass", "bare-soil", "field")
        if building(canvas, x, y, 18, 11, angle, kind="hall", grounds=ground):
            planted &= ~canvas.area(x, y, angle).box(24, 17)
    gap = canvas.uniform(3.6, 6.2)
    radius = gap * canvas.uniform(0.3, 0.5)
    canopy(
        canvas,
        planted,
        spacing=(gap * canvas.uniform(0.7, 1.0), gap),
        radius=(0.8 * radius, radius),
        jitter=0.05,
        angle=angle,
        gaps=canvas.uniform(0, 0.12),
    )


def farmland(canvas: Canvas) -> None:
    """Parcels of crops, meadow and plowed soil, with a road, a hedge or a farm."""
    angle = canvas.uniform(0, math.pi)
    middle = canvas.extent / 2
    area = canvas.area(middle, middle, angle)
    split_u = np.float32(canvas.uniform(-0.3, 0.3) * canvas.extent)
    split_v = np.float32(canvas.uniform(-0.3, 0.3) * canvas.extent)
    field(canvas, everywhere(canvas), angle)
    countryside(canvas, area.u - split_u, angle + canvas.pick((0, QUARTER)))
    if canvas.chance(0.7):
        countryside(canvas, np.minimum(area.v - split_v, area.u - split_u), angle)
    if canvas.chance(0.5):
        countryside(canvas, np.minimum(-split_v - area.v, split_u - area.u), angle + QUARTER)
    if canvas.chance(0.6):
        x, y, _ = Road(middle, middle, angle).at(float(split_u), 0)
        path = Road(x, y, angle + QUARTER, 6)
        if canvas.chance(0.3):
            road(canvas, path)
            traffic(canvas, path, 5)
        else:
            track(canvas, Road(x, y, path.angle, 4.5))
    if canvas.chance(0.35):
        long, kind = canvas.uniform(14, 20), canvas.pick(("hall", "house"))
        ground = ("grass", "bare-soil", "field")
        building(canvas, *anywhere(canvas), long, 10, angle, kind=kind, grounds=ground)
    if canvas.chance(0.5):
        hedge = np.abs(area.v - split_v + canvas.noise(20, 2)) < 3
        scatter_trees(canvas, 260, "field", "grass", "bare-soil", inside=hedge)


def desert(canvas: Canvas) -> None:
    """Dunes with stony ground or shrubs; seldom a track, a lone house or tanks."""
    sand(canvas, everywhere(canvas), dunes=True)
    stony = canvas.chance(0.6)
    if stony:
        soil(canvas, 6 * (canvas.noise(32, 6) - np.float32(canvas.uniform(-0.3, 0.2))))
    ground = ("sand", "bare-soil")
    if canvas.chance(0.4):
        path = way(canvas, 7)
        if canvas.chance(0.5):
            road(canvas, path)
            traffic(canvas, path, 5, trucks=0.4)
        else:
            track(canvas, Road(path.x, path.y, path.angle, 5, path.bend))
    if canvas.chance(0.25):
        for _ in range(5):
            tank(canvas, *anywhere(canvas), canvas.uniform(4, 7), *ground)
    if canvas.chance(0.3):
        for _ in range(4):
            angle = canvas.pick((0.3, 0.3 + QUARTER))
            building(canvas, *anywhere(canvas), 13, 10, angle, kind="block", grounds=ground)
    if not stony or canvas.chance(0.3):
        scatter_trees(canvas, 160, *ground, radius=(0.9, 2.2))

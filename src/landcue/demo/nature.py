"""Scenes where nature or farming rules: one function per theme, composed at random."""

from __future__ import annotations

import math

import numpy as np

from landcue.demo.canvas import Canvas
from landcue.demo.layout import (
    QUARTER,
    anywhere,
    beyond,
    countryside,
    everywhere,
    houses,
    on_line,
    traffic,
    way,
)
from landcue.demo.objects import building, dock, ship, tank
from landcue.demo.plants import canopy, scatter_trees
from landcue.demo.surfaces import Road, field, grass, road, sand, soil, track, water


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

"""Trees of a synthetic scene: single crowns, woods and orchards."""

from __future__ import annotations

import math

import numpy as np

from landcue.demo.canvas import Canvas, Mask

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

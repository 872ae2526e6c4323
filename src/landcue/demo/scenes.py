"""The themes of the synthetic archive, and the one function that renders a chip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from landcue.demo import built, nature
from landcue.demo.canvas import Canvas
from landcue.errors import UsageError, did_you_mean
from landcue.types import ByteArray

_MIN_SIZE, _MAX_SIZE = 32, 1024

THEMES: dict[str, Callable[[Canvas], None]] = {
    "city": built.city,
    "coast": nature.coast,
    "desert": nature.desert,
    "farmland": nature.farmland,
    "forest": nature.forest,
    "harbor": built.harbor,
    "highway": built.highway,
    "industrial": built.industrial,
    "lake": nature.lake,
    "orchard": nature.orchard,
    "parking": built.parking,
    "river": nature.river,
    "sports": built.sports,
    "suburb": built.suburb,
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

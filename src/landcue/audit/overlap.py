"""Overlapping crops: two images that show a piece of the same ground, shifted.

Phase correlation of the small gray pictures proposes a shift; the full pictures then must agree in
their fine detail over the shared area. The coarse content does not count: two beaches have the same
gradient from sand to sea, but no two waves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from landcue.audit.limits import Limits
from landcue.audit.look import CANVAS, Look
from landcue.audit.near import Rows
from landcue.types import ByteArray, FloatArray

MIN_PEAK = 0.06
"""Weakest peak of the phase correlation that is worth a closer look."""
MIN_COARSE = 0.7
"""Least correlation of the small pictures' shared area that is worth a look at the full ones."""

Frame = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are outside."""

_BLUR = 4


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two images (rows, first < second) of a shared piece of ground.

    Attributes:
        first: Row of the first image.
        second: Row of the second image.
        down: Rows of pixels by which the second begins below the first (negative: above).
        right: The same to the right.
        shared: Shared part of the smaller image, 0..1.
        correlation: Of the fine detail in the shared area.
    """

    first: int
    second: int
    down: int
    right: int
    shared: float
    correlation: float


def overlaps(
    looks: list[Look],
    nearest: Rows,
    read: Callable[[int], ByteArray],
    limits: Limits,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> list[Overlap]:
    """Find overlapping pairs among every image and its ``nearest`` ``[n, k]``.

    Shifts of up to half an image in each direction are found. ``read(row)`` gives an image's RGB
    pixels again; it is called for the few pairs whose small pictures fit.
    """
    found: list[Overlap] = []
    window = np.hanning(CANVAS).astype(np.float32)
    for row, others in enumerate(nearest):
        wanted = {int(j) for j in others if j > row or row not in nearest[j]}
        near = [j for j in sorted(wanted) if looks[j].factor == looks[row].factor]
        near = [j for j in near if looks[j].pixels != looks[row].pixels]
        if near:
            small = np.stack([looks[j].canvas for j in (row, *near)]).astype(np.float32)
            small -= small.mean(axis=(1, 2), keepdims=True)
            spectra = np.fft.rfft2(small * window[:, None] * window)
            spectra /= np.abs(spectra) + 1e-3
            peaks = np.fft.irfft2(spectra[:1] * spectra[1:].conj(), s=(CANVAS, CANVAS))
            for j, peak in zip(near, peaks, strict=True):
                place = np.unravel_index(int(peak.argmax()), peak.shape)
                down, right = (int(p) - CANVAS * (int(p) > CANVAS // 2) for p in place)
                if peak.max() < MIN_PEAK or _coarse(looks[row], looks[j], down, right) < MIN_COARSE:
                    continue
                if row > j:
                    down, right = -down, -right
                pair = _check(
                    min(row, j), max(row, j), down, right, looks[row].factor, read, limits
                )
                found += [pair] if pair else []
        progress(row + 1, len(nearest))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def _coarse(first: Look, second: Look, down: int, right: int) -> float:
    """Return the correlation of the small pictures' shared area, -1..1."""
    a, b = (side.canvas.astype(np.float32) for side in (first, second))
    p, q = _shared(a, b, down, right)
    return _correlation(p - p.mean(), q - q.mean()) if p.size else -1.0


def _check(
    first: int,
    second: int,
    down: int,
    right: int,
    factor: int,
    read: Callable[[int], ByteArray],
    limits: Limits,
) -> Overlap | None:
    """Refine a coarse shift by the full pictures' fine detail; ``None`` if they do not agree."""
    a, b = _detail(read(first)), _detail(read(second))
    reach = range(-factor, factor + 1)
    best = (-1.0, 0, 0)
    for y, x in ((down * factor + y, right * factor + x) for y in reach for x in reach):
        p, q = _shared(a, b, y, x)
        if p.size >= limits.min_shared * min(a.size, b.size):
            best = max(best, (_correlation(p, q), y, x))
    correlation, y, x = best
    if correlation < limits.min_overlap_correlation:
        return None
    shapes = read(first).shape, read(second).shape
    left, top, right, bottom = shared_frames(shapes[0], shapes[1], y, x)[0]
    area = (right - left) * (bottom - top) / min(h * w for h, w, _ in shapes)
    return Overlap(first, second, y, x, area, correlation)


def shared_frames(
    first: Sequence[int], second: Sequence[int], down: int, right: int
) -> tuple[Frame, Frame]:
    """Return where the common ground lies in two images of the shapes (height, width, ...).

    The second begins ``down`` rows below and ``right`` columns beside the first.
    """
    top, left, y, x = max(0, down), max(0, right), max(0, -down), max(0, -right)
    height = max(0, min(first[0] - top, second[0] - y))
    width = max(0, min(first[1] - left, second[1] - x))
    return (left, top, left + width, top + height), (x, y, x + width, y + height)


def _detail(image: ByteArray) -> FloatArray:
    """Return the gray values less their local mean, without the border that has no whole one."""
    luma = Image.fromarray(image).convert("L")
    mean = np.asarray(luma.filter(ImageFilter.BoxBlur(_BLUR)), np.float32)
    return (np.asarray(luma, np.float32) - mean)[_BLUR:-_BLUR, _BLUR:-_BLUR]


def _shared(a: FloatArray, b: FloatArray, down: int, right: int) -> tuple[FloatArray, FloatArray]:
    """Return the parts of both on common ground."""
    frames = shared_frames(a.shape, b.shape, down, right)
    p, q = (
        side[top:bottom, left:end]
        for side, (left, top, end, bottom) in zip((a, b), frames, strict=True)
    )
    return p, q


def _correlation(p: FloatArray, q: FloatArray) -> float:
    """Return the correlation of values around zero; -1 where one has none."""
    power = np.sqrt(np.vdot(p, p).astype(np.float64) * np.vdot(q, q))
    return float(np.vdot(p, q) / power) if power > 0 else -1.0

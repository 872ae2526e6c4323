"""Pairs of images that show the same: near-duplicates, look-alikes and overlapping crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from landcue.audit.images import CANVAS, FORMS, N_BITS, ImageSummary, hashes
from landcue.codes.hamming import CodeIndex
from landcue.data.north import turned
from landcue.errors import UsageError
from landcue.types import ByteArray, FloatArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as a copy, a blank picture or a rare label.

    The measurements are those of ``docs/results/audit-ucmerced.md``.

    Attributes:
        max_distance: Perceptual hashes of near-duplicates differ in at most so many of 64 bits.
            8: a JPEG of quality 50, a resize, noise, changed brightness or contrast and a crop by
            a pixel stay below; the nearest upright pair of different pictures differs in 9.
        max_distance_turned: The same for turned and flipped copies. Half as much: seven more forms
            are seven more chances to agree by accident (7 is the least seen).
        min_correlation: Gray values (32 x 32) of near-duplicates correlate at least so much, which
            leaves out pictures that share no more than a coarse layout (0.2 to 0.6).
        min_cosine: Embeddings of look-alikes have at least this cosine. 0.98: chosen for the
            built-in encoder on the validation part of UC Merced, where 99 of 100 JPEG copies of
            quality 90 have 0.9786 or more and 6 of 21,945 pairs of different images reach 0.98.
            Different images of one kind may be that near, so this finds candidates, no copies.
        overlap_neighbors: So many of an image's nearest embeddings are tried for a shared area.
        min_overlap_correlation: Fine detail of the shared area correlates at least so much. Crops
            of one picture have 1.00, parallel lines of different runways up to 0.88.
        min_shared: Least shared area, as a share of the image.
        blank: Gray values (32 x 32, 0..255) of a blank picture deviate by less than this.
        few: A label on fewer images of a part than this is too rare to be measured there.
    """

    max_distance: int = 8
    max_distance_turned: int = 4
    min_correlation: float = 0.9
    min_cosine: float = 0.98
    overlap_neighbors: int = 5
    min_overlap_correlation: float = 0.94
    min_shared: float = 0.25
    blank: float = 1.0
    few: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance_turned <= self.max_distance <= 64:
            raise UsageError(
                f"hash distances {self.max_distance} and {self.max_distance_turned} (turned): "
                "need 0 <= turned <= upright <= 64"
            )
        for name in ("min_correlation", "min_cosine", "min_overlap_correlation", "min_shared"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise UsageError(f"{name} is {value}: use a number above 0 and at most 1")
        if self.overlap_neighbors < 0 or self.few < 0 or not self.blank >= 0:
            raise UsageError("overlap_neighbors, few and blank cannot be negative")


MOST = 256
"""At most so many near-duplicates of one image are listed (per form)."""
_BLOCK = 512

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two images (rows, first < second) whose hashes agree.

    Attributes:
        first: Row of the first image.
        second: Row of the second image.
        distance: Differing bits of 64.
        form: Index into ``FORMS``: what turns the first into the second.
        correlation: Of their 32 x 32 gray values, -1..1.
    """

    first: int
    second: int
    distance: int
    form: int
    correlation: float


@dataclass(frozen=True, slots=True)
class LookAlike:
    """Two images (rows, first < second) whose embeddings have this cosine."""

    first: int
    second: int
    cosine: float


def hash_pairs(grays: FloatArray, limits: Limits) -> tuple[list[NearDuplicate], bool]:
    """Find the near-duplicates among gray pictures ``[n, 32, 32]``; blank ones are left out.

    Returns:
        The pairs ordered by (distance, first, second), and whether an image has more
        near-duplicates than are listed.
    """
    kept = np.flatnonzero(grays.std(axis=(1, 2)) >= limits.blank)
    if len(kept) < 2:
        return [], False
    codes = hashes(grays[kept])
    index = CodeIndex(np.ascontiguousarray(codes[:, 0]), N_BITS)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    cut = False
    for i in range(len(FORMS)):
        radius = limits.max_distance_turned if i else limits.max_distance
        first, second, distance, full = _within(index, np.ascontiguousarray(codes[:, i]), radius)
        cut |= full
        for a, b, d in zip(first.tolist(), second.tolist(), distance.tolist(), strict=True):
            best[a, b] = min(best.get((a, b), (d, i)), (d, i))
    pairs = [
        NearDuplicate(
            int(kept[a]), int(kept[b]), d, i, _correlation(grays[kept[a]], grays[kept[b]], i)
        )
        for (a, b), (d, i) in best.items()
    ]
    close = [pair for pair in pairs if pair.correlation >= limits.min_correlation]
    return sorted(close, key=lambda pair: (pair.distance, pair.first, pair.second)), cut


def _within(
    index: CodeIndex, queries: npt.NDArray[np.uint8], radius: int
) -> tuple[Rows, Rows, npt.NDArray[np.int32], bool]:
    """Return all (query, later row, distance) within ``radius``; ask for more where it is full."""
    asked = np.arange(len(queries))
    found: list[tuple[Rows, Rows, npt.NDArray[np.int32]]] = []
    k = min(8, len(index))
    while True:
        distances, rows = index.search(queries[asked], k)
        full = distances[:, -1] <= radius
        last = k >= min(MOST, len(index))
        done = np.full(len(asked), True) if last else ~full
        near = (distances <= radius) & (rows > asked[:, None]) & done[:, None]
        query, place = np.nonzero(near)
        found.append((asked[query], rows[query, place], distances[query, place]))
        if last or done.all():
            first, second, distance = (np.concatenate(part) for part in zip(*found, strict=True))
            return first, second, distance, bool(last and k < len(index) and full.any())
        asked, k = asked[full], min(4 * k, MOST, len(index))


def _correlation(first: FloatArray, second: FloatArray, index: int) -> float:
    a, b = turned(first, index) - first.mean(), second - second.mean()
    # Summed in one order for all forms: a picture and its mirror image give the same number.
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return float((a64 * b64).sum() / np.sqrt((a64**2).sum() * (b64**2).sum()))


def embedding_pairs(
    embeddings: FloatArray, min_cosine: float, neighbors: int
) -> tuple[list[LookAlike], Rows, bool]:
    """Compare unit-norm embeddings ``[n, d]`` in blocks.

    Returns:
        The pairs of at least ``min_cosine``, most alike first; the rows of every image's nearest
        others, int64 ``[n, min(neighbors, n - 1)]`` in no particular order; and whether an image
        has more pairs than are listed.
    """
    n = len(embeddings)
    k = max(0, min(neighbors, n - 1))
    nearest = np.empty((n, k), np.int64)
    pairs: list[LookAlike] = []
    cut = False
    for start in range(0, n, _BLOCK):
        block = embeddings[start : start + _BLOCK] @ embeddings.T
        own = np.arange(len(block))
        block[own, start + own] = -2
        if k:
            nearest[start : start + _BLOCK] = np.argpartition(-block, k - 1, axis=1)[:, :k]
        later = (block >= min_cosine) & (np.arange(n) > start + own[:, None])
        for row in np.flatnonzero(later.any(axis=1)).tolist():
            others = np.flatnonzero(later[row])
            if len(others) > MOST:
                cut = True
                others = others[np.argsort(-block[row, others], kind="stable")[:MOST]]
            cosines = np.minimum(block[row, others], 1.0)
            pairs += [
                LookAlike(start + row, int(other), float(cosine))
                for other, cosine in zip(others, cosines, strict=True)
            ]
    return sorted(pairs, key=lambda p: (-p.cosine, p.first, p.second)), nearest, cut


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
    summaries: list[ImageSummary],
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
        near = [j for j in sorted(wanted) if summaries[j].factor == summaries[row].factor]
        near = [j for j in near if summaries[j].pixels != summaries[row].pixels]
        if near:
            small = np.stack([summaries[j].canvas for j in (row, *near)]).astype(np.float32)
            small -= small.mean(axis=(1, 2), keepdims=True)
            spectra = np.fft.rfft2(small * window[:, None] * window)
            spectra /= np.abs(spectra) + 1e-3
            peaks = np.fft.irfft2(spectra[:1] * spectra[1:].conj(), s=(CANVAS, CANVAS))
            for j, peak in zip(near, peaks, strict=True):
                place = np.unravel_index(int(peak.argmax()), peak.shape)
                down, right = (int(p) - CANVAS * (int(p) > CANVAS // 2) for p in place)
                if (
                    peak.max() < MIN_PEAK
                    or _coarse(summaries[row], summaries[j], down, right) < MIN_COARSE
                ):
                    continue
                if row > j:
                    down, right = -down, -right
                pair = _check(
                    min(row, j), max(row, j), down, right, summaries[row].factor, read, limits
                )
                found += [pair] if pair else []
        progress(row + 1, len(nearest))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def _coarse(first: ImageSummary, second: ImageSummary, down: int, right: int) -> float:
    """Return the correlation of the small pictures' shared area, -1..1."""
    a, b = (side.canvas.astype(np.float32) for side in (first, second))
    p, q = _shared(a, b, down, right)
    return _correlation_overlap(p - p.mean(), q - q.mean()) if p.size else -1.0


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
            best = max(best, (_correlation_overlap(p, q), y, x))
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


def _correlation_overlap(p: FloatArray, q: FloatArray) -> float:
    """Return the correlation of values around zero; -1 where one has none."""
    power = np.sqrt(np.vdot(p, p).astype(np.float64) * np.vdot(q, q))
    return float(np.vdot(p, q) / power) if power > 0 else -1.0

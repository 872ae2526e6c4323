"""Regions of images: overlapping windows, their embeddings as int8, and the scan over them.

With R = S x S regions, each has ``2 / (S + 1)`` of the image's width and height, and begins half a
region after the one before: anything smaller than half a region lies whole in at least one of them.
An embedding is stored as int8, scaled so that its largest value is 127 or -127; the scale cancels
in the cosine.

Most of a region is what its neighbors hold, too: water, fields, roofs. :class:`RegionSpace`
measures the mean and the covariance of an archive's regions, and :class:`RegionIndex` compares what
differs from them (Hariharan, Malik and Ramanan, Discriminative Decorrelation for Clustering and
Classification, ECCV 2012). It then searches once more with the query joined with the best regions
of that search (Chum et al., Total Recall, ICCV 2007; weights as of Radenovic, Tolias and Chum,
Fine-tuning CNN Image Retrieval with No Human Annotation, PAMI 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.codes.engine import (
    Engine,
    check_k,
    check_mask,
    check_threads,
    for_each,
    frozen,
    load_compiled,
    smallest,
)
from landcue.errors import UsageError
from landcue.types import ByteArray, Encoder, EncodesRegions, Encoding, FloatArray

MOST_REGIONS = 8
"""Most regions a side."""

_VALUES_PER_PART = 1 << 23
_ROWS_AT_ONCE = 4096
_LEAST, _SAMPLE = 1000, 20_000
"""Fewest regions and most images that a covariance is measured on."""
_SHRINKAGE = 2.0
"""Multiple of the mean variance that is added to every variance."""
_JOINED, _PER_JOINED = 5, 100
"""Most regions that join a query, and fewest allowed images for each of them."""

SignedBytes = npt.NDArray[np.int8]
Wide = npt.NDArray[np.float64]


def region_boxes(side: int) -> npt.NDArray[np.float64]:
    """Return left, top, right and bottom of each region as shares of an image, ``[side**2, 4]``.

    >>> region_boxes(3)[4].tolist()
    [0.25, 0.25, 0.75, 0.75]

    Args:
        side: Regions a side, 2 to 8; they are in the order of rows.
    """
    if not 2 <= side <= MOST_REGIONS:
        raise UsageError(f"{side} regions a side: use 2 to {MOST_REGIONS}")
    starts = np.arange(side) / (side + 1)
    top, left = (grid.ravel() for grid in np.meshgrid(starts, starts, indexing="ij"))
    length = 2 / (side + 1)
    return np.stack([left, top, left + length, top + length], axis=1)


def region_windows(side: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """Return left, top, right and bottom of each region in pixels, ``[side**2, 4]``, none empty.

    >>> region_windows(3, 100, 200)[4].tolist()
    [50, 25, 150, 75]
    """
    return np.array([region_pixels(box, height, width) for box in region_boxes(side)])


def region_pixels(box: Iterable[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom in pixels of a part of an image, at least one pixel."""
    left, top, right, bottom = (
        round(part * length)
        for part, length in zip(box, (width, height, width, height), strict=True)
    )
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def to_int8(embeddings: FloatArray) -> SignedBytes:
    """Return embeddings ``[m, d]`` as int8, each scaled so that its largest value is 127.

    >>> to_int8(np.array([[0.6, -0.8]], np.float32)).tolist()
    [[95, -127]]
    """
    wide = embeddings.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    return np.round(wide * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)


def encode_crop(encoder: Encoder, image: ByteArray) -> Encoding:
    """Encode a crop as a query of regions, in one batch.

    The embedding is the mean of those of 16 images, of unit norm: the crop, and the crop in the
    middle of a square of its mean color and twice its side, since it may be smaller than a region;
    each in four turns by a quarter, and mirrored. The code and the label scores are the crop's own.

    >>> from landcue import load_model
    >>> encode_crop(load_model("builtin"), np.zeros((48, 48, 3), np.uint8)).embedding.shape
    (1, 256)

    Args:
        encoder: What encoded the regions.
        image: uint8 ``[h, w, C]``.

    Raises:
        LandcueError: As the encoder.
    """
    encoder = encoder.encoder if isinstance(encoder, EncodesRegions) else encoder
    whole = encoder.prepare(image)
    side = len(whole)
    square = np.empty((2 * side, 2 * side, whole.shape[2]), np.uint8)
    square[:] = np.round(whole.mean(axis=(0, 1)))
    square[side // 2 : side // 2 + side, side // 2 : side // 2 + side] = whole
    scaled = (whole, encoder.prepare(square))
    views = [np.rot90(v, by) for one in scaled for v in (one, one[:, ::-1]) for by in range(4)]
    found = encoder.encode(np.stack(views))
    mean = found.embedding.mean(axis=0, dtype=np.float64, keepdims=True)
    unit = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
    return Encoding(unit, found.code[:1], found.n_bits, found.label_scores[:1], model=found.model)


@dataclass(frozen=True, slots=True, eq=False)
class RegionSpace:
    """The space in which regions are compared: around a mean, divided by a covariance.

    Attributes:
        mean: float64 ``[d]``.
        metric: Inverse of the shrunk covariance, float64 ``[d, d]``.
    """

    mean: Wide
    metric: Wide

    @classmethod
    def fit(cls, regions: SignedBytes, dim: int) -> RegionSpace:
        """Measure the regions int8 ``[n, R * dim]`` of up to 20,000 images, evenly spaced.

        The space of fewer than 1,000 regions is that of the embeddings themselves.
        """
        some = regions[:: max(1, -(-len(regions) // _SAMPLE))]
        count, total, products = some.size // dim, np.zeros(dim), np.zeros((dim, dim))
        if count < _LEAST:
            return cls(total, np.eye(dim))
        for rows in _parts(len(some), regions.shape[1]):
            part = _unit(some[rows].reshape(-1, dim))
            total += part.sum(axis=0, dtype=np.float64)
            products += part.T @ part
        mean = total / count
        covariance = products / count - np.outer(mean, mean)
        added = max(_SHRINKAGE * float(np.trace(covariance)) / dim, 1e-9)
        metric = np.linalg.inv(covariance + added * np.eye(dim))
        return cls(mean, metric * (dim / np.trace(metric)))

    def lengths(self, vectors: npt.NDArray[np.floating]) -> Wide:
        """Return the lengths ``[m]`` in this space of vectors ``[m, d]`` that start at the mean.

        That of a vector that also ends there is 1.
        """
        wide = vectors.astype(np.float64)
        found = np.sqrt(np.maximum(np.einsum("md,md->m", wide @ self.metric, wide), 0))
        return np.where(found > 1e-6, found, 1)

    def fill_lengths(self, regions: SignedBytes, out: FloatArray) -> None:
        """Write the lengths ``[n, R]`` of regions int8 ``[n, R * d]``."""
        for rows in _parts(*regions.shape):
            found = self.lengths(_unit(regions[rows].reshape(-1, len(self.mean))) - self.mean)
            out[rows] = found.reshape(-1, out.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class RegionQuery:
    """A query: a region scores ``(weights . region / |region| - offset) / length / scale``.

    Attributes:
        weights: int16 ``[d]``.
        offset: Product of the weights and the mean of all regions.
        scale: Of the weights.
    """

    weights: npt.NDArray[np.int16]
    offset: float
    scale: float


class RegionIndex:
    """Embeddings of the regions of n images, searched exactly.

    >>> regions = to_int8(np.eye(4, dtype=np.float32)).reshape(2, 8)
    >>> index = RegionIndex(regions, 4)
    >>> query = index.query(np.float32([0, 0, 0, 1]))
    >>> distances, rows = index.search(query, 1)
    >>> rows.tolist(), index.nearest_regions(query, rows).tolist()
    ([1], [1])
    """

    def __init__(
        self,
        regions: SignedBytes,
        dim: int,
        *,
        space: RegionSpace | None = None,
        lengths: FloatArray | None = None,
        engine: Engine = "auto",
    ) -> None:
        """Hold int8 ``[n, R * dim]``, which is shared, not copied.

        Args:
            regions: The embeddings.
            dim: Values of one.
            space: By default that of these regions, and so for ``lengths``.
            lengths: What :meth:`RegionSpace.fill_lengths` wrote, float32 ``[n, R]``.
            engine: As of the other indexes.
        """
        if regions.dtype != np.int8 or regions.ndim != 2 or regions.shape[1] % dim:
            raise UsageError(
                f"regions are {regions.dtype} {list(regions.shape)}: use int8 [n, R * {dim}]"
            )
        self._rows, self._dim = frozen(regions), dim
        self._space = RegionSpace.fit(regions, dim) if space is None else space
        if lengths is None:
            lengths = np.empty((len(regions), regions.shape[1] // dim), np.float32)
            self._space.fill_lengths(regions, lengths)
        self._lengths = frozen(lengths)
        self._engine: Engine = engine

    def __len__(self) -> int:
        return len(self._rows)

    def query(
        self, embedding: FloatArray, mask: npt.NDArray[np.bool_] | None = None
    ) -> RegionQuery:
        """Return the query for an embedding among the allowed images.

        From 100 of them on, the best regions of a first search join the query, one for every 100
        images and at most 5, each weighted by the square of its score.

        Args:
            embedding: float32 ``[d]`` or ``[1, d]``, of any length but 0.
            mask: bool ``[n]``, true for the allowed rows; all rows if ``None``.

        Raises:
            UsageError: The embedding or the mask is not valid.
        """
        flat = np.asarray(embedding, np.float64).reshape(-1)
        if flat.shape != (self._dim,) or not np.isfinite(flat).all():
            raise UsageError(f"the query has {flat.size} values: use {self._dim} finite ones")
        norm = float(np.linalg.norm(flat))
        asked = self._scaled(flat / (norm or 1) - self._space.mean)
        query = self._weights(asked)
        joined = min(_JOINED, check_mask(mask, len(self)) // _PER_JOINED)
        if not joined:
            return query
        distances, rows = self.search(query, joined, mask)
        parts = self._rows[rows].reshape(joined, -1, self._dim)
        nearest = parts[np.arange(joined), self.nearest_regions(query, rows)]
        for distance, region in zip(distances, _unit(nearest), strict=True):
            weight = max(1 - distance, 0) ** 2
            asked = asked + weight * self._scaled(region - self._space.mean)
        return self._weights(self._scaled(asked))

    def search(
        self, query: RegionQuery, k: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Wide, npt.NDArray[np.int64]]:
        """Return the k images with the nearest regions, ordered by (distance, row).

        Args:
            query: Made by :meth:`query`.
            k: Hits, at least 1.
            mask: bool ``[n]``, true for the allowed rows; all rows if ``None``.

        Returns:
            ``1 - cosine`` to the nearest region in the space of the regions, float64, and rows
            int64, both ``[k']`` with k' = k, or the number of allowed rows if that is less.

        Raises:
            UsageError: ``k`` or the mask is not valid.
        """
        allowed = check_mask(mask, len(self))
        k = min(check_k(k), allowed)
        if not k:
            return np.empty(0), np.empty(0, np.int64)
        best = np.empty(len(self), np.float64)
        compiled = load_compiled(self._engine)
        n_parts = max(1, self._rows.size // _VALUES_PER_PART)

        def run(part: int) -> None:
            start, stop = (len(self) * at // n_parts for at in (part, part + 1))
            if compiled is not None:
                scan, values = compiled.region_scores(), (query.weights, query.offset)
                scan(self._rows, start, stop, *values, self._lengths, best)
                return
            for first in range(start, stop, _ROWS_AT_ONCE):
                some = np.arange(first, min(first + _ROWS_AT_ONCE, stop))
                best[some] = self._scores(some, query).max(axis=1)

        for_each(run, n_parts, check_threads(None))
        distances = 1 - best / query.scale
        rows = np.arange(len(self)) if mask is None else np.flatnonzero(mask)
        order = smallest(distances[rows], k)
        return distances[rows][order], rows[order]

    def nearest_regions(
        self, query: RegionQuery, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return which region of each of ``[m]`` rows is nearest, the first of equal ones."""
        return self._scores(rows, query).argmax(axis=1)

    def _scaled(self, vector: Wide) -> Wide:
        """Scale a vector that starts at the mean to length 1."""
        return vector / self._space.lengths(vector[None])

    def _weights(self, vector: Wide) -> RegionQuery:
        wide = self._space.metric @ vector
        largest = float(np.abs(wide).max()) or 1.0
        scale = min(32_767, (2**31 - 1) // (127 * self._dim)) / largest  # sums are of 32 bits
        weights = frozen(np.round(wide * scale).astype(np.int16))
        return RegionQuery(weights, float(weights @ self._space.mean), scale)

    def _scores(self, rows: npt.NDArray[np.int64], query: RegionQuery) -> Wide:
        """Return the scores of rows times the query's scale, ``[m, R]``."""
        n_regions = self._lengths.shape[1]
        wide = self._rows[rows].reshape(len(rows), n_regions, self._dim).astype(np.int32)
        squares = np.maximum(np.einsum("mrd,mrd->mr", wide, wide), 1)
        products = np.einsum("mrd,d->mr", wide, query.weights.astype(np.int32))
        return (products / np.sqrt(squares) - query.offset) / self._lengths[rows]


def _parts(n: int, width: int) -> Iterator[slice]:
    """Split n rows of some width into parts of about 4 million values."""
    step = max(1, (1 << 22) // max(1, width))
    return (slice(first, first + step) for first in range(0, n, step))


def _unit(regions: SignedBytes) -> FloatArray:
    wide = regions.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1)

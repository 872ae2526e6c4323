"""Hash codes of float embeddings without a hash network, and back: baselines of learned codes.

A :class:`Hasher` centers embeddings on the mean of the training embeddings, projects them and
keeps the signs; the methods differ in the projection. A :class:`Decoder` maps codes back into the
space of the embeddings, so that a query can keep its floats while the gallery keeps nothing but
bits: after Gordo, Perronnin, Gong and Lazebnik, "Asymmetric Distances for Binary Embeddings",
TPAMI 2014; the linear decoder, by regularized least squares on training images, is ours. Both are
fitted on training embeddings alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import code_width, pack_bits, sign_bits, unpack_bits
from landcue.errors import UsageError, did_you_mean
from landcue.types import ByteArray

Vectors = npt.NDArray[np.floating[Any]]
Matrix = npt.NDArray[np.float64]

ITQ_ROTATIONS = 50
_VALUES_AT_ONCE = 2**22  # embedding values widened to float64 at a time, 32 MiB


@dataclass(frozen=True, slots=True, eq=False)
class Hasher:
    """A fitted projection; a bit is the sign of one projected coordinate.

    Attributes:
        method: ``sign``, ``itq`` or ``lsh``.
        mean: What is subtracted, float64 ``[d]``.
        projection: float64 ``[d, n_bits]``, or ``None`` where the coordinates are kept.
    """

    method: str
    mean: Matrix
    projection: Matrix | None

    @property
    def dim(self) -> int:
        """Length d of an embedding."""
        return int(self.mean.size)

    @property
    def n_bits(self) -> int:
        """Bits of a code."""
        return self.dim if self.projection is None else int(self.projection.shape[1])

    def project(self, embeddings: Vectors) -> Matrix:
        """Return the values float64 ``[n, n_bits]`` whose signs are the bits of ``[n, d]``.

        Raises:
            UsageError: The embeddings are not finite floats ``[n, d]``.
        """
        self._check(embeddings)
        return self._project(embeddings)

    def encode(self, embeddings: Vectors, block: int = _VALUES_AT_ONCE) -> ByteArray:
        """Return packed codes uint8 ``[n, ceil(n_bits / 8)]``; a value of 0 gives the bit 0.

        Args:
            embeddings: Finite floats ``[n, d]``.
            block: Values that are widened to float64 at once.

        Raises:
            UsageError: The embeddings are not finite floats ``[n, d]``.
        """
        self._check(embeddings)
        codes = np.empty((len(embeddings), code_width(self.n_bits)), np.uint8)
        step = max(1, block // max(self.dim, self.n_bits))
        for first in range(0, len(embeddings), step):
            part = slice(first, first + step)
            codes[part] = pack_bits(sign_bits(self._project(embeddings[part])))
        return codes

    def _check(self, embeddings: Vectors) -> None:
        _check_embeddings(embeddings)
        if embeddings.shape[1] != self.dim:
            raise UsageError(
                f"embeddings have {embeddings.shape[1]} dimensions, the hasher was fitted on "
                f"{self.dim}: encode both with the same model"
            )

    def _project(self, embeddings: Vectors) -> Matrix:
        centered = embeddings.astype(np.float64) - self.mean
        return centered if self.projection is None else centered @ self.projection


def fit_sign(train: Vectors, n_bits: int, seed: int = 0) -> Hasher:
    """Take the sign of each centered coordinate, or of the first ``n_bits`` principal components.

    Principal components are used only where ``n_bits`` is less than d. Nothing is random: the
    seed is there for the common interface.

    Args:
        train: Training embeddings, floats ``[m, d]``.
        n_bits: 1..d.
        seed: Not used.

    Raises:
        UsageError: ``n_bits`` exceeds what the embeddings can fill.

    >>> fit_sign(np.array([[1.0, -1], [-1, 1]]), 2).encode(np.array([[1.0, -1]])).tolist()
    [[1]]
    """
    mean, centered = _center(train, n_bits)
    if n_bits == mean.size:
        return Hasher("sign", mean, None)
    return Hasher("sign", mean, _principal(centered, n_bits))


def fit_itq(train: Vectors, n_bits: int, seed: int = 0) -> Hasher:
    """Rotate the first ``n_bits`` principal components towards the corners of a cube.

    Iterative quantization, 50 rotations: Gong and Lazebnik, CVPR 2011, section 2.2.

    Args:
        train: Training embeddings, floats ``[m, d]``.
        n_bits: 1..d.
        seed: Seed of the first rotation.

    Raises:
        UsageError: ``n_bits`` exceeds what the embeddings can fill.

    >>> train = np.random.default_rng(0).normal(size=(100, 16))
    >>> fit_itq(train, 8).encode(train).shape
    (100, 1)
    """
    mean, centered = _center(train, n_bits)
    axes = _principal(centered, n_bits)
    rotation, _ = itq_rotation(centered @ axes, seed)
    return Hasher("itq", mean, axes @ rotation)


def fit_lsh(train: Vectors, n_bits: int, seed: int = 0) -> Hasher:
    """Take signs of random Gaussian projections of the centered embedding.

    Two codes are expected to differ in the share angle / pi of their bits, the angle seen from
    the mean: Charikar, STOC 2002. The training embeddings give the mean only.

    Args:
        train: Training embeddings, floats ``[m, d]``.
        n_bits: 1 or more, also more than d.
        seed: Seed of the projections.

    Raises:
        UsageError: The embeddings cannot be used, or ``n_bits`` is less than 1.

    >>> train = np.random.default_rng(0).normal(size=(100, 16))
    >>> fit_lsh(train, 64).encode(train).shape
    (100, 8)
    """
    mean, _ = _center(train, n_bits)
    return Hasher("lsh", mean, np.random.default_rng(seed).standard_normal((mean.size, n_bits)))


METHODS: dict[str, Callable[[Vectors, int, int], Hasher]] = {
    "sign": fit_sign,
    "itq": fit_itq,
    "lsh": fit_lsh,
}


def fit_hasher(method: str, train: Vectors, n_bits: int, seed: int = 0) -> Hasher:
    """Fit the unlearned code of a name, ``sign``, ``itq`` or ``lsh``.

    Raises:
        UsageError: There is no such method, or it cannot fill ``n_bits``.

    >>> train = np.random.default_rng(0).normal(size=(100, 8))
    >>> fit_hasher("itq", train, n_bits=4).encode(train[:3]).shape
    (3, 1)
    """
    if method not in METHODS:
        known = did_you_mean(method, METHODS)
        raise UsageError(f"unknown unlearned code {method!r}{known}")
    return METHODS[method](train, n_bits, seed)


def itq_rotation(
    projected: Matrix, seed: int, rotations: int = ITQ_ROTATIONS
) -> tuple[Matrix, list[float]]:
    """Find the rotation R under which ``projected @ R`` is nearest to its own signs.

    From a random rotation, the signs B and the best rotation for them (orthogonal Procrustes) are
    found in turn; no step can raise the error.

    Args:
        projected: Centered float64 ``[m, n_bits]``.
        seed: Seed of the first rotation.
        rotations: Number of updates of R.

    Returns:
        R float64 ``[n_bits, n_bits]``, and the quantization error of the first and of each later
        rotation: :func:`quantization_error`.
    """
    n_bits = projected.shape[1]
    gaussian = np.random.default_rng(seed).standard_normal((n_bits, n_bits))
    rotation: Matrix = np.linalg.qr(gaussian)[0]
    rotated = projected @ rotation
    errors = [quantization_error(rotated)]
    for _ in range(rotations):
        left, _, right = np.linalg.svd(projected.T @ _signs(rotated))
        rotation = left @ right
        rotated = projected @ rotation
        errors.append(quantization_error(rotated))
    return rotation, errors


def quantization_error(values: Matrix) -> float:
    """Return the mean squared distance of ``[m, n_bits]`` values from their signs, -1 and 1."""
    return float(np.mean((values - _signs(values)) ** 2))


def _signs(values: Matrix) -> Matrix:
    return np.where(values > 0, 1.0, -1.0)


def _center(train: Vectors, n_bits: int) -> tuple[Matrix, Matrix]:
    """Return the mean ``[d]`` and the centered ``[m, d]`` of checked embeddings."""
    _check_embeddings(train)
    if not len(train):
        raise UsageError("no training embeddings: pass at least one")
    if n_bits < 1:
        raise UsageError(f"codes of {n_bits} bits hold nothing: pass 1 or more")
    wide = train.astype(np.float64)
    mean: Matrix = wide.mean(axis=0)
    return mean, wide - mean


def _principal(centered: Matrix, n_bits: int) -> Matrix:
    """Return the ``n_bits`` directions ``[d, n_bits]`` of largest variance, largest first."""
    m, dim = centered.shape
    _check_dim(n_bits, dim)
    variances, axes = np.linalg.eigh(centered.T @ centered)  # rising
    floor = max(m, dim) * np.finfo(np.float64).eps * variances[-1]
    n_filled = int(np.count_nonzero(variances > max(floor, 0.0)))
    if n_bits > n_filled:
        raise UsageError(
            f"{m} training embeddings vary in {n_filled} directions and cannot fill {n_bits} "
            "bits: pass more of them, or ask for fewer bits"
        )
    axes = axes[:, ::-1][:, :n_bits]
    # A direction and its opposite are equally right: point its largest coordinate upwards.
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return axes * np.sign(largest)


def _check_dim(n_bits: int, dim: int) -> None:
    if n_bits > dim:
        raise UsageError(
            f"{n_bits} bits cannot be filled from embeddings of {dim} dimensions: ask for {dim} "
            "or fewer, or use lsh"
        )


def _check_embeddings(embeddings: Vectors) -> None:
    if embeddings.dtype.kind != "f" or embeddings.ndim != 2 or embeddings.shape[1] == 0:
        raise UsageError(
            f"embeddings are {embeddings.dtype} {list(embeddings.shape)}: pass floats "
            "[n, dimensions]"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if broken.size:
        raise UsageError(
            f"row {int(broken[0])} of the embeddings is not finite: check the model that made it"
        )


RIDGE = 0.01
"""Chosen on validation parts of UC Merced, where 0.01 to 0.1 rank alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """A fitted map from codes to embeddings.

    Attributes:
        weights: What a bit of 1 adds and a bit of 0 takes away, float64 ``[n_bits, d]``.
        bias: float64 ``[d]``.
    """

    weights: Matrix
    bias: Matrix

    @property
    def n_bits(self) -> int:
        """Bits of a code."""
        return int(self.weights.shape[0])

    def decode(self, codes: ByteArray) -> Matrix:
        """Return the embeddings ``[n, d]`` that packed codes stand for; not of unit norm.

        Raises:
            UsageError: The codes are not packed codes of ``n_bits`` bits.
        """
        return _code_signs(codes, self.n_bits) @ self.weights + self.bias

    def scores(self, queries: Vectors, codes: ByteArray) -> Matrix:
        """Return the dot products ``[q, n]`` of query embeddings with decoded codes.

        They are sums over bits, ``sum_b w_b s_b + c`` with ``s_b`` of -1 and 1: every query has
        one weight per bit, and nothing but the codes is read.

        Args:
            queries: Embeddings ``[q, d]``.
            codes: Packed uint8 ``[n, ceil(n_bits / 8)]``.

        Returns:
            float32 precision: equal codes tie, wherever they stand.

        Raises:
            UsageError: Embeddings of another length, or codes of other bits.
        """
        return self.scorer(codes)(queries)

    def scorer(self, codes: ByteArray) -> Callable[[Vectors], Matrix]:
        """Return :meth:`scores` for one gallery, whose codes are unpacked only once.

        Raises:
            UsageError: The codes are not packed codes of ``n_bits`` bits.
        """
        signs = _code_signs(codes, self.n_bits).T

        def scores(queries: Vectors) -> Matrix:
            exact = self.per_bit(queries) @ signs
            exact += (queries.astype(np.float64) @ self.bias)[:, None]
            return exact.astype(np.float32).astype(np.float64)

        return scores

    def per_bit(self, queries: Vectors) -> Matrix:
        """Return the weight ``w_b`` of each bit for query embeddings ``[q, d]``: ``[q, n_bits]``.

        Raises:
            UsageError: Embeddings of another length.
        """
        if queries.ndim != 2 or queries.shape[1] != self.bias.size:
            raise UsageError(
                f"queries have shape {list(queries.shape)}: pass [n, {self.bias.size}]"
            )
        return queries.astype(np.float64) @ self.weights.T


def fit_decoder(
    codes: ByteArray, embeddings: Vectors, n_bits: int, ridge: float = RIDGE
) -> Decoder:
    """Fit the embeddings of training images by a linear map of their codes.

    Args:
        codes: Packed uint8 ``[m, ceil(n_bits / 8)]``.
        embeddings: Of the same images, floats ``[m, d]``.
        n_bits: Bits of a code.
        ridge: Penalty on squared weights, times m; above 0, so that constant or equal bits are
            no problem.

    Raises:
        UsageError: No images, sizes that contradict each other, values that are not finite, or a
            ridge of 0 or less.

    >>> train = np.random.default_rng(0).normal(size=(100, 8))
    >>> codes = fit_lsh(train, 16).encode(train)
    >>> fit_decoder(codes, train, 16).scores(train[:2], codes).shape
    (2, 100)
    """
    if not ridge > 0:
        raise UsageError(f"the ridge is {ridge}: pass more than 0")
    if embeddings.ndim != 2 or not len(embeddings) or len(embeddings) != len(codes):
        raise UsageError(
            f"{len(codes)} codes and embeddings {list(embeddings.shape)}: pass one embedding "
            "[m, d] per code, and at least one"
        )
    if not np.isfinite(embeddings).all():
        raise UsageError("an embedding is not finite: check the model that made it")
    signs, wide = _code_signs(codes, n_bits), embeddings.astype(np.float64)
    mean, center = signs.mean(axis=0), wide.mean(axis=0)
    signs, wide = signs - mean, wide - center
    penalty = ridge * len(signs) * np.eye(n_bits)
    weights = np.linalg.solve(signs.T @ signs + penalty, signs.T @ wide)
    return Decoder(weights, center - mean @ weights)


def _code_signs(codes: ByteArray, n_bits: int) -> Matrix:
    return np.where(unpack_bits(codes, n_bits), 1.0, -1.0)

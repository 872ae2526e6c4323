"""Hash codes of float embeddings without a hash network: the baselines of learned codes.

All of them center the embeddings on the mean of the training embeddings, project them and keep
the signs; they differ in the projection. They are fitted on training embeddings alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import code_width, pack_bits, sign_bits
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

    def encode(self, embeddings: Vectors) -> ByteArray:
        """Return packed codes uint8 ``[n, ceil(n_bits / 8)]``; a value of 0 gives the bit 0.

        Raises:
            UsageError: The embeddings are not finite floats ``[n, d]``.
        """
        self._check(embeddings)
        codes = np.empty((len(embeddings), code_width(self.n_bits)), np.uint8)
        step = max(1, _VALUES_AT_ONCE // max(self.dim, self.n_bits))
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
    """
    mean, _ = _center(train, n_bits)
    return Hasher("lsh", mean, np.random.default_rng(seed).standard_normal((mean.size, n_bits)))


METHODS: dict[str, Callable[[Vectors, int, int], Hasher]] = {
    "sign": fit_sign,
    "itq": fit_itq,
    "lsh": fit_lsh,
}


def fit(method: str, train: Vectors, n_bits: int, seed: int = 0) -> Hasher:
    """Fit the unlearned code of a name, ``sign``, ``itq`` or ``lsh``.

    Raises:
        UsageError: There is no such method, or it cannot fill ``n_bits``.
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
        rotations: How many times R is replaced.

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
        raise UsageError("no training embeddings: give at least one")
    if n_bits < 1:
        raise UsageError(f"codes of {n_bits} bits hold nothing: give 1 or more")
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
            "bits: give more of them, or ask for fewer bits"
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
            f"embeddings are {embeddings.dtype} {list(embeddings.shape)}: give floats "
            "[n, dimensions]"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if broken.size:
        raise UsageError(
            f"row {int(broken[0])} of the embeddings is not finite: check the model that made it"
        )

"""Asymmetric ranking: stored images keep nothing but their bits, the query keeps its floats.

Only the gallery has to be small; the one query is there in full. So the bits of a stored code are
decoded into the space of the embeddings, and the query's embedding is compared with the result.
After Gordo, Perronnin, Gong and Lazebnik, "Asymmetric Distances for Binary Embeddings", TPAMI
2014; the linear decoder, by regularized least squares on training images, is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import unpack_bits
from landcue.errors import UsageError
from landcue.types import ByteArray

Vectors = npt.NDArray[np.floating[Any]]
Matrix = npt.NDArray[np.float64]

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
        return _signs(codes, self.n_bits) @ self.weights + self.bias

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
        signs = _signs(codes, self.n_bits).T

        def scores(queries: Vectors) -> Matrix:
            if queries.ndim != 2 or queries.shape[1] != self.bias.size:
                raise UsageError(
                    f"queries have shape {list(queries.shape)}: give [n, {self.bias.size}]"
                )
            wide = queries.astype(np.float64)
            exact = (wide @ self.weights.T) @ signs + (wide @ self.bias)[:, None]
            return exact.astype(np.float32).astype(np.float64)

        return scores


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
    """
    if not ridge > 0:
        raise UsageError(f"the ridge is {ridge}: give more than 0")
    if embeddings.ndim != 2 or not len(embeddings) or len(embeddings) != len(codes):
        raise UsageError(
            f"{len(codes)} codes and embeddings {list(embeddings.shape)}: give one embedding "
            "[m, d] per code, and at least one"
        )
    if not np.isfinite(embeddings).all():
        raise UsageError("an embedding is not finite: check the model that made it")
    signs, wide = _signs(codes, n_bits), embeddings.astype(np.float64)
    mean, center = signs.mean(axis=0), wide.mean(axis=0)
    signs, wide = signs - mean, wide - center
    penalty = ridge * len(signs) * np.eye(n_bits)
    weights = np.linalg.solve(signs.T @ signs + penalty, signs.T @ wide)
    return Decoder(weights, center - mean @ weights)


def _signs(codes: ByteArray, n_bits: int) -> Matrix:
    return np.where(unpack_bits(codes, n_bits), 1.0, -1.0)

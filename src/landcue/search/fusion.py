"""How much the model's label probabilities improve rankings of an archive, measured on itself.

Annotated records query each other. The weight is chosen on one half of the queries and its gain
measured on the other half. Records of parts ``train`` and ``test`` are never used: the model knows
the labels of the first, and the others are kept for evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.search.records import Records
from landcue.search.rerank import expected_shared, label_scale, log_gain
from landcue.search.vectors import Vectors

MEASURED_K = 100
WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LEAST_QUERIES = 40

_MOST_RECORDS, _MOST_QUERIES, _PAIRS_OF = 2_000, 500, 500
_RESAMPLES = 2_000
_SEED = 0

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fusion:
    """The measured weight of labels in mode ``fused``.

    Attributes:
        weight: Standard deviations of the expected gain per one of the cosine; 0 without a gain.
        scale: Factor that gives ``log(1 + expected gain)`` the spread of the cosines.
        linear: The same for the expected number of shared labels.
        queries: Number of annotated records that measured the gain.
        plain: Their mean nDCG@100 by embeddings alone.
        fused: The same with the labels.
        interval: 95 % interval of the difference, resampled by group.
        why: The reason for this weight, in one line.
    """

    weight: float
    scale: float
    linear: float
    queries: int = 0
    plain: float = 0.0
    fused: float = 0.0
    interval: tuple[float, float] = (0.0, 0.0)
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "interval": list(self.interval)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fusion:
        """Parse the result of :meth:`to_json`."""
        low, high = value["interval"]
        known: dict[str, Any] = {**value, "interval": (float(low), float(high))}
        return cls(**known)


def measure_fusion(records: Records, vectors: Vectors, label_names: Sequence[str]) -> Fusion:
    """Choose the weight of the labels of a model on an archive's annotated records."""
    rng = np.random.default_rng(_SEED)
    some = _sample(rng, np.arange(len(records)), _PAIRS_OF)
    cosine, gain, shared = _pairs(vectors, some, some)
    apart = ~np.eye(len(some), dtype=np.bool_)
    scale, linear = (
        label_scale(cosine[apart], gain[apart]),
        label_scale(cosine[apart], shared[apart]),
    )

    known = records.labels.known & ~records.among("part", ["train", "test"])
    names = records.labels.names
    if not set(names) & set(label_names):
        why = "the model's labels are foreign to the archive: no annotation has one of their names"
        return Fusion(0.0, scale, linear, why=why if names else "no record is annotated")
    rows = _sample(rng, np.flatnonzero(known), _MOST_RECORDS)
    queries = rng.permutation(rows)[:_MOST_QUERIES]
    labels = np.stack([records.labels.having(name) for name in names], axis=1)
    cosine, gain, _ = _pairs(vectors, queries, rows)
    gains = 2.0 ** (labels[queries].astype(np.float64) @ labels[rows].T) - 1
    own = queries[:, None] == rows
    gains[own] = 0
    defined = np.flatnonzero(gains.any(axis=1))  # that share a label with another record
    if len(defined) < LEAST_QUERIES:
        why = (
            f"{len(defined)} annotated records outside of parts train and test that share a label "
            f"with another one are too few to measure a gain: {LEAST_QUERIES} are needed"
        )
        return Fusion(0.0, scale, linear, why=why)
    plain = _ndcg(np.where(own, -np.inf, cosine), gains)
    found = {
        weight: _ndcg(np.where(own, -np.inf, cosine + weight * scale * gain), gains)
        for weight in WEIGHTS
    }
    first, second = defined[::2], defined[1::2]
    weight = max(WEIGHTS, key=lambda one: float((found[one] - plain)[first].mean()))
    difference = (found[weight] - plain)[second]
    low, high = _interval(rng, difference, records.column("group", queries[second]).to_pylist())
    text = f"nDCG@{MEASURED_K} by {difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
    why = f"label probabilities changed {text} on {len(second)} annotated records"
    return Fusion(
        weight if low > 0 else 0.0,
        scale,
        linear,
        len(second),
        float(plain[second].mean()),
        float(found[weight][second].mean()),
        (low, high),
        why,
    )


def _sample(
    rng: np.random.Generator, rows: npt.NDArray[np.int64], most: int
) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _pairs(
    vectors: Vectors, queries: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[Matrix, Matrix, Matrix]:
    """Return cosines, log gains and shared labels ``[q, n]``."""
    scores = vectors.scores[queries], vectors.scores[rows]
    cosine = vectors.embedding[queries].astype(np.float64) @ vectors.embedding[rows].T
    return cosine, log_gain(*scores), expected_shared(*scores)


def _ndcg(scores: Matrix, gains: Matrix) -> Matrix:
    """Return nDCG of each query, NaN where nothing has a gain."""
    discount = 1 / np.log2(np.arange(2, 2 + min(MEASURED_K, scores.shape[1])))
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(discount)]
    ideal = -np.sort(-gains, axis=1)[:, : len(discount)] @ discount
    with np.errstate(invalid="ignore"):
        return (np.take_along_axis(gains, order, axis=1) @ discount) / ideal


def _interval(
    rng: np.random.Generator, values: Matrix, groups: Sequence[str | None]
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean; records of one group are drawn together."""
    names = [f"{n} {group}" if group is None else str(group) for n, group in enumerate(groups)]
    _, group = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    drawn = rng.integers(0, len(sums), (_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)

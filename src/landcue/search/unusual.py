"""How unusual the difference of two embeddings is: a distance, p-values and z-scores. NumPy only.

The distance is that of Mahalanobis, of differences from which the mean difference of their pair of
scenes is subtracted (season, light and haze change a whole scene), by the covariance of the
differences of pairs that have not changed. As that is not known, it is that of all pairs without
the most different ones. All pairs enter alike, those to calibrate on as well as those to judge, so
distances of unchanged pairs stay exchangeable, which conformal p-values rest on (Vovk, Gammerman
and Shafer, Algorithmic Learning in a Random World, 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.types import FloatArray

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TRIM = 0.2
"""Share of the pairs, the most different ones, without which the covariance is measured."""
LEAST = 50
"""Fewest pairs to calibrate a group on; a smaller one is calibrated on all pairs."""
_FIT = 40_000
_SCENE = 20
_CHUNK = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Embeddings of m pairs, read in parts.

    Attributes:
        before: float32 ``[n, d]``, of which ``first`` int64 ``[m]`` are the pairs' rows.
        after: float32 ``[k, d]``, of which ``second`` int64 ``[m]`` are the pairs' rows.
        scene: Number of the pair of scenes of each pair, int64 ``[m]``, from 0.
    """

    before: FloatArray
    after: FloatArray
    first: Ints
    second: Ints
    scene: Ints

    def __len__(self) -> int:
        return len(self.first)

    def of(self, rows: Ints) -> FloatArray:
        """Return after minus before, float32 ``[r, d]``."""
        return self.after[self.second[rows]] - self.before[self.first[rows]]


def cosine_distances(pairs: Differences) -> Floats:
    """Return 1 - cosine of each pair of unit vectors, float64 ``[m]``."""
    parts = [0.5 * np.square(pairs.of(rows)).sum(axis=1) for rows in _chunks(len(pairs))]
    return np.concatenate([np.empty(0), *parts]).astype(np.float64)


def unusual_distances(pairs: Differences, *, seed: int = 0) -> Floats:
    """Return the distance of each pair, float64 ``[m]``; near 1 for one that has not changed.

    Args:
        pairs: At least one.
        seed: Of the sample of at most 40,000 pairs that means and covariance are measured on.
    """
    m = len(pairs)
    sample = np.arange(m)
    if m > _FIT:
        sample = np.sort(np.random.default_rng(seed).choice(m, _FIT, replace=False))
    differences = pairs.of(sample)
    means = _scene_means(differences, pairs.scene[sample], int(pairs.scene.max(initial=0)) + 1)
    differences -= means[pairs.scene[sample]]
    kept = np.arange(len(sample))
    basis = _whitening(differences)
    for _ in range(3):
        size = np.square(differences @ basis).sum(axis=1)
        most = np.quantile(size, 1 - TRIM)
        kept = np.flatnonzero(size <= most)
        basis = _whitening(differences[kept])
    parts: list[Floats] = []
    for rows in _chunks(m):
        centered = pairs.of(rows) - means[pairs.scene[rows]]
        parts.append(np.sqrt(np.square(centered @ basis).sum(axis=1)).astype(np.float64))
    return np.concatenate([np.empty(0), *parts])


def _chunks(m: int) -> list[Ints]:
    return [np.arange(i, min(i + _CHUNK, m)) for i in range(0, m, _CHUNK)]


def _scene_means(differences: FloatArray, scene: Ints, scenes: int) -> FloatArray:
    """Return the median difference of each pair of scenes ``[scenes, d]``; of few, that of all."""
    everywhere = np.median(differences, axis=0)
    means = np.broadcast_to(everywhere, (scenes, differences.shape[1])).copy()
    order = np.argsort(scene, kind="stable")
    found, at = np.unique(scene[order], return_index=True)
    for number, rows in zip(found.tolist(), np.split(order, at[1:]), strict=True):
        if len(rows) >= _SCENE:
            means[number] = np.median(differences[rows], axis=0)
    return means


def _whitening(differences: FloatArray) -> FloatArray:
    """Return the matrix ``[d, d]`` that makes the covariance the identity / d.

    The covariance is shrunk towards a multiple of the identity by oracle approximating shrinkage
    (Chen, Wiesel, Eldar and Hero, 2010), as there may be fewer pairs than dimensions.
    """
    n, d = differences.shape
    covariance = differences.T.astype(np.float64) @ differences / n
    values, vectors = np.linalg.eigh(covariance)
    values = np.clip(values, 0, None)
    squares, square = float(np.square(values).sum()), float(values.sum() ** 2)
    rest = (n + 1 - 2 / d) * (squares - square / d)
    share = 1.0 if rest <= 0 else min(1.0, ((1 - 2 / d) * squares + square) / rest)
    shrunk = (1 - share) * values + share * values.mean() + np.finfo(np.float32).tiny
    return (vectors / np.sqrt(shrunk * d)).astype(np.float32)


def conformal(
    scores: Floats, groups: Sequence[Ints], known: Mask | None = None
) -> tuple[Floats, Floats, Ints]:
    """Return p-values, z-scores and the group that each pair was calibrated on.

    The p-value is (1 + number of calibration pairs with a distance at least as large) / (1 +
    number of calibration pairs), pairs to judge excepted. With ``known``, those are the pairs that
    are known not to have changed; an unchanged pair has a p-value of at most a with a probability
    of at most a. Without, every pair is calibrated on all: its p-value is the share of pairs that
    are at least as unusual, which is larger than the former where other pairs have changed.

    >>> scores = np.array([1.0, 2.0, 3.0, 9.0])
    >>> p, z, group = conformal(scores, [np.zeros(4, np.int64)], np.array([1, 1, 1, 0], bool))
    >>> p[3], group[3]
    (np.float64(0.25), np.int64(-1))

    Args:
        scores: Distances float64 ``[m]``.
        groups: Groupings from fine to coarse, int64 ``[m]`` each: a pair belongs to the first
            group with at least :data:`LEAST` calibration pairs, or else to all.
        known: bool ``[m]``.

    Returns:
        p-values in 0..1; distances from the median in units of 1.4826 times the median absolute
        deviation; and per pair the number of the grouping that was used, -1 for all.
    """
    p, z = np.ones(len(scores)), np.zeros(len(scores))
    level = np.full(len(scores), -1, np.int64)
    left = np.ones(len(scores), np.bool_)
    for number, group in enumerate((*groups, np.zeros(len(scores), np.int64))):
        order = np.argsort(group, kind="stable")
        _, at = np.unique(group[order], return_index=True)
        for rows in np.split(order, at[1:]):
            wanted = rows[left[rows]]
            calibration = np.sort(scores[rows if known is None else rows[known[rows]]])
            last = number == len(groups)
            if not len(wanted) or (len(calibration) < LEAST and not last) or not len(calibration):
                continue
            larger = len(calibration) - np.searchsorted(calibration, scores[wanted], side="left")
            if known is None:
                p[wanted] = larger / len(calibration)
            else:  # a calibration pair is one of those that are at least as unusual
                itself = known[wanted]
                p[wanted] = (larger + ~itself) / (len(calibration) + ~itself)
            middle = np.median(calibration)
            spread = 1.4826 * np.median(np.abs(calibration - middle))
            z[wanted] = (scores[wanted] - middle) / max(spread, np.finfo(float).tiny)
            level[wanted] = -1 if last else number
            left[wanted] = False
    return p, z, level

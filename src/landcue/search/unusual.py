"""How unusual the difference of two embeddings is: a score, p-values and z-scores. NumPy only.

From both embeddings of a pair the median of their date and sensor is subtracted first: season,
light and haze change a whole scene. The score is a log-likelihood ratio of Gaussian models of the
difference and the sum of both.

* The trained model, which the built-in encoder has, is of pairs that changed against pairs that did
  not: :func:`train`. What it did not see in training is left to the other one, with a small weight.
* The measured model, the only one of other encoders, is of two different places against one place.
  The covariances between places and within a place are measured on the pairs at hand
  (two-covariance model of probabilistic linear discriminant analysis: Ioffe 2006; Bruemmer and de
  Villiers 2010). As it is not known which of them changed, the least similar fifth is left out,
  again and again: :func:`measure`.

All pairs enter alike, those to calibrate on as well as those to judge, so the scores of unchanged
pairs stay exchangeable, which conformal p-values rest on (Vovk, Gammerman and Shafer, Algorithmic
Learning in a Random World, 2005).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from landcue.types import FloatArray

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TRIM = 0.2
"""Share of the pairs, the least similar ones, without which covariances are measured."""
MEASURED = 0.1
"""Weight of the measured model beside the trained one."""
LABEL = 0.5
"""Weight of the rise or fall of a label beside how unusual a pair is."""
_RIDGE = (0.03, 3.0)
_TRAIN_RIDGE = 0.1
_ARRAYS = ("apart", "apart_weights", "along", "along_weights")
TRAINED = Path(__file__).with_name("change.safetensors")
"""The trained model of the built-in encoder, made by ``scripts/make_change_model.py``."""
LEAST = 50
"""Fewest pairs to calibrate a group on; a smaller one is calibrated on all pairs."""
_FIT = 10_000
_SCENE = 20
_CHUNK = 4096
_ROUNDING = 1e-6  # of numbers of embeddings of one image


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


@dataclass(frozen=True, slots=True, eq=False)
class ChangeModel:
    """A quadratic score of pairs of centered embeddings of d numbers.

    Attributes:
        apart: Basis float32 ``[d, r]`` of the difference.
        apart_weights: Weights float32 ``[r]`` of its squared coordinates.
        along: Basis float32 ``[d, r]`` of the sum.
        along_weights: Weights float32 ``[r]`` of its squared coordinates.
    """

    apart: FloatArray
    apart_weights: FloatArray
    along: FloatArray
    along_weights: FloatArray

    def scores(self, first: FloatArray, second: FloatArray) -> Floats:
        """Return the score of each pair of rows, float64 ``[n]``; larger for change."""
        return self.weigh(second - first, second + first)

    def weigh(self, apart: FloatArray, along: FloatArray) -> Floats:
        """Return the score of each difference and sum of a pair, ``[n, d]`` each."""
        values = np.square(apart @ self.apart) @ self.apart_weights
        values += np.square(along @ self.along) @ self.along_weights
        return values.astype(np.float64)

    def save(self, path: Path, fingerprint: str) -> None:
        """Write the model of an encoder as half-precision safetensors."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(getattr(self, name), np.float16) for name in _ARRAYS}
        save_file(arrays, path, {"fingerprint": fingerprint})


def load_trained(fingerprint: str, path: Path = TRAINED) -> ChangeModel | None:
    """Return the trained model of an encoder, or ``None`` if the file is of another one."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        if file.metadata()["fingerprint"] != fingerprint:
            return None
        return ChangeModel(*(file.get_tensor(name).astype(np.float32) for name in _ARRAYS))


def compare_pairs(
    pairs: Differences, models: Sequence[ChangeModel | None]
) -> tuple[Floats, Floats]:
    """Return how unusual each pair is, and 1 - cosine of its unit vectors, float64 ``[m]`` each.

    Args:
        pairs: At least one.
        models: Models whose log-likelihood ratio of change is the score, of which ``None`` is
            measured on the pairs. Of several, each in robust standard deviations, the measured
            one has the weight :data:`MEASURED`.
    """
    first, second, scene = pairs.before, pairs.after, pairs.scene
    sample = _sample(scene)
    scenes = int(scene.max(initial=0)) + 1
    sides = first[pairs.first[sample]], second[pairs.second[sample]]
    medians = [_scene_medians(side, scene[sample], scenes) for side in sides]
    centered = [side - median[scene[sample]] for side, median in zip(sides, medians, strict=True)]
    chosen = [measure(*centered) if model is None else model for model in models]
    scores, distances = np.empty((len(chosen), len(pairs))), np.empty(len(pairs))

    def fill(start: int) -> None:
        rows = slice(start, start + _CHUNK)
        one, other = _taken(first, pairs.first[rows]), _taken(second, pairs.second[rows])
        number = scene[rows] if np.ptp(scene[rows]) else scene[start]
        apart, along = other - one, other + one
        distances[rows] = 0.5 * np.einsum("ij,ij->i", apart, apart)
        apart -= medians[1][number] - medians[0][number]
        along -= medians[1][number] + medians[0][number]
        for values, model in zip(scores, chosen, strict=True):
            values[rows] = model.weigh(apart, along)

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # NumPy computes without the lock
        list(threads.map(fill, range(0, len(pairs), _CHUNK)))
    if len(chosen) == 1:
        return scores[0], distances
    weights = [MEASURED if model is None else 1 - MEASURED for model in models]
    return np.array(weights) @ np.array([robust(values) for values in scores]), distances


def robust(scores: Floats) -> Floats:
    """Return scores in robust standard deviations from their median.

    Where more than half of the scores are equal, it is the standard deviation.

    >>> robust(np.array([1.0, 2.0, 3.0])).round(2)
    array([-0.67,  0.  ,  0.67])
    """
    return (scores - np.median(scores)) / (_spread(scores) or 1.0)


def _spread(scores: Floats) -> float:
    """Return the robust standard deviation, or the usual one where more than half are equal."""
    apart = np.abs(scores - np.median(scores))
    return 1.4826 * float(np.median(apart)) or float(np.std(scores))


def join_scores(scores: Floats, steps: Floats) -> Floats:
    """Return one score of two, ``[m]`` each: how unusual pairs are, and how far a label rose.

    It is the sum of -log of the share of pairs that are as large, Fisher's combination of
    p-values, the label's with the weight :data:`LABEL`: a score of a large spread does not outweigh
    the other, and as all pairs enter alike, they stay exchangeable.

    >>> join_scores(np.array([1.0, 2.0]), np.array([5.0, 5.0]))
    array([0.        , 0.69314718])
    """
    total = np.zeros(len(scores))
    for values, weight in ((scores, 1.0), (steps, LABEL)):
        below = np.searchsorted(np.sort(values), values, side="left")
        total -= weight * np.log1p(-below / len(values))
    return total


def _taken(vectors: FloatArray, rows: Ints) -> FloatArray:
    """Return rows of vectors, without a copy where they lie one after another."""
    first, last = int(rows[0]), int(rows[-1])
    whole = last - first == len(rows) - 1 and bool((np.diff(rows) == 1).all())
    return vectors[first : last + 1] if whole else vectors[rows]


def _sample(scene: Ints) -> Ints:
    """Return rows to measure on: all, or at least 50 of each pair of scenes, about 10,000."""
    m = len(scene)
    if m <= _FIT:
        return np.arange(m)
    mixed = np.random.default_rng(0).permutation(m)
    order = mixed[np.argsort(scene[mixed], kind="stable")]
    counts = np.bincount(scene)
    place = np.arange(m) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[place < max(50, _FIT // len(counts))])


def _scene_medians(vectors: FloatArray, scene: Ints, scenes: int) -> FloatArray:
    """Return the median of each pair of scenes ``[scenes, d]``; of few vectors, that of all."""
    medians = np.broadcast_to(np.median(vectors, axis=0), (scenes, vectors.shape[1])).copy()
    order = np.argsort(scene, kind="stable")
    found, at = np.unique(scene[order], return_index=True)
    for number, rows in zip(found.tolist(), np.split(order, at[1:]), strict=True):
        if len(rows) >= _SCENE:
            medians[number] = np.median(vectors[rows], axis=0)
    return medians


def measure(first: FloatArray, second: FloatArray) -> ChangeModel:
    """Measure a model on centered pairs ``[n, d]`` of which most have not changed.

    Where four fifths of them show one image, such as water or missing data, which says nothing
    about other images, the score is the squared distance.
    """
    blank = np.maximum(np.abs(first), np.abs(second)).max(axis=1) < _ROUNDING
    if blank.mean() >= 1 - TRIM:
        every, one = np.eye(first.shape[1], dtype=np.float32), np.ones(first.shape[1], np.float32)
        return ChangeModel(every, one, every, 0 * one)
    model = _two_covariances(first, second)
    for _ in range(3):
        scores = model.scores(first, second)
        kept = scores <= np.quantile(scores, 1 - TRIM)
        model = _two_covariances(first[kept], second[kept])
    return model


def train(first: FloatArray, second: FloatArray, changed: Mask, *, rank: int = 64) -> ChangeModel:
    """Train a model on centered pairs ``[n, d]`` of which it is known whether they changed.

    Args:
        first: Embeddings of the earlier date.
        second: Of the later date.
        changed: bool ``[n]``.
        rank: Number of directions to keep, of the difference and of the sum.
    """
    parts: list[FloatArray] = []
    for values in (second - first, second + first):
        of_same, of_changed = (_covariance(values[rows]) for rows in (~changed, changed))
        ridge = _TRAIN_RIDGE * np.trace(of_same) / len(of_same) * np.eye(len(of_same))
        unlike = np.linalg.inv(of_same + ridge) - np.linalg.inv(of_changed + ridge)
        weights, basis = np.linalg.eigh(unlike)
        largest = np.argsort(-np.abs(weights))[:rank]
        # Weights of about 1, so that half precision holds them.
        scale = np.sqrt(np.abs(weights[largest]))
        parts += [(basis[:, largest] * scale).astype(np.float32)]
        parts += [np.sign(weights[largest]).astype(np.float32)]
    return ChangeModel(*parts)


def _covariance(values: FloatArray) -> Floats:
    """Return the covariance about 0 of ``[n, d]``."""
    return values.T.astype(np.float64) @ values / len(values)


def _shrunk(values: FloatArray, ridge: float) -> Floats:
    """Return the covariance with a share of its mean variance added to each direction."""
    found = _covariance(values)
    mean = np.trace(found) / len(found) + np.finfo(np.float32).tiny
    return found + ridge * mean * np.eye(len(found))


def _two_covariances(first: FloatArray, second: FloatArray) -> ChangeModel:
    """Measure the covariances between and within places on centered pairs ``[n, d]``.

    Each gets a ridge of d / n of its mean variance, since there may be fewer pairs than dimensions.
    """
    n, d = first.shape
    ridge = float(np.clip(d / n, *_RIDGE))
    whole = _shrunk(np.concatenate([first, second]), ridge)
    least = 1e-6 * np.trace(whole) / d  # all images may be alike
    within = _shrunk(second - first, ridge) / 2 + least * np.eye(d)
    between = whole - within
    values, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(values)
    ratio, turned = np.linalg.eigh(white.T @ between @ white)
    ratio = np.clip(ratio, 1e-6 * max(ratio.max(), 1e-6), None)
    basis = (white @ turned / 2).astype(np.float32)
    apart, along = ratio / (1 + ratio), -ratio / ((1 + 2 * ratio) * (1 + ratio))
    return ChangeModel(basis, apart.astype(np.float32), basis, along.astype(np.float32))


def conformal(
    scores: Floats, groups: Sequence[Ints], known: Mask | None = None
) -> tuple[Floats, Floats, Ints]:
    """Return p-values, z-scores and the group that each pair was calibrated on.

    The p-value is (1 + number of calibration pairs with a score at least as large) / (1 +
    number of calibration pairs), pairs to judge excepted. With ``known``, those are the pairs that
    are known not to have changed; an unchanged pair has a p-value of at most a with a probability
    of at most a. Without, every pair is calibrated on all: its p-value is the share of pairs that
    are at least as unusual, which is larger than the former where other pairs have changed.

    >>> scores = np.array([1.0, 2.0, 3.0, 9.0])
    >>> p, z, group = conformal(scores, [np.zeros(4, np.int64)], np.array([1, 1, 1, 0], bool))
    >>> p[3], group[3]
    (np.float64(0.25), np.int64(-1))

    Args:
        scores: float64 ``[m]``.
        groups: Groupings from fine to coarse, int64 ``[m]`` each: a pair belongs to the first
            group with at least :data:`LEAST` calibration pairs, or else to all.
        known: bool ``[m]``.

    Returns:
        p-values in 0..1; deviations from the median in units of 1.4826 times the median absolute
        deviation, or of the standard deviation where that is 0, of all pairs where all calibration
        pairs are equal; and per pair the number of the grouping that was used, -1 for all.
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
            spread = _spread(calibration) or _spread(scores) or 1.0
            z[wanted] = (scores[wanted] - middle) / spread
            level[wanted] = -1 if last else number
            left[wanted] = False
    return p, z, level

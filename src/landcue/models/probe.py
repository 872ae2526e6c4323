"""A linear probe on frozen features, whose scores are calibrated probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError

Matrix = npt.NDArray[np.float64]

LEAST = 5
"""Images with and without a label that its score needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Affine maps from unit-norm features to calibrated logits of labels.

    Attributes:
        weight: float64 ``[F, C]``.
        bias: float64 ``[C]``.
        names: Of the C labels.
        facts: What leave-one-out says of it.
    """

    weight: Matrix
    bias: Matrix
    names: tuple[str, ...]
    facts: dict[str, Any]


_PENALTIES = 10.0 ** np.arange(-4, 3)


def fit_probe(u: Matrix, labels: npt.NDArray[Any], label_names: Sequence[str]) -> Probe:
    """Fit a calibrated linear probe to annotated images; see :func:`fit_space`."""
    annotated = ~np.isnan(np.asarray(labels, np.float64)).any(axis=1)
    x, truth = u[annotated], np.asarray(labels, np.float64)[annotated] > 0
    counts = truth.sum(axis=0)
    enough = (counts >= LEAST) & (len(x) - counts >= LEAST)
    if not enough.any():
        raise UsageError(
            f"the labels of {len(x)} images cannot be learned: at least one label must be on "
            f"{LEAST} images and absent from {LEAST}; annotate more, or leave --labels out"
        )
    y = truth[:, enough].astype(np.float64)
    mean, center = x.mean(axis=0), y.mean(axis=0)
    x, z = x - mean, y - center
    left, size, right = np.linalg.svd(x, full_matrices=False)
    energy = size**2
    inside = left.T @ z
    best: tuple[float, Matrix, Matrix] | None = None
    for penalty in _PENALTIES * energy.mean():
        shrink = energy / (energy + penalty)
        hat = 1 / len(x) + (left**2) @ shrink
        outside = z - left @ (shrink[:, None] * inside)
        residual = outside / np.maximum(1 - hat, 1e-6)[:, None]
        error = float(np.mean(residual**2))
        if best is None or error < best[0]:
            weight = right.T @ ((size / (energy + penalty))[:, None] * inside)
            best = error, weight, y - residual
    assert best is not None
    _, weight, apart = best
    slopes, shifts = _platt(apart, y)
    names = tuple(np.array(list(label_names), object)[enough].tolist())
    facts = {
        "images": len(x),
        "labels": len(names),
        "left_out": np.array(list(label_names), object)[~enough].tolist(),
        "average_precision": round(_average_precision(apart, y), 4),
        "calibration_error": round(_calibration_error(apart, y), 4),
    }
    bias = slopes * (center - mean @ weight) + shifts
    return Probe(weight * slopes, bias, names, facts)


def _platt(values: Matrix, truth: Matrix) -> tuple[Matrix, Matrix]:
    """Return slope and shift ``[C]`` of the logits of each column, by Newton's method.

    Targets are smoothed as in Platt, "Probabilistic outputs for support vector machines", 2000.
    """
    n_pos = truth.sum(axis=0)
    high, low = (n_pos + 1) / (n_pos + 2), 1 / (len(truth) - n_pos + 2)
    target = np.where(truth > 0, high, low)
    slope = np.ones(truth.shape[1])
    shift = np.log((n_pos + 1) / (len(truth) - n_pos + 1))

    def loss(a: Matrix, b: Matrix) -> Matrix:
        logit = a * values + b
        return (np.logaddexp(0, logit) - target * logit).sum(axis=0)

    now = loss(slope, shift)
    for _ in range(50):
        p = 0.5 * (1 + np.tanh(0.5 * (slope * values + shift)))
        w, g = p * (1 - p), p - target
        ga, gb = (g * values).sum(0), g.sum(0)
        aa = (w * values**2).sum(0) + 1e-9
        ab, bb = (w * values).sum(0), w.sum(0) + 1e-9
        det = np.maximum(aa * bb - ab**2, 1e-12)
        da, db = (bb * ga - ab * gb) / det, (aa * gb - ab * ga) / det
        step = np.ones_like(now)
        for _ in range(30):  # halve where a full step would raise the loss
            worse = loss(slope - step * da, shift - step * db) > now + 1e-12
            step = np.where(worse, step / 2, step)
        slope, shift = slope - step * da, shift - step * db
        done = np.max(np.abs(now - loss(slope, shift))) < 1e-9
        now = loss(slope, shift)
        if done:
            break
    return slope, shift


def _calibration_error(values: Matrix, truth: Matrix) -> float:
    """Return the expected calibration error of scores fitted on the other half of the images."""
    bins = 15
    half = np.arange(len(values)) % 2 == 0
    scores = np.empty_like(values)
    for part in (half, ~half):
        slope, shift = _platt(values[~part], truth[~part])
        scores[part] = 0.5 * (1 + np.tanh(0.5 * (slope * values[part] + shift)))
    place = np.minimum((scores * bins).astype(np.int64), bins - 1).reshape(-1)
    gap = np.bincount(place, (scores - truth).reshape(-1), bins)
    return float(np.abs(gap).sum() / scores.size)


def _average_precision(values: Matrix, truth: Matrix) -> float:
    """Return the mean over labels of the average precision; ties in the order of images."""
    order = np.argsort(-values, axis=0, kind="stable")
    ranked = np.take_along_axis(truth, order, axis=0)
    precision = ranked.cumsum(axis=0) / np.arange(1, len(values) + 1)[:, None]
    return float(np.mean((precision * ranked).sum(axis=0) / ranked.sum(axis=0)))

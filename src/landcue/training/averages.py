"""What follows a training: averaged weights, and probabilities that say how often labels occur."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from landcue.errors import DataError, UsageError
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.types import FloatArray

_TEMPERATURES = (0.05, 20.0)
_STEPS = 60  # halvings of the range of 1 / T
_EPS = 1e-7
Slope = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


@torch.no_grad()
def update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move averaged weights towards a model's: ``decay * old + (1 - decay) * new``, in place.

    Whole numbers, such as the batches that a normalization has seen, are copied.
    """
    new = model.state_dict()
    for name, old in averaged.state_dict().items():
        if old.is_floating_point():
            old.lerp_(new[name], 1 - decay)
        else:
            old.copy_(new[name])


def average_checkpoints(folders: Sequence[str | Path], out: str | Path) -> str:
    """Average the weights of finished runs of one kind into a new run folder: a model soup.

    M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time", ICML 2022. It helps where all runs started from the
    same weights and differ in seed or settings, and must be measured: average on the validation
    part's advice only. The average has no calibration and no scores of its own; its provenance says
    of data set and split what is the same for all runs.

    Args:
        folders: At least two run folders with equal model settings.
        out: The folder to write.

    Returns:
        The fingerprint of the average.

    Raises:
        UsageError: Fewer than two runs, or runs of different models.
        ModelError: A broken or missing run.

    >>> average_checkpoints(["runs/a", "runs/b"], "runs/soup")  # doctest: +SKIP
    '7aa74da89eb9...'
    """
    if len(folders) < 2:
        raise UsageError("an average needs at least two run folders")
    made = [load_checkpoint(Path(folder)) for folder in folders]
    plain = [replace(one.encoder.config, label_temperatures=()) for one in made]
    for folder, config in zip(folders, plain, strict=True):
        if config != plain[0]:
            raise UsageError(f"{folder} is another model than {folders[0]}: average runs of one")
    states = [one.encoder.state_dict() for one in made]
    average: dict[str, Tensor] = {}
    for name, first in states[0].items():
        values = torch.stack([state[name] for state in states])
        average[name] = values.mean(0) if first.is_floating_point() else first
    encoder = made[0].encoder
    encoder.config = plain[0]
    encoder.load_state_dict(average)
    shared: dict[str, Any] = {}
    for key in ("dataset", "data_id", "split", "label_statistics"):
        values = [one.provenance.get(key) for one in made]
        if all(value == values[0] for value in values):
            shared[key] = values[0]
    note = {"finished": True, "average_of": [one.encoder.fingerprint for one in made]}
    return save_checkpoint(Path(out), encoder, shared | {"training": note})


def fit_label_temperatures(
    logits: FloatArray, labels: npt.ArrayLike, *, exclusive: bool = False
) -> tuple[float, ...]:
    """Return the temperature of each label that makes its probabilities say how often it occurs.

    Temperature scaling, C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, for
    each label: the T with the least cross-entropy of ``sigmoid(x / T)``. A label that all images
    or none carry gets the temperature that is best for all labels together. With exclusive labels
    one temperature serves the soft-max. Temperatures lie in 0.05..20.

    Args:
        logits: ``[n, C]``, of images that the model was not trained on.
        labels: Multi-hot ``[n, C]``.
        exclusive: Whether every image has exactly one label.

    Raises:
        UsageError: Shapes differ, or a logit is not finite.
        DataError: No image.

    >>> logits = np.array([[4.0], [4.0], [4.0], [-4.0]], np.float32)  # says 98 %, is 3 of 4
    >>> labels = np.array([[1], [1], [0], [0]])
    >>> [round(t, 1) for t in fit_label_temperatures(logits, labels)]
    [3.6]
    """
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if x.shape != y.shape or x.ndim != 2:
        raise UsageError(f"logits {list(x.shape)} and labels {list(y.shape)} differ in shape")
    if not len(x):
        raise DataError("no image to calibrate with")
    if not np.isfinite(x).all():
        raise UsageError("a logit is not finite: the model diverged")
    n_labels = x.shape[1]
    if exclusive:
        shared = _bisect(lambda a: (_softmax(a[0] * x) - y) * x, 1)[0]
        return (1 / float(shared),) * n_labels

    def slope(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (_sigmoid(a * x) - y) * x

    shared = _bisect(slope, 1)[0]
    each = _bisect(slope, n_labels)
    known = (y.min(axis=0) < 1) & (y.max(axis=0) > 0)
    return tuple((1 / np.where(known, each, shared)).tolist())


def _bisect(slope: Slope, n: int) -> npt.NDArray[np.float64]:
    """Find where the slope of a convex function of 1 / T changes its sign, for n of them at once.

    Its terms ``[images, labels]`` are summed over images, and over labels where n is 1.
    """
    low = np.full(n, np.log(1 / _TEMPERATURES[1]))
    high = np.full(n, np.log(1 / _TEMPERATURES[0]))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        terms = slope(np.exp(middle))
        rising = (terms.sum(axis=0) if n > 1 else np.array([terms.sum()])) > 0
        low, high = np.where(rising, low, middle), np.where(rising, middle, high)
    return np.exp((low + high) / 2)


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softmax(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def calibration_errors(probabilities: FloatArray, labels: npt.ArrayLike) -> tuple[float, float]:
    """Return cross-entropy, and the gap between probability and frequency in ten bins.

    The gap is the expected calibration error over all (image, label) pairs, 0..1.

    Args:
        probabilities: ``[n, C]``.
        labels: Multi-hot ``[n, C]``.
    """
    p = np.clip(np.asarray(probabilities, np.float64), _EPS, 1 - _EPS).ravel()
    y = np.asarray(labels, np.float64).ravel()
    entropy = float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())
    bins = np.minimum((p * 10).astype(np.int64), 9)
    gaps = np.bincount(bins, p - y, minlength=10)
    return entropy, float(np.abs(gaps).sum() / len(p))

"""Whether one method beats another beyond these splits and these trainings.

A bootstrap over queries says how a difference between *trained models* would change with other
queries. Whether the *methods* differ is a question about other splits and training seeds; their
number is what counts then, however many queries a split has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError


@dataclass(frozen=True, slots=True)
class SplitComparison:
    """The difference of a metric between two methods over splits, and the noise of training.

    Attributes:
        difference: First minus second, mean over splits of the mean over training seeds.
        interval: 95 % Student interval over splits, with the variance corrected for the overlap
            of training parts; NaN for one split.
        p_value: Two-sided, of the same test; NaN for one split.
        n_split: Splits.
        n_seed: Training seeds in each split.
        between_splits: Standard deviation of the differences over splits; NaN for one split.
        training_noise: Standard deviation of a difference over the seeds of a split, pooled;
            NaN for one seed.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    n_split: int
    n_seed: int
    between_splits: float
    training_noise: float


def compare_over_splits(
    first: npt.ArrayLike, second: npt.ArrayLike, *, test_share: float = 0.0
) -> SplitComparison:
    """Compare two methods by a corrected resampled t test over splits.

    ``t = mean(d) / sqrt((1/J + n_test/n_train) var(d))`` with J - 1 degrees of freedom and d the
    difference in each of J splits, averaged over training seeds: C. Nadeau and Y. Bengio,
    "Inference for the Generalization Error", Machine Learning 52, 2003. Training parts of random
    splits overlap, so that the plain paired t test finds differences too often.

    Args:
        first: A metric of the first method, ``[splits]`` or ``[splits, seeds]``.
        second: The same of the second one, with the same splits and seeds.
        test_share: ``n_test / n_train``; 0 for splits without common training images (then it
            is the plain paired t test).

    Raises:
        UsageError: Shapes differ, a value is not finite, or ``test_share`` is negative.

    >>> found = compare_over_splits([0.80, 0.82, 0.81], [0.79, 0.80, 0.78], test_share=0.25)
    >>> round(found.difference, 3), round(found.p_value, 3)
    (0.02, 0.12)
    """
    ours, theirs = (np.asarray(v, np.float64) for v in (first, second))
    if ours.shape != theirs.shape or ours.ndim not in (1, 2) or not ours.size:
        raise UsageError(
            f"scores {list(ours.shape)} against {list(theirs.shape)}: pass [splits] or "
            "[splits, seeds] of the same runs for both"
        )
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise UsageError("a score is not finite: leave out runs that failed, of both methods")
    if not test_share >= 0:
        raise UsageError(f"test_share is {test_share}: pass n_test / n_train, 0 or more")
    differences = (ours - theirs).reshape(len(ours), -1)
    n_split, n_seed = differences.shape
    by_split = differences.mean(axis=1)
    mean = float(by_split.mean())
    noise = float("nan")
    if n_seed > 1:
        noise = float(np.sqrt(differences.var(axis=1, ddof=1).mean()))
    if n_split < 2:
        nan = float("nan")
        return SplitComparison(mean, (nan, nan), nan, n_split, n_seed, nan, noise)
    spread = float(by_split.std(ddof=1))
    error = spread * math.sqrt(1 / n_split + test_share)
    half = student_quantile(n_split - 1) * error
    p = student_p(mean / error, n_split - 1) if error else float(mean == 0)
    return SplitComparison(mean, (mean - half, mean + half), p, n_split, n_seed, spread, noise)


def student_p(t: float, freedom: int) -> float:
    """Return the two-sided p value of Student's t.

    >>> round(student_p(2.2281, 10), 4)
    0.05
    """
    # P(|T| < t) is an integral of cos^(freedom - 1) over angles up to arctan(t / sqrt(freedom)).
    nodes, weights = np.polynomial.legendre.leggauss(200)
    most = math.atan(abs(t) / math.sqrt(freedom))
    angles = (nodes + 1) / 2 * most
    inside = most / 2 * float(weights @ np.cos(angles) ** (freedom - 1))
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return max(0.0, 1 - 2 / math.sqrt(math.pi) * scale * inside)


def student_quantile(freedom: int, p: float = 0.05) -> float:
    """Return the t whose two-sided p value is ``p``.

    >>> round(student_quantile(4), 3)
    2.776
    """
    low, high = 0.0, 1.0
    while student_p(high, freedom) > p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > p else (low, middle)
    return high


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for their number: Holm's step-down method (1979).

    NaN stays NaN and does not count.

    >>> holm({"nDCG": 0.01, "WAP": 0.04, "mAP": 0.03})
    {'nDCG': 0.03, 'WAP': 0.06, 'mAP': 0.06}
    """
    tested = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted, largest = dict(p_values), 0.0
    for place, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - place)))
        adjusted[name] = largest
    return adjusted

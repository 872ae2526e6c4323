"""Combine positive and negative examples into one query vector.

Embeddings have unit norm, so ranking by cosine with a vector is ranking by a linear score: every
rule here returns a vector that any search by embeddings accepts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.types import FloatArray

RULES = ("mean", "rocchio", "linear")

ALPHA, BETA, GAMMA = 1.0, 0.75, 0.15
"""Rocchio's usual weights of the query, of the positives' mean and of the negatives' mean."""
RIDGE = 1.0
"""Ridge penalty of the linear classifier; the examples of each class have total weight 1."""

Vector = npt.NDArray[np.float64]


def direction(
    positives: FloatArray, negatives: FloatArray, rule: str = "mean", negative_weight: float = 0.5
) -> FloatArray:
    """Return one unit vector float32 ``[d]``.

    Args:
        positives: Unit vectors ``[p, d]``, p >= 1; the first is the original query.
        negatives: Unit vectors ``[m, d]``, m >= 0.
        rule: ``mean``: mean of the positives less ``negative_weight`` times the mean of the
            negatives. ``rocchio``: see :func:`rocchio`. ``linear``: see :func:`linear`.
        negative_weight: 0 or more; for ``mean`` only.

    Raises:
        UsageError: The examples cancel each other out.
    """
    if rule == "rocchio":
        found = rocchio(positives[0], positives[1:], negatives)
    elif rule == "linear":
        found = linear(positives, negatives)
    else:
        found = positives.astype(np.float64).mean(axis=0)
        if len(negatives):
            found = found - negative_weight * negatives.astype(np.float64).mean(axis=0)
    norm = float(np.linalg.norm(found))
    if not norm > 1e-6:
        raise UsageError("the positives and negatives cancel each other out: leave some out")
    return (found / norm).astype(np.float32)


def rocchio(
    query: FloatArray,
    positives: FloatArray,
    negatives: FloatArray,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
) -> Vector:
    """Return ``alpha q + beta mean(positives) - gamma mean(negatives)``, float64 ``[d]``.

    Rocchio, in The SMART Retrieval System, 1971. A class without examples adds nothing.
    """
    found = alpha * query.astype(np.float64)
    if len(positives):
        found = found + beta * positives.astype(np.float64).mean(axis=0)
    if len(negatives):
        found = found - gamma * negatives.astype(np.float64).mean(axis=0)
    return found


def linear(positives: FloatArray, negatives: FloatArray, ridge: float = RIDGE) -> Vector:
    """Return the weights float64 ``[d]`` of a linear classifier of positives against negatives.

    A ridge regression to +1 and -1 that shrinks towards the mean of the positives instead of to 0:
    with few examples, all of them near the query, the difference of the classes would lose what
    the positives have in common. The examples of a class have total weight 1; the intercept, which
    does not change the ranking, is not penalized.
    """
    center = positives.astype(np.float64).mean(axis=0)
    if not len(negatives):
        return center
    examples = np.concatenate([positives, negatives]).astype(np.float64)
    sizes = [len(positives), len(negatives)]
    weight = np.repeat([1 / len(positives), 1 / len(negatives)], sizes)
    # What the mean of the positives leaves to explain, less its weighted mean: the intercept.
    rest = np.repeat([1.0, -1.0], sizes) - examples @ center
    rest = rest - weight @ rest / 2
    root = np.sqrt(weight)
    rows = root[:, None] * (examples - weight @ examples / 2)
    # Few examples in many dimensions: solve in the space of examples.
    gram = rows @ rows.T + ridge * np.eye(len(rows))
    return center + rows.T @ np.linalg.solve(gram, root * rest)

"""Fits the space of an archive to the features of a sample of its images.

Without labels: centering, principal components, ITQ codes. Where images are annotated, also a
linear probe whose scores are calibrated probabilities.

Whitening is left out: it was measured to be harmful. What is damped is the difference between
nearest neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.hamming import hamming_distances
from landcue.codes.hashers import itq_rotation
from landcue.codes.packing import pack_bits
from landcue.errors import UsageError
from landcue.models.probe import Matrix, fit_probe
from landcue.models.space import NEIGHBORS, Space, unit_rows
from landcue.types import ByteArray, FloatArray

DIM = 128
"""Length of an embedding, unless it is chosen or the features are shorter."""
BITS = (64, 128, 256)
"""Numbers of bits that are tried for a code; the first that reaches :data:`RECALL` is taken."""
RECALL = 0.95
SHORTLIST = 200
"""Nearest codes among which an image's :data:`NEIGHBORS` nearest are to be."""
LEAST_NEIGHBORS = 256
"""Fewest images whose nearest neighbors are looked at."""
LEAST_DISTINCT = 128
"""Fewest of them that remain without near duplicates."""
DAMPED_BY = 10
"""Nearest neighbors whose differences are damped."""
_SHRINKAGE = 0.1  # added to the covariance of neighbors, over its mean eigenvalue
_ENOUGH = 600  # more is added below this number of images
_DUPLICATE = 0.8  # cosine, around the mean


def fit_space(
    features: npt.NDArray[Any],
    *,
    dim: int | None = None,
    n_bits: int | None = None,
    labels: npt.NDArray[Any] | None = None,
    label_names: Sequence[str] = (),
    text_features: npt.NDArray[Any] | None = None,
    neighbors: bool = False,
    seed: int = 0,
) -> Space:
    """Fit embeddings, codes and, with labels, calibrated label scores to a sample of images.

    Features are scaled to length 1, centered and turned to their principal components; codes are
    signs after iterative quantization (Gong and Lazebnik, CVPR 2011). Label scores are a ridge
    regression on all features, one against the rest, whose penalty has the least leave-one-out
    error, followed by Platt scaling (2000) of the leave-one-out values.

    Args:
        features: Of m images, floats ``[m, F]``, finite.
        dim: Length d of an embedding; by default 128, or F if that is less.
        n_bits: Bits of a code, up to F; 0 for none. By default the fewest of 64,
            128 and 256 whose recall reaches 0.95 on images kept apart from the fit.
        labels: Truth ``[m, C]``; NaN where an image is not annotated.
        label_names: Names of the C labels. Those with fewer than 5 images that carry them, or
            fewer than 5 that do not, get no score.
        text_features: Of general descriptions, ``[t, F]``, to center the features of texts.
        neighbors: Damp the directions in which nearest neighbors differ, if there are
            :data:`LEAST_NEIGHBORS` images or more.
        seed: Of the split and of the first rotation.

    Raises:
        UsageError: Too few images, values that are not finite, or sizes that cannot be reached.

    >>> rng = np.random.default_rng(0)
    >>> space = fit_space(rng.normal(size=(300, 32)), dim=16, n_bits=8)
    >>> space.encode(rng.normal(size=(2, 32))).code.shape
    (2, 1)
    """
    if features.ndim != 2 or len(features) < 2:
        raise UsageError(
            f"features {list(features.shape)}: a space needs those of 2 images or more"
        )
    if not np.isfinite(features).all():
        raise UsageError("the features of an image are not finite: check the model")
    u = unit_rows(features).astype(np.float64)
    m, width = u.shape
    d = min(DIM, width) if dim is None else dim
    if not 1 <= d <= width:
        raise UsageError(f"--dim {d}: the model's features have {width} values; use 1 to {width}")
    if n_bits is not None and not 0 <= n_bits <= width:
        raise UsageError(f"--bits {n_bits}: the model's features allow 0 to {width} bits")
    facts: dict[str, Any] = {"images": m, "features": width, "seed": seed}
    neighbors = neighbors and m >= LEAST_NEIGHBORS
    n_bits, facts["codes"] = _choose_bits(u, d, n_bits, neighbors, seed)
    axes, mean, damped = _axes(u, max(d, n_bits), neighbors)
    if damped:
        facts["neighbors"] = DAMPED_BY
    code_axes = _rotated(u - mean, axes[:, :n_bits], seed)
    maps = [axes[:, :d], code_axes]
    biases = [-mean @ maps[0], -mean @ maps[1]]
    names: tuple[str, ...] = ()
    if labels is not None:
        probe = fit_probe(u, labels, label_names)
        maps.append(probe.weight)
        biases.append(probe.bias)
        names = probe.names
        facts["probe"] = probe.facts
    text_bias = texts = None
    if text_features is not None:
        texts = unit_rows(text_features)
        wide = texts.astype(np.float64)
        centered = wide - wide.mean(axis=0)
        text_bias = (-wide.mean(axis=0) @ np.hstack(maps[:2])).astype(np.float32)
        facts["text"] = _text_facts(
            unit_rows(u @ maps[0] + biases[0]), unit_rows(centered @ maps[0])
        )
    return Space(
        np.concatenate(maps, axis=1).astype(np.float32),
        np.concatenate(biases).astype(np.float32),
        d,
        n_bits,
        names,
        text_bias,
        texts,
        facts,
    )


def _text_facts(images: FloatArray, texts: FloatArray) -> dict[str, float]:
    """Return how scores of texts lie beside those of images.

    ``weight``: the spread of the scores of images over that of texts; ``threshold``: the score that
    1 % of the images exceed, on average over the texts; ``image_threshold``: the same of images.
    """
    queries = images[: len(texts)]
    by_text, by_image = texts @ images.T, queries @ images.T
    np.fill_diagonal(by_image, np.nan)
    spread = float(np.std(by_text, axis=1).mean())
    return {
        "weight": round(float(np.nanstd(by_image, axis=1).mean()) / max(spread, 1e-6), 4),
        "threshold": round(float(np.quantile(by_text, 0.99, axis=1).mean()), 4),
        "image_threshold": round(float(np.nanquantile(by_image, 0.99, axis=1).mean()), 4),
    }


def principal(u: Matrix) -> tuple[Matrix, Matrix]:
    """Return all principal axes ``[F, F]``, those of largest variance first, and the mean.

    With fewer images than features the last axes are arbitrary directions orthogonal to the rest.
    """
    mean = u.mean(axis=0)
    centered = u - mean
    if len(u) < u.shape[1]:  # tens of times faster than the covariance
        axes = np.linalg.svd(centered, full_matrices=True)[2].T
    else:
        axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return axes * np.where(largest < 0, -1.0, 1.0), mean


def _rotated(centered: Matrix, axes: Matrix, seed: int) -> Matrix:
    if not axes.shape[1]:
        return axes
    rotation, _ = itq_rotation(centered @ axes, seed)
    return axes @ rotation


def _axes(u: Matrix, needed: int, neighbors: bool) -> tuple[Matrix, Matrix, bool]:
    """Return the axes that embeddings and codes are made of, the mean, and whether it damped.

    With ``neighbors`` the covariance of the differences between an image and its nearest ones is
    damped, as within-class covariance normalization does with labels (Hatch et al., Interspeech
    2006); then come the principal axes of the result.
    """
    axes, mean = principal(u)
    if not neighbors:
        return axes, mean, False
    every, axes = axes, axes[:, : max(needed, BITS[-1])]
    z = (u - mean) @ axes
    damped = damping(z)
    if damped is None:
        return every, mean, False
    return axes @ damped @ principal(z @ damped)[0], mean, True


def damping(x: Matrix) -> Matrix | None:
    """Return a symmetric map ``[d, d]`` of centered vectors ``[m, d]``; it keeps their mean length.

    It damps the directions in which an image differs from those of its :data:`DAMPED_BY` nearest
    ones that have it among theirs. Near duplicates, such as chips that overlap, are taken once.
    ``None`` if fewer than :data:`LEAST_DISTINCT` images remain.
    """
    z = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    near = z @ z.T
    dropped = np.zeros(len(z), np.bool_)
    for row, others in enumerate(near > _DUPLICATE):
        if not dropped[row]:
            dropped[row + 1 :] |= others[row + 1 :]
    z, near = z[~dropped], near[~dropped][:, ~dropped]
    np.fill_diagonal(near, -np.inf)
    listed = np.zeros(near.shape, np.bool_)
    last = min(DAMPED_BY, len(z) - 1)
    np.put_along_axis(listed, np.argpartition(-near, last, axis=1)[:, :last], True, 1)
    pairs = (listed & listed.T).astype(np.float64)
    within = z.T @ (pairs.sum(axis=1, keepdims=True) * z - pairs @ z)
    if len(z) < LEAST_DISTINCT or not within.any():
        return None
    spread, turn = np.linalg.eigh(within)
    added = _SHRINKAGE * max(1.0, _ENOUGH / len(z)) ** 3 * spread.mean()
    damped = turn / np.sqrt(spread.clip(0) + added) @ turn.T
    lengths = np.linalg.norm(x, axis=1).mean(), np.linalg.norm(x @ damped, axis=1).mean()
    return damped * (lengths[0] / lengths[1])


def _choose_bits(
    u: Matrix, d: int, asked: int | None, neighbors: bool, seed: int
) -> tuple[int, dict[str, Any]]:
    """Return the number of bits, and the recall of codes fitted on one half of the images."""
    if asked == 0:
        return 0, {}
    order = np.random.default_rng(seed).permutation(len(u))
    fit, kept = u[order[::2]], u[order[1::2]]
    choices = (asked,) if asked else tuple(b for b in BITS if b <= u.shape[1]) or (u.shape[1],)
    axes, mean, _ = _axes(fit, max(d, *choices), neighbors)
    embedding = unit_rows((kept - mean) @ axes[:, :d])
    facts: dict[str, Any] = {
        "images": len(kept),
        "shortlist": shortlist_of(len(kept)),
        "recall": {},
    }
    chosen = choices[-1]
    for bits in choices:
        projection = _rotated(fit - mean, axes[:, :bits], seed)
        codes = pack_bits((kept - mean) @ projection > 0)
        facts["recall"][str(bits)] = found = round(recall_of_codes(embedding, codes), 4)
        if found >= RECALL:
            chosen = bits
            break
    return chosen, facts


def recall_of_codes(
    embedding: FloatArray, codes: ByteArray, *, k: int = NEIGHBORS, shortlist: int = SHORTLIST
) -> float:
    """Return the share of each image's k nearest embeddings among its nearest codes.

    Every image is a query against all others; with few images, the shortlist is a tenth of them,
    but k or more.

    Args:
        embedding: Unit-norm ``[n, d]``.
        codes: Packed ``[n, ceil(n_bits / 8)]``.
        k: Neighbors.
        shortlist: Nearest codes.
    """
    n = len(embedding)
    k = min(k, n - 1)
    if k < 1:
        return 1.0
    shortlist = shortlist_of(n, k, shortlist)
    hits = 0
    for first in range(0, n, 256):
        rows = np.arange(first, min(first + 256, n))
        near = -(embedding[rows] @ embedding.T)
        far = hamming_distances(codes[rows], codes).astype(np.float64)
        far += np.arange(n) / (2 * n)  # ties by row
        near[np.arange(len(rows)), rows] = np.inf
        far[np.arange(len(rows)), rows] = np.inf
        best = np.argpartition(near, k - 1, axis=1)[:, :k]
        listed = np.zeros(near.shape, np.bool_)
        np.put_along_axis(
            listed, np.argpartition(far, shortlist - 1, axis=1)[:, :shortlist], True, axis=1
        )
        hits += int(np.take_along_axis(listed, best, axis=1).sum())
    return hits / (k * n)


def shortlist_of(n: int, k: int = NEIGHBORS, most: int = SHORTLIST) -> int:
    """Return how many nearest codes of n images are looked at for the k nearest embeddings."""
    return min(max(k, min(most, n // 10)), n - 1)

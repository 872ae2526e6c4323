"""A flat map of embeddings: principal components, or UMAP where umap-learn is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from landcue.codes.packing import unpack_bits
from landcue.metrics.annotations import Annotations
from landcue.metrics.relevance import Floats, Integers
from landcue.report.evaluation import Space

MOST_POINTS = 1500
_UMAP_NEEDS = 20
_TELLING = 12


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Points of a map.

    Attributes:
        rows: Gallery rows shown, int64 ``[m]``, rising.
        points: ``[m, 2]``.
        method: How it was made, for the caption.
    """

    rows: Integers
    points: Floats
    method: str


def make_map(space: Space, seed: int = 0, method: str | None = None) -> EmbeddingMap | None:
    """Flatten the gallery's vectors (or the bits of its codes, as 0 and 1).

    Returns:
        The map; ``None`` with fewer than three images.
    """
    if space.codes is not None:
        vectors = unpack_bits(space.codes, space.n_bits).astype(np.float64)
    elif space.floats is not None:
        vectors = space.floats.astype(np.float64)
    else:
        return None
    if len(vectors) < 3:
        return None
    rows = np.arange(len(vectors))
    if len(rows) > MOST_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_POINTS, replace=False))
    if method is None:
        installed = importlib.util.find_spec("umap") is not None
        method = "umap" if installed and len(rows) >= _UMAP_NEEDS else "pca"
    if method == "umap":
        umap: Any = importlib.import_module("umap")
        flat = umap.UMAP(random_state=seed, n_jobs=1).fit_transform(vectors[rows])
        return EmbeddingMap(rows, np.asarray(flat, np.float64), "UMAP")
    points, shares = principal_components(vectors[rows])
    first, second = (f"{100 * share:.0f} %" for share in shares)
    text = f"the first two principal components ({first} and {second} of the variance)"
    return EmbeddingMap(rows, points, text)


def principal_components(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """Return the first two principal components ``[n, 2]`` and their shares of the variance.

    The sign of a component is free: the entry of its direction with the largest magnitude is made
    positive.
    """
    centered = vectors - vectors.mean(axis=0)
    _, strength, directions = np.linalg.svd(centered, full_matrices=False)
    chosen = np.zeros((2, centered.shape[1]))
    for row, direction in enumerate(directions[:2]):
        chosen[row] = direction * (1 if direction[np.abs(direction).argmax()] >= 0 else -1)
    variance = np.zeros(2)
    variance[: min(2, strength.size)] = strength[:2] ** 2
    total = float((strength**2).sum()) or 1.0
    return centered @ chosen.T, (float(variance[0] / total), float(variance[1] / total))


def categories(images: Annotations) -> tuple[list[str], str]:
    """Return what each image is colored by, and what that is in words.

    The group of an image (scene class, tile) where images have several groups; else its rarest
    label among the twelve most frequent ones.
    """
    groups = {group for group in images.groups if group is not None}
    if 2 <= len(groups) <= len(images) // 2:
        return [group or "none" for group in images.groups], "group"
    counts = images.labels.sum(axis=0, dtype=np.int64)
    frequent = sorted(range(len(counts)), key=lambda c: (-int(counts[c]), c))[:_TELLING]
    found: list[str] = []
    for line in images.labels:
        carried = [c for c in reversed(frequent) if line[c]]
        found.append(images.label_names[carried[0]] if carried else "none of these")
    return found, f"rarest label among the {len(frequent)} most frequent"


def largest(names: list[str], n: int) -> list[str]:
    """Return the n most frequent names, sorted by name."""
    counts = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    return sorted(name for name, _ in counts[:n])

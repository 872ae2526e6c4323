"""Average precision by label, and whether rare labels pay for frequent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landcue.metrics.relevance import Floats
from landcue.types import ByteArray

THIRDS = ("rare", "medium", "frequent")
OF_LABELS = {third: f"mAP of {third} labels" for third in THIRDS} | {"all": "mAP over labels"}
"""The names of :func:`macro_means` in tables."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """The mean average precision of the queries that carry one label.

    Attributes:
        mean: Mean AP; NaN if no query with the label has a relevant item.
        chance: The same for a random ranking.
        n_query: Queries that carry the label and count.
        n_gallery: Gallery images that carry it.
        third: ``rare``, ``medium`` or ``frequent`` by ``n_gallery``; empty if no query counts.
    """

    mean: float
    chance: float
    n_query: int
    n_gallery: int
    third: str


def score_labels(
    names: Sequence[str], query: ByteArray, gallery: ByteArray, values: Floats, chance: Floats
) -> dict[str, LabelScore]:
    """Average AP over the queries of each label, and cut the labels into thirds by frequency.

    The thirds hold the labels with at least one counted query, ordered by the number of gallery
    images (then by column); where they cannot be equal the rarer ones are larger by one.

    Args:
        names: C label names.
        query: Multi-hot labels ``[q, C]``.
        gallery: Multi-hot labels ``[n, C]``.
        values: AP of each query, NaN where it does not count, ``[q]``.
        chance: The same for a random ranking.
    """
    counted = ~np.isnan(values)
    carried = query[counted].astype(np.float64)
    n_query = carried.sum(axis=0)
    n_gallery = gallery.sum(axis=0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        means = values[counted] @ carried / n_query
        by_chance = chance[counted] @ carried / n_query
    ordered = [int(c) for c in np.argsort(n_gallery, kind="stable") if n_query[c]]
    third = {
        c: name
        for name, part in zip(THIRDS, np.array_split(np.array(ordered, np.int64), 3), strict=True)
        for c in part.tolist()
    }
    return {
        name: LabelScore(
            float(means[c]),
            float(by_chance[c]),
            int(n_query[c]),
            int(n_gallery[c]),
            third.get(c, ""),
        )
        for c, name in enumerate(names)
    }


def macro_means(labels: dict[str, LabelScore]) -> dict[str, float]:
    """Return the mean over labels, ``all`` and by third; NaN for a third without labels."""
    parts = {third: [s.mean for s in labels.values() if s.third == third] for third in THIRDS}
    parts = {"all": [s.mean for s in labels.values() if s.third], **parts}
    return {name: float(np.mean(part)) if part else float("nan") for name, part in parts.items()}

"""Own-label AP: how well the images that carry a label find the others that carry it.

AP over images with any shared label saturates where labels are frequent; this does not, so it
shows what becomes of rare labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from landcue.errors import UsageError, did_you_mean
from landcue.metrics import measures
from landcue.metrics.annotations import Annotations
from landcue.metrics.ranking import TieRuns, one_group
from landcue.metrics.relevance import Floats, Integers
from landcue.metrics.scoring import Block
from landcue.types import ByteArray

THIRDS = ("rare", "medium", "frequent")
OF_LABELS = {third: f"own-label AP of {third} labels" for third in THIRDS} | {"all": "own-label AP"}
"""The names of :func:`macro_means` in tables."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """Own-label AP of one label: of the queries that carry it, relevant is what carries it too.

    Attributes:
        mean: Mean AP; NaN if no query with the label has another image with it to find.
        chance: The same for a random ranking.
        n_query: Queries that carry the label and count.
        n_gallery: Gallery images that carry it.
        third: ``rare``, ``medium`` or ``frequent`` by the counts that the evaluation was given
            (those of the training part), or else by ``n_gallery``; empty if no query counts.
    """

    mean: float
    chance: float
    n_query: int
    n_gallery: int
    third: str


class OwnLabelPrecision:
    """AP by query and label, and the same for a random ranking, filled block by block.

    Ties and left-out images are treated as in all other metrics.

    Attributes:
        values: float64 ``[q, C]``; NaN where a query does not carry the label, or no other image
            does.
        chance: The same for a random ranking.
    """

    def __init__(self, query: Annotations, gallery: ByteArray) -> None:
        """Take the queries and the labels ``[n, C]`` of the gallery in the order of ids."""
        shape = query.labels.shape
        self.values, self.chance = np.full(shape, np.nan), np.full(shape, np.nan)
        self._carried = query.labels == 1
        self._planes = np.ascontiguousarray(np.packbits(gallery == 1, axis=1, bitorder="little").T)

    def add(self, rows: slice, block: Block) -> None:
        """Measure the queries of a block whose gallery images are known by rank."""
        row, label = np.nonzero(self._carried[rows])
        if not row.size:
            return
        places = block.ranked_places()
        having = np.empty((row.size, places.shape[1]), np.bool_)
        for plane in np.unique(label // 8).tolist():
            of_plane = np.flatnonzero(label // 8 == plane)
            carried = np.take(self._planes[plane], places)[row[of_plane]]
            carried &= (1 << (label[of_plane] % 8).astype(np.uint8))[:, None]
            having[of_plane] = carried != 0
        size = block.census.size[row]
        fewest = int(size.min())
        having[:, fewest:] &= np.arange(fewest, places.shape[1]) < size[:, None]

        n_relevant: Integers = np.count_nonzero(having, axis=1)
        values = np.empty(row.size)
        tied = np.any(~block.ranked.starts, axis=1)[row]
        without = TieRuns.of(np.ones((1, places.shape[1]), np.bool_))
        # Few rankings of floats have ties, and those without are collected in half the time.
        for runs, chosen in ((block.ranked.tie_runs(), tied), (without, ~tied)):
            part = np.flatnonzero(chosen)
            if part.size:
                groups = runs.collect(having[part], row[part])
                values[part] = measures.average_precision(groups, n_relevant[part])
        random = one_group(size, n_relevant, n_relevant.astype(np.float64))
        some = n_relevant > 0
        at = row[some] + rows.start, label[some]
        self.values[at] = values[some]
        self.chance[at] = measures.average_precision(random, n_relevant)[some]


def score_labels(
    names: Sequence[str],
    gallery: ByteArray,
    values: Floats,
    chance: Floats,
    counts: Mapping[str, int] | None = None,
) -> dict[str, LabelScore]:
    """Average own-label AP over the queries of each label, and cut the labels into thirds.

    Args:
        names: C label names.
        gallery: Multi-hot labels ``[n, C]``.
        values: AP by query and label ``[q, C]``, NaN where it does not count.
        chance: The same for a random ranking.
        counts: Images by label, of the training part, which decide the thirds; every label must
            be there. Without it the gallery's decide, of labels with a counted query.
    """
    n_query = np.count_nonzero(~np.isnan(values), axis=0)
    n_gallery = gallery.sum(axis=0, dtype=np.int64)
    if counts is None:
        chosen = np.flatnonzero(n_query)
        thirds = dict(zip(chosen.tolist(), cut_thirds(n_gallery[chosen]), strict=True))
    else:
        for name in names:
            if name not in counts:
                raise UsageError(
                    f"label_counts lack the label {name!r}{did_you_mean(name, list(counts))}"
                )
        thirds = dict(enumerate(cut_thirds(np.array([counts[name] for name in names]))))
    with np.errstate(invalid="ignore"):
        means, by_chance = (np.nansum(v, axis=0) / n_query for v in (values, chance))
    return {
        name: LabelScore(
            float(means[c]),
            float(by_chance[c]),
            int(n_query[c]),
            int(n_gallery[c]),
            thirds[c] if n_query[c] else "",
        )
        for c, name in enumerate(names)
    }


def cut_thirds(counts: Integers) -> list[str]:
    """Return the third of each of C labels by its count.

    Where the thirds cannot be equal the rarer ones are larger by one. Labels with equal counts
    are in one third: the one in which the middle of their places lies.

    >>> cut_thirds(np.array([5, 9, 5, 80]))
    ['rare', 'medium', 'rare', 'frequent']
    """
    ordered = np.sort(counts)
    first, last = (np.searchsorted(ordered, counts, side) for side in ("left", "right"))
    n = len(counts)
    ends = np.cumsum([n // 3 + (n % 3 > i) for i in range(3)])
    places = np.searchsorted(ends, (first + last) / 2, side="left")
    return [THIRDS[min(int(place), 2)] for place in places]


def macro_means(labels: Mapping[str, LabelScore]) -> dict[str, float]:
    """Return the mean over labels, ``all`` and by third; NaN for a third without labels."""
    parts = {third: [s.mean for s in labels.values() if s.third == third] for third in THIRDS}
    parts = {"all": [s.mean for s in labels.values() if s.third], **parts}
    return {name: float(np.mean(part)) if part else float("nan") for name, part in parts.items()}

"""Which labels are mistaken for which: what a query's first hits carry instead of its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landcue.metrics.relevance import Floats, Integers
from landcue.report.evaluation import Evaluation, Space
from landcue.report.queries import first_hits


@dataclass(frozen=True, slots=True)
class Confusion:
    """Means over the queries that carry each of the C labels.

    Attributes:
        names: The C labels.
        k: Number of first hits to count.
        n_query: Queries with the label, ``[C]``.
        missed: Share of the first k hits without the label, ``[C]``; NaN without queries.
        chance_missed: Share of the gallery without it, the query apart.
        instead: Share of the first k hits that lack label c and carry label d, which the query
            does not, ``[C, C]`` as (c, d).
        chance: The same for the whole gallery.
    """

    names: tuple[str, ...]
    k: int
    n_query: Integers
    missed: Floats
    chance_missed: Floats
    instead: Floats
    chance: Floats

    def worst(self, n: int) -> list[int]:
        """Return the n labels most often missed, ordered by the share of misses."""
        some = [c for c in range(len(self.names)) if self.n_query[c]]
        return sorted(some, key=lambda c: (-self.missed[c], self.names[c]))[:n]

    def rivals(self, label: int, n: int) -> list[int]:
        """Return the n labels found most often instead of a label, beyond none."""
        line = self.instead[label]
        ordered = sorted(range(len(self.names)), key=lambda d: (-line[d], self.names[d]))
        return [d for d in ordered[:n] if line[d] > 0]


def confusion(subject: Evaluation, space: Space, k: int = 20) -> Confusion:
    """Count the labels of the first k hits of every query."""
    asked = subject.query.labels.astype(np.float64)
    held = subject.gallery.labels.astype(np.float64)
    n, width = held.shape
    n_query = subject.query.labels.sum(axis=0, dtype=np.int64)
    missed, instead = np.zeros(width), np.zeros((width, width))
    for part, hits, real in first_hits(subject, space, min(k, n)):
        labels = held[hits] * real[:, :, None]  # [b, k, C]
        n_hits = np.maximum(real.sum(axis=1), 1)
        counts = labels.sum(axis=1)
        ours = asked[part] / n_hits[:, None]
        missed += (ours * (real.sum(axis=1)[:, None] - counts)).sum(axis=0)
        without = np.empty((len(labels), width, width))
        for row, found in enumerate(labels):
            without[row] = counts[row] - found.T @ found
        instead += np.einsum("qc,qcd,qd->cd", ours, without, 1 - asked[part])

    in_gallery = set(subject.gallery.ids) if space.scores.exclude_self else set[str]()
    size = np.array([max(1, n - (name in in_gallery)) for name in subject.query.ids])
    ours = asked / size[:, None]
    lacking = held.sum(axis=0) - held.T @ held  # images with d and without c, as (c, d)
    with np.errstate(invalid="ignore"):
        return Confusion(
            names=subject.query.label_names,
            k=min(k, n),
            n_query=n_query,
            missed=missed / n_query,
            chance_missed=ours.sum(axis=0) * (n - held.sum(axis=0)) / n_query,
            instead=instead / n_query[:, None],
            chance=(ours.T @ (1 - asked)) * lacking / n_query[:, None],
        )

"""Single queries of an evaluation: which went best and worst, and what they found."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.metrics.annotations import Annotations, same_group
from landcue.metrics.protocol import Metric, Protocol
from landcue.metrics.ranking import order
from landcue.metrics.relevance import Floats, Integers, relevant
from landcue.report.evaluation import Evaluation, Space

_PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """One query with its first hits.

    Attributes:
        row: Row of the query.
        value: Its score; NaN if it does not count.
        hits: Gallery rows, nearest first; equal distances in the order of ids.
        distances: Of the hits.
    """

    row: int
    value: float
    hits: tuple[int, ...]
    distances: tuple[float, ...]


def deciding_metric(protocol: Protocol) -> Metric:
    """Return the metric by which queries are sorted: graded and deep if there is one.

    It is nDCG at the largest cut-off, or else the protocol's first metric.
    """
    metrics = protocol.metrics()
    graded = [metric for metric in metrics if metric.kind == "nDCG"]
    return max(graded, key=lambda metric: metric.k or 0, default=metrics[0])


def extremes(
    values: Floats, images: Annotations, n: int, *, falling: bool = False
) -> tuple[list[int], list[int]]:
    """Return the rows of the n best and the n worst queries, the most extreme first.

    Each side shows a set of labels once while others are left, so that it is no row of twins;
    equal values come in the order of ids. No query is on both sides.

    Args:
        values: Score of each query, ``[q]``; NaN where it does not count.
        images: The queries.
        n: Queries on each side, at most half of those that count.
        falling: Whether smaller is better.
    """
    counted = [int(row) for row in np.flatnonzero(np.isfinite(values))]
    sign = 1 if falling else -1
    rows = sorted(counted, key=lambda row: (sign * values[row], images.ids[row]))
    n = min(n, len(rows) // 2) or min(1, len(rows))
    half = (len(rows) + 1) // 2
    best = _various(rows[:half], images, n)
    lowest = sorted(rows[half:], key=lambda row: (-sign * values[row], images.ids[row]))
    return best, _various(lowest, images, n)


def retrieve(
    subject: Evaluation, space: Space, rows: Iterable[int], k: int, values: Floats | None = None
) -> list[RankedQuery]:
    """Return what some queries find among the first k."""
    found: list[RankedQuery] = []
    by_id, protocol = _by_id(subject.gallery), space.scores.protocol
    for row in rows:
        part = slice(row, row + 1)
        hits, distances, n_hits = _first(subject, space, part, by_id, protocol, k)
        n = int(n_hits[0])
        value = float("nan") if values is None else float(values[row])
        near = tuple(float(d) for d in distances[0, :n])
        found.append(RankedQuery(row, value, tuple(hits[0, :n].tolist()), near))
    return found


def first_hits(
    subject: Evaluation, space: Space, k: int
) -> Generator[tuple[slice, Integers, npt.NDArray[np.bool_]]]:
    """Rank the gallery for all queries, many at a time.

    Yields:
        A slice of the queries, the gallery rows of their first k' hits, int64 ``[b, k']`` with k'
        = k or the size of the gallery, and bool ``[b, k']``, false where a query has no such hit
        because it must not find that image.
    """
    by_id, protocol = _by_id(subject.gallery), space.scores.protocol
    step = max(1, _PAIRS_AT_ONCE // max(1, len(subject.gallery)))
    for first in range(0, len(subject.query), step):
        part = slice(first, min(first + step, len(subject.query)))
        hits, _, n_hits = _first(subject, space, part, by_id, protocol, k)
        yield part, hits, np.arange(hits.shape[1]) < n_hits[:, None]


def wrong_first_hits(subject: Evaluation, values: Floats) -> list[int]:
    """Return the queries whose first hit is not relevant, the lowest value first."""
    space, rows = subject.main, list[int]()
    kind = space.scores.protocol.relevance
    for part, hits, real in first_hits(subject, space, 1):
        for row, hit in enumerate(hits[:, 0].tolist(), start=part.start):
            if real[row - part.start, 0] and np.isfinite(values[row]):
                ours = subject.query.labels[row : row + 1]
                theirs = subject.gallery.labels[hit : hit + 1]
                if not relevant(ours, theirs, kind)[0, 0]:
                    rows.append(row)
    return sorted(rows, key=lambda row: (values[row], subject.query.ids[row]))


def _first(
    subject: Evaluation,
    space: Space,
    part: slice,
    by_id: Integers,
    protocol: Protocol,
    k: int,
) -> tuple[Integers, npt.NDArray[np.generic], Integers]:
    """Return rows and distances ``[b, k']`` of the first hits, and how many there are, ``[b]``."""
    distances = space.distances.rows(part)[:, by_id]
    hidden = _hidden(subject, part, protocol, exclude_self=space.scores.exclude_self)[:, by_id]
    places, _ = order(distances, hidden=hidden)
    places = places[:, :k]
    n_hits = np.count_nonzero(~hidden, axis=1)
    return by_id[places], np.take_along_axis(distances, places, axis=1), n_hits


def _hidden(
    subject: Evaluation, part: slice, protocol: Protocol, *, exclude_self: bool
) -> npt.NDArray[np.bool_]:
    """Return bool ``[b, n]``: the gallery images that a query must not find."""
    own = subject.query.ids[part]
    if protocol.exclude_group:
        hidden = same_group(subject.query, subject.gallery, part)
    else:
        hidden = np.zeros((len(own), len(subject.gallery)), np.bool_)
    if not exclude_self:
        return hidden
    rows = {name: row for row, name in enumerate(own)}
    for column, name in enumerate(subject.gallery.ids):
        if name in rows:
            hidden[rows[name], column] = True
    return hidden


def _by_id(gallery: Annotations) -> Integers:
    return np.array(sorted(range(len(gallery)), key=gallery.ids.__getitem__), np.int64)


def _various(rows: list[int], images: Annotations, n: int) -> list[int]:
    """Return the first n rows, of each set of labels one before any other's second."""
    seen: set[bytes] = set()
    new: list[int] = []
    again: list[int] = []
    for row in rows:
        key = images.labels[row].tobytes()
        (again if key in seen else new).append(row)
        seen.add(key)
    kept = set((new + again)[:n])
    return [row for row in rows if row in kept]


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

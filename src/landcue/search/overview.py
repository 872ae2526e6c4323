"""An overview of an archive: a 2-D map of its embeddings, and retrieval scores by its own labels.

Both use a bounded sample of the records, drawn with a fixed seed, so that results are the same for
each version of an archive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.annotations import Annotations
from landcue.metrics.evaluation import evaluate, evaluate_codes
from landcue.metrics.protocol import DEFAULT
from landcue.metrics.report import Report
from landcue.report.embedding_map import categories, principal_components
from landcue.search.archive import Archive
from landcue.search.records import Records
from landcue.types import ByteArray

MOST_POINTS = 2_000
MOST_QUERIES = 2_000
MOST_WORST = 8
RESAMPLES = 1_000
_SEED = 0
_TEST = "test"


@dataclass(frozen=True, slots=True, eq=False)
class FlatMap:
    """Records laid out by the first two principal components of their embeddings.

    Attributes:
        ids: Ids of the records, ascending.
        points: float64 ``[m, 2]``.
        shares: Share of the sample's variance, 0..1, of each component.
        kinds: The category of each point: its group, or one of its labels.
        colored_by: What the categories are, for the legend.
    """

    ids: tuple[str, ...]
    points: npt.NDArray[np.float64]
    shares: tuple[float, float]
    kinds: tuple[str, ...]
    colored_by: str


@dataclass(frozen=True, slots=True, eq=False)
class LabelErrors:
    """How the predicted labels of annotated records differ from their annotations.

    Attributes:
        labels: Labels that are annotated or predicted, the most frequently annotated first.
        annotated: int64 ``[C]``, records annotated with each label.
        predicted: int64 ``[C]``, records of which it is predicted.
        both: int64 ``[C]``, records with both.
        instead: int64 ``[C, C]``: records annotated with label ``i``, which is not predicted, and
            predicted to have label ``j``, which is not annotated.
    """

    labels: tuple[str, ...]
    annotated: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    both: npt.NDArray[np.int64]
    instead: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class OwnScores:
    """Retrieval scores of an archive's annotated records, each query excluding itself.

    Attributes:
        spaces: ``embedding`` and, where there are codes, ``code``.
        annotated: Number of annotated records before sampling.
        part: ``test`` if the archive records which images the model was not trained on, and only
            those were used; else ``all``, which may include training images.
        worst: By label, ids and own-label AP of the queries with the smallest in the embedding
            space.
        errors: Of the predicted labels; ``None`` where the model predicts none.
    """

    spaces: dict[str, Report]
    annotated: int
    part: str
    worst: dict[str, tuple[tuple[str, float], ...]]
    errors: LabelErrors | None


def flat_map(archive: Archive, most: int = MOST_POINTS) -> FlatMap:
    """Project a sample of at most ``most`` records."""
    records, vectors = archive.backend.records, archive.backend.vectors
    if len(records) < 3:
        raise UsageError(f"{len(records)} records are too few for a map: at least 3 are needed")
    rows = _sample(np.arange(len(records)), most)
    points, shares = principal_components(vectors.embedding[rows].astype(np.float64))
    carried = [records.labels_of(row) for row in rows.tolist()]
    kinds, colored_by = categories(_annotations(records, rows, carried))
    return FlatMap(
        tuple(records.id(row) for row in rows.tolist()), points, shares, tuple(kinds), colored_by
    )


def own_scores(archive: Archive, most: int = MOST_QUERIES) -> OwnScores:
    """Score a sample of at most ``most`` annotated records, each a query against the others."""
    records, vectors = archive.backend.records, archive.backend.vectors
    known = records.labels.known
    held_out = known & records.among("part", [_TEST])
    part = _TEST if np.count_nonzero(held_out) >= 2 else "all"
    chosen = np.flatnonzero(held_out if part == _TEST else known)
    if len(chosen) < 2:
        raise UsageError("fewer than two records are annotated: retrieval cannot be measured")
    rows = _sample(chosen, most)
    images = _annotations(records, rows, [records.labels.row(row) or () for row in rows.tolist()])
    if not images.label_names:
        raise UsageError("no annotated record carries a label: retrieval cannot be measured")
    spaces = {
        "embedding": evaluate(
            np.array(vectors.embedding[rows]),
            images,
            protocol=DEFAULT,
            resamples=RESAMPLES,
            seed=_SEED,
        )
    }
    n_bits = archive.manifest.n_bits
    if n_bits:
        codes: ByteArray = np.array(vectors.code[rows])
        spaces["code"] = evaluate_codes(
            codes,
            n_bits,
            images,
            protocol=DEFAULT,
            resamples=RESAMPLES,
            seed=_SEED,
            band=False,
        )
    errors = None
    if archive.manifest.label_names:
        carried = [records.labels.row(row) or () for row in rows.tolist()]
        guessed = [records.predicted.row(row) or () for row in rows.tolist()]
        errors = label_errors(carried, guessed)
    return OwnScores(spaces, len(chosen), part, _worst(spaces["embedding"], images), errors)


def label_errors(
    annotated: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> LabelErrors:
    """Compare the predicted labels of records with those annotated.

    >>> found = label_errors([["ship"], ["ship"], ["sand"]], [["ship"], ["dock"], ["sand"]])
    >>> found.labels, found.both.tolist()
    (('ship', 'sand', 'dock'), [1, 1, 0])
    >>> found.instead[0].tolist()  # of 2 ships one was called a dock
    [0, 0, 1]
    """
    counts = Counter(name for labels in annotated for name in labels)
    names = sorted(
        counts.keys() | {name for labels in predicted for name in labels},
        key=lambda name: (-counts[name], name),
    )
    truth, guess = (_table(labels, names) for labels in (annotated, predicted))
    missed, false = (truth & ~guess).astype(np.int64), (guess & ~truth).astype(np.int64)
    return LabelErrors(
        tuple(names), truth.sum(0), guess.sum(0), (truth & guess).sum(0), missed.T @ false
    )


def _table(rows: Sequence[Sequence[str]], names: Sequence[str]) -> npt.NDArray[np.bool_]:
    place = {name: c for c, name in enumerate(names)}
    table = np.zeros((len(rows), len(names)), np.bool_)
    for line, labels in zip(table, rows, strict=True):
        line[[place[name] for name in labels]] = True
    return table


def _worst(report: Report, images: Annotations) -> dict[str, tuple[tuple[str, float], ...]]:
    scores = report.own_label
    if not scores.size:
        return {}
    found: dict[str, tuple[tuple[str, float], ...]] = {}
    for c, name in enumerate(images.label_names):
        defined = np.flatnonzero(~np.isnan(scores[:, c]))
        order = defined[np.argsort(scores[defined, c], kind="stable")][:MOST_WORST]
        found[name] = tuple((images.ids[q], float(scores[q, c])) for q in order.tolist())
    return {name: queries for name, queries in found.items() if queries}


def _sample(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(_SEED).choice(rows, most, replace=False))


def _annotations(
    records: Records, rows: npt.NDArray[np.int64], carried: Sequence[Sequence[str]]
) -> Annotations:
    names = sorted({name for labels in carried for name in labels})
    labels = _table(carried, names).astype(np.uint8)
    ids = tuple(records.id(row) for row in rows.tolist())
    return Annotations(ids, labels, tuple(names), tuple(records.column("group", rows).to_pylist()))

"""An overview of an archive: a 2-D map of its embeddings, and retrieval scores by its own labels.

Both use a bounded sample of the records, drawn with a fixed seed, so that results are the same for
each version of an archive.
"""

from __future__ import annotations

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
class OwnScores:
    """Retrieval scores of an archive's annotated records, each query excluding itself.

    Attributes:
        spaces: ``embedding`` and, where there are codes, ``code``.
        annotated: Number of annotated records before sampling.
        part: ``test`` if the archive records which images the model was not trained on, and only
            those were used; else ``all``, which may include training images.
    """

    spaces: dict[str, Report]
    annotated: int
    part: str


def flat_map(archive: Archive, most: int = MOST_POINTS) -> FlatMap:
    """Project a sample of at most ``most`` records.

    Raises:
        UsageError: There are fewer than three records.
    """
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
    """Score a sample of at most ``most`` annotated records, each a query against the others.

    Raises:
        UsageError: Fewer than two records are annotated.
    """
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
    return OwnScores(spaces, len(chosen), part)


def _sample(rows: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(_SEED).choice(rows, most, replace=False))


def _annotations(
    records: Records, rows: npt.NDArray[np.int64], carried: Sequence[Sequence[str]]
) -> Annotations:
    names = sorted({name for labels in carried for name in labels})
    place = {name: c for c, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), np.uint8)
    for line, found in zip(labels, carried, strict=True):
        line[[place[name] for name in found]] = 1
    ids = tuple(records.id(row) for row in rows.tolist())
    return Annotations(ids, labels, tuple(names), tuple(records.groups_of(rows)))

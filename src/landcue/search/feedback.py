"""Combine positive and negative examples into one query vector.

Embeddings have unit norm, so ranking by cosine with a vector is ranking by a linear score: every
rule here returns a vector that any search by embeddings accepts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.search.backend import Storage
from landcue.types import FloatArray

if TYPE_CHECKING:
    from landcue.search.archive import Archive

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


RELEVANCE = ("jaccard-0.4", "any-shared")
PARTS = ("test", "val", "train", "all")
PRECISION_AT = 10

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Round:
    """Means over the queries that have a relevant record left.

    Attributes:
        round: From 1.
        judged: Records judged so far, per query.
        relevant: Of these the relevant ones, on average.
        queries: Number of queries with a relevant record left.
        plain: ``P@10`` and ``AP`` of the ranking without feedback, on the residual collection.
        feedback: The same for the ranking with feedback.
        gain: The difference.
    """

    round: int
    judged: int
    relevant: float
    queries: int
    plain: dict[str, float]
    feedback: dict[str, float]
    gain: dict[str, float]


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """The rounds and the settings of a simulation."""

    archive: str
    part: str
    rule: str
    relevance: str
    per_round: int
    records: int
    left_out: int
    rounds: tuple[Round, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def to_text(self) -> str:
        """Return a table with a description of the simulation."""
        lines = [
            f"relevance feedback, rule {self.rule}: {self.per_round} records judged a round by "
            f"their labels ({self.relevance}); {self.records} records of part {self.part}, "
            f"{self.left_out} without any relevant record left out",
            "scored on the residual collection: the query and all judged records are taken out",
            f"{'round':>5} {'queries':>8} {'relevant':>9}"
            + "".join(f"{f'{name} plain':>12}{'feedback':>10}{'gain':>8}" for name in _SCORES),
        ]
        for found in self.rounds:
            if not found.queries:
                lines.append(f"{found.round:>5} {0:>8}  no relevant record is left to be found")
                continue
            scores = "".join(
                f"{found.plain[name]:>12.4f}{found.feedback[name]:>10.4f}{found.gain[name]:>+8.4f}"
                for name in _SCORES
            )
            relevant = f"{found.relevant:.1f}/{found.judged}"
            lines.append(f"{found.round:>5} {found.queries:>8} {relevant:>9}{scores}")
        return "\n".join(lines)


_SCORES = (f"P@{PRECISION_AT}", "AP")


def simulate_feedback(
    archive: Archive | Storage | str | Path,
    rounds: int = 3,
    *,
    part: str = "test",
    rule: str = "rocchio",
    relevance: str = RELEVANCE[0],
    per_round: int = 10,
    most_queries: int = 500,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> FeedbackReport:
    """Simulate rounds of feedback on the embeddings of an archive.

    Args:
        archive: The archive, its folder, or the address of a collection.
        rounds: 1 or more.
        part: Queries and gallery: ``test``, ``val``, ``train`` or ``all``; all if the archive
            has no parts.
        rule: How examples are combined: see :mod:`landcue.search.feedback`.
        relevance: ``jaccard-0.4``: the labels shared are at least 0.4 of all labels of the two;
            ``any-shared``: one label is shared.
        per_round: Records judged in each round.
        most_queries: Maximum number of queries, evenly spaced in the order of ids.
        progress: Called with the stage, the number of finished steps and their total.

    Raises:
        ArchiveError: No archive, or fewer than two annotated records in the part.
        UsageError: A value is not valid.

    >>> report = simulate_feedback(archive, rounds=1, per_round=1)
    >>> report.records, report.left_out
    (4, 1)
    """
    for name, value, known in (
        ("part", part, PARTS),
        ("rule", rule, RULES),
        ("relevance", relevance, RELEVANCE),
    ):
        if value not in known:
            raise UsageError(f"unknown {name} {value!r}{did_you_mean(value, known)}")
    if min(rounds, per_round, most_queries) < 1:
        raise UsageError("rounds, judged records and queries must be 1 or more")
    if isinstance(archive, str | Path):
        from landcue.search.opened import open_storage

        with contextlib.closing(open_storage(Path(archive))) as opened:
            columns, folder = opened.columns(), opened.folder
    else:
        columns, folder = archive.columns(), archive.folder
    chosen = columns.labels.known.copy()
    if part != "all" and any(columns.part):
        chosen &= np.array([p == part for p in columns.part], np.bool_)
    else:
        part = "all"
    rows = np.flatnonzero(chosen)
    if len(rows) < 2:
        raise ArchiveError(
            f"{folder} has {len(rows)} annotated records in part {part}; index images with labels"
        )
    names = columns.labels.names
    labels = np.zeros((len(rows), len(names)), np.bool_)
    for i, name in enumerate(names):
        labels[:, i] = columns.labels.having(name)[rows]
    embeddings = columns.embedding[rows]
    asking = np.unique(np.linspace(0, len(rows) - 1, min(most_queries, len(rows))).astype(int))
    tables = [_Tally() for _ in range(rounds)]
    left_out = 0
    for done, query in enumerate(asking.tolist(), start=1):
        relevant = relevant_to(labels, query, relevance)
        if not relevant.any():
            left_out += 1
        else:
            _ask(embeddings, query, relevant, rule, per_round, tables)
        progress("feedback", done, len(asking))
    if left_out == len(asking):
        raise ArchiveError(f"no record of part {part} has a relevant one ({relevance}): no gain")
    found = tuple(
        tally.round(number, number * per_round) for number, tally in enumerate(tables, start=1)
    )
    return FeedbackReport(folder.name, part, rule, relevance, per_round, len(rows), left_out, found)


def relevant_to(labels: Mask, query: int, relevance: str) -> Mask:
    """Return bool ``[n]``: the records relevant to one of them, which is not relevant to itself.

    Args:
        labels: bool ``[n, C]``.
        query: Row.
        relevance: One of :data:`RELEVANCE`.
    """
    shared = (labels & labels[query]).sum(axis=1)
    union = (labels | labels[query]).sum(axis=1)
    found = shared > 0 if relevance == "any-shared" else (5 * shared >= 2 * union) & (shared > 0)
    found[query] = False
    return found


class _Tally:
    """Scores of one round, query after query."""

    def __init__(self) -> None:
        self.relevant: list[int] = []
        self.plain: list[tuple[float, float]] = []
        self.feedback: list[tuple[float, float]] = []

    def round(self, number: int, judged: int) -> Round:
        if not self.plain:
            nothing = dict.fromkeys(_SCORES, 0.0)
            return Round(number, judged, 0.0, 0, nothing, nothing, nothing)
        plain, feedback = np.mean(self.plain, axis=0), np.mean(self.feedback, axis=0)
        values = [
            dict(zip(_SCORES, scores.tolist(), strict=True))
            for scores in (plain, feedback, feedback - plain)
        ]
        return Round(number, judged, float(np.mean(self.relevant)), len(self.plain), *values)


def _ask(
    embeddings: FloatArray,
    query: int,
    relevant: Mask,
    rule: str,
    per_round: int,
    tables: list[_Tally],
) -> None:
    plain = _order(embeddings, embeddings[query])
    order = plain
    unjudged = np.ones(len(relevant), np.bool_)
    unjudged[query] = False
    positives, negatives = [query], list[int]()
    for tally in tables:
        for row in order[unjudged[order]][:per_round].tolist():
            unjudged[row] = False
            (positives if relevant[row] else negatives).append(row)
        if not (relevant & unjudged).any():
            return  # no relevant record is left, in this round and in all later ones
        order = _order(embeddings, direction(embeddings[positives], embeddings[negatives], rule))
        tally.relevant.append(len(positives) - 1)
        tally.plain.append(_scores(relevant[plain[unjudged[plain]]]))
        tally.feedback.append(_scores(relevant[order[unjudged[order]]]))


def _order(embeddings: FloatArray, query: FloatArray) -> npt.NDArray[np.int64]:
    return np.argsort(-(embeddings @ query), kind="stable")


def _scores(ranked: Mask) -> tuple[float, float]:
    """Return precision in the first 10 and average precision of a ranking's relevance."""
    hits = np.flatnonzero(ranked)
    precision = np.arange(1, len(hits) + 1) / (hits + 1)
    return float(ranked[:PRECISION_AT].sum()) / PRECISION_AT, float(precision.mean())

"""Evaluate rankings made elsewhere, and read them from TREC's text formats.

A *run* holds the results of each query, a *qrels* the gains of the items that were judged; both
words are TREC's. Items that were not judged have gain 0, and judged items that a run leaves out
count as never retrieved, as in trec_eval.

A run file has a line ``query Q0 item rank score tag`` per result, a qrels file a line
``query 0 item gain`` per judged item; fields are separated by white space.
"""

from __future__ import annotations

import typing
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from landcue.errors import DataError, UsageError
from landcue.metrics.annotations import check_same_kind
from landcue.metrics.protocol import RUNS, Protocol, find_protocol
from landcue.metrics.ranking import Keys
from landcue.metrics.relevance import GainTable, check_gain
from landcue.metrics.report import Report, summarize
from landcue.metrics.scoring import PAIRS_AT_ONCE, Block, Census, Tables, measure, rank_rows

Run = Mapping[str, Sequence[tuple[str, float]] | Mapping[str, float]]
"""Results of each query by its id: (item id, score), the largest score first; or scores by item."""

Qrels = Mapping[str, Mapping[str, float]]
"""Gains by query id and item id: 0 or more."""


class HasRun(typing.Protocol):
    """A search result that holds its run."""

    @property
    def run(self) -> Run:
        """Results of each query by its id."""
        ...


@dataclass(frozen=True, slots=True)
class _Query:
    """One query of a checked run: keys and codes of its results, best first."""

    keys: Keys
    codes: npt.NDArray[np.uint16]
    missed: npt.NDArray[np.uint16]
    size: int


def evaluate_run(
    run: Run | HasRun | Sequence[HasRun],
    qrels: Qrels,
    *,
    n_gallery: int | None = None,
    ragged: bool = False,
    exclude_self: bool = False,
    protocol: Protocol | str = RUNS,
    resamples: int = 0,
    seed: int = 0,
    band: bool = False,
) -> Report:
    """Compute all metrics of a protocol from results and gains.

    Equal scores tie: a metric is its mean over all orders of the tied items.

    Args:
        run: The results of each query, sorted by falling score, as a mapping from query ids to
            (item id, score) or to a mapping from item ids to scores; or a value with an attribute
            ``run`` that holds them, such as a search result, or a list of those.
        qrels: The gains of each query, of the same queries.
        n_gallery: Items that were searched, for the chance level; by default all that the run
            or the qrels name.
        ragged: Whether queries may have different numbers of results, or fewer than the largest
            cut-off; what is left out then counts as never retrieved.
        exclude_self: Whether a result with the query's own id is dropped; set it where queries
            and items are one collection.
        protocol: A protocol with relevance ``given`` or ``g<t>`` and gain ``judged``.
        resamples: Bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by ordering ties by gain.

    Raises:
        UsageError: Queries of one side are missing on the other, results are not sorted, are
            double, too few or NaN, a gain is negative, or ids would match only after conversion;
            names the query and the row.

    >>> run = {"0": [("0", 0.9), ("1", 0.9)]}
    >>> evaluate_run(run, {"0": {"1": 1}}, ragged=True).metrics["mAP"]
    0.75
    """
    protocol = find_protocol(protocol)
    ranked = _sorted_results(run)
    judged = {item for gains in qrels.values() for item in gains}
    pool = {item for results in ranked.values() for item, _ in results}
    check_same_kind(ranked, qrels, "queries of the run", "those of the qrels")
    check_same_kind(pool, judged, "items of the run", "those of the qrels")
    _check_queries(ranked, qrels)
    if exclude_self:
        check_same_kind(ranked, pool | judged, "queries", "items")
    pool |= judged
    if n_gallery is not None and n_gallery < len(pool):
        raise UsageError(
            f"a gallery of {n_gallery}, but run and qrels name {len(pool)} items: pass its size"
        )
    n = n_gallery or len(pool)
    table = GainTable.of(_all_gains(qrels))
    by_id = protocol.ties == "id"
    queries = [
        _read_query(
            name,
            ranked[name],
            qrels[name],
            table,
            n - (exclude_self and name in pool),
            own=name if exclude_self else None,
            by_id=by_id,
        )
        for name in ranked
    ]
    if not ragged:
        _check_depth(list(ranked), queries, protocol)

    def batches() -> Generator[list[list[_Query]]]:
        width = max(len(query.keys) for query in queries)
        step = max(1, PAIRS_AT_ONCE // max(width, table.n_codes))
        for first in range(0, len(queries), 4 * step):
            some = queries[first : first + 4 * step]
            yield [some[i : i + step] for i in range(0, len(some), step)]

    values = measure(
        batches(),
        lambda part: _rank(part, table.n_codes, ties=not by_id),
        protocol,
        Tables(table),
        len(queries),
        band=band,
        progress=None,
    )
    return summarize(protocol, values, n, resamples, seed, exclude_self=exclude_self)


def _sorted_results(run: Any) -> dict[str, Sequence[tuple[str, float]]]:
    """Return the results of each query, those given by item sorted by falling score."""
    if isinstance(run, list | tuple):
        parts = [part.run for part in cast("Sequence[HasRun]", run)]
        results: Run = {query: some for part in parts for query, some in part.items()}
        if len(results) < sum(map(len, parts)):
            raise UsageError("two results are of the same query: pass each query once")
    else:
        results = getattr(run, "run", run)
    return {
        query: sorted(some.items(), key=lambda result: -result[1])
        if isinstance(some, Mapping)
        else some
        for query, some in results.items()
    }


def _check_queries(run: Mapping[str, Any], qrels: Qrels) -> None:
    if not run:
        raise UsageError("the run holds no query: pass the results of at least one")
    for one, other, name in ((run, qrels, "qrels"), (qrels, run, "run")):
        missing = next((query for query in one if query not in other), None)
        if missing is not None:
            raise UsageError(
                f"query {missing!r} is missing in the {name}: pass results and gains of the same "
                "queries (an empty mapping of gains for a query without any)"
            )


def _all_gains(qrels: Qrels) -> Generator[float]:
    for query, gains in qrels.items():
        for item, gain in gains.items():
            yield check_gain(gain, f"item {item!r} for query {query!r}")


def _read_query(
    query: str,
    results: Sequence[tuple[str, float]],
    gains: Mapping[str, float],
    table: GainTable,
    size: int,
    *,
    own: str | None,
    by_id: bool,
) -> _Query:
    left = {item: gain for item, gain in gains.items() if item != own}
    kept: list[tuple[str, float]] = []
    seen: set[str] = set()
    last = np.inf
    for row, (item, score) in enumerate(results, start=1):
        where = f"result {row} ({item!r}) of query {query!r}"
        if np.isnan(score):
            raise UsageError(f"{where} has the score NaN: pass a number")
        if score > last:
            raise UsageError(
                f"{where} has score {score:g} after {last:g}: sort each query's results by "
                "falling score"
            )
        if item in seen:
            raise UsageError(f"{where} occurs twice: list every item once")
        seen.add(item)
        last = score
        if item != own:
            kept.append((item, score))
    if not kept:
        raise UsageError(f"query {query!r} has no result: its gallery is empty")
    if by_id:
        kept.sort(key=lambda result: (-result[1], result[0]))
    scores = np.array([score for _, score in kept], np.float64)
    keys = np.zeros(len(kept), np.uint32)
    np.cumsum(scores[1:] != scores[:-1], out=keys[1:])
    codes = table.codes(np.array([left.pop(item, 0.0) for item, _ in kept]))
    missed = table.codes(np.fromiter(left.values(), np.float64, len(left)))
    return _Query(keys, codes, missed, size)


def _check_depth(names: list[str], queries: list[_Query], protocol: Protocol) -> None:
    """Refuse lists that end before the gallery does, unless they are equally deep and enough."""
    most = max(len(query.keys) for query in queries)
    for name, query in zip(names, queries, strict=True):
        n = len(query.keys)
        if n == query.size:
            continue
        if n < most:
            raise UsageError(
                f"query {name!r} has {n} results, others {most}, of {query.size} items: pass all "
                "queries equally many, or set ragged=True for lists that end anywhere"
            )
        if n < protocol.depth:
            raise UsageError(
                f"query {name!r} has {n} results of {query.size} items, but protocol "
                f"{protocol.name} asks for the first {protocol.depth}: pass more results, or lower "
                "its cut-offs"
            )


def _rank(part: list[_Query], n_codes: int, *, ties: bool) -> Block:
    shape = len(part), max(len(query.keys) for query in part)
    keys, codes = np.zeros(shape, np.uint32), np.zeros(shape, np.uint16)
    absent = np.ones(shape, np.bool_)
    missed = np.zeros((len(part), n_codes), np.int64)
    for row, query in enumerate(part):
        n = len(query.keys)
        keys[row, :n], codes[row, :n], absent[row, :n] = query.keys, query.codes, False
        missed[row] = np.bincount(query.missed, minlength=n_codes)
    block = rank_rows(keys, codes, absent, n_codes, ties=ties)
    size = np.array([query.size for query in part], np.int64)
    return replace(block, census=Census(block.census.counts + missed, size))


_RUN = "query Q0 item rank score tag"
_QRELS = "query 0 item gain"


def read_run(path: str | Path) -> dict[str, list[tuple[str, float]]]:
    r"""Read the results of each query; scores must fall, and ranks must not, line by line.

    Raises:
        DataError: The file is missing, or a line is broken or out of order; names the line.

    >>> _ = Path("run.txt").write_text("q1 Q0 b.png 1 0.9 mine\nq1 Q0 a.png 2 0.5 mine\n")
    >>> read_run("run.txt")
    {'q1': [('b.png', 0.9), ('a.png', 0.5)]}
    """
    path = Path(path)
    run: dict[str, list[tuple[str, float]]] = {}
    ranks: dict[str, float] = {}
    for where, (query, _, item, rank, score, _) in _lines(path, _RUN):
        results = run.setdefault(query, [])
        value, place = _number(score, "score", where), _number(rank, "rank", where)
        if results and (value > results[-1][1] or place < ranks[query]):
            raise DataError(
                f"{where}: rank {rank} and score {score} after rank {ranks[query]:g} and score "
                f"{results[-1][1]:g}; sort the results of query {query!r} by falling score"
            )
        results.append((item, value))
        ranks[query] = place
    return run


def read_qrels(path: str | Path) -> dict[str, dict[str, float]]:
    r"""Read the gains of each query.

    Raises:
        DataError: The file is missing, a line is broken, a gain negative, or an item judged
            twice; names the line.

    >>> _ = Path("qrels.txt").write_text("q1 0 a.png 2\nq1 0 b.png 0\n")
    >>> read_qrels("qrels.txt")
    {'q1': {'a.png': 2.0, 'b.png': 0.0}}
    """
    path = Path(path)
    qrels: dict[str, dict[str, float]] = {}
    for where, (query, _, item, gain) in _lines(path, _QRELS):
        gains = qrels.setdefault(query, {})
        if item in gains:
            raise DataError(f"{where}: item {item!r} is judged twice for {query!r}; remove one")
        gains[item] = _number(gain, "gain", where)
        if gains[item] < 0:
            raise DataError(
                f"{where}: gain {gain} is negative; write 0 for items that are not relevant"
            )
    return qrels


def _lines(path: Path, fields: str) -> Generator[tuple[str, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; use a text file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); use a text file") from None
    n = len(fields.split())
    for number, line in enumerate(text.splitlines(), start=1):
        found = line.split()
        if found and len(found) != n:
            raise DataError(f"{path} line {number}: {len(found)} fields; write {n}: {fields}")
        if found:
            yield f"{path} line {number}", found


def _number(text: str, what: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value:
        raise DataError(f"{where}: {what} {text!r} is not a number; write one")
    return value

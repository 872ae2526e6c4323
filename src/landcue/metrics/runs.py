"""Evaluate rankings that someone else made, judged by gains that come with them.

A *run* holds the results of each query, a *qrels* the gains of the items that were judged; both
words are TREC's. Items that were not judged have gain 0, and judged items that a run leaves out
count as never found, as in trec_eval.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.blocks import Block, rank_rows
from landcue.metrics.judged import GainTable, check_gain
from landcue.metrics.measure import measure
from landcue.metrics.protocol import RUNS, Protocol, find_protocol
from landcue.metrics.ranking import Keys
from landcue.metrics.scores import Scores, summarize
from landcue.metrics.scoring import Census, Tables

Run = Mapping[str, Sequence[tuple[str, float]]]
"""Results of each query by its id: (item id, score), the largest score first."""

Qrels = Mapping[str, Mapping[str, float]]
"""Gains by query id and item id: 0 or more."""

_PAIRS_AT_ONCE = 2**18


@dataclass(frozen=True, slots=True)
class _Query:
    """One query of a checked run: keys and codes of its results, best first."""

    keys: Keys
    codes: npt.NDArray[np.uint16]
    missed: npt.NDArray[np.uint16]
    size: int


def evaluate_run(
    run: Run,
    qrels: Qrels,
    *,
    n_gallery: int | None = None,
    ragged: bool = False,
    protocol: Protocol | str = RUNS,
    resamples: int = 0,
    seed: int = 0,
    band: bool = False,
) -> Scores:
    """Compute all metrics of a protocol from results and gains.

    A result with the query's own id is dropped. Equal scores tie.

    Args:
        run: The results of each query.
        qrels: The gains of each query, of the same queries.
        n_gallery: Items that could be found, for the chance level; by default all that the run
            or the qrels name.
        ragged: Whether queries may have different numbers of results, or fewer than the largest
            cut-off; what is left out then counts as never found.
        protocol: A protocol with relevance ``given`` or ``g<t>`` and gain ``judged``.
        resamples: Bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by ordering ties by gain.

    Raises:
        UsageError: Queries of one side are missing on the other, results are not sorted, are
            double, too few or NaN, or a gain is negative; names the query and the row.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    _check_queries(run, qrels)
    pool = {item for results in run.values() for item, _ in results}
    pool.update(item for gains in qrels.values() for item in gains)
    if n_gallery is not None and n_gallery < len(pool):
        raise UsageError(
            f"a gallery of {n_gallery}, but run and qrels name {len(pool)} items: give its size"
        )
    n = n_gallery or len(pool)
    table = GainTable.of(_all_gains(qrels))
    by_id = protocol.ties == "id"
    queries = [
        _read_query(name, run[name], qrels[name], table, n - (name in pool), by_id=by_id)
        for name in run
    ]
    if not ragged:
        _check_depth(list(run), queries, protocol)

    def batches() -> Generator[list[list[_Query]]]:
        width = max(len(query.keys) for query in queries)
        step = max(1, _PAIRS_AT_ONCE // max(width, table.n_codes))
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
    return summarize(protocol, values, n, resamples, seed)


def _check_queries(run: Run, qrels: Qrels) -> None:
    if not run:
        raise UsageError("the run holds no query: give the results of at least one")
    for one, other, name in ((run, qrels, "qrels"), (qrels, run, "run")):
        missing = next((query for query in one if query not in other), None)
        if missing is not None:
            raise UsageError(
                f"query {missing!r} is missing in the {name}: give results and gains of the same "
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
    by_id: bool,
) -> _Query:
    left = {item: gain for item, gain in gains.items() if item != query}
    kept: list[tuple[str, float]] = []
    seen: set[str] = set()
    last = np.inf
    for row, (item, score) in enumerate(results, start=1):
        where = f"result {row} ({item!r}) of query {query!r}"
        if np.isnan(score):
            raise UsageError(f"{where} has the score NaN: give a number")
        if score > last:
            raise UsageError(
                f"{where} has score {score:g} after {last:g}: sort each query's results by "
                "falling score"
            )
        if item in seen:
            raise UsageError(f"{where} stands there twice: give every item once")
        seen.add(item)
        last = score
        if item != query:
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
                f"query {name!r} has {n} results, others {most}, of {query.size} items: give all "
                "queries equally many, or say ragged=True for lists that end anywhere"
            )
        if n < protocol.depth:
            raise UsageError(
                f"query {name!r} has {n} results of {query.size} items, but protocol "
                f"{protocol.name} asks for the first {protocol.depth}: give more results, or lower "
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

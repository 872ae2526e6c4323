"""Evaluate a matrix of scores against a matrix of gains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.blocks import Block, rank_rows
from landcue.metrics.judged import MOST_GAIN, GainTable, check_gain
from landcue.metrics.measure import measure
from landcue.metrics.protocol import RUNS, Protocol, find_protocol
from landcue.metrics.ranking import distance_keys
from landcue.metrics.scores import Scores, summarize
from landcue.metrics.scoring import Tables

Matrix = npt.NDArray[Any]

_PAIRS_AT_ONCE = 2**18
_PARTS_AT_ONCE = 8


def evaluate_arrays(
    scores: Matrix,
    gains: Matrix,
    *,
    query_ids: Sequence[str] = (),
    gallery_ids: Sequence[str] = (),
    protocol: Protocol | str = RUNS,
    resamples: int = 0,
    seed: int = 0,
    band: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Compute all metrics of a protocol for a matrix of scores.

    Both matrices are read a few rows at a time, so they may be memory-mapped files.

    Args:
        scores: Larger is nearer, ``[q, n]``; equal scores tie.
        gains: 0 or more, ``[q, n]``.
        query_ids: q ids; a query does not find the gallery item with its own id.
        gallery_ids: n ids. Without ids nothing is a query's own.
        protocol: A protocol with relevance ``given`` or ``g<t>`` and gain ``judged``.
        resamples: Bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by ordering ties by gain.
        progress: Called with the queries done and their number.

    Raises:
        UsageError: The shapes contradict each other, the matrices are empty, ids are given for
            one side only or occur twice, a score is NaN, or a gain negative; names the place.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    _check(scores, gains, query_ids, gallery_ids)
    n_query, n = scores.shape
    table = _gain_table(gains)
    ids = list(gallery_ids) or list(range(n))
    by_id = np.array(sorted(range(n), key=ids.__getitem__), np.int64)
    column = {ids[row]: place for place, row in enumerate(by_id)}
    own = np.array([column.get(name, -1) for name in query_ids] or [-1] * n_query)

    def rank(rows: slice) -> Block:
        part = np.asarray(scores[rows])
        if part.dtype.kind != "f":
            part = part.astype(np.float64)
        keys = distance_keys(-part)[:, by_id]
        codes = table.codes(np.asarray(gains[rows], np.float64))[:, by_id]
        hidden = np.zeros(keys.shape, np.bool_)
        with_self = np.flatnonzero(own[rows] >= 0)
        hidden[with_self, own[rows][with_self]] = True
        return rank_rows(keys, codes, hidden, table.n_codes, ties=protocol.ties == "expectation")

    step = max(1, _PAIRS_AT_ONCE // max(n, table.n_codes))
    parts = [slice(first, min(first + step, n_query)) for first in range(0, n_query, step)]

    def batches() -> Generator[list[slice]]:
        for first in range(0, len(parts), _PARTS_AT_ONCE):
            yield parts[first : first + _PARTS_AT_ONCE]

    values = measure(
        batches(), rank, protocol, Tables(table), n_query, band=band, progress=progress
    )
    return summarize(protocol, values, n, resamples, seed)


def _check(
    scores: Matrix, gains: Matrix, query_ids: Sequence[str], gallery_ids: Sequence[str]
) -> None:
    if scores.ndim != 2 or scores.shape != gains.shape:
        raise UsageError(
            f"scores have shape {list(scores.shape)}, gains {list(gains.shape)}: give [queries, "
            "gallery] for both"
        )
    if not scores.size:
        raise UsageError(
            f"{scores.shape[0]} queries and {scores.shape[1]} gallery items: give at least one of "
            "each"
        )
    if (len(query_ids) > 0) != (len(gallery_ids) > 0):
        raise UsageError("ids of queries or of the gallery are missing: give both or none")
    for ids, n, what in ((query_ids, len(scores), "query"), (gallery_ids, len(gains.T), "gallery")):
        if len(ids) not in (0, n):
            raise UsageError(f"{len(ids)} {what} ids for {n}: give one for each")
        twice = next((name for name, times in Counter(ids).items() if times > 1), None)
        if twice is not None:
            raise UsageError(f"{what} id {twice!r} occurs twice: give every image its own id")
    step = max(1, _PAIRS_AT_ONCE // scores.shape[1])
    for first in range(0, len(scores), step):
        broken = np.isnan(scores[first : first + step])
        if broken.any():
            row, at = (int(i) for i in np.argwhere(broken)[0])
            raise UsageError(
                f"the score of query {first + row} and gallery item {at} is NaN: give a number"
            )


def _gain_table(gains: Matrix) -> GainTable:
    table = GainTable.of(())
    step = max(1, _PAIRS_AT_ONCE // gains.shape[1])
    for first in range(0, len(gains), step):
        part = np.asarray(gains[first : first + step], np.float64)
        broken = ~((part >= 0) & (part <= MOST_GAIN))
        if broken.any():
            row, at = (int(i) for i in np.argwhere(broken)[0])
            check_gain(float(part[row, at]), f"query {first + row} and gallery item {at}")
        table = GainTable.of([*table.levels.tolist(), *np.unique(part).tolist()])
    return table

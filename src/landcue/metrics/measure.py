"""Measure ranked blocks of queries by several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from landcue.metrics.blocks import Block
from landcue.metrics.protocol import Protocol
from landcue.metrics.relevance import Floats
from landcue.metrics.scoring import Source, Tables, score_block

_MOST_THREADS = 4

PartType = TypeVar("PartType")


def measure(
    batches: Iterable[list[PartType]],
    rank: Callable[[PartType], Block],
    protocol: Protocol,
    tables: Tables,
    n_query: int,
    *,
    band: bool,
    progress: Callable[[int, int], None] | None,
) -> Floats:
    """Rank and measure all queries, up to four parts at a time.

    Args:
        batches: Lists of parts; together they hold all queries in order.
        rank: Ranks the queries of a part.
        protocol: What is measured.
        tables: Relevance and gains by code.
        n_query: Number of queries.
        band: Whether to bound the metrics by ordering ties by gain.
        progress: Called with the queries done and their number, after each list.

    Returns:
        ``[2 or 4, metrics, n_query]``: values, chance, worst and best order of ties.
    """
    wanted, depth = protocol.metrics(), protocol.depth
    values = np.empty((4 if band else 2, len(wanted), n_query))

    def score(part: PartType) -> Floats:
        block = rank(part)
        sources: list[Source] = [block.ranked, block.census]
        if band:
            sources += [block.bound(best=False), block.bound(best=True)]
        return np.stack([score_block(wanted, tables, block.census, s, depth) for s in sources])

    done = 0
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for parts in batches:
            for block in pool.map(score, parts):
                values[:, :, done : done + block.shape[2]] = block
                done += block.shape[2]
            if progress is not None:
                progress(done, n_query)
    return values

"""How many lists an approximate index visits, and what it misses: measured on the collection."""

from __future__ import annotations

import math

import numpy as np

from landcue.milvus.layout import Layout
from landcue.milvus.link import Link
from landcue.milvus.rows import Local
from landcue.search.ann import MEASURED_K, SHORTLIST, AnnFacts, held_out
from landcue.search.exact import rank

_MOST_LISTS = 65_536


def list_count(n: int) -> int:
    """Return the lists of an index for n records: about the square root, a power of two."""
    return int(min(_MOST_LISTS, 2 ** round(math.log2(max(1.0, math.sqrt(n))))))


def measure_lists(link: Link, local: Local, layout: Layout) -> AnnFacts:
    """Measure recall for 1, 2, 4, … visited lists, up to an eighth of all, or until it is 1.

    As :func:`landcue.search.ann.measure`, but the records that ask took part in the index.
    """
    embeddings = local.vectors.embedding
    queries = held_out(len(local))
    vectors = [np.array(embeddings[row]) for row in queries]

    def nearest(lists: int) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        found = link.search(layout.name, vectors, SHORTLIST + 1, parameters={"nprobe": lists})
        distances: list[np.ndarray[tuple[int], np.dtype[np.float32]]] = []
        for row, hits in zip(queries.tolist(), found, strict=True):
            rows = [local.records.find(hit["id"]) for hit in hits]
            others = np.sort([r for r in rows if r is not None and r != row]).astype(np.int64)
            distances.append(rank(embeddings, embeddings[row], others, MEASURED_K)[0])
        return distances

    exact = nearest(layout.lists)
    recall: dict[int, float] = {}
    lists, most = 1, max(1, layout.lists // 8)
    while lists <= most and recall.get(lists // 2, 0.0) < 1:
        hits = sum(
            int(np.count_nonzero(found <= true[-1]))
            for found, true in zip(nearest(lists), exact, strict=True)
            if true.size
        )
        recall[lists] = hits / max(1, sum(true.size for true in exact))
        lists *= 2
    kind = f"IVF_FLAT,{layout.lists}"
    return AnnFacts(kind, MEASURED_K, SHORTLIST, tuple(queries.tolist()), recall)

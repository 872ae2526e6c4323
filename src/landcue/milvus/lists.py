"""The recall of an approximate index on the server, measured at the push."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from landcue.milvus.layout import Layout
from landcue.milvus.link import Link
from landcue.milvus.local import Local
from landcue.search.ann import MEASURED_K, SHORTLIST, AnnFacts, held_out, recall_by_lists


def measure_lists(link: Link, local: Local, layout: Layout) -> AnnFacts:
    """Measure recall like an archive's own index, but the query records are part of the index."""
    embeddings, queries = local.vectors.embedding, held_out(len(local))
    vectors = [np.array(embeddings[row]) for row in queries]

    def candidates(lists: int) -> list[npt.NDArray[np.int64]]:
        found = link.search(layout.name, vectors, SHORTLIST + 1, parameters={"nprobe": lists})
        rows = [[local.records.find(hit["id"]) for hit in hits] for hits in found]
        return [np.array([row for row in some if row is not None], np.int64) for some in rows]

    recall = recall_by_lists(embeddings, queries, MEASURED_K, layout.lists, candidates)
    kind = f"IVF_FLAT,{layout.lists}"
    return AnnFacts(kind, MEASURED_K, SHORTLIST, tuple(queries.tolist()), recall)

from __future__ import annotations

import tracemalloc

import numpy as np

from landcue.metrics import cosine
from landcue.metrics.annotations import annotate
from standard_protocol import evaluate

N = 8000


def peak(n_query, labels, vectors):
    """Largest memory that an evaluation allocates, in bytes."""
    query = annotate([f"q{i}" for i in range(n_query)], labels[:n_query])
    gallery = annotate([f"g{i}" for i in range(N)], labels[-N:])
    tracemalloc.start()
    evaluate(query, gallery, cosine(vectors[:n_query], vectors[-N:]), block=N)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_grows_with_values_per_query_but_not_with_queries_times_gallery():
    """Threads rank one query at a time here, so that how many do so at once weighs little."""
    rng = np.random.default_rng(0)
    labels = rng.random((650 + N, 5)) < 0.3
    vectors = rng.standard_normal((650 + N, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    peak(20, labels, vectors)  # tables that are built once
    few, many = peak(50, labels, vectors), peak(650, labels, vectors)
    assert many - few < 600 * N  # less than a byte per pair: one float32 matrix would be four

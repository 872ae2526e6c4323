from __future__ import annotations

import tracemalloc

import numpy as np

from landcue.metrics import blocks
from landcue.metrics.annotations import annotate
from landcue.metrics.evaluate import evaluate_embeddings

N = 1000


def peak(n_query, labels, vectors):
    """Largest memory that an evaluation allocates, in bytes."""
    query = annotate([f"q{i}" for i in range(n_query)], labels[:n_query])
    gallery = annotate([f"g{i}" for i in range(N)], labels[-N:])
    tracemalloc.start()
    evaluate_embeddings(query, vectors[:n_query], gallery, vectors[-N:])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_grows_with_values_per_query_but_not_with_queries_times_gallery(monkeypatch):
    monkeypatch.setattr(blocks, "_DISTANCES_AT_ONCE", 2**16)
    monkeypatch.setattr(blocks, "_PAIRS_AT_ONCE", 2**14)
    rng = np.random.default_rng(0)
    labels = rng.random((2000 + N, 5)) < 0.3
    vectors = rng.standard_normal((2000 + N, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    peak(100, labels, vectors)  # tables that are built once
    few, many = peak(200, labels, vectors), peak(2000, labels, vectors)
    assert many - few < 1800 * N  # less than a byte per pair: one float32 matrix would be four

"""Pages without near duplicates: against a loop over all pairs, and bounded in what they read."""

from __future__ import annotations

import numpy as np
import pytest

from landcue.search.pages import MOST_COLLAPSED, take_page


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_pairs(vectors, limit, most):
    """Keep a vector that is near no kept one; count each other at the first that it is near."""
    kept, near = [], []
    exact = vectors.astype(np.float64)
    similar = 1 - exact @ exact.T <= limit
    for at in range(len(vectors)):
        close = similar[at, kept]
        if close.any():
            near[close.argmax()] += 1
        elif len(kept) < most:
            kept.append(at)
            near.append(0)
        else:
            break
    return kept, near


@pytest.mark.parametrize("limit", [1e-9, 0.02, 0.1, 0.5])
@pytest.mark.parametrize(("k", "seen"), [(5, 0), (40, 0), (7, 20), (5_000, 0)])
def test_pages_equal_a_loop_over_all_pairs(limit, k, seen):
    rng = np.random.default_rng(int(1000 * limit) + k)
    centers = unit(rng.normal(size=(90, 8)))
    vectors = unit(np.repeat(centers, 25, axis=0) + rng.normal(0, 0.05, (2_250, 8)))
    vectors[100:200] = vectors[:100]  # and equal ones
    order = rng.permutation(len(vectors))
    distances = np.sort(rng.random(len(vectors)))
    page = take_page(
        lambda n: (distances[:n], order[:n]),
        seen,
        k,
        collapse=limit,
        embeddings=vectors.__getitem__,
    )
    kept, near = by_pairs(vectors[order], limit, seen + k + 1)
    assert page.rows.tolist() == order[kept][seen : seen + k].tolist()
    assert page.more == (len(kept) > seen + k)
    if k == 5_000:
        assert page.near.tolist() == near
    else:  # of the records that were looked at
        assert (page.near <= near[seen : seen + k]).all()


def test_what_a_page_reads_is_bounded():
    n, read, asked = 60_000, [], []
    vectors = unit(np.ones((n, 4)) + np.random.default_rng(0).normal(0, 1e-3, (n, 4)))

    def fetch(count):
        asked.append(count)
        return np.arange(n, dtype=np.float64)[:count], np.arange(n)[:count]

    def embeddings(rows):
        read.append(len(rows))
        return vectors[rows]

    page = take_page(fetch, 0, 20, collapse=0.4, embeddings=embeddings)
    assert page.rows.tolist() == [0]
    assert not page.more
    assert max(asked) == MOST_COLLAPSED
    assert max(page.near) == MOST_COLLAPSED - 1
    assert sum(read) == MOST_COLLAPSED  # each embedding once, however often the ranking grows

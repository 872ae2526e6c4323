from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landcue.errors import UsageError
from landcue.search.exact import FloatIndex, distances_of


@pytest.fixture(params=["matrix product", "compiled"])
def make_index(request):
    """Small indexes multiply matrices; let them scan as large ones do, too."""
    if request.param == "matrix product":
        return FloatIndex
    pytest.importorskip("numba")
    return partial(FloatIndex, compiled_from=1, values_per_part=999)


def unit_rows(n, dim, seed):
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def brute_force(embeddings, queries, k, mask=None):
    """Order by (float64 distance as float32, row) with one Python sum per pair."""
    rows = range(len(embeddings))
    answers = []
    for query in queries.astype(np.float64):
        distances = [float(np.float32(1 - np.sum(query * row))) for row in embeddings]
        allowed = [i for i in rows if mask is None or mask[i]]
        answers.append(sorted((distances[i], i) for i in allowed)[:k])
    return answers


def pairs(found):
    distances, rows = found
    assert distances.dtype == np.float32
    assert rows.dtype == np.int64
    assert distances.shape == rows.shape
    return [
        list(zip(d, r, strict=True)) for d, r in zip(distances.tolist(), rows.tolist(), strict=True)
    ]


@pytest.mark.parametrize("n", [0, 1, 5, 1000])
@pytest.mark.parametrize("dim", [1, 3, 64])
@pytest.mark.parametrize("n_query", [0, 1, 7])
def test_equals_brute_force(make_index, n, dim, n_query):
    embeddings, queries = unit_rows(n, dim, 1), unit_rows(n_query, dim, 2)
    index = make_index(embeddings)
    assert (len(index), index.dim) == (n, dim)
    for k in {1, max(n, 1), n + 5}:
        assert pairs(index.search(queries, k)) == brute_force(embeddings, queries, k)


@pytest.mark.parametrize("n_query", [1, 8])
def test_groups_of_rows_lose_nothing(make_index, n_query):
    embeddings, queries = unit_rows(3001, 16, 3), unit_rows(n_query, 16, 4)
    # 3001 rows and k = 5 take the grouped path; the best rows share one group and the tail.
    embeddings[[46, 92, 138, 184, 3000]] = queries[0]
    found = pairs(make_index(embeddings).search(queries, 5))
    assert found == brute_force(embeddings, queries, 5)
    assert [row for _, row in found[0]] == [46, 92, 138, 184, 3000]


@pytest.mark.parametrize("n_query", [1, 8])
@pytest.mark.parametrize("k", [3, 17, 60])
def test_duplicates_at_the_boundary_come_lowest_row_first(make_index, n_query, k):
    rng = np.random.default_rng(5)
    distinct = unit_rows(3, 33, 6)
    which = rng.integers(0, 3, 4000)
    embeddings = distinct[which]
    queries = np.repeat(distinct[1:2], n_query, axis=0)
    expected = np.flatnonzero(which == 1)[:k].tolist()
    for answer in make_index(embeddings).search(queries, k)[1].tolist():
        assert answer == expected


def test_all_rows_equal(make_index):
    embeddings = np.repeat(unit_rows(1, 20, 7), 2000, axis=0)
    distances, rows = make_index(embeddings).search(unit_rows(2, 20, 8), 11)
    assert rows.tolist() == [list(range(11))] * 2
    assert len(set(distances[0].tolist())) == 1


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
@given(st.integers(1, 900), st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_nearly_equal_rows(make_index, n, k, n_query, seed):
    """Rows closer together than a float32 dot product can tell apart."""
    rng = np.random.default_rng(seed)
    embeddings = unit_rows(3, 24, seed)[rng.integers(0, 3, n)]
    embeddings += rng.integers(-1, 2, embeddings.shape).astype(np.float32) * np.float32(2**-25)
    queries = unit_rows(n_query, 24, seed + 1)
    found = pairs(make_index(embeddings).search(queries, k))
    assert found == brute_force(embeddings, queries, k)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("n_query", [1, 8])
def test_masks_filter_before_ranking(make_index, share, n_query):
    embeddings, queries = unit_rows(1500, 10, 9), unit_rows(n_query, 10, 10)
    mask = np.random.default_rng(11).random(1500) < share
    found = pairs(make_index(embeddings).search(queries, 20, mask))
    assert found == brute_force(embeddings, queries, 20, mask)
    assert {len(answer) for answer in found} == {min(20, int(mask.sum()))}


@pytest.mark.parametrize("share", [None, 0.0, 0.02, 0.5, 1.0])
def test_a_ranking_returns_what_a_search_does_for_one_k_after_another(make_index, share):
    embeddings = unit_rows(700, 9, 3)
    embeddings[300:320] = embeddings[:20]
    query = embeddings[5:6]
    mask = None if share is None else np.random.default_rng(4).random(700) < share
    ranking = make_index(embeddings).ranking(query, mask)
    for k in (2, 40, 7, 900):
        found = [part[None] for part in ranking(k)]
        assert pairs(found) == brute_force(embeddings, query, k, mask)


def test_mask_hiding_the_nearest_rows_and_most_groups(make_index):
    embeddings, queries = unit_rows(2000, 6, 12), unit_rows(1, 6, 13)
    mask = np.ones(2000, bool)
    mask[np.argsort(-(embeddings @ queries[0]))[:1500]] = False
    found = pairs(make_index(embeddings).search(queries, 3, mask))
    assert found == brute_force(embeddings, queries, 3, mask)


def test_answer_does_not_depend_on_how_queries_are_batched(make_index):
    embeddings, queries = unit_rows(800, 48, 14), unit_rows(30, 48, 15)
    index = make_index(embeddings)
    together = pairs(index.search(queries, 10))
    assert [pairs(index.search(query[None], 10))[0] for query in queries] == together
    few = make_index(embeddings, products_at_once=5600)
    assert pairs(few.search(queries, 10)) == together


def test_vectors_of_any_length_are_ranked_by_one_minus_dot(make_index):
    rng = np.random.default_rng(16)
    embeddings = (rng.standard_normal((900, 12)) * 1000).astype(np.float32)
    queries = (rng.standard_normal((2, 12)) * 1000).astype(np.float32)
    found = pairs(make_index(embeddings).search(queries, 7))
    assert found == brute_force(embeddings, queries, 7)


def test_strided_and_mapped_arrays(make_index, tmp_path):
    embeddings, queries = unit_rows(300, 8, 17), unit_rows(2, 8, 18)
    expected = pairs(make_index(embeddings).search(queries, 6))
    np.save(tmp_path / "rows.npy", embeddings)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert pairs(make_index(mapped).search(queries, 6)) == expected
    strided = np.asfortranarray(embeddings)
    assert pairs(make_index(strided).search(np.asfortranarray(queries), 6)) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(make_index, bad):
    embeddings = unit_rows(9, 4, 19)
    broken = embeddings.copy()
    broken[5, 2] = bad
    with pytest.raises(UsageError, match="row 5 of the embeddings"):
        make_index(broken)
    with pytest.raises(UsageError, match="row 5 of the queries"):
        make_index(embeddings).search(broken, 3)


def test_bad_inputs(make_index):
    embeddings = unit_rows(9, 4, 20)
    index = make_index(embeddings)
    with pytest.raises(UsageError, match="float64"):
        make_index(embeddings.astype(np.float64))
    with pytest.raises(UsageError, match=r"\[9, 0\]"):
        make_index(embeddings[:, :0])
    with pytest.raises(UsageError, match=r"\[4\]"):
        index.search(embeddings[0], 3)
    with pytest.raises(UsageError, match="queries have 3 dimensions, the embeddings 4"):
        index.search(unit_rows(1, 3, 0), 3)
    with pytest.raises(UsageError, match="k is 0"):
        index.search(embeddings, 0)
    with pytest.raises(UsageError, match="one bool per record"):
        index.search(embeddings, 3, np.ones((9, 1), bool))


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 127, 128, 129, 136, 300, 513, 1000, 2048])
def test_compiled_distances_have_the_same_bits(dim):
    pytest.importorskip("numba")
    embeddings, queries = unit_rows(200, dim, 1), 3 * unit_rows(4, dim, 2)
    rows = np.random.default_rng(3).permutation(200)[:150]
    for query in queries:
        plain = distances_of(embeddings, query, rows)
        compiled = distances_of(embeddings, query, rows, compiled_from=1)
        np.testing.assert_array_equal(plain.view(np.uint32), compiled.view(np.uint32))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.2])
def test_a_ranking_of_all_equals_brute_force(make_index, share):
    embeddings, query = unit_rows(300, 140, 1), unit_rows(1, 140, 2)
    embeddings[100:200] = embeddings[:100]  # ties, by row
    query[0] = embeddings[5]  # distances that are rounded below 0
    mask = np.random.default_rng(4).random(300) < share
    nearest = make_index(embeddings).ranking(query, mask)
    for k in (1, 60, 250, 300, 400):
        distances, rows = nearest(k)
        assert pairs((distances[None], rows[None])) == brute_force(embeddings, query, k, mask)

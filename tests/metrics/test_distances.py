from __future__ import annotations

import numpy as np
import pytest

from landcue.errors import UsageError
from landcue.metrics.distances import Distances, cosine, given, hamming, time_queries


def unit(n, d, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_cosine_equals_a_loop_in_float64():
    query, gallery = unit(5, 7), unit(11, 7, 1)
    got = cosine(query, gallery, block=20).rows(slice(1, 4))  # several blocks
    for i in range(3):
        for j in range(11):
            exact = 1 - sum(float(query[i + 1, d]) * float(gallery[j, d]) for d in range(7))
            assert got[i, j] == pytest.approx(exact, abs=1.2e-7)
    assert got.dtype == np.float32


def test_equal_vectors_tie_wherever_they_stand():
    gallery = np.repeat(unit(1, 97), 1001, axis=0)
    assert np.unique(cosine(unit(9, 97, 1), gallery).rows(slice(0, 9))[4]).size == 1
    assert np.unique(cosine(gallery, gallery).rows(slice(0, 50))).size == 1


@pytest.mark.parametrize("n_bits", [1, 7, 8, 64, 65, 300])
def test_hamming_equals_counting_different_bits(n_bits):
    rng = np.random.default_rng(n_bits)
    query, gallery = (rng.random((n, n_bits)) < 0.5 for n in (4, 6))
    query[0], gallery[0] = True, False
    packed = [np.packbits(bits, axis=1, bitorder="little") for bits in (query, gallery)]
    got = hamming(*packed, n_bits).rows(slice(0, 4))
    assert got.tolist() == (query[:, None] != gallery[None]).sum(axis=2).tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cosine(unit(2, 3) * 2, unit(2, 3)), "row 0 of the query embeddings has norm 2"),
        (lambda: cosine(unit(2, 3), np.full((1, 3), np.nan, np.float32)), "row 0 .* not finite"),
        (lambda: cosine(unit(2, 3), np.zeros((1, 3), np.float32)), "norm 0"),
        (lambda: cosine(unit(2, 3), unit(2, 4)), "3 dimensions, the gallery's 4"),
        (lambda: cosine(unit(2, 3)[0], unit(2, 3)), "pass floats"),
        (lambda: hamming(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8), 8), "8 bits need"),
        (lambda: hamming(np.zeros((1, 1)), np.zeros((1, 1), np.uint8), 8), "8 bits need"),
        (lambda: hamming(np.full((1, 1), 16, np.uint8), np.zeros((1, 1), np.uint8), 4), "past bit"),
        (lambda: given(np.zeros(3)), "shape"),
    ],
)
def test_wrong_inputs_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_queries_are_timed_one_at_a_time():
    asked = []

    def rows(part):
        asked.append(range(1000)[part])
        return np.zeros((len(asked[-1]), 300), np.float32)

    found = time_queries(Distances("given", 1000, 300, rows))
    assert (found.n_query, found.k) == (50, 100)
    assert found.median_ms > 0
    assert {len(one) for one in asked} == {1}
    assert len(asked) == 51  # the first one twice
    assert (asked[0], asked[1], asked[-1]) == (range(1), range(1), range(999, 1000))
    assert "50 queries" in found.describe()
    assert "nearest 100" in found.describe()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_to_time_is_refused(shape):
    with pytest.raises(UsageError, match="no query or no gallery"):
        time_queries(given(np.zeros(shape)))

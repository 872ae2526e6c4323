"""Every scan against NumPy over unpacked bits: order, ties, masks, widths, threads, memory maps."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcue.codes.hamming import CodeIndex
from landcue.codes.packing import pack_bits, unpack_bits
from landcue.errors import ArchiveError, UsageError


def random_codes(rng, n, n_bits, distinct=2**62):
    codes = pack_bits(rng.integers(0, 2, (min(n, distinct), n_bits)))
    return codes if n <= distinct else codes[rng.integers(0, distinct, n)]


def brute_force(codes, queries, n_bits, k, mask=None):
    rows = np.arange(len(codes)) if mask is None else np.flatnonzero(mask)
    bits, answers = unpack_bits(codes, n_bits), []
    for query in unpack_bits(queries, n_bits):
        distances = (bits[rows] != query).sum(axis=1)
        order = np.lexsort((rows, distances))[:k]
        answers.append((distances[order], rows[order]))
    return np.stack([a[0] for a in answers]), np.stack([a[1] for a in answers])


def assert_same(found, expected):
    assert found[0].dtype == np.int32
    assert found[1].dtype == np.int64
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@st.composite
def searches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_bits = 8 * draw(st.integers(1, 24))
    n = draw(st.integers(0, 2600))
    codes = random_codes(rng, n, n_bits, draw(st.sampled_from([1, 3, 50, 10_000])))
    queries = random_codes(rng, draw(st.sampled_from([1, 2, 9])), n_bits)
    k = draw(st.sampled_from([1, 2, 3, 20, 300, n + 1]))
    share = draw(st.sampled_from([None, 0.0, 0.003, 0.1, 0.7, 1.0]))
    mask = None if share is None else rng.random(n) < share
    return codes, queries, n_bits, k, mask


@settings(max_examples=150)
@given(searches())
def test_both_engines_equal_brute_force(search):
    codes, queries, n_bits, k, mask = search
    expected = brute_force(codes, queries, n_bits, k, mask)
    for engine in ("numba", "numpy"):
        assert_same(CodeIndex(codes, n_bits, engine=engine).search(queries, k, mask), expected)


@pytest.mark.parametrize("n_bits", range(8, 1025, 8))
def test_every_width(n_bits):
    rng = np.random.default_rng(n_bits)
    codes, queries = random_codes(rng, 2100, n_bits, 1500), random_codes(rng, 2, n_bits)
    mask = rng.random(2100) < 0.5
    index = CodeIndex(codes, n_bits, engine="numba")
    assert_same(index.search(queries, 25), brute_force(codes, queries, n_bits, 25))
    assert_same(index.search(queries, 25, mask), brute_force(codes, queries, n_bits, 25, mask))


@pytest.mark.parametrize("n_query", [1, 3, 20])
@pytest.mark.parametrize("n_bits", [64, 136])
@pytest.mark.parametrize("filtered", [False, True])
def test_one_thread_equals_many(n_query, n_bits, filtered):
    rng = np.random.default_rng(n_query + n_bits)
    codes, queries = random_codes(rng, 9000, n_bits, 4000), random_codes(rng, n_query, n_bits)
    mask = rng.random(9000) < 0.02 if filtered else None
    for k in (40, 9000):
        expected = brute_force(codes, queries, n_bits, k, mask)
        for words in (300, 3000, 9000):  # many parts for each thread, one, and parts by query
            for threads in (1, 2, 3, 7):
                index = CodeIndex(codes, n_bits, threads=threads, words_per_thread=words)
                assert_same(index.search(queries, k, mask), expected)


def test_masks_of_whole_stretches():
    """Blocks without an allowed row, and blocks whose near rows are all hidden."""
    rng = np.random.default_rng(4)
    codes, query = random_codes(rng, 200_000, 64), random_codes(rng, 1, 64)
    distances = brute_force(codes, query, 64, 200_000)
    near = np.zeros(200_000, np.bool_)
    near[distances[1][0, :5000]] = True
    stretch = (np.arange(200_000) // 7000) % 3 == 1
    for mask in (~near, stretch, stretch & ~near, near):
        for queries in (query, np.repeat(query, 9, axis=0)):
            found = CodeIndex(codes, 64, engine="numba").search(queries, 30, mask)
            rows = distances[1][0][mask[distances[1][0]]][:30]
            np.testing.assert_array_equal(found[1], np.repeat(rows[None], len(queries), axis=0))


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_an_xor_mask_on_everything_changes_no_answer(n_bytes, seed, k):
    rng = np.random.default_rng(seed)
    codes, queries, flips = (random_codes(rng, n, 8 * n_bytes, 30) for n in (400, 3, 1))
    mask = rng.random(400) < 0.4
    plain = CodeIndex(codes, 8 * n_bytes).search(queries, k, mask)
    assert_same(CodeIndex(codes ^ flips, 8 * n_bytes).search(queries ^ flips, k, mask), plain)


def test_no_codes_and_no_allowed_code():
    nothing = np.empty((0, 8), np.uint8)
    rng = np.random.default_rng(1)
    queries = random_codes(rng, 9, 64)
    for engine in ("numba", "numpy"):
        for q in (1, 9):
            assert CodeIndex(nothing, 64, engine=engine).search(queries[:q], 3)[0].shape == (q, 0)
            index = CodeIndex(random_codes(rng, 3000, 64), 64, engine=engine)
            found = index.search(queries[:q], 3, np.zeros(3000, np.bool_))
            assert found[0].shape == found[1].shape == (q, 0)


def test_codes_of_equal_rows_come_in_row_order():
    index = CodeIndex(np.zeros((70_000, 8), np.uint8), 64, engine="numba")
    distances, rows = index.search(np.zeros((1, 8), np.uint8), 5000)
    assert not distances.any()
    np.testing.assert_array_equal(rows[0], np.arange(5000))


@pytest.mark.parametrize("n_bits", [7, 24, 64, 100, 256])
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_saved_index_is_opened_with_the_same_answers(tmp_path, n_bits, in_memory):
    rng = np.random.default_rng(n_bits)
    codes, queries = random_codes(rng, 3000, n_bits), random_codes(rng, 4, n_bits)
    index = CodeIndex(codes, n_bits)
    index.save(tmp_path / "codes.bin")
    for engine in ("numba", "numpy"):
        opened = CodeIndex.open(
            tmp_path / "codes.bin", engine=engine, in_memory=in_memory, verify=True
        )
        assert (len(opened), opened.n_bits, opened.engine) == (3000, n_bits, engine)
        assert_same(opened.search(queries, 50), index.search(queries, 50))


def test_an_empty_index_is_saved_and_opened(tmp_path):
    CodeIndex(np.empty((0, 3), np.uint8), 24).save(tmp_path / "codes.bin")
    opened = CodeIndex.open(tmp_path / "codes.bin", verify=True)
    assert opened.search(np.zeros((2, 3), np.uint8), 5)[0].shape == (2, 0)


def test_an_opened_index_outlives_its_file(tmp_path):
    rng = np.random.default_rng(2)
    codes = random_codes(rng, 3000, 64)
    CodeIndex(codes, 64).save(tmp_path / "codes.bin")
    opened = CodeIndex.open(tmp_path / "codes.bin")
    CodeIndex(~codes, 64).save(tmp_path / "codes.bin")
    assert opened.search(codes[:1], 1)[0].tolist() == [[0]]
    assert CodeIndex.open(tmp_path / "codes.bin").search(codes[:1], 3000)[0].max() == 64
    (tmp_path / "codes.bin").unlink()
    assert opened.search(codes[:1], 1)[0].tolist() == [[0]]


def test_threads_may_search_one_index_at_once():
    rng = np.random.default_rng(3)
    codes = random_codes(rng, 50_000, 64)
    index, answers = CodeIndex(codes, 64), {}
    threads = [
        threading.Thread(target=lambda q=q: answers.update({q: index.search(codes[q : q + 1], 9)}))
        for q in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(8))
    for q, found in answers.items():
        assert_same(found, brute_force(codes, codes[q : q + 1], 64, 9))


def test_bad_arguments(tmp_path):
    codes = np.zeros((5, 2), np.uint8)
    with pytest.raises(UsageError, match="on 0 threads"):
        CodeIndex(codes, 16, threads=0)
    CodeIndex(codes, 16).save(tmp_path / "codes.bin")
    with pytest.raises(UsageError, match="unknown search engine"):
        CodeIndex.open(tmp_path / "codes.bin", engine="c")
    with pytest.raises(ArchiveError, match="cannot read"):
        CodeIndex.open(tmp_path / "other.bin")


def test_too_many_rows_are_refused():
    # One byte seen 2**32 times: the shape of a large index without its memory.
    codes = np.lib.stride_tricks.as_strided(np.zeros((1, 8), np.uint8), (2**32, 8), (0, 1))
    with pytest.raises(UsageError, match="split them at 4,294,967,295"):
        CodeIndex(codes, 64)

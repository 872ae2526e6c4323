from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcue.codes.cue import CueCodes
from landcue.codes.cue_index import CueIndex
from landcue.codes.groups import LabelGroups, group_by_label, split_groups
from landcue.codes.hamming import CodeIndex
from landcue.codes.packing import pack_bits, to_words, unpack_bits
from landcue.errors import ArchiveError, UsageError

WEIGHTS = [0, 1, 2, 7, 65, 1000]


def random_cue(rng, n, n_label_bits, n_hash_bits, distinct=5):
    """Records that share few label codes, with hash codes near to a center of each."""
    labels = rng.integers(0, 2, (distinct, n_label_bits))
    centers = rng.integers(0, 2, (distinct, n_hash_bits))
    which = rng.integers(0, distinct, n)
    noise = rng.random((n, n_hash_bits)) < 0.2
    code = pack_bits(centers[which] ^ noise)
    return CueCodes(pack_bits(labels[which]), code, n_label_bits, n_hash_bits)


def brute_force(gallery, queries, weight, k, mask=None):
    rows = np.arange(len(gallery)) if mask is None else np.flatnonzero(mask)
    bits = [
        (unpack_bits(c.label, c.n_label_bits), unpack_bits(c.hash, c.n_hash_bits))
        for c in (queries, gallery)
    ]
    distances = [
        weight * (bits[1][0][rows] != label).sum(axis=1) + (bits[1][1][rows] != code).sum(axis=1)
        for label, code in zip(*bits[0], strict=True)
    ]
    order = [np.lexsort((rows, d))[:k] for d in distances]
    return (
        np.stack([d[o] for d, o in zip(distances, order, strict=True)]),
        np.stack([rows[o] for o in order]),
    )


def assert_same(found, expected):
    assert found[0].dtype == np.int32
    assert found[1].dtype == np.int64
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@st.composite
def searches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_label_bits, n_hash_bits = draw(st.integers(0, 30)), draw(st.integers(0, 150))
    if n_label_bits + n_hash_bits == 0:
        n_hash_bits = 1
    n, distinct = draw(st.integers(0, 2500)), draw(st.sampled_from([1, 4, 40, 2000]))
    gallery = random_cue(rng, n, n_label_bits, n_hash_bits, distinct)
    queries = random_cue(rng, 2, n_label_bits, n_hash_bits, 2)
    if n and draw(st.booleans()):
        queries = gallery.take(rng.integers(0, n, 2))
    share = draw(st.sampled_from([None, None, 0.0, 0.01, 0.3, 1.0]))
    mask = None if share is None else rng.random(n) < share
    weights = WEIGHTS if n_hash_bits else WEIGHTS[1:]
    return gallery, queries, draw(st.sampled_from(weights)), draw(st.integers(1, 40)), mask


@settings(max_examples=150)
@given(searches(), st.sampled_from(["numba", "numpy"]))
def test_equals_the_full_scan_and_brute_force(search, engine):
    gallery, queries, weight, k, mask = search
    expected = brute_force(gallery, queries, weight, k, mask)
    index = CueIndex(gallery, engine=engine)
    assert len(index) == len(gallery)
    assert_same(index.search(queries, k, mask, weight=weight), expected)


@settings(max_examples=150)
@given(searches(), st.sampled_from([1, 3, 30]))
def test_groups_split_into_rings_give_the_same_answers(search, least):
    gallery, queries, weight, k, mask = search
    expected = brute_force(gallery, queries, weight, k, mask)
    for engine in ("numba", "numpy"):
        index = CueIndex(gallery, engine=engine, threads=1, split_from=least)
        assert_same(index.search(queries, k, mask, weight=weight), expected)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_more_than_one_block_in_a_group(engine, weight):
    rng = np.random.default_rng(weight)
    gallery, queries = random_cue(rng, 20_000, 17, 64, 3), random_cue(rng, 3, 17, 64, 3)
    index = CueIndex(gallery, engine=engine)
    for mask in (None, rng.random(20_000) < 0.05):
        found = index.search(queries, 1500, mask, weight=weight)
        assert_same(found, brute_force(gallery, queries, weight, 1500, mask))


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_a_group_whose_bound_equals_the_kth_distance_is_visited(engine):
    # Row 2 is nearer by label, row 0 by hash; both are at distance 1, and row 0 comes first.
    label = np.array([[1], [3], [0]], np.uint8)
    code = np.array([[0], [0], [1]], np.uint8)
    gallery = CueCodes(label, code, 2, 8)
    query = CueCodes(np.array([[0]], np.uint8), np.array([[0]], np.uint8), 2, 8)
    index = CueIndex(gallery, engine=engine)
    assert index.search(query, 1)[1].tolist() == [[0]]
    assert index.visited(query, 1).tolist() == [2]
    assert index.search(query, 3)[1].tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_ties_over_groups_come_in_the_order_of_rows(engine):
    rng = np.random.default_rng(1)
    label = pack_bits(rng.integers(0, 2, (30_000, 2)))
    # The hash distance makes up for the label distance: all records are at distance 2.
    ones = unpack_bits(label, 2).sum(axis=1)
    code = np.array([[3], [1], [0]], np.uint8)[ones]
    gallery = CueCodes(label, code, 2, 8)
    query = CueCodes(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), 2, 8)
    distances, rows = CueIndex(gallery, engine=engine).search(query, 5000)
    assert set(distances[0].tolist()) == {2}
    np.testing.assert_array_equal(rows[0], np.arange(5000))


def test_far_rings_are_skipped():
    rng = np.random.default_rng(8)
    noise = np.arange(20_000) % 41  # bits in which a record differs from the center
    bits = np.arange(64) < noise[:, None]
    gallery = CueCodes(
        np.zeros((20_000, 1), np.uint8), pack_bits(rng.permuted(bits, axis=1)), 3, 64
    )
    center = CueCodes(np.zeros((1, 1), np.uint8), np.zeros((1, 8), np.uint8), 3, 64)
    index = CueIndex(gallery, engine="numba")
    k = int((noise <= 5).sum())
    assert_same(index.search(center, k), brute_force(gallery, center, 1, k))
    # Their majority is the center, whose distance to a ring is the ring's radius.
    assert index.visited(center, k).tolist() == [k]
    for queries in (gallery.take(slice(0, 3)), random_cue(rng, 3, 3, 64)):
        assert_same(index.search(queries, 50), brute_force(gallery, queries, 1, 50))


def test_far_groups_are_skipped_and_weight_0_skips_none():
    rng = np.random.default_rng(2)
    gallery = random_cue(rng, 5000, 17, 64, 20)
    index, query = CueIndex(gallery), gallery.take(slice(0, 1))
    same = int((gallery.label == gallery.label[0]).all(axis=1).sum())
    assert same > 20
    assert index.visited(query, 20, weight=65).tolist() == [same]
    assert index.visited(query, 20, weight=0).tolist() == [5000]
    # The filter leaves 20 records of another group alone: groups before it are visited in vain.
    mask = np.zeros(5000, np.bool_)
    mask[np.flatnonzero((gallery.label != gallery.label[0]).any(axis=1))[:20]] = True
    assert index.visited(query, 20, mask, weight=65)[0] > same
    found = index.search(query, 20, mask, weight=65)[1][0]
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(mask))


@pytest.mark.parametrize("n_query", [1, 2, 9])
@pytest.mark.parametrize("filtered", [False, True])
def test_one_thread_equals_many(n_query, filtered):
    rng = np.random.default_rng(n_query)
    gallery, queries = random_cue(rng, 9000, 17, 70, 30), random_cue(rng, n_query, 17, 70, 3)
    mask = rng.random(9000) < 0.1 if filtered else None
    for k in (25, 9000):
        expected = brute_force(gallery, queries, 3, k, mask)
        for threads in (1, 2, 3, 16):
            index = CueIndex(gallery, threads=threads, words_per_thread=500)
            assert_same(index.search(queries, k, mask, weight=3), expected)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(WEIGHTS))
def test_an_xor_mask_on_everything_changes_no_answer(seed, weight):
    rng = np.random.default_rng(seed)
    gallery, queries, flips = (random_cue(rng, n, 17, 64) for n in (1500, 3, 1))
    plain = CueIndex(gallery).search(queries, 30, weight=weight)

    def flip(codes):
        return CueCodes(codes.label ^ flips.label, codes.hash ^ flips.hash, 17, 64)

    flipped = CueIndex(flip(gallery)).search(flip(queries), 30, weight=weight)
    assert_same(flipped, plain)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_saved_index_is_opened_with_the_same_answers(tmp_path, grouped):
    rng = np.random.default_rng(3)
    gallery, queries = random_cue(rng, 20_000, 17, 64, 4), random_cue(rng, 2, 17, 64, 2)
    if grouped:
        gallery = gallery.take(np.lexsort(gallery.label.T))
    index = CueIndex(gallery)
    index.save(tmp_path / "cue.bin")
    opened = CueIndex.open(tmp_path / "cue.bin", verify=True)
    assert len(opened) == 20_000
    for weight in WEIGHTS:
        found = opened.search(queries, 30, weight=weight)
        assert_same(found, brute_force(gallery, queries, weight, 30))
    with pytest.raises(ArchiveError, match="is a cue index, not hamming"):
        CodeIndex.open(tmp_path / "cue.bin")


def test_groups_given_as_such_share_their_codes():
    labels = np.array([[0], [1], [3]], np.uint8)
    groups = LabelGroups(labels, np.array([0, 2, 2, 5]), np.empty(0, np.uint32), 2)
    codes = np.arange(40, dtype=np.uint8).reshape(5, 8)
    index = CueIndex.from_groups(groups, codes, 64)
    query = CueCodes(labels[2:], codes[4:], 2, 64)
    assert index.search(query, 1, weight=9)[1].tolist() == [[4]]
    codes[3] = codes[4]  # not copied
    assert index.search(query, 1, weight=9)[1].tolist() == [[3]]
    with pytest.raises(UsageError, match="4 hash codes and groups of 5"):
        CueIndex.from_groups(groups, codes[:4], 64)


@pytest.mark.parametrize("engine", ["auto", "numpy"])
@pytest.mark.parametrize("n_hash_bits", [64, 72])
def test_reordered_groups_are_searched_by_their_new_rows(engine, n_hash_bits):
    rng = np.random.default_rng(8)
    label = np.sort(rng.integers(0, 8, 700)).astype(np.uint8)[:, None]
    code = pack_bits(rng.random((700, n_hash_bits)) < 0.3)
    groups = group_by_label(label, 3)
    shared = code.copy()
    index = CueIndex.from_groups(
        groups, shared, n_hash_bits, reorder=True, engine=engine, threads=2, split_from=40
    )
    if n_hash_bits == 64:
        assert (shared != code).any()
    order = split_groups(groups, to_words(code), split_from=40)[0].rows
    gallery = CueCodes(label, code[order], 3, n_hash_bits)
    queries = random_cue(rng, 20, 3, n_hash_bits)
    mask = rng.random(700) < 0.5
    for weight in (0, 1, 9):
        for allowed in (None, mask):
            found = index.search(queries, 30, allowed, weight=weight)
            assert_same(found, brute_force(gallery, queries, weight, 30, allowed))
    assert (index.visited(queries, 5, weight=99) < 700).any()
    code.flags.writeable = False
    if n_hash_bits == 64:
        with pytest.raises(UsageError, match="read-only"):
            CueIndex.from_groups(groups, code, 64, reorder=True)
    numbered = group_by_label(label[::-1].copy(), 3)
    with pytest.raises(UsageError, match="number their rows"):
        CueIndex.from_groups(numbered, shared, n_hash_bits, reorder=True)


def test_no_queries_and_no_records():
    rng = np.random.default_rng(5)
    some, none = random_cue(rng, 4, 5, 60), random_cue(rng, 0, 5, 60)
    assert CueIndex(some).search(none, 3)[0].shape == (0, 3)
    assert CueIndex(none).search(some, 3)[1].shape == (4, 0)
    assert CueIndex(none).visited(some, 3).tolist() == [0] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(k=0), "k is 0"),
        (dict(weight=-1), "weight is -1"),
        (dict(weight=2**31), "too large"),
        (dict(mask=np.ones(8, np.bool_)), "one bool per record"),
        (dict(mask=np.ones(4, np.uint8)), "one bool per record"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    cue = random_cue(np.random.default_rng(6), 4, 5, 60)
    with pytest.raises(UsageError, match=message):
        CueIndex(cue).search(cue, **{"k": 3, **arguments})
    with pytest.raises(UsageError, match=r"60 \+ 6 bits, the gallery's 60 \+ 5"):
        CueIndex(cue).search(random_cue(np.random.default_rng(7), 2, 6, 60), 3)

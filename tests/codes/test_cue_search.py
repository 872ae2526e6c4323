from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcue.codes.cue import CueCodes, base2
from landcue.codes.cue_index import CueIndex, cue_distances
from landcue.codes.hamming import hamming_distances
from landcue.codes.packing import pack_bits, unpack_bits
from landcue.errors import UsageError


def random_cue(n, n_label_bits, n_hash_bits, seed=0, distinct=1000):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, min(n, distinct), n) if n else np.empty(0, int)
    label, code = (
        pack_bits((rng.random((n, bits)) < 0.5)[rows]) for bits in (n_label_bits, n_hash_bits)
    )
    return CueCodes(label, code, n_label_bits, n_hash_bits)


def bit_by_bit(queries, gallery, weight):
    """Count differing bits one at a time."""
    bits = [
        (unpack_bits(c.label, c.n_label_bits).tolist(), unpack_bits(c.hash, c.n_hash_bits).tolist())
        for c in (queries, gallery)
    ]
    (our_labels, our_codes), (their_labels, their_codes) = bits
    table = []
    for i in range(len(queries)):
        row = []
        for j in range(len(gallery)):
            total = 0
            for a, b in zip(our_labels[i], their_labels[j], strict=True):
                total += weight * (a != b)
            for a, b in zip(our_codes[i], their_codes[j], strict=True):
                total += a != b
            row.append(total)
        table.append(row)
    return table


def nearest(table, k, allowed=None):
    answers = []
    for row in table:
        found = [(d, i) for i, d in enumerate(row) if allowed is None or allowed[i]]
        answers.append(sorted(found)[:k])
    return answers


def search(queries, gallery, k, weight=1):
    return CueIndex(gallery).search(queries, k, weight=weight)


def pairs(found):
    values, rows = found
    assert values.dtype == np.int32
    assert rows.dtype == np.int64
    return [
        list(zip(d, r, strict=True)) for d, r in zip(values.tolist(), rows.tolist(), strict=True)
    ]


@settings(max_examples=60)
@given(
    st.integers(0, 12),
    st.integers(0, 80),
    st.integers(1, 80),
    st.sampled_from([0, 1, 2, 5, 64, 81, 1000]),
    st.integers(1, 15),
    st.integers(0, 2**32 - 1),
)
def test_distances_and_search_equal_counting_bits(n, n_label_bits, n_hash_bits, weight, k, seed):
    gallery = random_cue(n, n_label_bits, n_hash_bits, seed, distinct=5)
    queries = random_cue(3, n_label_bits, n_hash_bits, seed + 1)
    expected = bit_by_bit(queries, gallery, weight)
    found = cue_distances(queries, gallery, weight)
    assert found.dtype == np.int32
    assert found.tolist() == expected
    assert pairs(search(queries, gallery, k, weight)) == nearest(expected, k)


@pytest.mark.parametrize("weight", [0, 1, 3, 100, 300])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_masks_filter_before_ranking(weight, share):
    gallery, queries = random_cue(600, 9, 70, 1, distinct=100), random_cue(2, 9, 70, 2)
    mask = np.random.default_rng(3).random(600) < share
    found = pairs(CueIndex(gallery).search(queries, 20, mask, weight=weight))
    assert found == nearest(bit_by_bit(queries, gallery, weight), 20, mask)


def test_weight_0_is_the_hash_alone_and_weight_1_the_joined_code():
    gallery, queries = random_cue(300, 13, 50, 4), random_cue(7, 13, 50, 5)
    hash_only = hamming_distances(queries.hash, gallery.hash)
    joined = hamming_distances(queries.joined(), gallery.joined())
    assert cue_distances(queries, gallery, 0).tolist() == hash_only.tolist()
    assert cue_distances(queries, gallery, 1).tolist() == joined.tolist()
    assert (hash_only != joined).any()


@pytest.mark.parametrize("n_hash_bits", [16, 40])
@pytest.mark.parametrize("more", [0, 1, 1000])
def test_a_weight_above_the_hash_bits_puts_labels_first(n_hash_bits, more):
    rng = np.random.default_rng(6)
    classes = rng.integers(0, 21, 400)
    codes = pack_bits(rng.random((400, n_hash_bits)) < 0.5)
    cue = CueCodes.from_classes(classes, base2(21), codes, n_hash_bits)
    queries = cue.take(slice(0, 5))
    _, rows = search(queries, cue, 400, cue.label_first + more)
    for q in range(5):
        by_label = hamming_distances(queries.label[q : q + 1], cue.label)[0]
        by_hash = hamming_distances(queries.hash[q : q + 1], cue.hash)[0]
        expected = sorted(range(400), key=lambda i: (by_label[i], by_hash[i], i))
        assert rows[q].tolist() == expected
        same_class = int((classes == classes[q]).sum())
        assert set(classes[rows[q, :same_class]]) == {classes[q]}


def test_label_first_is_the_least_weight_that_does_it():
    query = CueCodes(np.array([[0]], np.uint8), np.array([[0]], np.uint8), 1, 3)
    # Row 0 differs in all hash bits, row 1 in the label.
    gallery = CueCodes(np.array([[1], [0]], np.uint8), np.array([[0], [7]], np.uint8), 1, 3)
    assert search(query, gallery, 2, query.label_first)[1].tolist() == [[1, 0]]
    assert search(query, gallery, 2, query.label_first - 1)[1].tolist() == [[0, 1]]


def test_label_codes_alone():
    gallery, queries = random_cue(40, 12, 0, 7), random_cue(3, 12, 0, 8)
    assert gallery.hash.shape == (40, 0)
    for weight in (1, 4):
        expected = bit_by_bit(queries, gallery, weight)
        assert cue_distances(queries, gallery, weight).tolist() == expected
        assert pairs(search(queries, gallery, 9, weight)) == nearest(expected, 9)


def test_long_codes_and_large_weights_do_not_overflow():
    zeros, ones = (np.full((1, 40), value, np.uint8) for value in (0, 255))
    query, gallery = CueCodes(zeros, zeros, 320, 320), CueCodes(ones, ones, 320, 320)
    for weight in (1, 300, 6_000_000):
        assert cue_distances(query, gallery, weight).tolist() == [[320 * weight + 320]]
        assert search(query, gallery, 3, weight)[0].tolist() == [[320 * weight + 320]]


def test_no_queries_and_no_gallery():
    cue, nothing = random_cue(4, 5, 60), random_cue(0, 5, 60)
    for weight in (1, 100):
        assert search(nothing, cue, 3, weight)[0].shape == (0, 3)
        assert search(cue, nothing, 3, weight)[1].shape == (4, 0)
        assert cue_distances(nothing, cue, weight).shape == (0, 4)
        assert cue_distances(cue, nothing, weight).shape == (4, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: search(c, random_cue(2, 6, 60), 3), "60 [+] 5 bits, the gallery's 60 [+] 6"),
        (lambda c: cue_distances(c, random_cue(2, 5, 61)), "61 [+] 5"),
        (lambda c: search(c, c, 0), "k is 0"),
        (lambda c: search(c, c, 0, 100), "k is 0"),
        (lambda c: search(c, c, 3, -1), "weight is -1"),
        (lambda c: cue_distances(c, c, 0.5), "weight is 0.5"),
        (lambda c: cue_distances(c, c, True), "weight is True"),
        (lambda c: cue_distances(c, c, 2**31), "too large for 60 [+] 5 bits: 61 already"),
        (lambda c: cue_distances(random_cue(2, 5, 0), random_cue(2, 5, 0), 0), "compares nothing"),
        (lambda c: CueIndex(c).search(c, 3, np.ones(8, bool), weight=100), "one bool per record"),
    ],
)
def test_wrong_inputs_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make(random_cue(4, 5, 60))

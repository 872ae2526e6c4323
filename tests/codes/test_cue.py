from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.codes.cue import CueCodes, base2, hadamard
from landcue.codes.packing import pack_bits, unpack_bits
from landcue.errors import UsageError


def random_cue(n, n_label_bits, n_hash_bits, seed=0):
    rng = np.random.default_rng(seed)
    label, code = (pack_bits(rng.random((n, bits)) < 0.5) for bits in (n_label_bits, n_hash_bits))
    return CueCodes(label, code, n_label_bits, n_hash_bits)


def hashes(n, n_bits=11):
    return pack_bits(np.random.default_rng(n).random((n, n_bits)) < 0.5)


sizes = st.tuples(st.integers(0, 20), st.integers(0, 70)).filter(any)


@given(st.integers(0, 5), sizes, st.integers(0, 99))
def test_joined_codes_split_again(n, bits, seed):
    cue = random_cue(n, *bits, seed)
    joined = cue.joined()
    assert joined.shape == (n, -(-sum(bits) // 8))
    back = CueCodes.split(joined, *bits)
    assert back.label.tolist() == cue.label.tolist()
    assert back.hash.tolist() == cue.hash.tolist()
    assert (back.n_label_bits, back.n_hash_bits) == bits


@given(st.integers(1, 4), sizes, st.integers(0, 3))
def test_label_bits_come_first_however_often_repeated(n, bits, repeat):
    cue = random_cue(n, *bits)
    n_bits = repeat * bits[0] + bits[1]
    for row in range(n):
        label = unpack_bits(cue.label, bits[0])[row].tolist()
        expected = label * repeat + unpack_bits(cue.hash, bits[1])[row].tolist()
        assert unpack_bits(cue.joined(repeat), n_bits)[row].tolist() == expected


@pytest.mark.parametrize("make", [base2, hadamard])
def test_a_class_has_the_code_of_the_codebook(make):
    codebook, classes = make(21), np.array([20, 0, 7, 7])
    cue = CueCodes.from_classes(classes, codebook, hashes(4), 11)
    bits = unpack_bits(cue.label, codebook.shape[1])
    for row, c in zip(bits, classes, strict=True):
        assert row.tolist() == codebook[c].tolist()
    assert cue.hash.tolist() == hashes(4).tolist()
    assert cue.bits == f"11 + {codebook.shape[1]}"


def test_the_highest_score_is_the_predicted_class_and_the_first_of_equal_ones():
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.2, 0.4], [0.0, 0.0, 1.0]], np.float32)
    by_scores = CueCodes.from_classes(scores, base2(3), hashes(3), 11)
    by_class = CueCodes.from_classes(np.array([1, 0, 2], np.uint8), base2(3), hashes(3), 11)
    assert by_scores.label.tolist() == by_class.label.tolist() == [[1], [0], [2]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_label_bit_is_set_where_the_score_reaches_the_threshold(dtype):
    scores = np.array([[0.5, 0.49, 0.7], [0.0, 1.0, 0.69]], dtype)
    one = CueCodes.from_label_scores(scores, hashes(2), 11)
    assert unpack_bits(one.label, 3).tolist() == [[True, False, True], [False, True, True]]
    each = CueCodes.from_label_scores(scores, hashes(2), 11, [0.6, 0.2, 0.7])
    assert unpack_bits(each.label, 3).tolist() == [[False, True, True], [False, True, False]]
    assert each.bits == "11 + 3"


def test_some_images_can_be_taken():
    cue = random_cue(9, 5, 19)
    rows = np.array([7, 0, 7])
    assert cue.take(rows).label.tolist() == cue.label[rows].tolist()
    assert cue.take(rows).hash.tolist() == cue.hash[rows].tolist()
    assert len(cue.take(slice(2, 6))) == 4
    assert cue.take(np.arange(9) == 4).hash.tolist() == cue.hash[4:5].tolist()


SCORES = np.full((2, 3), 0.5, np.float32)
BROKEN = np.array([[0.5, 0.5, 0.5], [0.5, np.nan, 0.5]], np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_cue(2, 0, 0), "pass 1 to 65534"),
        (lambda: CueCodes(hashes(2), hashes(3), 11, 11), "2 label codes and 3 hash codes"),
        (lambda: CueCodes(hashes(2), hashes(2), 7, 11), "label codes have shape"),
        (lambda: CueCodes(hashes(2), hashes(2), 11, 20), "hash codes have shape"),
        (lambda: CueCodes.from_classes(np.array([0, 3]), base2(3), hashes(2), 11), "row 1 is of"),
        (lambda: CueCodes.from_classes(np.array([-1, 0]), base2(3), hashes(2), 11), "row 0 is of"),
        (lambda: CueCodes.from_classes(np.ones(2), base2(3), hashes(2), 11), "whole numbers"),
        (lambda: CueCodes.from_classes(SCORES, base2(4), hashes(2), 11), "3 classes .* of 4"),
        (lambda: CueCodes.from_classes(BROKEN, base2(3), hashes(2), 11), "row 1 are NaN"),
        (lambda: CueCodes.from_classes(SCORES, base2(3)[0], hashes(2), 11), "codebook has shape"),
        (lambda: CueCodes.from_label_scores(BROKEN, hashes(2), 11), "row 1 are NaN"),
        (lambda: CueCodes.from_label_scores(SCORES[0], hashes(2), 11), r"\[n, labels\]"),
        (lambda: CueCodes.from_label_scores(SCORES, hashes(2), 11, [0.1, 0.2]), r"label \[3\]"),
        (lambda: CueCodes.from_label_scores(SCORES, hashes(2), 11, np.nan), "hold NaN"),
        (lambda: CueCodes.split(hashes(2), 5, 20), "need"),
        (lambda: CueCodes.split(hashes(2), -5, 16), "0 or more of each"),
    ],
)
def test_wrong_inputs_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()

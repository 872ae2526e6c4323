from __future__ import annotations

import itertools

import numpy as np
import pytest

from landcue.codes.cue import base2, hadamard
from landcue.errors import UsageError


@pytest.mark.parametrize(
    ("n_classes", "n_bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (21, 5), (32, 5), (33, 6)]
)
def test_base2_writes_the_class_number_with_the_fewest_bits(n_classes, n_bits):
    codes = base2(n_classes)
    assert codes.dtype == np.uint8
    assert codes.shape == (n_classes, n_bits)
    for c, code in enumerate(codes.tolist()):
        assert sum(bit << place for place, bit in enumerate(code)) == c


@pytest.mark.parametrize("n_classes", range(2, 41))
def test_hadamard_codes_are_balanced_and_equally_far_apart(n_classes):
    codes = hadamard(n_classes)
    length = codes.shape[1]
    assert codes.dtype == np.uint8
    assert set(np.unique(codes)) == {0, 1}
    # One of the rows of a Hadamard matrix is constant, so C codes need C + 1 rows.
    assert length == next(2**p for p in range(20) if 2**p >= n_classes + 1)
    assert len(codes) == n_classes
    assert codes.sum(axis=1).tolist() == [length // 2] * n_classes
    for a, b in itertools.combinations(codes.tolist(), 2):
        assert sum(x != y for x, y in zip(a, b, strict=True)) == length // 2


def test_hadamard_rows_are_those_of_sylvesters_matrix():
    matrix = np.ones((1, 1), int)
    for _ in range(4):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    expected = (matrix[1:12] == -1).astype(int)
    assert hadamard(11).tolist() == expected.tolist()


def test_a_longer_hadamard_code_is_as_far_apart_as_it_is_long():
    codes = hadamard(3, 32)
    assert codes.shape == (3, 32)
    for a, b in itertools.combinations(codes, 2):
        assert np.count_nonzero(a != b) == 16


@pytest.mark.parametrize("length", [0, -8, 4, 7, 12])
def test_hadamard_refuses_other_lengths(length):
    with pytest.raises(UsageError, match="power of two, 8 or more"):
        hadamard(5, length)


@pytest.mark.parametrize("make", [base2, hadamard])
def test_no_classes(make):
    with pytest.raises(UsageError, match="pass 1 or more"):
        make(0)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.codes.engine import check_k, check_mask, reach, smallest
from landcue.errors import UsageError


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 50))
def test_smallest_orders_by_value_then_position(values, k):
    expected = sorted(range(len(values)), key=lambda i: (values[i], i))[:k]
    assert smallest(np.array(values, np.uint16), k).tolist() == expected
    assert smallest(np.array(values, np.float32), k).tolist() == expected


@pytest.mark.parametrize("n", [512, 575, 3001])
@pytest.mark.parametrize("k", [1, 3, 512])
def test_at_least_k_values_are_within_reach(n, k):
    rng = np.random.default_rng(n)
    for values in (rng.random(n, np.float32), rng.integers(0, 30, n).astype(np.uint16)):
        assert np.sum(values <= reach(values, k)) >= k
        expected = sorted(range(n), key=lambda i: (values[i], i))[:k]
        assert smallest(values, k).tolist() == expected


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3", None])
def test_k_must_be_a_whole_number(k):
    with pytest.raises(UsageError, match="whole number"):
        check_k(k)


def test_k_may_be_a_numpy_integer():
    assert type(check_k(np.int32(3))) is int


def test_mask_is_counted():
    assert check_mask(None, 4) == 4
    assert check_mask(np.array([True, False, True]), 3) == 2


@pytest.mark.parametrize("mask", [np.ones(3, int), np.ones(4, bool), np.ones((3, 1), bool)])
def test_mask_must_be_one_bool_per_row(mask):
    with pytest.raises(UsageError, match=r"one bool per record, \[3\]"):
        check_mask(mask, 3)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from landcue.errors import UsageError
from landcue.metrics.ranking import order

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40, np.inf, -np.inf, 3.4e38]


def by_loop(row):
    return sorted(range(len(row)), key=lambda i: (row[i], i))


def starts_by_loop(row):
    ordered = sorted(row)
    return [i == 0 or ordered[i] != ordered[i - 1] for i in range(len(row))]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_special_numbers_are_ordered_and_zero_equals_minus_zero(kind):
    row = np.array(SPECIAL).astype(kind)
    rows, starts = order(row[None])
    assert rows[0].tolist() == by_loop(row.tolist())
    assert starts[0].tolist() == starts_by_loop(row.tolist())


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int64]),
        st.tuples(st.integers(1, 3), st.integers(1, 20)),
        elements=st.integers(0, 6),
    )
)
def test_order_is_by_distance_then_row(distances):
    rows, starts = order(distances)
    for query in range(len(distances)):
        values = distances[query].tolist()
        assert rows[query].tolist() == by_loop(values)
        assert starts[query].tolist() == starts_by_loop(values)


def test_float64_distances_are_not_rounded_into_ties():
    rows, starts = order(np.array([[1 + 1e-12, 1.0, 1 + 2e-12]]))
    assert rows.tolist() == [[1, 0, 2]]
    assert starts.all()


def test_hidden_items_come_last_even_after_infinity():
    hidden = np.array([[True, False, False]])
    rows, starts = order(np.array([[0, np.inf, 1]], np.float32), hidden=hidden)
    assert rows.tolist() == [[2, 1, 0]]
    assert starts.all()


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.array([[0, 1], [0, np.nan]], np.float32), "query 1 and gallery item 1 is NaN"),
        (np.array([[0, np.nan]]), "query 0 and gallery item 1 is NaN"),
        (np.array([[-1, 0]]), "0..2"),
        (np.array([[2**32 - 1]]), "0..2"),
        (np.array([["near"]]), "pass float32"),
        (np.zeros(3, np.float32), "shape"),
    ],
)
def test_what_cannot_be_ordered_is_refused(distances, message):
    with pytest.raises(UsageError, match=message):
        order(distances)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.codes.groups import LabelGroups, group_by_label
from landcue.codes.packing import pack_bits
from landcue.errors import UsageError


def random_labels(n, n_bits, seed, distinct=6):
    rng = np.random.default_rng(seed)
    return pack_bits(rng.integers(0, 2, (distinct, n_bits)))[rng.integers(0, distinct, n)]


@given(st.integers(0, 200), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_groups_hold_every_row_once_and_in_order(n, n_bits, seed):
    label = random_labels(n, n_bits, seed)
    groups = group_by_label(label, n_bits)
    rows = groups.rows if groups.rows.size else np.arange(n)
    assert len(groups) == n
    assert sorted(rows.tolist()) == list(range(n))
    expected = {}
    for row, code in enumerate(label.tolist()):
        expected.setdefault(tuple(code), []).append(row)
    found = {
        tuple(code): rows[start:stop].tolist()
        for code, start, stop in zip(
            groups.labels.tolist(), groups.edges[:-1], groups.edges[1:], strict=True
        )
    }
    assert found == expected


@pytest.mark.parametrize("n_bits", [17, 30])
def test_records_that_come_grouped_need_no_rows(n_bits):
    label = random_labels(300, n_bits, 1)
    first = group_by_label(label, n_bits)
    again = group_by_label(label[first.rows], n_bits)
    assert first.rows.size == 300
    assert again.rows.size == 0
    np.testing.assert_array_equal(again.labels, first.labels)


def test_more_labels_than_two_bytes_can_number():
    label = pack_bits((np.arange(70_000)[:, None] >> np.arange(17)) & 1)[::-1]
    groups = group_by_label(label, 17)
    assert len(groups.labels) == 70_000
    np.testing.assert_array_equal(groups.rows, np.arange(70_000)[::-1])


@pytest.mark.parametrize(
    ("edges", "rows"), [([0, 5], []), ([1, 2, 3], []), ([0, 4, 3], []), ([0, 2, 3], [0, 1])]
)
def test_groups_that_do_not_fit_are_refused(edges, rows):
    labels = np.array([[0], [1]], np.uint8)
    with pytest.raises(UsageError, match="edges or rows"):
        LabelGroups(labels, np.array(edges, np.int64), np.array(rows, np.uint32), 8)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.errors import UsageError
from landcue.metrics.relevance import gains, relevant

QUERY = [[1, 1, 0, 0], [0, 0, 0, 0]]
GALLERY = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1]]


def test_gains_worked_out_by_hand():
    assert gains(QUERY, GALLERY).tolist() == [[2, 1, 2, 0, 0, 1], [0] * 6]
    # shared / together: 2/2, 1/2, 2/4, 0/3, 0/2, 1/4; an image without labels: 0
    assert gains(QUERY, GALLERY, "jaccard").tolist() == [[1, 0.5, 0.5, 0, 0, 0.25], [0] * 6]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("any", [1, 1, 1, 0, 0, 1]),
        ("j0.4", [1, 1, 1, 0, 0, 0]),
        ("j0.5", [1, 1, 1, 0, 0, 0]),
        ("j0.25", [1, 1, 1, 0, 0, 1]),
        ("j0.6", [1, 0, 0, 0, 0, 0]),
        ("exact", [1, 0, 0, 0, 0, 0]),
    ],
)
def test_relevance_worked_out_by_hand(kind, expected):
    found = relevant(QUERY, GALLERY, kind)
    assert found[0].astype(int).tolist() == expected
    assert not found[1].any()  # nothing is relevant to an image without labels


def test_thresholds_include_equality():
    # 2 of 5 labels is 0.4, 3 of 5 is 0.6, 4 of 5 is 0.8: none may fall to rounding.
    five = np.ones((1, 5), int)
    for n, kind in ((2, "j0.4"), (3, "j0.6"), (4, "j0.8")):
        part = (np.arange(5) < n).astype(int)[None]
        fewer = (np.arange(5) < n - 1).astype(int)[None]
        assert relevant(five, part, kind).item()
        assert not relevant(five, fewer, kind).item()


@given(st.integers(1, 150), st.integers(0, 2**32 - 1))
def test_gains_equal_set_arithmetic(n_labels, seed):
    rng = np.random.default_rng(seed)
    share = rng.random()
    query, gallery = (rng.random((n, n_labels)) < share for n in (3, 4))
    shared, overlap = gains(query, gallery), gains(query, gallery, "jaccard")
    exact = relevant(query, gallery, "exact")
    for i in range(3):
        for j in range(4):
            ours, theirs = (set(np.flatnonzero(row)) for row in (query[i], gallery[j]))
            assert shared[i, j] == len(ours & theirs)
            assert overlap[i, j] == len(ours & theirs) / max(1, len(ours | theirs))
            assert exact[i, j] == (bool(ours) and ours == theirs)


def test_many_labels_per_image_do_not_overflow():
    full = np.ones((1, 400), int)
    half = (np.arange(400) < 300).astype(int)[None]
    assert gains(full, half).item() == 300
    assert gains(full, half, "jaccard").item() == 300 / 400


def test_same_class_equals_any_for_single_labels_and_refuses_several():
    labels = np.eye(3, dtype=int)[[0, 1, 1, 2]]
    assert np.array_equal(relevant(labels, labels, "same-class"), relevant(labels, labels, "any"))
    with pytest.raises(UsageError, match="row 0 of the queries has several labels"):
        relevant(QUERY, GALLERY, "same-class")


@pytest.mark.parametrize("kind", ["j", "j0", "j1.5", "jnan", "exakt", ""])
def test_unknown_relevance_is_refused(kind):
    with pytest.raises(UsageError, match="unknown relevance"):
        relevant(QUERY, GALLERY, kind)


def test_unknown_gain_names_near_matches():
    with pytest.raises(UsageError, match="did you mean 'jaccard'"):
        gains(QUERY, GALLERY, "jacard")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 2]], "other than 0 and 1"),
        ([[0.5, 1]], "other than 0 and 1"),
        ([[np.nan, 1]], "other than 0 and 1"),
        ([0, 1], "shape"),
        ([[0, 1, 1]], "the queries have 3 labels, the gallery 2"),
    ],
)
def test_labels_must_be_binary_columns(labels, message):
    with pytest.raises(UsageError, match=message):
        gains(labels, [[0, 1]])

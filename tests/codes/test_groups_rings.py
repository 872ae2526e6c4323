from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landcue.codes.groups import WHOLE, group_by_label, split_groups
from landcue.codes.hamming import plane_distances
from landcue.codes.packing import pack_bits, to_words


@settings(max_examples=60)
@given(
    st.integers(0, 300),
    st.integers(0, 140),
    st.sampled_from([1, 5, 1000]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_rings_hold_every_row_once_at_their_radius(n, n_bits, least, grouped, seed):
    rng = np.random.default_rng(seed)
    label = np.sort(rng.integers(0, 6, n)) if grouped else rng.integers(0, 6, n)
    label = label.astype(np.uint8)[:, None]
    code = pack_bits(rng.random((n, n_bits)) < 0.3)
    groups, planes = group_by_label(label, 3), to_words(code)
    before = planes.copy()
    rings, ordered = split_groups(groups, planes, split_from=least)
    np.testing.assert_array_equal(planes, before)
    rows = rings.rows if rings.rows.size else np.arange(n)
    assert sorted(rows.tolist()) == list(range(n))
    np.testing.assert_array_equal(ordered, planes[:, rows])
    assert len(rings.firsts) == len(groups.labels) + 1
    for group, size in enumerate(np.diff(groups.edges)):
        first, last = rings.firsts[group : group + 2]
        edges, radii = rings.edges[first : last + 1], rings.radii[first:last]
        assert edges[-1] - edges[0] == size
        assert (np.diff(radii) > 0).all()
        assert (radii.tolist() == [WHOLE]) == (size < least)
        for start, stop, radius in zip(edges[:-1], edges[1:], radii, strict=True):
            inside = rows[start:stop]
            assert (np.diff(inside) > 0).all()
            assert (label[inside, 0] == groups.labels[group, 0]).all()
            distances = plane_distances(planes[:, inside], rings.centers[:, group])
            assert radius == WHOLE or (distances == radius).all()


@pytest.mark.parametrize("n_bits", [0, 64, 100])
def test_codes_are_reordered_where_they_lie(n_bits):
    rng = np.random.default_rng(2)
    label = np.sort(rng.integers(0, 8, 900)).astype(np.uint8)[:, None]
    planes = to_words(pack_bits(rng.random((900, n_bits)) < 0.3))
    groups, before = group_by_label(label, 3), planes.copy()
    expected, ordered = split_groups(groups, before, split_from=50)
    rings, same = split_groups(groups, planes, in_place=True, split_from=50)
    assert same is planes
    assert rings.rows.size == 0
    np.testing.assert_array_equal(planes, before[:, expected.rows])
    np.testing.assert_array_equal(planes, ordered)
    for field in ("edges", "radii", "firsts", "centers"):
        np.testing.assert_array_equal(getattr(rings, field), getattr(expected, field))


def test_the_center_is_the_majority_code():
    bits = np.random.default_rng(1).random((9001, 70)) < np.linspace(0.1, 0.9, 70)
    planes = to_words(pack_bits(bits))
    rings, _ = split_groups(group_by_label(np.zeros((9001, 1), np.uint8), 1), planes)
    center = np.linspace(0.1, 0.9, 70) > 0.5
    far = np.flatnonzero(np.abs(np.linspace(0.1, 0.9, 70) - 0.5) > 0.05)
    found = np.unpackbits(rings.centers[:, 0].astype("<u8").view(np.uint8), bitorder="little")
    np.testing.assert_array_equal(found[far], center[far])

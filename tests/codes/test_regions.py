import numpy as np
import pytest

from landcue.codes.regions import RegionIndex, region_boxes, region_windows, to_int8
from landcue.errors import UsageError

DIM = 24


def by_loops(regions, query, mask=None):
    """Return (1 - cosine to the nearest region, row, region) of all allowed rows, in order."""
    asked = to_int8(query.reshape(1, -1))[0].astype(int)
    found = []
    for row, line in enumerate(regions.astype(int)):
        if mask is not None and not mask[row]:
            continue
        scores = []
        for part in line.reshape(-1, DIM):
            product = sum(a * b for a, b in zip(part.tolist(), asked.tolist(), strict=True))
            scores.append(product / np.sqrt(max(1, sum(a * a for a in part.tolist()))))
        norm = np.sqrt(sum(a * a for a in asked.tolist()))
        found.append((1 - max(scores) / norm, row, int(np.argmax(scores))))
    return sorted(found)


@pytest.fixture(scope="module")
def stored():
    rng = np.random.default_rng(0)
    regions = to_int8(rng.normal(size=(120 * 4, DIM)).astype(np.float32)).reshape(120, -1)
    regions[40:60] = regions[20]  # ties, between records and between regions of one
    regions[70] = np.tile(regions[20, :DIM], 4)
    regions[80] = 0
    return regions, rng.normal(size=(3, DIM)).astype(np.float32)


@pytest.mark.parametrize("engine", ["auto", "numpy"])
@pytest.mark.parametrize("share", [None, 0.5, 0.02])
def test_search_equals_loops_over_all_regions(stored, engine, share):
    regions, queries = stored
    mask = None if share is None else np.random.default_rng(1).random(len(regions)) < share
    index = RegionIndex(regions, DIM, engine=engine)
    for query in (*queries, regions[20, DIM : 2 * DIM].astype(np.float32)):
        expected = by_loops(regions, query, mask)
        for k in (1, 7, len(regions) + 5):
            distances, rows = index.search(query[None], k, mask)
            assert rows.tolist() == [row for _, row, _ in expected[:k]]
            assert distances.tolist() == [distance for distance, _, _ in expected[:k]]
        nearest = index.nearest_regions(query, rows)
        assert nearest.tolist() == [region for _, _, region in expected]


def test_nothing_allowed_and_nothing_held(stored):
    regions, queries = stored
    none = np.zeros(len(regions), np.bool_)
    assert RegionIndex(regions, DIM).search(queries[0], 3, none)[1].tolist() == []
    assert RegionIndex(regions[:0], DIM).search(queries[0], 3)[1].tolist() == []


def test_int8_keeps_the_cosine():
    vectors = np.random.default_rng(2).normal(size=(200, 256)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    small = to_int8(unit).astype(np.float64)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert np.abs(small @ small.T - unit @ unit.T).max() < 0.01
    assert np.abs(to_int8(unit)).max(axis=1).tolist() == [127] * 200


@pytest.mark.parametrize("side", [2, 3, 8])
def test_what_is_smaller_than_half_a_region_lies_whole_in_one(side):
    boxes = region_boxes(side)
    assert boxes.min() == 0
    assert boxes.max() == pytest.approx(1)
    half = (boxes[0, 2] - boxes[0, 0]) / 2 - 1e-9
    for x in np.linspace(0, 1 - half, 23):
        for y in np.linspace(0, 1 - half, 23):
            inside = (boxes[:, :2] <= (x, y)).all(1) & (boxes[:, 2:] >= (x + half, y + half)).all(1)
            assert inside.any()


def test_windows_of_tiny_images_are_not_empty():
    windows = region_windows(8, 2, 5)
    assert (windows[:, 2:] > windows[:, :2]).all()
    assert (windows[:, 2:] <= (5, 2)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_boxes(1), "1 regions a side: use 2 to 8"),
        (lambda: RegionIndex(np.zeros((2, 7), np.int8), 3), "regions are int8 [2, 7]"),
        (lambda: RegionIndex(np.zeros((2, 6), np.float32), 3), "regions are float32 [2, 6]"),
        (
            lambda: RegionIndex(np.zeros((2, 6), np.int8), 3).search(np.ones(2, np.float32), 1),
            "the query has 2 values: use 3",
        ),
        (
            lambda: RegionIndex(np.zeros((2, 3), np.int8), 3).search(np.full(3, np.nan), 1),
            "use 3 finite",
        ),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(UsageError) as told:
        call()
    assert message in str(told.value)

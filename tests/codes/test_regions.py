import numpy as np
import pytest

from landcue.codes.regions import RegionIndex, RegionSpace, region_boxes, region_windows, to_int8
from landcue.errors import UsageError

DIM = 24


def by_loops(regions, query, lengths, mask=None):
    """Return (distance of the nearest region, row, region) of all allowed rows, in order."""
    found = []
    for row, line in enumerate(regions.astype(int)):
        if mask is not None and not mask[row]:
            continue
        scores = []
        for part, length in zip(line.reshape(-1, DIM), lengths[row], strict=True):
            product = sum(a * b for a, b in zip(part.tolist(), query.weights.tolist(), strict=True))
            cosine = product / np.sqrt(max(1, sum(a * a for a in part.tolist())))
            scores.append((cosine - query.offset) / float(length))
        found.append((1 - max(scores) / query.scale, row, int(np.argmax(scores))))
    return sorted(found)


def lengths_of(space, regions):
    made = np.empty((len(regions), regions.shape[1] // DIM), np.float32)
    space.fill_lengths(regions, made)
    return made


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
    rng = np.random.default_rng(3)
    apart = rng.normal(size=(DIM, DIM))
    measured = RegionSpace(rng.normal(size=DIM) / 9, apart @ apart.T)
    for space in (RegionSpace.fit(regions, DIM), measured):
        index = RegionIndex(regions, DIM, space=space, engine=engine)
        lengths = lengths_of(space, regions)
        for vector in (*queries, regions[20, DIM : 2 * DIM].astype(np.float32)):
            query = index.query(vector[None], mask)
            expected = by_loops(regions, query, lengths, mask)
            for k in (1, 7, len(regions) + 5):
                distances, rows = index.search(query, k, mask)
                assert rows.tolist() == [row for _, row, _ in expected[:k]]
                assert distances.tolist() == [distance for distance, _, _ in expected[:k]]
            nearest = index.nearest_regions(query, rows)
            assert nearest.tolist() == [region for _, _, region in expected]


def test_few_regions_are_compared_by_the_cosine_of_their_embeddings(stored):
    regions, queries = stored
    wide = regions.reshape(120, 4, DIM).astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=2, keepdims=True), 1)
    index = RegionIndex(regions[:99], DIM)
    for query in queries:
        cosines = (wide[:99] @ (query / np.linalg.norm(query))).max(axis=1)
        distances, rows = index.search(index.query(query), 99)
        assert distances == pytest.approx(1 - cosines[rows], abs=1e-4)  # 16 bits
        assert sorted(rows.tolist()) == list(range(99))


def whitened(regions, query):
    """Return the cosines of regions with a query around their mean, by their covariance."""
    wide = regions.reshape(-1, DIM).astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    covariance = np.cov(wide, rowvar=False, bias=True)
    shrunk = covariance + 2 * covariance.trace() / DIM * np.eye(DIM)
    apart = np.linalg.inv(np.linalg.cholesky(shrunk))
    mapped = np.stack([apart @ (one - wide.mean(0)) for one in wide])
    mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
    asked = apart @ (query / np.linalg.norm(query) - wide.mean(0))
    return mapped, asked / np.linalg.norm(asked)


@pytest.mark.parametrize(("images", "side", "joined"), [(90, 4, 0), (320, 2, 3), (640, 2, 5)])
def test_regions_are_compared_around_their_mean_and_joined_by_the_best(images, side, joined):
    rng = np.random.default_rng(4)
    values = rng.normal(size=(images * side**2, DIM)) * np.geomspace(3, 0.2, DIM) + 1
    regions = to_int8(values.astype(np.float32)).reshape(images, -1)
    query = rng.normal(size=DIM).astype(np.float32)
    mapped, asked = whitened(regions, query)
    scores = (mapped @ asked).reshape(images, -1)
    if joined:
        best = np.argsort(-scores.max(axis=1))[:joined]
        parts = mapped.reshape(images, -1, DIM)[best, scores[best].argmax(axis=1)]
        asked = asked + (scores[best].max(axis=1)[:, None] ** 2 * parts).sum(axis=0)
        scores = (mapped @ (asked / np.linalg.norm(asked))).reshape(images, -1)
    index = RegionIndex(regions, DIM)
    distances, rows = index.search(index.query(query), images)
    assert distances == pytest.approx(1 - scores.max(axis=1)[rows], abs=1e-4)


def test_only_allowed_images_join_a_query():
    rng = np.random.default_rng(5)
    regions = to_int8(rng.normal(size=(600 * 4, DIM)).astype(np.float32)).reshape(600, -1)
    query, mask = regions[3, :DIM].astype(np.float32), np.arange(600) >= 300
    index, space = RegionIndex(regions, DIM), RegionSpace.fit(regions, DIM)
    alone = RegionIndex(regions[300:], DIM, space=space)
    assert index.query(query, mask).weights.tolist() == alone.query(query).weights.tolist()
    assert index.query(query).weights.tolist() != alone.query(query).weights.tolist()


def test_what_most_regions_hold_does_not_decide():
    rng = np.random.default_rng(6)
    grounds = rng.normal(size=(4, DIM))
    planted, holds = 2 * rng.normal(size=DIM), rng.permutation(500)[:10]
    values = 3 * grounds[rng.integers(4, size=(500, 4))] + 0.3 * rng.normal(size=(500, 4, DIM))
    values[holds, rng.integers(4, size=10)] += planted
    regions = to_int8(values.reshape(-1, DIM).astype(np.float32)).reshape(500, -1)
    query = (3 * grounds[0] + planted).astype(np.float32)
    index = RegionIndex(regions, DIM)
    _, rows = index.search(index.query(query), 10)
    assert sorted(rows.tolist()) == sorted(holds.tolist())
    plain = RegionIndex(regions, DIM, space=RegionSpace(np.zeros(DIM), np.eye(DIM)))
    _, rows = plain.search(plain.query(query), 10)
    assert len(set(rows.tolist()) & set(holds.tolist())) < 6


def test_equal_regions_have_no_direction():
    regions = np.tile(np.arange(1, DIM + 1, dtype=np.int8), (300, 4))
    index = RegionIndex(regions, DIM)
    distances, rows = index.search(index.query(np.ones(DIM, np.float32)), 3)
    assert np.isfinite(distances).all()
    assert rows.tolist() == [0, 1, 2]


def test_nothing_allowed_and_nothing_held(stored):
    regions, queries = stored
    none = np.zeros(len(regions), np.bool_)
    for index, mask in ((RegionIndex(regions, DIM), none), (RegionIndex(regions[:0], DIM), None)):
        query = index.query(queries[0], mask)
        assert index.search(query, 3, mask)[1].tolist() == []
        assert index.nearest_regions(query, np.empty(0, np.int64)).tolist() == []


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
            lambda: RegionIndex(np.zeros((2, 6), np.int8), 3).query(np.ones(2, np.float32)),
            "the query has 2 values: use 3",
        ),
        (
            lambda: RegionIndex(np.zeros((2, 3), np.int8), 3).query(np.full(3, np.nan)),
            "use 3 finite",
        ),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(UsageError) as reported:
        call()
    assert message in str(reported.value)

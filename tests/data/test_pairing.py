"""Pairs of chips that show one place, compared with all pairs by brute force."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
import shapely

from landcue.data.pairing import Places, pair_places


def places(boxes, ids=None, days=None, shapes=None):
    n = len(boxes)
    shapes = np.array(shapes if shapes is not None else [None] * n, object)
    days = np.array(days if days is not None else [0] * n, "datetime64[D]")
    ids = ids or [f"{i}.png" for i in range(n)]
    bounds = np.array(boxes, np.float64).reshape(n, 4)
    return Places(pa.array(ids), bounds, days.astype("datetime64[us]"), lambda rows: shapes[rows])


def listed(pairs):
    return list(zip(pairs.before.tolist(), pairs.after.tolist(), strict=True))


def cell(i):
    return f"scene/utm33N-640m-n007000-e{i:06}"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("least", [0.2, 0.5, 0.9])
def test_footprints_pair_as_by_brute_force(seed, least):
    rng = np.random.default_rng(seed)
    grid = np.stack([a.ravel() for a in np.meshgrid(np.arange(6.0), np.arange(5.0))], 1)
    corners = [grid + rng.uniform(-0.3, 0.3, grid.shape) for _ in range(2)]
    sizes = [rng.uniform(0.7, 1.1, grid.shape) for _ in range(2)]
    boxes = [np.hstack([c, c + s]) for c, s in zip(corners, sizes, strict=True)]
    shapes = [[shapely.box(*b) for b in side] for side in boxes]
    turned = [shapely.affinity.rotate(s, 20) for s in shapes[0][:10]]
    shapes[0][:10] = turned
    boxes[0][:10] = [s.bounds for s in turned]
    days = [rng.integers(0, 2, len(grid)), rng.integers(5, 7, len(grid))]
    first = places(boxes[0], days=days[0], shapes=shapes[0][:15] + [None] * 15)
    second = places(boxes[1], days=days[1], shapes=shapes[1])
    iou = {}
    for i, j in itertools.product(range(len(grid)), repeat=2):
        a, b = shapes[0][i], shapes[1][j]
        iou[i, j] = a.intersection(b).area / a.union(b).area
    good = {pair: value for pair, value in iou.items() if value >= least}
    best_j = {i: min((p for p in good if p[0] == i), key=lambda p: (days[1][p[1]], -good[p], p[1]))
              for i in {p[0] for p in good}}  # fmt: skip
    best_i = {j: min((p for p in good if p[1] == j), key=lambda p: (-days[0][p[0]], -good[p], p[0]))
              for j in {p[1] for p in good}}  # fmt: skip
    wanted = sorted(p for p in best_j.values() if best_i[p[1]] == p)
    found = pair_places(first, second, least)
    assert listed(found) == wanted
    assert found.on_grid == 0
    np.testing.assert_allclose(found.overlap, [iou[p] for p in wanted], atol=1e-9)


def test_cells_pair_first_and_by_the_nearest_dates():
    box = [(i, 0, i + 1, 1) for i in range(4)]
    first = places(
        [box[0], box[0], box[1], box[2], box[3]],
        [cell(0), "b/" + cell(0), cell(1), "plain.png", "late.png"],
        [3, 5, 1, 1, 1],
    )
    second = places(
        [box[0], box[1], box[1], box[2], box[2]],
        [cell(0), cell(1), "b/" + cell(1), "q.png", cell(2)],
        [9, 12, 11, 9, 20],
    )
    found = pair_places(first, second)
    assert listed(found) == [(1, 0), (2, 2), (3, 3)]
    assert found.on_grid == 2
    np.testing.assert_allclose(found.overlap, 1)


def test_names_of_cells_far_apart_do_not_pair():
    first, second = places([(0, 0, 1, 1)], [cell(0)]), places([(50, 0, 51, 1)], [cell(0)])
    assert len(pair_places(first, second)) == 0


def test_no_footprint_and_the_antimeridian():
    nothing = [np.nan] * 4
    first = places([nothing, (179.5, 0, -179.5, 1)])
    second = places([nothing, (179.4, 0, -179.6, 1)])
    found = pair_places(first, second, 0.5)
    assert listed(found) == [(1, 1)]
    np.testing.assert_allclose(found.overlap, 0.9 / 1.1)
    over = places([(179.5, 0, -179.5, 1)], [cell(7)])
    assert listed(pair_places(over, places([(179.5, 0, -179.5, 1)], [cell(7)]))) == [(0, 0)]

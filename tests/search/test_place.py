"""Geometries that are compared with footprints: any type, and how long it takes."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely import LineString, MultiPoint, Point, Polygon

from landcue.errors import UsageError
from landcue.search import Filter, open_archive
from landcue.search.place import inside, most_at_one_latitude

SQUARES = np.array(
    [[x, y, x + 0.5, y + 0.5] for x in range(-20, 20) for y in range(-20, 20)], float
)
CROSSED = [[i * 7_919 % 5_000 / 250 - 10, i * 104_729 % 5_000 / 250 - 10] for i in range(500)]


@pytest.mark.parametrize(
    "shape",
    [
        LineString([(-15, -15), (10, 12)]),
        LineString(CROSSED),
        MultiPoint([(0.2, 0.2), (5.1, -3.4), (5.7, 5.7)]),
        Point(3.1, 3.1),
        shapely.GeometryCollection([Point(1, 1), Polygon([(5, 5), (9, 5), (7, 9)])]),
    ],
    ids=lambda shape: shape.geom_type,
)
def test_geometries_of_any_type_are_compared(shape):
    boxes = shapely.box(*SQUARES.T)
    expected = [shape.intersects(box) for box in boxes]
    assert any(expected)
    np.testing.assert_array_equal(inside(shape, SQUARES), expected)
    shifted = shapely.transform(shape, lambda points: points + np.array([360, 0]))
    np.testing.assert_array_equal(inside(shifted, SQUARES), expected)


def test_edges_at_one_latitude_are_counted():
    comb = [(i, i % 2) for i in range(101)]
    assert most_at_one_latitude(LineString(comb)) == 100
    assert most_at_one_latitude(LineString([(y, x) for x, y in comb])) == 1
    assert most_at_one_latitude(Polygon([*comb, (100, -1), (0, -1)])) == 102 - 2
    assert most_at_one_latitude(MultiPoint(comb)) == 101
    ring = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 5_000)]
    assert most_at_one_latitude(Polygon(ring)) <= 4
    hole = Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(3, 3), (6, 3), (6, 6), (3, 6)]])
    assert most_at_one_latitude(hole) == 4


def test_filters_refuse_geometries_that_are_none(example_folder):
    archive = open_archive(example_folder / "archives/photos")
    for shape in (
        Point(),
        LineString([(0, 100), (1, 1)]),
        Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]),
    ):
        with pytest.raises(UsageError):
            archive.search_all(where=Filter(polygon=shape))

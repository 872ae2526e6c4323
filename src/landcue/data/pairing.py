"""Pairs of chips that show one place: by the cell of a fixed grid, else by footprint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import shapely

from landcue.data.cells import cells_of

pc: Any = pyarrow.compute

Rows = npt.NDArray[np.int64]
Times = npt.NDArray[np.datetime64]
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where and when n chips were taken.

    Attributes:
        ids: Their ids, whose last part may be a cell of a fixed grid.
        bounds: float64 ``[n, 4]``, west, south, east, north in degrees; NaN where unknown.
        time: datetime64 ``[n]``.
        outlines: Returns the footprints of rows as shapely geometries, object ``[m]``.
    """

    ids: pa.ChunkedArray | pa.Array
    bounds: Boxes
    time: Times
    outlines: Callable[[Rows], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class PlacePairs:
    """The m pairs of two sets of chips, ascending by the row of the first.

    Attributes:
        before: Rows of the first set, int64 ``[m]``.
        after: Rows of the second set, int64 ``[m]``.
        overlap: Intersection over union of their footprints (for chips of one cell: of their
            bounds), float64 ``[m]``.
        on_grid: How many pairs are of one cell.
    """

    before: Rows
    after: Rows
    overlap: Boxes
    on_grid: int

    def __len__(self) -> int:
        return len(self.before)


def pair_places(before: Places, after: Places, min_overlap: float = 0.5) -> PlacePairs:
    """Pair chips of two sets that show the same place; a chip is in one pair at most.

    Chips of one cell of a fixed grid are a pair, however they overlap within it. All others pair by
    footprint: the intersection is at least ``min_overlap`` of the union, and each is the other's
    best partner. Where several chips show one place, the latest of ``before`` and the earliest of
    ``after`` are paired, then those of the largest overlap. Chips without footprint pair with
    none.

    Args:
        before: Chips of the earlier date.
        after: Chips of the later date.
        min_overlap: Least intersection over union of footprints, 0 < value <= 1.
    """
    first, second = _by_cell(before, after)
    overlap = _box_overlap(before.bounds[first], after.bounds[second])
    known = overlap > 0  # an id may look like a cell's
    first, second, overlap = first[known], second[known], overlap[known]
    left, right = _unpaired(before, first), _unpaired(after, second)
    third, fourth, more = _by_footprint(before, after, left, right, min_overlap)
    rows = np.concatenate([first, third])
    order = np.argsort(rows, kind="stable")
    return PlacePairs(
        rows[order],
        np.concatenate([second, fourth])[order],
        np.concatenate([overlap, more])[order],
        len(first),
    )


def same_place(places: Places, row: int, min_overlap: float = 0.5) -> Rows:
    """Return the rows that show the place of a row, itself among them, by the rule of pairs.

    Args:
        min_overlap: Least intersection over union of footprints, 0 < value <= 1.
    """
    overlap = _box_overlap(np.tile(places.bounds[row], (len(places.bounds), 1)), places.bounds)
    near = np.flatnonzero(overlap > 0)
    cells = cells_of(places.ids.take(pa.array(np.append(near, row)))).to_pylist()
    if cells[-1] is not None:
        return near[[cell == cells[-1] for cell in cells[:-1]]]
    shapes, own = _shapes(places, near), _shapes(places, np.array([row]))
    shared = shapely.area(shapely.intersection(shapes, own))
    union = shapely.area(shapes) + shapely.area(own) - shared
    good = shared >= min_overlap * union * (1 - 1e-9)
    return near[good]


def _unpaired(places: Places, rows: Rows) -> Rows:
    """Return rows with a footprint whose cell none of the paired rows has."""
    free = ~np.isnan(places.bounds).any(axis=1)
    if len(rows) == len(places.bounds):
        return np.empty(0, np.int64)
    if len(rows):
        cells = cells_of(places.ids)
        paired = pc.is_in(cells, value_set=cells.take(pa.array(rows)))
        free &= ~paired.to_numpy(zero_copy_only=False)
    return np.flatnonzero(free)


def _by_cell(before: Places, after: Places) -> tuple[Rows, Rows]:
    cells = [cells_of(places.ids) for places in (before, after)]
    if any(column.null_count == len(column) for column in cells):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # One chip of each cell: the latest before, the earliest after.
    codes = pa.chunked_array(cells).dictionary_encode().combine_chunks().indices
    numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    sides = numbers[: len(cells[0])], numbers[len(cells[0]) :]
    rows: list[Rows] = []
    kept: list[Rows] = []
    for number, places, sign in zip(sides, (before, after), (-1, 1), strict=True):
        order = np.lexsort((sign * places.time.astype(np.int64), number))
        order = order[number[order] >= 0]
        found, at = np.unique(number[order], return_index=True)
        rows.append(order[at])
        kept.append(found)
    _, one, two = np.intersect1d(*kept, assume_unique=True, return_indices=True)
    return rows[0][one], rows[1][two]


def _by_footprint(
    before: Places, after: Places, first: Rows, second: Rows, least: float
) -> tuple[Rows, Rows, Boxes]:
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    if not len(first) or not len(second):
        return nothing
    shapes = [_shapes(before, first), _shapes(after, second)]
    i, j = shapely.STRtree(shapes[1]).query(shapes[0])
    if not len(i):
        return nothing
    areas, boxes = [shapely.area(s) for s in shapes], [shapely.bounds(s) for s in shapes]
    # The intersection is within that of the boxes, the union at least the larger of the two.
    most = _box_intersection(boxes[0][i], boxes[1][j]) / np.maximum(areas[0][i], areas[1][j])
    i, j = i[most >= least * (1 - 1e-9)], j[most >= least * (1 - 1e-9)]
    shared = shapely.area(shapely.intersection(shapes[0][i], shapes[1][j]))
    overlap = shared / (areas[0][i] + areas[1][j] - shared)
    good = overlap >= least * (1 - 1e-9)
    i, j, overlap = i[good], j[good], overlap[good]
    early, late = before.time[first[i]].astype(np.int64), after.time[second[j]].astype(np.int64)
    best_of_first = _first_of_each(i, np.lexsort((j, -overlap, late, i)))
    best_of_second = _first_of_each(j, np.lexsort((i, -overlap, -early, j)))
    both = np.intersect1d(best_of_first, best_of_second)
    return first[i[both]], second[j[both]], overlap[both]


def _first_of_each(keys: Rows, order: Rows) -> Rows:
    """Return where each key occurs first in an order that is sorted by keys."""
    _, at = np.unique(keys[order], return_index=True)
    return order[at]


def _shapes(places: Places, rows: Rows) -> npt.NDArray[Any]:
    shapes = places.outlines(rows)
    bare = np.flatnonzero(shapely.is_missing(shapes))
    if len(bare):
        shapes = shapes.copy()
        west, south, east, north = places.bounds[rows[bare]].T
        over = west > east
        shapes[bare] = shapely.box(west, south, np.where(over, 180.0, east), north)
        if over.any():
            other = shapely.box(-180.0, south[over], east[over], north[over])
            shapes[bare[over]] = shapely.union(shapes[bare[over]], other)
    return shapes


def _box_overlap(one: Boxes, other: Boxes) -> Boxes:
    """Return intersection over union of boxes, also across the antimeridian."""
    one, other = one.copy(), other.copy()
    for box in (one, other):
        box[box[:, 0] > box[:, 2], 2] += 360
    apart = np.round((one[:, 0] - other[:, 0]) / 360) * 360
    other[:, [0, 2]] += apart[:, None]
    shared = _box_intersection(one, other)
    sizes = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other)]
    union = np.maximum(sizes[0] + sizes[1] - shared, np.finfo(float).tiny)
    return np.nan_to_num(shared / union)


def _box_intersection(one: Boxes, other: Boxes) -> Boxes:
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=1)

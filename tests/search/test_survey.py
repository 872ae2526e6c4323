"""All records of a search, on a map and by score, against loops over the records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import made_archive
from landcue.errors import UsageError
from landcue.search import Archive, SearchOptions
from landcue.types import Bounds

WORLD = Bounds(-180, -90, 180, 90)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey") / "made"
    return Archive(made_archive.make_archive(folder, 400, distinct=90))


@pytest.fixture(scope="module")
def bounds(archive):
    """The bounds of every record, read one record at a time."""
    return {id_: archive.record(id_).bbox for id_ in archive.ids()}


def meets(one, box):
    """Whether two boxes share a point, by the parts of each on either side of 180 degrees."""

    def parts(b):
        if b.west <= b.east:
            return [(b.west, b.east)]
        return [(b.west, 180.0), (-180.0, b.east)]

    if one is None or one.south > box.north or one.north < box.south:
        return False
    return any(a <= d and c <= b for a, b in parts(one) for c, d in parts(box))


@pytest.mark.parametrize("mode", ["embedding", "code", "cue", "two-stage", "ann", "auto"])
def test_all_records_are_those_of_the_pages(archive, mode):
    id_ = archive.ids()[7]
    every = archive.search_all(id_, mode=mode, where="water or trees")
    exact = every.mode
    assert exact == ("embedding" if mode in ("two-stage", "ann", "auto") else mode)
    paged = archive.search(id_, k=400, mode=exact, where="water or trees")
    assert every.ids == paged.ids
    assert every.scores.tolist() == paged.scores.tolist()
    assert every.percentiles.tolist() == paged.percentiles.tolist()
    assert id_ not in every.ids
    assert [hit.id for hit in every.take(np.array([5, 2]))] == [every.ids[5], every.ids[2]]


def test_counts_by_score(archive):
    id_ = archive.ids()[7]
    every = archive.search_all(id_)
    with pytest.raises(UsageError, match="bins is 0: use 1 or more"):
        every.histogram(0)
    counts, edges = every.histogram(7)
    assert counts.sum() == len(every) == 399
    low, high = every.scores.min(), every.scores.max()
    assert (edges[0], edges[-1]) == (low, high)
    third = sum(edges[2] <= score < edges[3] for score in every.scores.tolist())
    assert counts[2] == third
    for least in (*edges[1:-1].tolist(), float(every.scores[20])):
        passing = archive.search_all(id_, options=SearchOptions(min_score=least))
        assert every.count_from(least) == len(passing)
        assert passing.ids == every.ids[: len(passing)]
    assert archive.search_all(id_, where="water and not water").histogram()[0].tolist() == []


def test_collapse_leaves_out_near_duplicates_of_all(archive):
    id_ = archive.ids()[7]
    options = SearchOptions(collapse=0.001)
    every = archive.search_all(id_, options=options)
    paged = archive.search(id_, k=400, mode="embedding", options=options)
    assert every.ids == paged.ids
    assert len(every) < 120
    assert sum(hit.near + 1 for hit in every) == 399


@pytest.mark.parametrize("zoom", [0, 1, 3, 24])
@pytest.mark.parametrize(
    "box", [WORLD, Bounds(0, 0, 90, 60), Bounds(150, -80, -150, 80), Bounds(10, 10, 10, 10)]
)
def test_clusters_count_every_record_once(archive, bounds, box, zoom):
    inside = {id_ for id_, own in bounds.items() if meets(own, box)}
    view = archive.map_view(box, zoom, most=0, label="water")
    assert view.matched == 400
    assert view.placed == sum(own is not None for own in bounds.values())
    assert view.inside == len(inside) == sum(cluster.count for cluster in view.clusters)
    watery = {hit.id for hit in archive.search_all(where="water")}
    assert sum(cluster.labeled for cluster in view.clusters) == len(inside & watery)
    for cluster in view.clusters:
        assert cluster.id in inside
        west, south, east, north = cluster.bbox
        assert west - 1e-6 <= cluster.longitude <= east + 1e-6
        assert south - 1e-6 <= cluster.latitude <= north + 1e-6
        assert east - west <= 90 / 2**zoom + 1e-5
        assert cluster.score is None
    single = archive.map_view(box, zoom, most=400)
    assert {hit.id for hit in single.records} == inside
    assert single.clusters == ()
    assert len(single.to_json()["footprints"]) == len(inside)


def test_clusters_hold_the_best_score(archive, bounds):
    found = archive.search_all(archive.ids()[3], where="trees")
    scores = dict(zip(found.ids, found.scores.tolist(), strict=True))
    view = archive.map_view(zoom=0, found=found, most=0)
    placed = {id_ for id_ in scores if bounds[id_] is not None}
    assert (view.matched, view.placed) == (len(scores), len(placed))
    for cluster in view.clusters:
        assert cluster.score == scores[cluster.id]
    assert max(cluster.score for cluster in view.clusters) == max(scores[id_] for id_ in placed)
    assert archive.map_view(found=archive.search_all(), most=0).clusters[0].score is None


def test_refusals(archive):
    with pytest.raises(UsageError, match="zoom level is 25"):
        archive.map_view(zoom=25)
    with pytest.raises(UsageError, match="re-ranking"):
        archive.search_all(archive.ids()[0], options=SearchOptions(rerank="alpha-qe"))
    with pytest.raises(UsageError, match="leave the cursor out"):
        archive.search_all(options=SearchOptions(cursor="x"))


@pytest.mark.parametrize("seed", range(6))
def test_the_extent_of_records_across_the_antimeridian_is_the_narrowest(tmp_path, seed):
    rng = np.random.default_rng(seed)
    boxes = [(178, -177)]
    for west in rng.integers(-180, 180, rng.integers(0, 7)).tolist():
        east = west + int(rng.integers(1, 30 * (1 + seed)))
        boxes.append((west, east if east <= 180 else east - 360))
    covered = np.zeros(360, bool)  # by each degree from -180 on
    facts = []
    for i, (west, east) in enumerate(boxes):
        covered[np.arange(west, east + 360 * (west > east)) + 180 - 360] = True
        facts.append(replace(made_archive.plain_record(i), bbox=Bounds(west, 0.0, east, 1.0)))
    made = made_archive.make_archive(tmp_path / "made", len(facts), facts=facts, distinct=None)
    west, south, east, north = Archive(made).summary().bounds
    assert (south, north) == (0, 1)
    inside = np.zeros(360, bool)
    inside[np.arange(int(west), int(east) + 360 * (west > east)) + 180 - 360] = True
    assert (inside | ~covered).all()
    free = "".join("x "[int(one)] for one in (*covered, *covered)).split()
    gap = max(map(len, free), default=0)
    assert inside.sum() == max(360 - gap, 0)


def test_so_many_clusters_are_in_larger_cells(tmp_path):
    rng = np.random.default_rng(0)
    west, south = rng.uniform(-180, 179, 9_000), rng.uniform(-80, 80, 9_000)
    facts = [
        replace(made_archive.plain_record(i), bbox=Bounds(x, y, x, y))
        for i, (x, y) in enumerate(zip(west, south, strict=True))
    ]
    made = Archive(made_archive.make_archive(tmp_path / "made", 9_000, facts=facts, distinct=None))
    x, y = west / 360 + 0.5, 0.5 - np.arcsinh(np.tan(np.radians(south))) / (2 * np.pi)

    def cells(zoom):
        return len(
            {(int(a), int(b)) for a, b in zip(x * 4 * 2**zoom, y * 4 * 2**zoom, strict=True)}
        )

    largest = max(zoom for zoom in range(25) if cells(zoom) <= 5_000)
    assert largest < 24
    for zoom in (0, largest, 24):
        view = made.map_view(WORLD, zoom, most=0)
        assert len(view.clusters) == cells(min(zoom, largest))
        assert sum(one.count for one in view.clusters) == 9_000

"""Every mode against a brute force over plain arrays, under random filters."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landcue.archive.schema import LABEL_THRESHOLD
from landcue.codes.packing import unpack_bits
from landcue.search import Archive, ById, Filter, Query, SearchOptions
from landcue.search.vectors import Sketches
from landcue.types import Bounds

N = 260
MODES = ("embedding", "code", "cue", "two-stage")
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=[False, True], ids=["memory", "mapped"])
def searcher(request, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes") / "archive"
    found = Archive(made.make_archive(folder, N), cache=request.param)
    assert (folder / "indexes").exists() == request.param
    return found


def sketched(searcher, embeddings):
    """Return the bits of the first stage of two-stage search."""
    sketches = Sketches(searcher.backend.vectors, searcher.manifest.dim)
    codes = sketches.encode(np.asarray(embeddings, np.float32))
    return unpack_bits(codes, 8 * codes.shape[1])


@functools.cache
def truth(searcher):
    """All records as plain Python values, in the order of ids."""
    columns = searcher.columns()
    scores = searcher.label_scores()
    names = searcher.manifest.label_names
    sensors = columns.sensor
    batches = searcher.backend.archive.batches(["id", "geometry"])
    shapes = {row["id"]: row["geometry"] for batch in batches for row in batch.to_pylist()}
    sketch = sketched(searcher, columns.embedding)
    assert 0.2 < sketch.mean() < 0.8
    return [
        {
            "id": columns.ids[row],
            "path": columns.paths[row],
            "embedding": columns.embedding[row].astype(np.float64),
            "bits": unpack_bits(columns.code[[row]], searcher.manifest.n_bits)[0],
            "sketch": sketch[row],
            "cue": scores[row] >= LABEL_THRESHOLD,
            "scores": dict(zip(names, scores[row].tolist(), strict=True)),
            "labels": set(columns.labels_of(row)),
            "bounds": columns.bounds[row],
            "geometry": shapes[columns.ids[row]],
            "time": columns.time[row],
            "group": columns.group[row],
            "part": columns.part[row],
            "sensor": sensors[row],
        }
        for row in range(len(columns))
    ]


def distance(mode, one, other, weight=1):
    if mode in ("embedding", "two-stage"):
        return max(0.0, float(np.float32(1 - np.sum(one["embedding"] * other["embedding"]))))
    hashes = int(np.sum(one["bits"] != other["bits"]))
    if mode == "code":
        return hashes
    return weight * int(np.sum(one["cue"] != other["cue"])) + hashes


def brute_force(mode, query, others, weight=1, shortlist=200):
    """Sort (distance, id) pairs of some records."""
    if mode == "two-stage":
        near = sorted((int(np.sum(query["sketch"] != o["sketch"])), o["id"]) for o in others)
        kept = {id_ for _, id_ in near[:shortlist]}
        others = [other for other in others if other["id"] in kept]
    return sorted((distance(mode, query, other, weight), other["id"]) for other in others)


def close(found, expected, mode):
    assert [id_ for _, id_ in found] == [id_ for _, id_ in expected]
    if mode in ("code", "cue"):
        assert found == expected
    else:
        np.testing.assert_allclose([d for d, _ in found], [d for d, _ in expected], atol=2e-7)


def pairs(result):
    return [(hit.distance, hit.id) for hit in result.hits]


boxes = st.builds(
    lambda west, south, width, height: Bounds(
        west, south, (west + width + 180) % 360 - 180, min(90, south + height)
    ),
    st.integers(-179, 179).map(lambda x: x + 0.25),
    st.integers(-85, 80),
    st.integers(20, 300),
    st.integers(10, 170),
)


@st.composite
def filters(draw, start, ids):
    labels = ("bare soil", "grass", "ships", "trees", "water")
    words = st.lists(st.sampled_from(labels), max_size=2, unique=True).map(tuple)
    first, second = draw(st.integers(0, 49)), draw(st.integers(1, 30))
    return draw(
        st.builds(
            Filter,
            labels=st.just(()) | words,
            any_labels=st.just(()) | words,
            no_labels=st.just(()) | words,
            scores=st.lists(
                st.tuples(st.sampled_from(labels), st.sampled_from([0.0, 0.25, 0.6])), max_size=1
            ).map(tuple),
            bbox=st.none() | boxes,
            datetime=st.sampled_from(
                [
                    None,
                    (start + timedelta(days=first), None),
                    (None, start + timedelta(days=first + second)),
                    (start + timedelta(days=first), start + timedelta(days=first + second)),
                ]
            ),
            path=st.sampled_from([None, None, "other/", "scene"]),
            groups=st.sampled_from([(), (), ("scene1", "scene3")]),
            sensors=st.sampled_from([(), (), ("S2A",)]),
            parts=st.sampled_from([(), (), ("train", "test")]),
            ids=st.sampled_from([(), (), (), tuple(sorted(ids)[::3])]),
            sources=st.sampled_from([(), ("made",)]),
        )
    )


def allowed(where, record):
    """Decide one record by the words of the filter."""
    labels, time = record["labels"], record["time"]
    ends = (where.datetime or "../..").replace("Z", "").split("/")
    first, last = (None if end == ".." else np.datetime64(end) for end in ends)
    return all(
        (
            all(name in labels for name in where.labels),
            not where.any_labels or any(name in labels for name in where.any_labels),
            not any(name in labels for name in where.no_labels),
            all(np.float32(record["scores"][n]) >= np.float32(s) for n, s in where.scores),
            where.bbox is None or overlap(where.bbox, record["bounds"]),
            first is None or bool(time >= first),
            last is None or bool(time <= last),
            where.path is None or record["path"].startswith(where.path),
            not where.groups or record["group"] in where.groups,
            not where.sensors or record["sensor"] in where.sensors,
            not where.parts or record["part"] in where.parts,
            not where.ids or record["id"] in where.ids,
        )
    )


def overlap(box, bounds):
    west, south, east, north = bounds
    if np.isnan(west) or south > box.north or north < box.south:
        return False
    return any(
        a <= d and c <= b for a, b in spans(box.west, box.east) for c, d in spans(west, east)
    )


def spans(west, east):
    """Longitudes as one or two spans inside -180..180, whose two ends are one meridian."""
    found = [(west, east)] if west <= east else [(west, 180), (-180, east)]
    meridian = any(b == 180 for _, b in found), any(a == -180 for a, _ in found)
    return found + ([(-180, -180)] if meridian[0] else []) + ([(180, 180)] if meridian[1] else [])


@RELAXED
@given(data=st.data())
def test_every_mode_equals_brute_force_under_random_filters(searcher, made, data):
    records = truth(searcher)
    where = data.draw(filters(made.START, [r["id"] for r in records]))
    mode = data.draw(st.sampled_from(MODES))
    k = data.draw(st.sampled_from([1, 3, 20, 500]))
    weight = data.draw(st.sampled_from([0, 1, 3, 30]))
    shortlist = data.draw(st.sampled_from([1, 5, 40]))
    query = data.draw(st.sampled_from(records))
    result = searcher.search(
        ById(query["id"]),
        k=k,
        mode=mode,
        where=where,
        options=SearchOptions(label_weight=weight, shortlist=shortlist),
    )
    others = [r for r in records if r["id"] != query["id"] and allowed(where, r)]
    expected = brute_force(mode, query, others, weight, max(shortlist, k))
    close(pairs(result), expected[:k], mode)
    assert result.plan.allowed == sum(allowed(where, r) for r in records)
    assert result.mode == mode
    if not result.hits:
        assert result.note.startswith("no ")
    for hit in result.hits:
        record = next(r for r in records if r["id"] == hit.id)
        assert set(hit.shared) == record["labels"] & query["labels"]
        assert (hit.bbox is None) == bool(np.isnan(record["bounds"][0]))


@RELAXED
@given(data=st.data())
def test_polygons_are_tested_against_exact_footprints(searcher, data):
    records = truth(searcher)
    west, south = data.draw(st.integers(-200, 190)), data.draw(st.integers(-85, 60))
    width, height = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 25))
    corners = [(west, south), (west + width, south), (west + width / 2, south + height)]
    polygon = shapely.Polygon(corners)
    found = searcher.search(k=N, where=Filter(polygon=polygon))
    assert {hit.id for hit in found.hits} == {r["id"] for r in records if meets(polygon, r)}
    assert found.mode == "place"


def meets(polygon, record):
    """Lay the footprint beside the polygon, at each turn around the Earth."""
    west, south, east, north = record["bounds"]
    if np.isnan(west):
        return False
    shape = shapely.box(west, south, east + 360 * (west > east), north)
    if record["geometry"] is not None:
        shape = shapely.from_wkb(record["geometry"])
    turns = [
        shapely.transform(shape, lambda xy, t=t: xy + np.array([t, 0]))
        for t in (-720, -360, 0, 360)
    ]
    return any(polygon.intersects(turned) for turned in turns)


@RELAXED
@given(box=boxes, k=st.sampled_from([1, 7, 400]))
def test_a_box_alone_lists_records_by_distance_to_its_middle(searcher, box, k):
    result = searcher.search(k=k, where=Filter(bbox=box))
    span = (box.east - box.west) % 360
    middle = box.west + span / 2, (box.south + box.north) / 2
    away = {
        r["id"]: kilometers(middle, r["bounds"])
        for r in truth(searcher)
        if overlap(box, r["bounds"])
    }
    assert result.mode == "place"
    distances = [h.distance for h in result.hits]
    np.testing.assert_allclose(distances, sorted(away.values())[:k])
    assert_same_order([h.id for h in result.hits], away)
    order = [(h.distance, h.id) for h in result.hits]
    assert order == sorted(order)


def assert_same_order(ids, away):
    """The ids are those of the distances, exactly wherever these differ by more than rounding."""
    nearest = sorted(away, key=lambda id_: (away[id_], id_))
    runs, last = [[]], None
    for id_ in nearest:
        if last is not None and away[id_] > last * (1 + 1e-9) + 1e-6:
            runs.append([])
        runs[-1].append(id_)
        last = away[id_]
    left = list(ids)
    for run in runs:
        found, left = left[: len(run)], left[len(run) :]
        assert len(set(found)) == len(found)
        assert set(found) <= set(run)  # equal but for the last run, which k may cut
        if left:
            assert set(found) == set(run)
    assert not left


def kilometers(point, bounds):
    """Distance by vectors instead of the haversine."""
    west, south, east, north = bounds
    middle = west + ((east - west) % 360) / 2, (south + north) / 2
    one, other = (
        np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        for lon, lat in (np.radians(point), np.radians(middle))
    )
    return 6371.0088 * np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)


def test_labels_alone_list_records_by_id(searcher):
    result = searcher.search(k=N, where=Filter(expression="water and not (ships or grass)"))
    unwanted = {"ships", "grass"}
    expected = [
        record["id"]
        for record in truth(searcher)
        if "water" in record["labels"] and not record["labels"] & unwanted
    ]
    assert [hit.id for hit in result.hits] == expected
    assert (result.mode, {hit.distance for hit in result.hits}) == ("list", {0.0})
    assert 0 < len(expected) < N


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "collapse"), [(7, None), (50, None), (9, 0.1)])
def test_pages_join_to_the_whole_list(searcher, mode, size, collapse):
    query = ById(truth(searcher)[5]["id"])
    where = Filter(no_labels=("ships",))
    options = SearchOptions(shortlist=90, collapse=collapse)
    whole = searcher.search(query, k=90, mode=mode, where=where, options=options)
    joined, cursor = [], None
    while True:
        page = searcher.search(
            query, k=size, mode=mode, where=where, options=replace(options, cursor=cursor)
        )
        assert len(page.hits) == size or page.cursor is None
        joined += page.hits
        cursor = page.cursor
        if cursor is None or len(joined) >= 90:
            break
    strip = [(hit.distance, hit.id) for hit in joined]
    assert strip[:90] == pairs(whole)
    assert len({id_ for _, id_ in strip}) == len(strip)


def test_pages_of_a_place_and_of_a_list(searcher):
    for where in (Filter(bbox=Bounds(-180, -90, 180, 90)), Filter(path="other/")):
        whole, joined, cursor = searcher.search(k=N, where=where), [], None
        while cursor or not joined:
            page = searcher.search(k=8, where=where, options=SearchOptions(cursor=cursor))
            joined, cursor = joined + pairs(page), page.cursor
        assert joined == pairs(whole)
        assert len(joined) > 50


def test_near_duplicates_stand_behind_their_first(searcher):
    records = {record["id"]: record for record in truth(searcher)}
    query = truth(searcher)[3]
    plain = searcher.search(ById(query["id"]), k=N, mode="code")
    for limit in (0.0, 0.02, 0.5):
        kept = []
        for hit in plain.hits:
            one = records[hit.id]
            if all(1 - one["embedding"] @ records[id_]["embedding"] > limit + 1e-9 for id_ in kept):
                kept.append(hit.id)
        found = searcher.search(
            ById(query["id"]), k=N, mode="code", options=SearchOptions(collapse=limit + 1e-9)
        )
        assert [hit.id for hit in found.hits] == kept
        assert sum(hit.near for hit in found.hits) + len(kept) == len(plain.hits)
        assert len(kept) < len(plain.hits)


@pytest.mark.parametrize("mode", MODES)
def test_least_score(searcher, mode):
    query = ById(truth(searcher)[9]["id"])
    every = searcher.search(query, k=N, mode=mode)
    least = every.hits[30].score
    some = searcher.search(query, k=N, mode=mode, options=SearchOptions(min_score=least))
    assert some.hits == tuple(hit for hit in every.hits if hit.score >= least - 1e-9)
    assert len(some.hits) < len(every.hits)
    if mode != "two-stage":
        none = searcher.search(
            query,
            k=5,
            mode=mode,
            where=Filter(no_labels=("ships",)),
            options=SearchOptions(min_score=1.0),
        )
        assert all(hit.distance == 0 for hit in none.hits)


def test_several_positives_and_negatives(searcher):
    records = truth(searcher)
    a, b, c = records[3], records[40], records[100]
    query = Query((ById(a["id"]), ById(b["id"])), (ById(c["id"]),), negative_weight=0.7)
    mean = (a["embedding"] + b["embedding"]) / 2 - 0.7 * c["embedding"]
    mean = (mean / np.linalg.norm(mean)).astype(np.float32).astype(np.float64)
    votes = (np.where(a["bits"], 1, -1) + np.where(b["bits"], 1, -1)) / 2
    votes = votes - 0.7 * np.where(c["bits"], 1, -1)
    mixed = {"embedding": mean, "bits": votes > 0, "sketch": sketched(searcher, mean[None])[0]}
    others = [r for r in records if r["id"] not in {a["id"], b["id"], c["id"]}]
    for mode in ("embedding", "code", "two-stage"):
        close(
            pairs(searcher.search(query, k=30, mode=mode)),
            brute_force(mode, mixed, others)[:30],
            mode,
        )
    assert set(searcher.search(query).labels) == a["labels"] | b["labels"]
    alone = searcher.search(Query((ById(a["id"]),)), k=9)
    assert pairs(alone) == pairs(searcher.search(ById(a["id"]), k=9))


def test_draws_between_codes_go_to_the_first_positive(searcher):
    a, b = truth(searcher)[3], truth(searcher)[40]
    for first, second in ((a, b), (b, a)):
        found = searcher.search(Query((ById(first["id"]), ById(second["id"]))), k=30, mode="code")
        others = [r for r in truth(searcher) if r["id"] not in {a["id"], b["id"]}]
        close(pairs(found), brute_force("code", first, others)[:30], "code")

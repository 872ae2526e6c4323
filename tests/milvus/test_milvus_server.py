"""Pushes to, searches of and comparisons with a real Milvus server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely

import commands
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import delete
from landcue.archive.manifest import read_manifest, write_manifest
from landcue.archive.schema import encoded_rows
from landcue.archive.table import RecordTable
from landcue.errors import ArchiveError, UsageError
from landcue.evaluation import evaluate
from landcue.interval import parse_interval
from landcue.milvus.backend import MilvusBackend
from landcue.milvus.link import Address, Link
from landcue.milvus.push import diff, push
from landcue.search import Archive, ById, Filter, Query, SearchOptions
from landcue.search.opened import open_storage
from landcue.types import Bounds

pytestmark = pytest.mark.milvus

HERE = Path(__file__).parent
MODES = ("embedding", "code", "cue", "two-stage", "fused")
RERANKED = ("none", "alpha-qe", "k-reciprocal")


def address(port, name):
    return Address("127.0.0.1", port, name)


def searcher_of(where):
    return Archive(open_storage(Path(str(where))))


def plain(result):
    """Return what a result says, but for its cursor, which names the version that was searched.

    A collection has no distances of nearest neighbors to compare with: percentiles and remarks.
    """
    value = result.to_json()
    for hit in value["hits"]:
        hit.pop("percentile")
    value.pop("remark")
    return value | {"cursor": value["cursor"] is not None}


class Pair:
    """One archive, searched in its folder and in a collection."""

    def __init__(self, archive, where):
        self.archive, self.address = archive, where
        self.near, self.far = Archive(archive), searcher_of(where)
        self.ids = self.near.backend.records.ids()

    def same(self, query, k=20, mode="auto", where=None, **options):
        asked = {"k": k, "mode": mode, "where": where, "options": SearchOptions(**options)}
        near, far = self.near.search(query, **asked), self.far.search(query, **asked)
        assert plain(far) == plain(near)
        return near


@pytest.fixture(scope="module")
def pair(port, tmp_path_factory, made):
    """500 records of 60 kinds of vectors, so that distances tie at every boundary."""
    archive = made.make_archive(tmp_path_factory.mktemp("pair") / "archive", n=500, distinct=60)
    where = address(port, "pair")
    report = push(archive, where, rows=128)
    assert (report.added, report.changed, report.removed) == (500, 0, 0)
    return Pair(archive, where)


def random_filter(rng, made, ids):
    """A filter of a few random conditions; many of them leave ties, some leave nothing."""
    parts = {}
    names = [str(name) for name in rng.permutation(made.NAMES)]

    def box():
        west, south = float(rng.uniform(-180, 180)), float(rng.uniform(-90, 60))
        east = west + float(rng.uniform(10, 200))
        return Bounds(west, south, east if east <= 180 else east - 360, south + 30)

    choices = {
        "labels": lambda: tuple(names[:1]),
        "any_labels": lambda: tuple(names[:2]),
        "no_labels": lambda: tuple(names[2:3]),
        "expression": lambda: f'"{names[0]}" and not ("{names[1]}" or "{names[2]}")',
        "scores": lambda: ((names[3], float(rng.uniform(0, 0.8))),),
        "bbox": box,
        "polygon": lambda: shapely.Point(*rng.uniform(-30, 30, 2)).buffer(rng.uniform(5, 59), 8),
        "datetime": lambda: (
            made.START + timedelta(days=float(rng.uniform(0, 30))),
            [None, made.START + timedelta(days=float(rng.uniform(30, 60)))][rng.integers(2)],
        ),
        "path": lambda: ("other/", "scene", "scene1", "none")[rng.integers(4)],
        "groups": lambda: tuple(f"scene{i}" for i in rng.integers(0, 6, 3)),
        "sensors": lambda: ("S2A", "")[: rng.integers(1, 3)],
        "parts": lambda: ("train", "test"),
        "sources": lambda: ("made",),
        "ids": lambda: tuple(ids[rng.integers(len(ids))] for _ in range(40)),
    }
    for name in rng.choice(list(choices), rng.integers(1, 4), replace=False):
        parts[str(name)] = choices[str(name)]()
    return Filter(**parts)


def test_a_hundred_random_queries_and_filters_give_what_the_folder_gives(pair, made):
    rng = np.random.default_rng(11)
    found = empty = 0
    for number in range(100):
        query = ById(pair.ids[rng.integers(len(pair.ids))])
        if number % 3 == 0:
            query = made.random_encoding(number, 1, made.Sizes())
        mode = MODES[number % len(MODES)]
        result = pair.same(
            query,
            k=int(rng.integers(1, 60)),
            mode=mode,
            where=random_filter(rng, made, pair.ids) if number % 7 else None,
            rerank="none" if mode in ("code", "cue") else RERANKED[number // 5 % 3],
            fused_weight=(None, 0.3, 1.5)[number // 5 % 3],
            label_weight=int(rng.integers(0, 6)),
            collapse=(None, None, 0.05)[number % 3],
            min_score=(None, 0.3)[number % 2],
            shortlist=int(rng.integers(5, 80)),
        )
        found, empty = found + len(result.hits), empty + (not len(result.hits))
    assert found > 500  # and not a comparison of nothing with nothing
    assert empty < 40


def test_intervals_of_time_give_what_the_folder_gives(pair):
    records = pair.near.records(pair.ids)
    times = sorted({one.datetime for one in records if one.datetime is not None})
    first, last, tick = times[3], times[-5], timedelta(microseconds=1)
    for interval in (
        first,
        first + tick,
        (first, last),
        (first + tick, last - tick),
        (first, None),
        (None, last - tick),
        (first.date(), first.date()),
        f"{first:%Y-%m}",
        f"{first:%Y}/..",
        "../1969",
        "0001/9999",
    ):
        where = Filter(datetime=interval)
        found = pair.same(None, k=500, where=where).ids
        low, high = parse_interval(where.datetime)
        assert set(found) == {
            id_
            for id_, one in zip(pair.ids, records, strict=True)
            if one.datetime is not None
            and (low is None or one.datetime >= low)
            and (high is None or one.datetime <= high)
        }


def test_several_examples_for_and_against_give_what_the_folder_gives(pair, made):
    image = made.random_encoding(3, 1, made.Sizes())
    mix = Query((ById(pair.ids[3]), image, ById(pair.ids[70])), (ById(pair.ids[9]),))
    for mode in MODES:
        pair.same(mix, 25, mode)
    for rule in ("rocchio", "linear"):
        pair.same(Query(mix.positives, mix.negatives, rule), 25, "embedding")


def test_places_and_lists_give_what_the_folder_gives(pair):
    boxes = [Bounds(-20, -20, 50, 40), Bounds(170, -80, -170, 80), Bounds(0, 0, 0.001, 0.001)]
    filters = [Filter(bbox=box) for box in boxes]
    shape = shapely.Polygon([(0, 0), (80, 10), (20, 70)])
    filters += [Filter(polygon=shape), Filter(polygon=shape, labels=("water",))]
    filters += [Filter(labels=("water",)), Filter(path="other/")]
    for where in filters:
        for k in (1, 7, 500):
            pair.same(None, k, where=where)


def test_pages_follow_one_another_as_in_the_folder(pair):
    for mode in MODES:
        near = far = None
        for _ in range(4):
            ours = pair.near.search(
                ById(pair.ids[0]), k=9, mode=mode, options=SearchOptions(cursor=near)
            )
            theirs = pair.far.search(
                ById(pair.ids[0]), k=9, mode=mode, options=SearchOptions(cursor=far)
            )
            assert plain(ours) == plain(theirs)
            near, far = ours.to_json()["cursor"], theirs.to_json()["cursor"]
    with pytest.raises(UsageError, match="belongs to another version"):
        pair.far.search(ById(pair.ids[0]), k=9, options=SearchOptions(cursor=near))
    with pytest.raises(UsageError, match="is for another search"):
        pair.far.search(ById(pair.ids[1]), k=9, options=SearchOptions(cursor=far))


@pytest.mark.parametrize(
    "ask",
    [
        {"query": ById("scene0/none.tif")},
        {"query": "id", "where": Filter(labels=("watr",))},
        {"query": "id", "where": Filter(expression="water and (")},
        {"query": "id", "where": Filter(scores=(("lava", 0.5),))},
        {"query": "id", "where": Filter(scores=(("water", 1.5),))},
        {"query": "id", "mode": "cod"},
        {"query": "id", "k": 0},
        {"query": None, "mode": "code"},
    ],
)
def test_what_the_folder_refuses_is_refused_in_the_same_words(pair, ask):
    if ask["query"] == "id":
        ask = ask | {"query": ById(pair.ids[0])}
    with pytest.raises(UsageError) as near:
        pair.near.search(**ask)
    with pytest.raises(UsageError) as far:
        pair.far.search(**ask)
    assert str(far.value).split(" (did")[0] == str(near.value).split(" (did")[0]


def test_a_query_of_other_sizes_is_refused(pair, made):
    for sizes in (made.Sizes(dim=8), made.Sizes(n_bits=16)):
        with pytest.raises(UsageError, match="encode it with the archive's own model"):
            pair.far.search(made.random_encoding(0, 1, sizes), k=5)
    other = made.Sizes(label_names=made.NAMES[:4])
    searcher = Archive(open_storage(Path(str(pair.address))), other)
    pixels = np.zeros((8, 8, 3), np.uint8)

    with pytest.raises(ArchiveError, match="use the archive's own model"):
        searcher.search(pixels, k=5)


def test_a_collection_finds_the_model_of_its_archive(pair, tmp_path):
    there, beside = Path(str(pair.address)), pair.archive.folder / "model"
    assert open_storage(there).model_folder is None
    beside.mkdir()
    try:
        assert open_storage(there).model_folder == beside
        assert open_storage(there, tmp_path).model_folder == tmp_path
    finally:
        beside.rmdir()
    with pytest.raises(UsageError, match="none does not exist: pass the folder"):
        open_storage(there, tmp_path / "none")


def test_the_measured_weight_of_labels_is_that_of_the_folder(pair):
    assert pair.far.measure_fusion() == pair.near.measure_fusion()
    assert "fused" in pair.far.modes


def test_threads_do_not_mix_their_searches(pair):
    def ask(number):
        return plain(pair.far.search(ById(pair.ids[number]), k=12, mode=MODES[number % 5]))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(36)))
    for number, value in enumerate(found):
        expected = pair.near.search(ById(pair.ids[number]), k=12, mode=MODES[number % 5])
        assert value == plain(expected)


def test_a_tie_that_is_larger_than_milvus_gives_is_refused(pair):
    """With the limit lowered: 500 records are fewer than the server's own."""
    far = Archive(MilvusBackend(pair.address, largest=32))
    anywhere = far.search(ById(pair.ids[0]), k=2, mode="embedding")
    assert plain(anywhere) == plain(pair.near.search(ById(pair.ids[0]), k=2, mode="embedding"))
    far = Archive(MilvusBackend(pair.address, largest=13))
    tied = next(  # its ten nearest are looked at, with which more than three others are tied
        id_
        for id_ in pair.ids
        if len({hit.distance for hit in pair.near.search(ById(id_), k=20, mode="code")[9:]}) == 1
    )
    with pytest.raises(UsageError, match="more than that are as near as the last hit"):
        far.search(ById(tied), k=1, mode="code")
    with pytest.raises(UsageError, match="ask for fewer hits or pages"):
        far.search(ById(pair.ids[0]), k=40, mode="embedding")


def test_a_polygon_too_large_to_look_at_is_compared_hit_by_hit(pair):
    shape = shapely.Polygon([(-150, -70), (150, -60), (0, 75)])
    expected = pair.near.search(
        ById(pair.ids[5]), k=20, mode="embedding", where=Filter(polygon=shape)
    )
    far = Archive(MilvusBackend(pair.address, outlines=3))
    found = far.search(ById(pair.ids[5]), k=20, mode="embedding", where=Filter(polygon=shape))
    assert plain(found) == plain(expected)


def test_scores_of_an_archive_are_those_of_its_collection(pair):
    near = evaluate(pair.archive.folder, part="all", resamples=0)
    far = evaluate(Path(str(pair.address)), part="all", resamples=0)
    for space, scores in near.scores.items():
        ours, theirs = (s.to_json() for s in (scores, far.scores[space]))
        assert ours.pop("retrieval_time")["n_query"] == theirs.pop("retrieval_time")["n_query"]
        assert theirs == ours


def test_the_command_line_takes_addresses(pair, tmp_path):
    def process(*command):
        done = subprocess.run(
            [sys.executable, "-m", "landcue.cli.main", *command],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr.strip()

    def here(*command):
        done = commands.landcue(*command)
        return done.returncode, done.stdout, done.stderr

    folder, there = str(pair.archive.folder), str(pair.address)
    ask = [pair.ids[8], "-k", "6", "--mode", "cue", "--labels", "water", "--json"]
    nowhere = f"milvus://127.0.0.1:{pair.address.port}/none"
    code, far, error = here("search", there, *ask)
    assert (code, error) == (0, "")
    near = pair.near.search(ById(ask[0]), k=6, mode="cue", where=Filter(expression="water"))
    found = json.loads(far)
    assert [hit["id"] for hit in found["hits"]] == list(near.ids)
    assert [hit["distance"] for hit in found["hits"]] == near.distances.tolist()

    code, out, _ = here("archive", "info", there, "--json")
    about = json.loads(out)
    assert (code, about["records"], about["state"]) == (0, 500, "complete")
    assert about["fingerprint"] == pair.archive.manifest.fingerprint
    assert open_storage(Path(str(pair.address))).verify() == ()
    code, out, _ = process("archive", "push", folder, there, "--json")
    assert (code, json.loads(out)["same"], json.loads(out)["added"]) == (0, 500, 0)
    code, out, _ = here("archive", "diff", folder, there)
    assert (code, out) == (0, "500 records: 0 missing, 0 extra, 0 different\n")
    code, _, error = process("search", nowhere, pair.ids[0])
    assert code == 1
    assert error.startswith("error: milvus://")
    assert "landcue archive push" in error
    assert "\n" not in error


def test_a_collection_is_served_as_a_folder_is(pair):
    from starlette.testclient import TestClient

    from landcue.server.app import create_app
    from landcue.server.archives import Catalog

    pair.near.measure_fusion()  # as a push did for the collection
    near = Catalog.open([pair.archive.folder])
    far = Catalog.open([Path(str(pair.address))])
    assert far.names == ["pair"]
    asked = {"id": pair.ids[2], "k": 4, "filters": {"labels": "water"}}
    answers = []
    for catalog in (near, far):
        with TestClient(create_app(catalog), base_url="http://localhost") as client:
            said = [
                client.post("/v1/search", json=asked),
                client.get("/v1/labels"),
                client.get("/v1/facets"),
                client.get(f"/v1/records/{pair.ids[2]}"),
                client.get("/v1/archive"),
            ]
            assert [one.status_code for one in said] == [200] * 5
            values = [one.json() for one in said]
            search, _, facets, _, about = values
            facets["modes"] = [mode for mode in facets["modes"] if mode != "fused-code"]
            search.pop("plan"), search.pop("cursor")
            for value in values:
                value.pop("archive", None)
                value.pop("remark", None)
                for hit in value.get("hits", ()):
                    hit.pop("percentile")
            answers.append([*values[:4], about["fingerprint"], about["records"]])
            assert client.get(f"/v1/records/{pair.ids[2]}/thumbnail").status_code == 404
            if catalog is far:
                for name in ("map", "scores"):
                    refused = client.get(f"/v1/model/{name}")
                    assert refused.status_code in range(400, 500)
                    assert "archive folder" in refused.json()["detail"]
                chip = client.get(f"/v1/records/{pair.ids[2]}/chip")
                assert chip.status_code == 404  # the images are not there
                assert "detail" in chip.json()
    assert answers[0] == answers[1]


@pytest.mark.parametrize("mode", ["embedding", "code"])
def test_all_records_of_a_collection_are_those_of_the_folder(pair, mode):
    near, far = (searcher_of(one) for one in (pair.archive.folder, pair.address))
    for where in (None, Filter(labels=("water",))):
        for options in (SearchOptions(), SearchOptions(min_score=0.2)):
            asked = {"mode": mode, "where": where, "options": options}
            wanted = near.search_all(ById(pair.ids[2]), **asked)
            found = far.search_all(ById(pair.ids[2]), **asked)
            assert found.ids == wanted.ids
            assert [hit.distance for hit in found] == [hit.distance for hit in wanted]
    with pytest.raises(UsageError, match="CQL2 filters need an archive folder"):
        far.search(where=Filter(cql2="path LIKE 'scene%'"))


def test_marks_of_a_collection_are_kept_beside_it(pair, tmp_path):
    from starlette.testclient import TestClient

    from landcue.server.app import create_app
    from landcue.server.archives import Catalog
    from landcue.server.settings import Settings

    catalog = Catalog.open([Path(str(pair.address))])
    settings = Settings(collections_file=tmp_path / "picks.db")
    first, second = pair.ids[:2]
    with TestClient(create_app(catalog, settings), base_url="http://localhost") as client:
        members = [{"id": first, "mark": "good"}, {"id": second, "labels": ["quay"]}]
        made = client.post("/v1/collections", json={"name": "a", "members": members}).json()
        assert made["archive"] == "pair"
        assert [member["id"] for member in made["members"]] == sorted([first, second])
        unknown = {"members": [{"id": "none", "mark": "good"}]}
        assert client.post(f"/v1/collections/{made['id']}", json=unknown).status_code == 404
        asked = {"id": first, "filters": {"labels": "water"}}
        answer = client.post(f"/v1/export?format=csv&all=true&collection={made['id']}", json=asked)
        rows = len(searcher_of(pair.archive.folder).search_all(where="water").ids)
        rows -= first in searcher_of(pair.archive.folder).search_all(where="water").ids
        assert answer.headers["x-row-count"] == str(rows)
        counted = client.post("/v1/scores", json=asked).json()
        assert (counted["matched"], sum(counted["counts"])) == (rows, rows)


STRANGE = (
    'a"b', "a'b", "a\\", '" or id != "', "x%", "_", "100 %", "日本\u2028語", "\U0001f600",
    "a\tb", "] or true", '\\" or 1 == 1 or "', "{x}", "and", "not",
)  # fmt: skip


@pytest.fixture(scope="module")
def strange(port, tmp_path_factory, made):
    """Records whose ids, labels, groups, sensors and paths try to end a string."""
    folder = tmp_path_factory.mktemp("strange") / "archive"
    sizes = made.Sizes(label_names=STRANGE[:4])
    archive = made.make_archive(folder, n=1, sizes=sizes)
    encoding = made.random_encoding(5, 3 * len(STRANGE), sizes, distinct=9)
    facts = [
        replace(
            made.plain_record(i), id=f"{text}{i:02}", path=f"{text}/{i}", group=text,
            sensor=STRANGE[-1 - i % len(STRANGE)], labels=(text, STRANGE[(i + 1) % len(STRANGE)]),
        )
        for i, text in enumerate(STRANGE * 3)
    ]  # fmt: skip
    table = RecordTable.open(folder, pinned=False)
    content = ["x"] * len(facts), [b""] * len(facts)
    schema = archive.manifest.schema
    table.add(encoded_rows(facts, *content, encoding, sizes.label_names, schema))
    write_manifest(folder, replace(read_manifest(folder), records=table.count()))
    archive = ArchiveFolder.open(folder)
    push(archive, address(port, "strange"))
    return Pair(archive, address(port, "strange"))


def test_no_text_ends_an_expression(strange):
    total = len(strange.ids)
    for number, text in enumerate(STRANGE):
        for where in (
            Filter(labels=(text,)),
            Filter(no_labels=(text,)),
            Filter(groups=(text,)),
            Filter(sensors=(text, "S2A")),
            Filter(path=text),
            Filter(path=f"{text}/"),
            Filter(groups=(f'{text}"] or id != "',)),
        ):
            found = strange.same(None, total, where=where)
            assert len(found.hits) < total
        strange.same(ById(f"{text}{number:02}"), 9, MODES[number % 5])
        for searcher in (strange.near, strange.far):
            with pytest.raises(UsageError, match="no record has the id"):
                searcher.search(ById(f'{text}" or id != "'), k=9)
    assert not diff(strange.archive, strange.address).missing


def test_a_changed_archive_pushes_its_changes_alone(port, tmp_path, made):
    folder, where = tmp_path / "archive", address(port, "changing")
    archive = made.make_archive(folder, n=200, distinct=50)
    push(archive, where, rows=32)
    far = searcher_of(where)
    cursor = far.search(
        ById("scene0/0005.tif" if "scene0/0005.tif" in far else Archive(archive).ids()[0]),
        k=3,
    ).to_json()["cursor"]
    ids = Archive(archive).ids()
    gone, other = ids[10:13], ids[50:52]
    delete(folder, gone)
    table = RecordTable.open(folder, pinned=False)
    sizes, schema = made.Sizes(), archive.manifest.schema
    fresh = [replace(made.plain_record(i), labels=("lava",)) for i in range(4)]
    content = ["x"] * 4, [b""] * 4
    encoding = made.random_encoding(77, 4, sizes)
    table.add(encoded_rows(fresh, *content, encoding, sizes.label_names, schema))
    altered = [replace(made.plain_record(9), id=id_, group="moved") for id_ in other]
    encoding = made.random_encoding(78, 2, sizes)
    content = ["y"] * 2, [b""] * 2
    table.replace(encoded_rows(altered, *content, encoding, sizes.label_names, schema))
    write_manifest(folder, replace(read_manifest(folder), records=table.count()))

    changed = ArchiveFolder.open(folder)
    found = diff(changed, where)
    assert not found.same
    assert found.extra == gone
    assert found.different == other
    assert found.missing == [record.id for record in fresh]
    report = push(changed, where, rows=32)
    assert (report.added, report.changed, report.removed) == (4, 2, 3)
    assert report.same >= 64  # ranges without a change were not even looked at
    assert diff(changed, where).same

    near = Archive(changed)
    with pytest.raises(UsageError, match="belongs to another version"):
        far.search(ById(ids[0]), k=3, options=SearchOptions(cursor=cursor))
    for query in (ids[0], other[0], fresh[1].id):  # the open searcher follows
        for mode in ("embedding", "code", "cue"):
            expected = near.search(ById(query), k=30, mode=mode, where=Filter(no_labels=("water",)))
            assert plain(
                far.search(ById(query), k=30, mode=mode, where=Filter(no_labels=("water",)))
            ) == plain(expected)
    lava = Filter(labels=("lava",))
    assert plain(far.search(None, k=9, where=lava)) == plain(near.search(None, k=9, where=lava))


def test_a_push_that_is_killed_at_any_moment_goes_on_and_loses_nothing(port, tmp_path, made):
    archive = made.make_archive(tmp_path / "archive", n=200, distinct=50)
    where = address(port, "killed")

    def run(count, when):
        command = [sys.executable, str(HERE / "killed_push.py"), str(archive.folder), str(where)]
        return subprocess.run(
            [*command, str(count), when], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    for count, when in ((1, "before"), (17, "after"), (20, "before")):
        done = run(count, when)
        assert done.returncode == -signal.SIGKILL, done.stderr
    for opening in (lambda: open_storage(Path(str(where))), lambda: MilvusBackend(where)):
        with pytest.raises(
            ArchiveError, match=r"pushed in part: run 'landcue archive push /.* mil"
        ):
            opening()
    assert not diff(archive, where).complete
    report = push(archive, where, rows=16)
    assert report.added < 200  # what was written before was not written again
    assert diff(archive, where).same
    near, far = Archive(archive), searcher_of(where)
    for row in range(0, 200, 40):
        query = ById(near.backend.records.id(row))
        for mode in MODES:
            assert plain(far.search(query, k=200, mode=mode)) == plain(
                near.search(query, k=200, mode=mode)
            )


def test_a_collection_of_another_model_or_maker_is_refused(pair, tmp_path, made):
    port = pair.address.port
    for sizes in (made.Sizes(dim=8), made.Sizes(n_bits=16), made.Sizes(label_names=("a", "b"))):
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        other = made.make_archive(tmp_path / "other", n=20, sizes=sizes)
        for refused in (push, diff):
            with pytest.raises(ArchiveError, match=r"holds embeddings of model .* \S+/pair_2$"):
                refused(other, pair.address)
    with pytest.raises(UsageError, match="has index flat"):
        push(pair.archive, pair.address, index="ivf")
    with pytest.raises(ArchiveError, match="does not exist: create it with"):
        diff(pair.archive, address(port, "nothing"))
    link = Link(pair.address)
    try:
        link.client.create_collection("foreign", dimension=4)
        with pytest.raises(ArchiveError, match="was not made by LandCue"):
            push(pair.archive, address(port, "foreign"))
        link.client.drop_collection("foreign")
    finally:
        link.close()
    with pytest.raises(ArchiveError, match=r"127\.0\.0\.1:1 cannot be reached"):
        open_storage(Path("milvus://127.0.0.1:1/pair"))
    assert plain(pair.far.search(ById(pair.ids[0]), k=3)) == plain(
        pair.near.search(ById(pair.ids[0]), k=3)
    )


def test_an_approximate_index_is_measured_and_still_searched_exactly(port, tmp_path, made):
    archive = made.make_archive(tmp_path / "archive", n=1500, distinct=None, metadata=False)
    where = address(port, "lists")
    push(archive, where, index="ivf")
    near, far = Archive(archive), searcher_of(where)
    lists = far.backend.archive.pushed.lists
    assert lists == 32
    best = 0
    for row in range(0, 1500, 25):
        query = ById(near.backend.records.id(row))
        exact = near.search(query, k=20, mode="embedding")
        assert plain(far.search(query, k=20, mode="embedding")) == plain(exact)
        found = far.search(query, k=20, mode="ann", options=SearchOptions(recall=0.1, shortlist=20))
        assert found.plan.lists < lists
        assert found.plan.recall is not None
        places = {hit.id: hit.distance for hit in exact.hits}
        best += len(places.keys() & {hit.id for hit in found.hits})
        for hit in found.hits:
            assert hit.distance == places.get(hit.id, hit.distance)
    assert best > 60 * 20 * 0.3
    assert far.backend.archive.pushed.ann.recall[1] < 1
    with pytest.raises(UsageError, match="is chosen with"):
        far.build_ann()


def test_a_mode_that_the_collection_lacks_is_refused(pair):
    for mode, why in (("ann", "no approximate index"), ("fused-code", "is for archive folders")):
        assert mode not in pair.far.modes
        with pytest.raises(UsageError, match=why):
            pair.far.search(ById(pair.ids[0]), k=5, mode=mode)


def test_an_empty_archive_is_not_pushed(port, tmp_path, made):
    made.make_archive(tmp_path / "archive", n=2)
    ids = Archive(ArchiveFolder.open(tmp_path / "archive")).ids()
    delete(tmp_path / "archive", ids)
    with pytest.raises(ArchiveError, match="holds no records"):
        push(ArchiveFolder.open(tmp_path / "archive"), address(port, "empty"))


def test_wrong_or_missing_credentials_are_told_in_one_line(port, tmp_path, made, monkeypatch):
    archive = made.make_archive(tmp_path / "archive", n=20)
    where = address(port, "guarded")
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"LANDCUE_MILVUS_{name}", raising=False)
    with pytest.raises(ArchiveError, match="set LANDCUE_MILVUS_USER and LANDCUE_MILVUS_PASSWORD"):
        push(archive, where)
    monkeypatch.setenv("LANDCUE_MILVUS_USER", "root")
    monkeypatch.setenv("LANDCUE_MILVUS_PASSWORD", "wrong")
    with pytest.raises(ArchiveError, match="refuses these credentials"):
        push(archive, where)
    monkeypatch.setenv("LANDCUE_MILVUS_PASSWORD", "a secret")
    assert Link(where).has("guarded") is False
    monkeypatch.setenv("LANDCUE_MILVUS_TOKEN", "root:a secret")
    assert Link(where).has("guarded") is False


def test_the_composed_server_refuses_clients_without_its_password(
    port, change_password, tmp_path, made, monkeypatch
):
    """With the settings of ``deploy/compose.yaml``, and after its script replaced the password."""
    archive, where = made.make_archive(tmp_path / "archive", n=20), address(port, "composed")

    def use(**known):
        for name in ("USER", "PASSWORD", "TOKEN"):
            monkeypatch.delenv(f"LANDCUE_MILVUS_{name}", raising=False)
        for name, value in known.items():
            monkeypatch.setenv(f"LANDCUE_MILVUS_{name}", value)

    assert change_password("a secret").stdout == "password of root: unchanged\n"
    other = change_password("another")
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "neither the default password nor" in other.stderr
    for known in (
        {},
        {"USER": "root", "PASSWORD": "Milvus"},
        {"TOKEN": "root:Milvus"},
        {"USER": "root", "PASSWORD": "another"},
    ):
        use(**known)
        with pytest.raises(ArchiveError, match="refuses these credentials: set LANDCUE_MILVUS"):
            push(archive, where)
    use(USER="root", PASSWORD="a secret")
    assert Link(where).has("composed") is False
    push(archive, where)
    assert Link(where).has("composed") is True


def test_a_server_without_memory_is_told_in_one_line(starved_port, tmp_path, made):
    archive = made.make_archive(tmp_path / "archive", n=60)
    where = address(starved_port, "full")
    with pytest.raises(
        ArchiveError, match=r"has no memory or disk left while .* the same command again$"
    ):
        push(archive, where, rows=16)
    with pytest.raises(ArchiveError, match=r"is pushed in part|does not exist"):
        open_storage(Path(str(where)))


def test_rankings_are_made_by_the_server(pair):
    """Nothing above may pass because the folder was read in secret."""
    folder, moved = pair.archive.folder, pair.archive.folder.with_name("moved")
    folder.rename(moved)
    try:
        far = searcher_of(pair.address)
        found = {mode: far.search(ById(pair.ids[4]), k=5, mode=mode).ids for mode in MODES}
    finally:
        moved.rename(folder)
    for mode, ids in found.items():
        assert ids == pair.near.search(ById(pair.ids[4]), k=5, mode=mode).ids

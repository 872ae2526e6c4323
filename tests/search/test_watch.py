from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
import shapely
from typer.testing import CliRunner

import landcue
import pixel_encoder as tools
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.cli.main import app
from landcue.errors import ArchiveError, LandcueError, UsageError
from landcue.search import Filter
from landcue.search.feed import write_feed, write_json_lines
from landcue.search.watch import Watches, run_saved
from landcue.types import Bounds

RUNS = """
import os, signal, sqlite3, sys, warnings, landcue
import lancedb, landcue.search.watch  # imported before the forks, not used before them

class Killed(sqlite3.Connection):
    left = 0

    def _counted(self, result):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def execute(self, *args):
        return self._counted(super().execute(*args))

    def executemany(self, *args):
        return self._counted(super().executemany(*args))

warnings.simplefilter("ignore")  # a fork before any table is touched is safe
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.alarm(120)  # one that hangs ends
        archive = landcue.open(sys.argv[1])
        connect, Killed.left = sqlite3.connect, int(line)
        sqlite3.connect = lambda *args, **options: connect(*args, **options, factory=Killed)
        archive.watches.run()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
COMMIT = 19
"""Number of the last statement of a run of two saved searches."""


def add_images(root, first, count, **facts):
    names = [f"{i:03}.png" for i in range(first, first + count)]
    records = tools.write_images(root / "source", names, first_seed=first)
    records = [replace(record, **facts) for record in records]
    ingest(SourceImages(records, root / "source"), root / "archive", tools.PixelEncoder())
    return landcue.open(root / "archive")


def brute_force(archive, query, least, ids):
    columns = archive.columns()
    return {
        id_
        for id_, embedding in zip(columns.ids, columns.embedding, strict=True)
        if id_ in ids and float(embedding @ query[0]) >= least
    }


def test_only_new_records_are_reported_and_each_once(tmp_path):
    archive = add_images(tmp_path, 0, 12)
    query = archive.embed("000.png")
    saved = archive.watches.add("alike", query, query="000.png", min_score=0.5)
    assert archive.watches.run().hits == ()  # what was there before is not new
    archive = add_images(tmp_path, 12, 20)
    new = {f"{i:03}.png" for i in range(12, 32)}
    expected = brute_force(archive, query, saved.min_score, new)
    assert 0 < len(expected) < len(new)
    assert {hit.id for hit in archive.watches.run().hits} == expected
    assert archive.watches.run().hits == ()
    assert {hit.id for hit in archive.watches.hits()} == expected
    assert archive.watches.list()[0].hits == len(expected)


def test_searches_of_a_collection_and_what_they_searched_for(tmp_path):
    archive = add_images(tmp_path, 0, 6)
    box = shapely.box(5, 50, 6, 51)
    where = Filter(
        labels=("bare soil",), no_labels=("water",), any_labels=("a", "b"), expression="c or d",
        polygon=box, scores=(("dark", 0.5),), datetime="2024-01-01/..",
    )  # fmt: skip
    embedding = archive.embed("000.png")
    one = archive.watches.add("one", embedding, query="000.png", where=where, collection="c1")
    assert one.search == {
        "id": "000.png",
        "filters": {
            "labels": '"bare soil" and not water and (a or b) and (c or d)',
            "polygon": json.loads(shapely.to_geojson(box)), "scores": {"dark": 0.5},
            "datetime": "2024-01-01/..",
        },
    }  # fmt: skip
    archive.watches.add("two", embedding, query="photo.jpg", collection="c2")
    archive.watches.add("three", None, where=Filter.parse("water"))
    found = {each.name: each.search for each in archive.watches.list()}
    assert (found["two"], found["three"]) == (None, {"filters": {"labels": "water"}})
    assert [each.name for each in archive.watches.list("c1")] == ["one"]
    folder = str(tmp_path / "archive")
    args = ["watch", "add", folder, "four", "001.png", "--collection", "c1", "--bbox", "5,50,6,51"]
    assert CliRunner().invoke(app, [*args, "--after", "2024-01-01"]).exit_code == 0
    done = CliRunner().invoke(app, [*args[:3], "five", "001.png", "--text", "a harbor"])
    assert (done.exit_code, done.output) == (2, "error: use an image or --text, not both\n")
    done = CliRunner().invoke(app, [*args[:3], "five", "--text", "a harbor"])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    listed = CliRunner().invoke(app, ["watch", "list", folder, "--collection", "c1", "--json"])
    four = json.loads(listed.stdout)[0]
    assert (four["name"], four["collection"]) == ("four", "c1")
    filters = {"bbox": [5, 50, 6, 51], "datetime": "2024-01-01/.."}
    assert four["search"] == {"id": "001.png", "filters": filters}


def test_a_feed_has_a_key_that_a_new_one_or_removal_revokes(tmp_path):
    archive = add_images(tmp_path, 0, 6)
    assert archive.watches.feed("x", 9) is None
    for name in ("any", "other"):
        archive.watches.add(name, archive.embed("000.png"), min_score=-1)
    archive = add_images(tmp_path, 6, 2)
    archive.watches.run()
    key = archive.watches.new_feed("any")
    name, hits = archive.watches.feed(key, 9)
    assert (name, [hit.id for hit in hits]) == ("any", ["006.png", "007.png"])
    again = archive.watches.new_feed("any")
    assert archive.watches.feed(key, 9) is None
    assert archive.watches.feed(again, 9)[0] == "any"
    archive.watches.remove("any")
    assert archive.watches.feed(again, 9) is None
    with pytest.raises(UsageError, match="no saved search 'any'"):
        archive.watches.new_feed("any")


def test_the_threshold_is_calibrated_on_nearest_neighbors(tmp_path):
    archive = add_images(tmp_path, 0, 40)
    query = archive.embed("000.png")
    vectors = archive.columns().embedding.astype(np.float64)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    nearest = cosines.max(axis=1)
    for percentile in (20, 50, 90):
        saved = archive.watches.add(f"p{percentile}", query, percentile=percentile)
        share = np.mean(nearest <= saved.min_score + 2e-6) * 100
        assert percentile <= share < percentile + 100 / 40 + 1e-9
    widest = archive.watches.add("widest", query, percentile=5e-324).min_score
    assert widest == pytest.approx(nearest.min(), abs=1e-5)


def test_filters_are_kept(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    where = Filter(
        expression="water", bbox=Bounds(5, 50, 6, 51), polygon=shapely.box(5, 50, 6, 51),
        datetime=(date(2024, 1, 1), None), sensors=("s2",), scores=(("dark", 0.0),),
    )  # fmt: skip
    archive.watches.add("all of it", None, where=where)
    facts = {"datetime": datetime(2024, 5, 1, tzinfo=UTC), "sensor": "s2"}
    add_images(tmp_path, 4, 4, bbox=Bounds(5.2, 50.2, 5.3, 50.3), **facts)
    archive = add_images(tmp_path, 8, 4, bbox=Bounds(8, 50, 9, 51), **facts)
    expected = {hit.id for hit in archive.search(where=where, k=20)}
    assert expected == {"006.png", "007.png"}  # of four, two carry the label
    found = archive.watches.run().hits
    assert {hit.id for hit in found} == expected
    assert {hit.score for hit in found} == {None}


def test_a_search_that_was_stored_with_after_and_before_goes_on(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    archive.watches.add("old", None, where=Filter(datetime="2024-05-02/2024-05-03"))
    with contextlib.closing(sqlite3.connect(archive.watches.path)) as database, database:
        (text,) = database.execute("SELECT filter FROM watches").fetchone()
        stored = json.loads(text)
        assert stored.pop("datetime") == "2024-05-02/2024-05-03"
        stored |= {"after": "2024-05-02T00:00:00+00:00", "before": "2024-05-04T00:00:00+00:00"}
        shown = {"filters": {name: stored[name] for name in ("after", "before")}}
        values = json.dumps(stored), json.dumps(shown)
        database.execute("UPDATE watches SET filter = ?, search = ?", values)
    wanted = {"filters": {"datetime": "2024-05-02/2024-05-03"}}
    assert [one.search for one in archive.watches.list()] == [wanted]
    (exported,) = archive.watches.export()
    assert (exported["search"], exported["filters"]) == (wanted, wanted["filters"])
    for n, day in enumerate((1, 2, 3, 4)):
        archive = add_images(tmp_path, 4 + n, 1, datetime=datetime(2024, 5, day, 23, tzinfo=UTC))
    assert [hit.id for hit in archive.watches.run().hits] == ["005.png", "006.png"]


def test_searches_of_a_deleted_archive_go_on_in_a_new_one_of_its_name(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    archive.watches.add("all", archive.embed("000.png"), min_score=-1)
    for first in (4, 5, 6):
        assert len(add_images(tmp_path, first, 1).watches.run().hits) == 1
    found = archive.watches.hits()
    assert archive.watches.hits(most=2) == found[:2]
    assert archive.watches.hits(found[0].number, 1, latest=True) == found[-1:]
    shutil.rmtree(tmp_path / "archive")
    with pytest.raises(ArchiveError):
        archive.watches.add("late", archive.embed("000.png"), min_score=-1)
    new = add_images(tmp_path, 6, 2)
    assert new.version < 4
    assert [hit.id for hit in new.watches.run().hits] == ["007.png"]
    assert [one.name for one in new.watches.list()] == ["all"]


def test_a_process_that_was_stopped_while_it_wrote_keeps_no_reader_out(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    archive.watches.add("all", archive.embed("000.png"), min_score=-1)
    with contextlib.closing(sqlite3.connect(archive.watches.path)) as stopped:
        stopped.execute("BEGIN IMMEDIATE")
        stopped.execute("DELETE FROM watches")
        assert [one.name for one in archive.watches.list()] == ["all"]
        assert archive.watches.hits() == []
        with pytest.raises(LandcueError, match=r"another process has been writing for 0\.2 s"):
            Watches(archive, busy_seconds=0.2).remove("all")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_killed_runs_report_each_hit_exactly_once(tmp_path):
    archive = add_images(tmp_path, 0, 8)
    query = archive.embed("000.png")
    for name in ("first", "second"):
        archive.watches.add(name, query, min_score=0.3)
    archive = add_images(tmp_path, 8, 40)
    found = brute_force(archive, query, 0.3, {f"{i:03}.png" for i in range(8, 48)})
    expected = sorted((name, id_) for name in ("first", "second") for id_ in found)
    assert expected
    command = [sys.executable, "-c", RUNS, str(tmp_path / "archive")]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True) as runs:
        for statement in (8, 13, 15, COMMIT - 1, COMMIT):
            print(statement, file=runs.stdin, flush=True)
            assert int(runs.stdout.readline()) == -signal.SIGKILL
            stored = sorted((hit.watch, hit.id) for hit in archive.watches.hits())
            assert stored == (expected if statement == COMMIT else [])
        assert runs.communicate(timeout=120) == ("", "")
    assert archive.watches.run().hits == ()
    assert sorted((hit.watch, hit.id) for hit in archive.watches.hits()) == expected


def test_index_evaluates_saved_searches(tmp_path):
    archive = add_images(tmp_path, 0, 6)
    archive.watches.add("any", archive.embed("000.png"), min_score=-1)
    add_images(tmp_path, 6, 2)
    assert len(run_saved(tmp_path / "archive").hits) == 2
    assert run_saved(tmp_path / "archive").hits == ()
    assert run_saved(tmp_path / "nothing").hits == ()


def test_index_in_python_evaluates_saved_searches(tmp_path):
    folder = tmp_path / "photos"
    tools.write_images(folder, [f"{i}.png" for i in range(4)])
    archive = landcue.index(folder, tmp_path / "a")
    archive.watches.add("any", archive.embed("0.png"), min_score=-1)
    tools.write_images(folder, ["new.png"], first_seed=9)
    archive = landcue.index(folder, tmp_path / "a")
    assert [hit.id for hit in archive.watches.hits()] == ["new.png"]
    landcue.index(folder, tmp_path / "a")
    assert len(archive.watches.hits()) == 1


def test_a_watch_of_another_model_is_named_and_keeps_its_place(tmp_path):
    archive = add_images(tmp_path, 0, 6)
    archive.watches.add("old", archive.embed("000.png"), min_score=-1)
    other = tmp_path / "other"
    tools.write_images(other / "source", ["a.png"])
    ingest(
        SourceImages(tools.write_images(other / "source", ["a.png"]), other / "source"),
        other / "archive",
        tools.PixelEncoder(seed=1),
    )
    archive.watches.path.replace(other / "archive.watches.sqlite")
    watches = landcue.open(other / "archive").watches
    report = watches.run()
    assert report.hits == ()
    assert [str(problem) for problem in report.problems] == [
        "saved search old: it was made with another model: remove it and add it again"
    ]
    (one,) = watches.list()
    assert one.problem == "it was made with another model: remove it and add it again"
    for command, status in (("run", 1), ("list", 0)):
        done = CliRunner().invoke(app, ["watch", command, str(other / "archive")])
        assert done.exit_code == status
        assert done.output.count("it was made with another model") == done.output.count("\n") == 1


def test_an_archive_opened_before_a_later_run_is_refused(tmp_path):
    early = add_images(tmp_path, 0, 6)
    early.watches.add("any", early.embed("000.png"), min_score=-1)
    late = add_images(tmp_path, 6, 2)
    assert len(late.watches.run().hits) == 2
    with pytest.raises(UsageError, match="open the archive again"):
        early.watches.run()
    assert len(late.watches.hits()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 0}, "percentile is 0"),
        ({"min_score": 1.5}, "least score is 1.5"),
        ({"min_score": float("nan")}, "least score is nan"),
    ],
)
def test_values_that_are_not_valid(tmp_path, options, message):
    archive = add_images(tmp_path, 0, 4)
    with pytest.raises(UsageError, match=message):
        archive.watches.add("a", archive.embed("000.png"), **options)
    with pytest.raises(UsageError, match="use at most 200"):  # as an exported one may have
        archive.watches.add("a" * 201, archive.embed("000.png"))
    assert archive.watches.list() == []


def test_a_batch_is_saved_whole_or_not_at_all(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    embedding = archive.embed("000.png")

    def twice():
        with archive.watches.batch() as b:
            archive.watches.add("a", embedding, min_score=0, batch=b)
            archive.watches.add("a", embedding, min_score=0, batch=b)

    with pytest.raises(UsageError, match="there is a saved search 'a'"):
        twice()
    assert archive.watches.list() == []
    with archive.watches.batch() as b:
        for name in "ab":
            archive.watches.add(name, embedding, min_score=0, batch=b)
    assert [one.name for one in archive.watches.list()] == ["a", "b"]
    add_images(tmp_path, 4, 1).watches.run()


def test_names_and_queries_that_are_no_valid_text_are_kept_escaped(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    watch = archive.watches.add(
        "caf\udce9", archive.embed("000.png"), query="a/\udce9.png", min_score=0
    )
    assert (watch.name, watch.query) == ("caf\\xe9", "a/\\xe9.png")
    with pytest.raises(UsageError, match="there is a saved search"):
        archive.watches.add("caf\udce9", archive.embed("000.png"), min_score=0)
    archive.watches.remove("caf\udce9")
    assert archive.watches.list() == []
    with pytest.raises(UsageError, match="there is no saved search"):
        archive.watches.remove("caf\udce9")


def test_names_are_unique_and_removal_is_complete(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    with pytest.raises(UsageError, match="specify a query or a filter"):
        archive.watches.add("a", None)
    archive.watches.add("a", archive.embed("000.png"))
    with pytest.raises(UsageError, match="there is a saved search 'a'"):
        archive.watches.add("a", archive.embed("000.png"))
    archive.watches.remove("a")
    with pytest.raises(UsageError, match="no saved search 'a'"):
        archive.watches.remove("a")


def test_command_writes_json_lines_and_a_feed(tmp_path):
    add_images(tmp_path, 0, 6)
    folder, run = str(tmp_path / "archive"), CliRunner().invoke
    arguments = ["watch", "add", folder, "a & <b>", "000.png", "--min-score", "-1"]
    assert run(app, arguments).exit_code == 0
    archive = add_images(tmp_path, 6, 3)
    out, feed = tmp_path / "hits.jsonl", tmp_path / "feed.xml"
    done = run(app, ["watch", "run", folder, "--out", str(out), "--feed", str(feed)])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(line["id"] for line in lines) == ["006.png", "007.png", "008.png"]
    assert out.read_text(encoding="utf-8") == write_json_lines(archive.watches.hits())
    atom = "{http://www.w3.org/2005/Atom}"
    entries = ET.fromstring(feed.read_bytes()).findall(f"{atom}entry")
    assert len(entries) == len({entry.findtext(f"{atom}id") for entry in entries}) == 3
    assert entries[0].findtext(f"{atom}title") == f"a & <b>: {lines[-1]['id']}"
    assert run(app, ["watch", "run", folder]).stdout == ""
    again = run(app, ["watch", "run", folder, "--after", "0"])
    assert [json.loads(line) for line in again.stdout.splitlines()] == lines
    assert again.stderr == ""  # not that there are no new hits
    every = run(app, ["watch", "list", folder]).stdout
    assert every.endswith("3 hits, every new record that matches the filters\n")
    assert run(app, ["watch", "run", folder, "--after", str(2**80)]).stdout == ""
    assert len(archive.watches.hits(-(2**80), 2**80)) == 3
    listed = json.loads(run(app, ["watch", "list", folder, "--json"]).stdout)
    assert [(watch["name"], watch["hits"]) for watch in listed] == [("a & <b>", 3)]
    assert run(app, ["watch", "remove", folder, "a & <b>"]).exit_code == 0


def test_a_feed_holds_only_what_xml_can():
    title = ET.fromstring(write_feed([], "a\x00b")).findtext("{http://www.w3.org/2005/Atom}title")
    assert title == "a\ufffdb"


def test_a_file_that_was_created_without_tables_gets_them(tmp_path):
    archive = add_images(tmp_path, 0, 4)
    archive.watches.path.touch()  # as a process that is killed before its first change leaves it
    assert archive.watches.list() == []
    archive.watches.add("a", archive.embed("000.png"), min_score=-1)
    assert [one.name for one in archive.watches.list()] == ["a"]


def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path, monkeypatch):
    archive = add_images(tmp_path, 0, 8)
    for name in "abcdef":
        archive.watches.add(name, archive.embed("000.png"), min_score=-1)
    archive = add_images(tmp_path, 8, 40)
    connect = sqlite3.connect

    def small(*args, **options):  # as on a disk without room for another page
        database = connect(*args, **options)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(LandcueError, match=r"database or disk is full\); free space"):
        archive.watches.run()
    monkeypatch.undo()
    assert archive.watches.hits() == []
    assert len(archive.watches.run().hits) == 6 * 40

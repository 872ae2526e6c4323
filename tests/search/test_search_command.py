"""The command, run in this process: an archive without a model is asked by ids and places."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import shapely

from commands import landcue
from landcue.cli.console import styled


@pytest.fixture(scope="module")
def archive(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("command") / "archive"
    return made.make_archive(folder, 120)


@pytest.fixture
def run(archive):
    def run(*args, status=0):
        done = landcue("search", archive.folder, *args)
        assert done.returncode == status, done.stderr
        return done

    return run


def hits(done):
    return json.loads(done.stdout)["hits"]


@pytest.fixture(scope="module")
def ids(archive):
    return archive.columns().ids


@pytest.mark.parametrize("mode", ["auto", "embedding", "code", "cue", "two-stage", "ann"])
def test_modes(run, ids, mode):
    found = json.loads(run(ids[3], "--mode", mode, "-k", 4, "--json").stdout)
    assert found["mode"] == ("embedding" if mode == "auto" else mode)
    assert list(found)[:3] == ["query", "mode", "hits"]
    assert found["query"] == ids[3]
    assert list(found["hits"][0])[:5] == ["id", "path", "distance", "score", "labels"]
    order = [(hit["distance"], hit["id"]) for hit in found["hits"]]
    assert order == sorted(order)
    assert len(order) == 4


def test_expressions_and_old_label_lists(run, archive):
    columns = archive.columns()
    for text, holds in (
        ("water", lambda labels: "water" in labels),
        ("water,ships", lambda labels: {"water", "ships"} <= labels),
        ("bare soil or not water", lambda labels: "bare soil" in labels or "water" not in labels),
    ):
        found = hits(run("--labels", text, "-k", 200, "--json"))
        expected = [
            id_ for row, id_ in enumerate(columns.ids) if holds(set(columns.labels_of(row)))
        ]
        assert [hit["id"] for hit in found] == expected
        assert 0 < len(expected) < 120


def test_filters_of_every_kind(run, ids, tmp_path):
    (tmp_path / "p.geojson").write_text(shapely.to_geojson(shapely.box(100, -80, 250, 80)))
    args = (
        *(ids[3], "--json", "-k", 200, "--after", "2024-01-05", "--before", "2024-02-10"),
        *("--polygon", tmp_path / "p.geojson", "--bbox", "90,-89,-90,89"),
        *("--sensor", "S2A", "--sensor", "S2B", "--score", "water=0.1", "--path", "scene"),
        *("--group", "scene1", "--group", "scene2", "--group", "scene3", "--group", "scene4"),
    )
    found = hits(run(*args))
    assert found
    for hit in found:
        assert "2024-01-05" <= hit["datetime"] < "2024-02-10"
        assert hit["datetime"].endswith("Z")
        assert hit["sensor"] in ("S2A", "S2B")
        assert hit["path"].startswith("scene")
        assert hit["group"] != "scene0"
        west, _, east, _ = hit["bbox"]
        assert west >= 90 or west <= -90 or east <= -90 or east < west


def test_ids_from_a_list_and_from_files(run, ids, tmp_path):
    wanted = [ids[7], ids[90], ids[3]]
    lines, listed = tmp_path / "ids.txt", tmp_path / "ids.json"
    lines.write_text("\n".join(wanted) + "\n")
    listed.write_text(json.dumps(wanted))
    for given in (",".join(wanted), lines, listed):
        found = hits(run("--ids", given, "--json"))
        assert [hit["id"] for hit in found] == sorted(wanted)
    near = hits(run(ids[3], "--ids", lines, "--json"))
    assert {hit["id"] for hit in near} == {ids[7], ids[90]}


def test_ids_and_sources_that_the_archive_lacks(run, ids, tmp_path):
    wrong = f"{ids[7]}x"
    error = run("--ids", wrong, status=2).stderr
    assert f"no record has the id '{wrong}' (did you mean '{ids[7]}'" in error
    error = run("--ids", f"{ids[3]},{wrong},zzz", status=2).stderr
    assert f"2 of 3 ids are of no record, first '{wrong}'" in error
    assert (
        "no record is of the source 'mad' (did you mean 'made'?)"
        in run(ids[3], "--source", "mad", status=2).stderr
    )
    assert len(hits(run("--source", "made", "-k", 200, "--json"))) == 120
    (tmp_path / "empty.txt").write_text("\n")
    assert "holds no ids" in run("--ids", tmp_path / "empty.txt", status=2).stderr
    assert "holds no ids" in run("--ids", "", status=2).stderr


def test_pages_follow_one_another(run, ids):
    whole = [hit["id"] for hit in hits(run(ids[3], "-k", 119, "--mode", "code", "--json"))]
    joined, cursor = [], []
    while True:
        done = json.loads(run(ids[3], "-k", 50, "--mode", "code", "--json", *cursor).stdout)
        joined += [hit["id"] for hit in done["hits"]]
        if done["cursor"] is None:
            break
        cursor = ["--cursor", done["cursor"]]
    assert joined == whole


def test_lines_have_a_heading_and_say_which_labels_are_predicted(run, archive, ids):
    columns = archive.columns()
    for mode, unit in (("embedding", "1-cosine"), ("code", "bits"), ("cue", "bits")):
        head, *lines = run(ids[3], "--mode", mode, "-k", 119).stdout.splitlines()
        assert head.split() == ["#", unit, "id", "labels"]
        assert len(lines) == 119
        for line in lines:
            row = columns.ids.index(line.split()[2])
            shown = bool(columns.labels_of(row)) and not columns.labels.known[row]
            assert line.endswith(" (predicted)") == shown
            assert "\x1b" not in line
    assert run("--bbox=-170,-80,170,80", "-k", 3).stdout.splitlines()[0].split()[1] == "km"


def test_colors_only_on_terminals(monkeypatch):
    monkeypatch.setattr("sys.stdout", Terminal())
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert styled("water", fg="green") == "\x1b[32mwater\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("water", fg="green") == "water"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert styled("water", fg="green") == "water"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_next_page_is_told_where_it_is_asked_for(run, ids):
    assert "next page" not in run(ids[3], "-k", 5).stdout
    first = run(ids[3], "-k", 60, "--pages").stdout.splitlines()
    reported = first[-1].removeprefix("next page: ").split()
    assert reported[0] == "--cursor"
    second = run(ids[3], "-k", 59, *reported).stdout.splitlines()  # and no further one: 119 in all
    assert (len(first), len(second)) == (62, 60)
    assert "next page: --cursor " in run(ids[3], "-k", 5, *reported).stdout
    assert "next page" not in run(ids[3], "-k", 500, "--pages").stdout


def test_vectors_of_a_file(run, archive, ids, tmp_path):
    embeddings = archive.columns().embedding
    np.save(tmp_path / "v.npy", 3 * embeddings[3])
    found = json.loads(run("--vector", tmp_path / "v.npy", "-k", 5, "--json").stdout)
    assert found["query"] == str(tmp_path / "v.npy")
    order = np.lexsort((np.arange(120), np.float32(1 - embeddings @ embeddings[3]).round(5)))[:5]
    assert [hit["id"] for hit in found["hits"]] == [ids[row] for row in order]
    np.save(tmp_path / "v.npy", embeddings[[3]].astype(np.float64))  # [1, d], of another type
    assert hits(run("--vector", tmp_path / "v.npy", "-k", 5, "--json")) == found["hits"]
    both = hits(run("--vector", tmp_path / "v.npy", "--negative", ids[9], "--json"))
    assert ids[9] not in {hit["id"] for hit in both}
    for mode in ("two-stage", "ann"):
        again = run("--vector", tmp_path / "v.npy", "-k", 5, "--mode", mode, "--json")
        assert hits(again) == found["hits"]


def test_vectors_that_cannot_be_used(run, ids, tmp_path):
    file = tmp_path / "v.npy"
    for value, word in (
        (np.zeros(12), "length 0.0"),
        (np.full(12, np.nan), "length nan"),
        (np.ones(11), "float64 [11]: use one of 12"),
        (np.ones((2, 12)), "[2, 12]"),
        (np.ones(12, np.int64), "int64"),
        (np.ones(12, object), "not a .npy file of numbers"),
    ):
        np.save(file, value)
        done = run("--vector", file, status=2)
        assert word in done.stderr
        assert done.stderr.count("\n") == 1
    np.save(file, np.ones(12))
    for mode in ("code", "cue"):
        assert (
            "has neither code nor labels" in run("--vector", file, "--mode", mode, status=2).stderr
        )
    assert "QUERY or --vector" in run(ids[3], "--vector", file, status=2).stderr
    assert "No such file" in run("--vector", tmp_path / "gone.npy", status=2).stderr
    np.savez(tmp_path / "some.npz", a=np.ones(12))
    assert "not a .npy file" in run("--vector", tmp_path / "some.npz", status=2).stderr


def test_examples_for_and_against(run, ids):
    found = json.loads(
        run(
            ids[3], "--positive", ids[9], "--negative", ids[50], "--rule", "linear", "--json"
        ).stdout
    )
    assert not {ids[3], ids[9], ids[50]} & {hit["id"] for hit in found["hits"]}
    assert found["query"] == f"{ids[3]} + {ids[9]} - {ids[50]}"
    same = run("--positive", ids[3], "--json")
    assert hits(same) == hits(run(ids[3], "--json"))


def test_collapse_least_score_and_explain(run, ids):
    plain = hits(run(ids[3], "-k", 119, "--json"))
    kept = hits(run(ids[3], "-k", 119, "--collapse", "0.02", "--min-score", "0.2", "--json"))
    assert len(kept) < len(plain)
    assert all(hit["score"] >= 0.2 for hit in kept)
    assert any(hit["near"] for hit in kept)
    done = json.loads(run(ids[3], "--json", "--explain").stdout)
    assert done["plan"]["mode"] == "embedding"
    assert done["plan"]["scanned"] == 120
    assert "plan" not in json.loads(run(ids[3], "--json").stdout)
    assert "120 records are few enough" in run(ids[3], "--explain").stdout


def test_an_empty_answer_is_no_error(run, ids):
    done = run(ids[3], "--bbox", "0.1,89,0.2,90", "--labels", "water")
    assert "no record matches labels water (" in done.stdout
    assert "bbox 0.1,89,0.2,90 (0 of 120 records)" in done.stdout


def test_a_picture_of_a_place(run, tmp_path):
    done = run("--bbox", "-180,-90,180,90", "-k", 5, "--grid", tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    assert "picture: " in done.stdout


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([], "nothing to search for"),
        (["--labels", "watr"], "'water'"),
        (["--labels", "water and"], "found the end"),
        (["--bbox", "1,2,3"], "box '1,2,3': write W,S,E,N"),
        (["--bbox", "0,50,1,40"], "south <= north"),
        (["--polygon", "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))"], "intersects itself"),
        (["--after", "2024-02-01", "--before", "2024-01-01"], "swap them"),
        (["--score", "water"], "ships=0.7"),
        (["--score", "water=2"], "use a value from 0 to 1"),
        (["--labels", "water", "--cursor", "xyz"], "cannot be read"),
        (["--labels", "water", "--mode", "code"], "needs a query"),
        (["--labels", "water", "--mode", "cod"], "'code'"),
        (["--window", "0,0,5,5"], "need a scene"),
        (["x.tif", "--window", "0,0,5"], "COL,ROW,WIDTH,HEIGHT"),
        (["x.tif", "--bands", "1,2,3"], "--window"),
        (["gone.png"], "gone.png is not an image file"),
    ],
)
def test_mistakes_are_one_line(run, args, word):
    done = run(*args, status=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert word in done.stderr


def test_evaluate_simulates_feedback(archive):
    from landcue.search.feedback import simulate_feedback

    more = ("--feedback", "2", "--resamples", "0")
    text, value = (landcue("evaluate", archive.folder, *more, *way) for way in ((), ("--json",)))
    assert (text.returncode, value.returncode) == (0, 0), text.stderr
    expected = simulate_feedback(archive.folder, 2)
    assert json.loads(value.stdout)["feedback"] == [json.loads(json.dumps(expected.to_json()))]
    assert expected.to_text() in text.stdout
    assert landcue("evaluate", "/nowhere", *more).returncode == 2

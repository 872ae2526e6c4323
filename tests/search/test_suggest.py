"""Suggestions of what to label next: which records, from which marks, and what is refused."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import landcue
from commands import error_line
from commands import landcue as run
from landcue.data.marks import Marks, read_marks
from landcue.errors import DataError, UsageError
from landcue.search import Filter
from landcue.search.place import center, kilometers
from landcue.search.suggest import Posterior, Rule, Space, choose
from landcue.server.collections import Collections
from landcue.types import Bounds
from made_archive import make_archive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggest") / "archive"
    make_archive(folder, 300)
    return folder


@pytest.fixture(scope="module")
def archive(folder):
    return landcue.open(folder)


@pytest.fixture(scope="module")
def ids(archive):
    return archive.ids()


def rare_places(n=600, dim=64, seed=0, share=0.05):
    """Unit vectors; a rare kind lies in three separate clumps, close to others."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(40, dim))
    kind = rng.integers(3, 40, n)
    rare = rng.random(n) < share
    kind[rare] = rng.integers(0, 3, rare.sum())
    x = centers[kind] + 0.4 * rng.normal(size=(n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), rare


def reference(space, marked, relevant, candidates, n, rule, seed):
    """Fit weighted ridge regressions anew for every choice."""
    draw = np.random.default_rng(seed)
    other = np.sort(draw.choice(candidates, min(len(candidates), 200), replace=False))
    good, m = relevant.sum(), len(marked)
    rows = [*marked, *other]
    weight = [0.5 * m / good if mark else 0.5 * m / (m - good + rule.unmarked) for mark in relevant]
    weight += [0.5 * m * rule.unmarked / (m - good + rule.unmarked) / len(other)] * len(other)
    target = np.array([1.0 if mark else -1.0 for mark in relevant] + [-1.0] * len(other))
    weight, x = np.array(weight), space.take(np.array(rows)).astype(np.float64)
    middle = np.average(x, axis=0, weights=weight)
    level = np.average(target, weights=weight)
    eye = np.eye(x.shape[1])
    precision = eye + sum(
        w * np.outer(v - middle, v - middle) for w, v in zip(weight, x, strict=True)
    )
    beta = np.linalg.solve(
        precision,
        sum(w * (t - level) * (v - middle) for w, t, v in zip(weight, target, x, strict=True)),
    )
    chosen = []
    while len(chosen) < n:
        best = None
        for row in candidates:
            if row in chosen:
                continue
            v = space.take(np.array([row]))[0].astype(np.float64) - middle
            doubt = abs(v @ beta + level - rule.level)
            weight = rule.spread[len(chosen) % len(rule.spread)]
            gain = weight * np.sqrt(v @ np.linalg.solve(precision, v)) - doubt
            if best is None or gain > best[0]:
                best = gain, row, v
        chosen.append(best[1])
        if rule.diverse:
            precision = precision + np.outer(best[2], best[2])
    return chosen


@pytest.mark.parametrize(
    "rule", [Rule(), Rule((0,)), Rule((2,), 0.3, 5), Rule(diverse=False)], ids=str
)
def test_choices_are_those_of_regressions_fitted_anew(rule):
    embedding, rare = rare_places(90)
    space = Space(embedding, 0)
    marked = np.array([*np.flatnonzero(rare)[:2], *np.flatnonzero(~rare)[:3]])
    candidates = np.setdiff1d(np.arange(90), marked)
    rows, _ = choose(space, [(marked, rare[marked])], candidates, 8, seed=5, rule=rule)
    assert rows.tolist() == reference(space, marked, rare[marked], candidates, 8, rule, 5)


def test_the_mean_is_a_weighted_ridge_regression_with_equal_classes():
    embedding, rare = rare_places(200)
    x = embedding.astype(np.float64)
    posterior = Posterior(x[:100], rare[:100], x[100:], 3.0)
    flipped = Posterior(x[:100][::-1], rare[:100][::-1], x[100:][::-1], 3.0)
    np.testing.assert_allclose(posterior.mean(x), flipped.mean(x), atol=1e-12)
    assert posterior.level == pytest.approx(0)  # halfway between the classes
    assert posterior.mean(x[:100])[rare[:100]].min() > posterior.mean(x[:100])[~rare[:100]].mean()


def average_precision(relevant, scores):
    hits = np.flatnonzero(relevant[np.argsort(-scores, kind="stable")])
    return float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))


def needed(embedding, rare, pool, held, seed, suggested, goal=0.9):
    """Return how many marks it takes until the ranking of held out records is good."""
    draw = np.random.default_rng(seed)
    marked = [int(draw.choice(pool[rare[pool]]))]
    space = Space(embedding, 0)
    while len(marked) < len(pool):
        known = np.array(marked)
        left = np.setdiff1d(pool, known)
        rest = space.take(draw.choice(left, min(200, len(left)))).astype(np.float64)
        x = space.take(known).astype(np.float64)
        mean = Posterior(x, rare[known], rest, 1.0).mean(space.take(held))
        if average_precision(rare[held], mean) >= goal:
            return len(marked)
        if suggested:
            marked += choose(space, [(known, rare[known])], left, 5)[0].tolist()
        else:
            marked += draw.choice(left, min(5, len(left)), replace=False).tolist()
    raise AssertionError("never reached")


def test_suggestions_need_less_than_half_the_marks_of_random_choice():
    found = []
    for seed in range(4):
        embedding, rare = rare_places(1_200, seed=seed)
        pool, held = np.arange(700), np.arange(700, 1_200)
        found.append([needed(embedding, rare, pool, held, seed, way) for way in (True, False)])
    suggested, random = np.mean(found, axis=0)
    assert 2 * suggested < random


def test_a_batch_is_more_diverse_than_the_most_uncertain_records():
    embedding, rare = rare_places(600)
    embedding = np.concatenate([embedding, embedding])  # each record has a duplicate
    rare = np.concatenate([rare, rare])
    marked = np.array([*np.flatnonzero(rare)[:2], *np.flatnonzero(~rare)[:2]])
    left = np.setdiff1d(np.arange(1_200), marked)
    space = Space(embedding, 0)
    pairs = []
    for rule in (Rule(), Rule((0,), diverse=False)):
        rows, _ = choose(space, [(marked, rare[marked])], left, 20, rule=rule)
        pairs.append(20 - len(set((rows % 600).tolist())))
    assert pairs == [0, 10]


def test_suggestions_are_new_the_same_for_a_seed_and_pass_the_filter(archive, ids):
    marks = {ids[0]: True, ids[5]: "good", ids[9]: False, ids[11]: "bad"}
    where = Filter(bbox=Bounds(-60, -60, 100, 60))
    first = archive.suggest(marks, 12, where=where)
    again = archive.suggest(dict(reversed(marks.items())), 12, where=where)
    assert first.ids == again.ids
    assert len(set(first.ids) - set(marks)) == len(first) == 12
    allowed = set(archive.search_all(where=where).ids)
    assert set(first.ids) <= allowed
    assert all(0 <= hit.score <= 1 for hit in first)
    assert first[0].bbox is not None
    assert (first.mode, first.note) == ("suggest", None)
    assert first.to_json()["hits"][0]["id"] == first.ids[0]


def test_suggestions_keep_their_distance(archive, ids):
    found = archive.suggest({ids[0]: True}, 25, apart=1_500.0)
    boxes = [hit.bbox for hit in found if hit.bbox is not None]
    sides = np.array([[b.west, b.south, b.east, b.north] for b in boxes])
    away = np.stack([kilometers(sides, center(box)) for box in boxes])
    assert len(boxes) > 8
    assert away[~np.eye(len(boxes), dtype=bool)].min() >= 1_500
    close = archive.suggest({ids[0]: True}, 25)
    boxes = [hit.bbox for hit in close if hit.bbox is not None]
    sides = np.array([[b.west, b.south, b.east, b.north] for b in boxes])
    away = np.stack([kilometers(sides, center(box)) for box in boxes])
    assert away[~np.eye(len(boxes), dtype=bool)].min() < 1_500


def test_all_labels_get_equal_shares_the_rarest_first(archive, ids):
    labels = {ids[0]: ["dock"], ids[1]: ["quay"], ids[2]: ["quay"], ids[3]: []}
    found = archive.suggest(labels, 6)
    alone = archive.suggest(labels, 3, label="dock")
    assert found.ids[::2] == alone.ids
    assert alone.labels == ("dock",)


def test_without_marks_the_annotated_labels_count(archive, ids):
    found = archive.suggest(n=10, label="water")
    annotated = {id_ for id_ in ids if archive.labels_of(id_) is not None}
    marks = {id_: "water" in archive.labels_of(id_) for id_ in annotated}
    assert found.ids == archive.suggest(marks, 10).ids
    assert not annotated & set(archive.suggest(n=50).ids)


def test_fewer_are_suggested_where_fewer_are_left(archive, ids):
    marks = dict.fromkeys(ids[:297], False) | {ids[0]: True, "gone.tif": True}
    found = archive.suggest(marks, 5)
    assert sorted(found.ids) == ids[297:]
    assert found.note == (
        "3 of 5 suggestions: no more records are left; 1 of 298 marked ids are not in the "
        "archive, such as 'gone.tif'"
    )


def test_marks_are_the_same_from_all_files(archive, ids, tmp_path):
    kept = Collections(tmp_path / "picks.db", 1 << 20)
    kept.check()
    members = [
        {"id": ids[0], "mark": "good", "note": None, "labels": ["dock", "quay"]},
        {"id": ids[4], "mark": "bad", "note": None, "labels": []},
        {"id": ids[6], "mark": None, "note": None, "labels": ["dock"]},
        {"id": ids[8], "mark": None, "note": "later", "labels": []},
    ]
    made = kept.create("archive", "marinas", None, members, None)
    (tmp_path / "marinas.json").write_text(json.dumps(made), encoding="utf-8")
    expected = Marks(
        "marinas", {ids[0]: True, ids[4]: False}, {ids[0]: ("dock", "quay"), ids[6]: ("dock",)}
    )
    for wanted in (None, "marinas", made["id"]):
        assert read_marks(tmp_path / "picks.db", wanted) == expected
    assert read_marks(tmp_path / "marinas.json") == expected
    table = tmp_path / "table.csv"
    table.write_text(f"id,mark\n{ids[0]},good\n{ids[4]},bad\n{ids[8]},\n", encoding="utf-8")
    assert read_marks(table).relevant == expected.relevant
    table.write_text(f"path,labels\n{ids[0]},dock;quay\n{ids[6]},dock\n", encoding="utf-8")
    assert read_marks(table).labels == expected.labels
    found = archive.suggest(tmp_path / "picks.db", 7, collection="marinas")
    assert found.ids == archive.suggest(expected, 7).ids
    kept.create("archive", "marinas", None, members[:1], None)
    kept.create("archive", "other", None, [], None)
    with pytest.raises(UsageError, match="2 such collections: choose one by its id"):
        read_marks(tmp_path / "picks.db", "marinas")
    with pytest.raises(UsageError, match=r"'marina' \(did you mean 'marinas'"):
        read_marks(tmp_path / "picks.db", "marina")
    with pytest.raises(UsageError, match="other: no record is marked or labeled"):
        archive.suggest(tmp_path / "picks.db", collection="other")


@pytest.mark.parametrize(
    ("marks", "options", "message"),
    [
        ({}, {}, "marks: no record is marked or labeled"),
        ({"0": False}, {}, "marks: none of 1 records is marked as good: mark one"),
        ({"0": ["a"], "1": ["a"]}, {}, "marks: all 2 labeled records carry the same labels"),
        ({"0": ["dock"]}, {"label": "dok"}, r"no record has the label 'dok' \(did you mean 'dock'"),
        ({"0": True}, {"label": "dock"}, "marks: no record has the label 'dock'"),
        ({"none": True}, {}, "no record has the id 'none', or any other of the 1 marked"),
        ({"0": "great"}, {}, "the mark is 'great'; use good or bad"),
        ({"0": True}, {"n": 0}, "0 suggestions were asked for"),
        ({"0": True}, {"apart": -1.0}, r"the least distance is -1\.0 km"),
        ({"0": True}, {"seed": -1}, "the seed is -1: use 0 or more"),
        ({"0": True}, {"where": "wter"}, "no record has the label 'wter'"),
        (None, {"label": "wter"}, "no record has the label 'wter'"),
        (None, {"collection": "a"}, "a collection needs the file"),
    ],
)
def test_what_cannot_be_used_is_one_line(archive, ids, marks, options, message):
    if marks is not None:
        marks = {ids[int(id_)] if id_.isdigit() else id_: value for id_, value in marks.items()}
    with pytest.raises(UsageError, match=message) as caught:
        archive.suggest(marks, **options)
    assert "\n" not in str(caught.value)


def test_nothing_left_is_one_line(archive, ids):
    with pytest.raises(DataError, match="nothing is left to label: all 300 records are labeled"):
        archive.suggest(dict.fromkeys(ids, True))
    with pytest.raises(DataError, match="no record matches"):
        archive.suggest({ids[0]: True}, where=Filter(sensors=("none",)))


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ("id,mark\na.png,great\n", "csv", "line 2: the mark is 'great'"),
        ("id,mark\na.png\n", "csv", "line 2: 1 cells, the header has 2"),
        ("name\na\n", "csv", "has no 'path' column"),
        ("{}", "json", "is no exported collection"),
        ("SQLite format 3\0 but not", "db", "is no file of collections"),
    ],
)
def test_broken_files_are_one_line(tmp_path, text, suffix, message):
    path = tmp_path / f"marks.{suffix}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((DataError, UsageError), match=message):
        read_marks(path)
    with pytest.raises(UsageError if suffix != "db" else DataError, match="no file of collections"):
        read_marks(path, "marinas")


def test_the_command_writes_a_table_that_it_reads_again(folder, ids, tmp_path):
    table = tmp_path / "next.csv"
    (tmp_path / "marks.csv").write_text(f"id,mark\n{ids[0]},good\n", encoding="utf-8")
    words = ["suggest", folder, "--marks", tmp_path / "marks.csv", "-n", "6", "--out", table]
    done = run(*words, "--json")
    hits = json.loads(done.stdout)["hits"]
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [hit["id"] for hit in hits]
    marks = ["good", "bad", "bad", "good", "", ""]
    lines = [f"{row['id']},{mark},0" for row, mark in zip(rows, marks, strict=True)]
    table.write_text("\n".join(["id,mark,score", *lines]), encoding="utf-8")
    shown = run("suggest", folder, "--marks", table, "-n", "400")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 296
    assert shown.stderr == "note: 296 of 400 suggestions: no more records are left\n"


def test_the_command_refuses_in_one_line(folder, tmp_path):
    assert "cannot read" in error_line(1, "suggest", folder, "--marks", tmp_path / "none.csv")
    assert "needs the file" in error_line(2, "suggest", folder, "--collection", "a")

"""Change between dates: which pairs are ranked, how they are calibrated, and what is refused."""

import csv
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from typer.testing import CliRunner

import landcue
from landcue.cli.main import app
from landcue.errors import ArchiveError, DataError, UsageError
from landcue.search.changes import ChangeFacts, Changes
from landcue.search.history import compare_histories
from landcue.search.unusual import Differences, compare_pairs, conformal, join_scores
from landcue.types import Bounds, Encoding

N = 130
CHANGED = (3, 40, 77)


def cell(i, side="640m"):
    return f"utm33N-{side}-n007000-e{i:06}"


def facts(made, id_, i, when, **more):
    west = -10 + 0.01 * i
    row = replace(made.plain_record(0), id=id_, path=id_, bbox=Bounds(west, 40, west + 0.01, 41))
    return replace(row, datetime=when and datetime(*when, tzinfo=UTC), sensor="S2", **more)


def write(made, folder, dates, *, seed=0, shift=0.1, noise=0.1, name=cell, sizes=None):
    """Chips of N places at dates; places of CHANGED turn from ships to grass after 2015."""
    rng = np.random.default_rng(seed)
    sizes = sizes or made.Sizes(dim=16)
    base = rng.normal(size=(N, sizes.dim))
    names = list(sizes.label_names)
    rows, vectors, scores = [], [], []
    for when in dates:
        light = rng.normal(size=sizes.dim) * shift
        for i in range(N):
            changed = i in CHANGED and when is not None and when[0] > 2015
            vector = base[i] + light + noise * rng.normal(size=sizes.dim)
            vectors.append(vector + (4 if changed else 0) * np.eye(sizes.dim)[i % 3])
            score = np.full(len(names), 0.1)
            score[names.index("water")] = 0.9
            if i in CHANGED:
                score[names.index("grass" if changed else "ships")] = 0.8
            scores.append(score)
            rows.append(facts(made, f"{when and when[0]}/{name(i)}", i, when))
    vectors = np.array(vectors)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    code = made.random_encoding(0, len(rows), sizes).code
    encoding = Encoding(vectors.astype(np.float32), code, sizes.n_bits, np.float32(scores))
    made.make_archive(folder, len(rows), sizes=sizes, facts=rows, encoding=encoding)
    return folder


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    dates = [(2010, 7, 1), (2012, 7, 1), (2018, 8, 1), (2019, 8, 1)]
    return write(made, tmp_path_factory.mktemp("change") / "archive", dates)


def test_changed_places_come_first(folder):
    changes = landcue.open(folder).change(before="2013", after="2018", alpha=1)
    assert len(changes) == changes.facts.pairs == N
    assert {one.after for one in changes[:3]} == {f"2018/{cell(i)}" for i in CHANGED}
    assert {one.before for one in changes[:3]} == {f"2012/{cell(i)}" for i in CHANGED}
    first = changes[0]
    assert (first.gained, first.lost) == (("grass",), ("ships",))
    assert first.labels_before == ("ships", "water")
    assert first.group == "summer to summer, S2, 4 dates, water"
    assert changes.facts.notes[-1] == f"{N} pairs also compared with other dates of their place"
    assert first.overlap == pytest.approx(1)
    assert first.p == pytest.approx(1 / N)
    assert not any(one.gained or one.lost for one in changes[3:])
    order = [(one.p, -one.z) for one in changes]
    assert order == sorted(order)


def test_labels_and_places_are_filters(folder):
    archive = landcue.open(folder)
    dates = {"before": "2010/2011", "after": "2018"}
    every = archive.change(**dates, alpha=1)
    assert {one.before_datetime.year for one in every} == {2010}
    lost = archive.change(**dates, alpha=1, lost=["ships"])
    assert lost.ids == tuple(one for one in every.ids if int(one[0][-6:]) in CHANGED)
    assert lost.facts.pairs == N
    assert [one.p for one in lost] == [one.p for one in every if one.lost]
    turned = archive.change(**dates, alpha=1, labels_before="ships", labels_after="grass")
    assert tuple(turned) == tuple(lost)
    none = archive.change(**dates, alpha=1, gained=["ships"])
    assert len(none) == 0
    assert f"{N} with p <= 1, 0 of them with the labels asked for; calibrated" in none.summary
    assert "asked for" not in every.summary
    assert len(archive.change(**dates, alpha=1, k=2)) == 2
    near = archive.change(**dates, alpha=1, where=landcue.Filter.parse(bbox="-10,40,-9.496,41"))
    assert len(near) == near.facts.pairs == 51


@pytest.mark.parametrize("known", [False, True])
def test_ranked_by_a_label_as_computed_one_by_one(folder, known):
    """The places of CHANGED lose ships; the others are not known to differ in them."""
    archive = landcue.open(folder)
    pairs = [(f"2012/{cell(i)}", f"2018/{cell(i)}") for i in range(60, N) if i not in CHANGED]
    dates = {"before": "2013", "after": "2018", "unchanged": pairs if known else None, "alpha": 1}
    found = archive.change(**dates, by="ships")
    columns = archive.columns()
    at = {id_: i for i, id_ in enumerate(columns.ids)}
    rises = {pair: -0.7 * (int(pair[0][-6:]) in CHANGED) for pair in found.ids}
    assert [one.rise for one in found] == pytest.approx(list(rises.values()), abs=1e-3)
    rows = np.array([(at[before], at[after]) for before, after in rises])
    vectors = columns.embedding
    every = Differences(vectors, vectors, rows[:, 0], rows[:, 1], np.zeros(N, np.int64))
    general = compare_pairs(every, [None])[0]
    if not known:
        others = [
            np.array([at[f"{year}/{pair[0][5:]}"] for pair in rises]) for year in (2010, 2019)
        ]
        general = compare_histories(every, (others[0], others[1]), [None])[0]
    steps = np.abs(list(rises.values()))
    joined = np.array([
        -np.log(np.mean(general >= general[i])) - 0.5 * np.log(np.mean(steps >= steps[i]))
        for i in range(N)
    ])  # fmt: skip
    allowed = np.array([pair in pairs for pair in rises]) if known else np.ones(N, bool)
    for i, one in enumerate(found):
        itself = int(known and not allowed[i])
        larger = np.count_nonzero(joined[allowed] >= joined[i] - 1e-5)
        assert one.p == pytest.approx((larger + itself) / (np.count_nonzero(allowed) + itself))
    assert {int(one.after[-6:]) for one in found[:3]} == set(CHANGED)
    assert archive.change(**{**dates, "unchanged": None})[0].rise is None


def test_false_alarms_by_a_label_are_within_the_rate():
    """The conformal guarantee holds for joined scores, as all pairs are joined alike."""
    rng = np.random.default_rng(1)
    draws, m = 600, 120
    alarms = {0.05: 0, 0.2: 0}
    for draw in range(draws):
        general, steps = rng.standard_cauchy(m), rng.integers(0, 4, m).astype(float)
        changed = (np.arange(m) >= 100) & (draw % 2 > 0)
        general[changed] += 50
        steps[changed] += 2
        known = np.arange(m) < 60
        p, _, _ = conformal(join_scores(general, steps), [np.zeros(m, np.int64)], known)
        for alpha in alarms:
            alarms[alpha] += np.count_nonzero(p[~known & ~changed] <= alpha)
    judged = draws // 2 * (60 + 40)
    for alpha, count in alarms.items():
        assert count / judged <= np.floor(alpha * 61) / 61 + 0.009  # 3 standard errors


def test_the_share_of_all_pairs_is_at_most_alpha(folder):
    for alpha in (0.01, 0.05, 0.2):
        changes = landcue.open(folder).change(before="2013", after="2018", alpha=alpha)
        assert len(changes) == changes.facts.flagged <= alpha * N + 1
        assert all(one.p <= alpha for one in changes)


def test_false_alarms_on_unchanged_pairs_are_within_the_rate():
    """The conformal guarantee, over many draws, with and without changed pairs among them."""
    rng = np.random.default_rng(0)
    draws, m, d = 300, 120, 8
    alarms = {0.05: 0, 0.2: 0}
    for draw in range(draws):
        before = rng.normal(size=(m, d)).astype(np.float32)
        scale = rng.exponential(size=(m, 1)) ** 2
        after = before + scale * rng.normal(size=(m, d)).astype(np.float32)
        known = np.arange(m) < 60
        changed = np.arange(m) >= 100 if draw % 2 else np.zeros(m, bool)
        after[changed] += 5
        rows = np.arange(m)
        pairs = Differences(before, after.astype(np.float32), rows, rows, np.zeros(m, np.int64))
        p, _, level = conformal(compare_pairs(pairs, [None])[0], [np.zeros(m, np.int64)], known)
        assert (level == 0).all()
        for alpha in alarms:
            alarms[alpha] += np.count_nonzero(p[~known & ~changed] <= alpha)
    judged = draws // 2 * (60 + 40)
    for alpha, count in alarms.items():
        bound = np.floor(alpha * 61) / 61
        assert abs(count / judged - bound) < 0.012  # 3 standard errors: draws share calibrations


def test_groups_fall_back_when_they_are_small():
    scores = np.arange(200.0)
    fine, coarse = np.arange(200) // 60, np.arange(200) // 100
    p, z, level = conformal(scores, [fine, coarse])
    assert np.unique(level[:180]).tolist() == [0]
    assert np.unique(level[180:]).tolist() == [1]
    for i in (0, 59, 60, 185):
        group = scores[(fine if i < 180 else coarse) == (fine if i < 180 else coarse)[i]]
        assert p[i] == pytest.approx((group >= scores[i]).mean())
        mad = 1.4826 * np.median(np.abs(group - np.median(group)))
        assert z[i] == pytest.approx((scores[i] - np.median(group)) / mad)
    known = np.arange(200) < 70
    p, _, level = conformal(scores, [fine, coarse], known)
    assert level[[0, 61, 150]].tolist() == [0, 1, -1]
    assert p[150] == pytest.approx(1 / 71)
    assert p[61] == pytest.approx(9 / 70)


def test_calibrated_on_dates_without_change(folder):
    archive = landcue.open(folder)
    changes = archive.change(before="2013", after="2018", unchanged="2010/2012", alpha=0.05)
    assert changes.facts.unchanged
    assert changes.facts.calibration == N
    found = {one.after for one in changes}
    assert {f"2018/{cell(i)}" for i in CHANGED} <= found
    pairs = [(f"2012/{cell(i)}", f"2018/{cell(i)}") for i in range(N) if i not in CHANGED]
    given = archive.change(before="2013", after="2018", unchanged=pairs, alpha=1)
    assert given.facts.pairs == N
    assert given.facts.calibration == N - 3
    assert given[0].p == pytest.approx(1 / (N - 2))


def test_two_archives_equal_one(made, folder, tmp_path):
    one = landcue.open(folder).change(before="2011", after="2018", alpha=1)
    early = write(made, tmp_path / "early", [(2010, 7, 1)])
    other = landcue.open(early).change(
        before="2011", after="2018", other=landcue.open(folder), alpha=1
    )
    assert [(c.before, c.after, c.p) for c in other] == [(c.before, c.after, c.p) for c in one]


def test_footprints_pair_without_a_grid(made, tmp_path):
    folder = write(made, tmp_path / "a", [(2010, 7, 1), (2018, 7, 1)], name=lambda i: f"{i}.tif")
    changes = landcue.open(folder).change(before="2013", after="2018", alpha=1)
    assert {(int(b[5:-4]), int(a[5:-4])) for b, a in changes.ids} == {(i, i) for i in range(N)}


def test_timeline_of_one_place(made, folder, tmp_path):
    off = write(
        made, tmp_path / "off", [(2018, 7, 1), (2010, 7, 1), None], name=lambda i: f"{i}.tif"
    )
    for archive, name in ((landcue.open(folder), cell(3)), (landcue.open(off), "3.tif")):
        every = {id_ for id_ in archive.ids() if id_.endswith(f"/{name}")}
        timed = sorted(id_ for id_ in every if not id_.startswith("None"))
        moments = archive.timeline(f"2010/{name}")
        assert [one.id for one in moments] == timed
        assert [one.datetime for one in moments] == sorted(one.datetime for one in moments)
        assert moments[0].distance is None
        assert "grass" in moments[-1].labels
        vectors = dict(zip(archive.columns().ids, archive.columns().embedding, strict=True))
        for one, other in itertools.pairwise(moments):
            wanted = 1 - float(vectors[one.id] @ vectors[other.id])
            assert other.distance == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(UsageError, match="no record has the id 'x'"):
        archive.timeline("x")
    with pytest.raises(UsageError, match="use a share above 0"):
        archive.timeline("2010/3.tif", min_overlap=0)
    with pytest.raises(DataError, match="no record of the place of None/utm33N"):
        landcue.open(write(made, tmp_path / "bare", [None])).timeline(f"None/{cell(5)}")


def test_tables_and_files(folder, tmp_path):
    changes = landcue.open(folder).change(before="2013", after="2018")
    frame = changes.to_pandas()
    assert frame["after"].tolist() == [one.after for one in changes]
    assert frame.index[0] == 1
    assert changes.write(tmp_path / "a.geojson") == len(changes)
    whole = json.loads((tmp_path / "a.geojson").read_text())
    assert [f["properties"]["p"] for f in whole["features"]] == [one.p for one in changes]
    assert shapely.from_geojson(json.dumps(whole["features"][0])).equals(changes[0].geometry)
    changes.write(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["z"].to_pylist() == [one.z for one in changes]
    assert table["lost"].to_pylist()[0] == ["ships"]
    assert set(table["rise"].to_pylist()) == {None}
    assert table["before_datetime"].to_pylist() == [one.before_datetime for one in changes]
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["primary_column"] == "geometry"
    assert shapely.from_wkb(table["geometry"].to_pylist()[0]).equals(changes[0].geometry)
    changes.write(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["gained"] for row in rows[:3]] == ["grass"] * 3
    header = (tmp_path / "a.csv").read_text().split("\n")[0].split(",")
    assert len(set(header)) == len(header)
    assert float(rows[0]["west"]) == changes[0].bbox.west
    with pytest.raises(UsageError, match=r"write \.geojson, \.parquet or \.csv"):
        changes.write(tmp_path / "a.shp")


def test_calibrated_on_one_pair_or_the_same_one_several_times(folder, tmp_path):
    archive = landcue.open(folder)
    dates = {"before": "2013", "after": "2018", "alpha": 1}
    some = archive.change(**dates).ids[60]
    changes = archive.change(**dates, unchanged=[some])
    assert tuple(changes) == tuple(archive.change(**dates, unchanged=[some] * 3))
    other = (some[1], some[0])  # a pair that is not among the compared ones
    for times in (1, 3):
        assert archive.change(**dates, unchanged=[other] * times).facts.calibration == 1
    assert np.isfinite([one.z for one in changes]).all()
    changes.write(tmp_path / "changes.geojson")
    assert len(json.loads((tmp_path / "changes.geojson").read_text())["features"]) == N


def test_pairs_are_decoded_when_they_are_read(folder):
    one = landcue.open(folder).change(before="2013", after="2018")[0]
    read = []

    def decode(first, last):
        read.extend(range(first, last))
        return [replace(one, p=float(i)) for i in range(first, last)]

    facts = ChangeFacts(2000, 2000, False, 1.0, 1300, 1300)
    changes = Changes(1300, decode, facts)
    assert changes[600].p == 600
    assert 0 not in read
    assert changes[-1].p == 1299
    assert [c.p for c in changes[511:514]] == [511, 512, 513]
    assert [c.p for c in changes] == list(range(1300))
    assert sorted(read) == list(range(1300))
    with pytest.raises(IndexError):
        changes[1300]
    assert changes.summary.startswith("2,000 pairs, 1,300 with p <= 1")


@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        ({"before": "2018", "after": "2013"}, UsageError, "use the earlier date as before"),
        ({"before": "2012/2018"}, UsageError, "use the earlier date as before"),
        ({"before": "2013/2010"}, UsageError, "before: 2013/2010 ends before it starts"),
        ({"before": None}, UsageError, "before: a date is missing: write 2013, 2013-06"),
        ({"after": ""}, UsageError, "after: a date is missing"),
        ({"before": "soon"}, UsageError, "before: 'soon' is no date: write 2013, 2013-06"),
        ({"after": "2018-13"}, UsageError, "is no date"),
        ({"before": "2009"}, DataError, "time that fits before 2009; times are 2010-07-01 to"),
        ({"after": "2020"}, DataError, "no record has a time that fits after 2020"),
        ({"alpha": 0}, UsageError, "use a false alarm rate above 0"),
        ({"min_overlap": 1.5}, UsageError, "use a share above 0"),
        ({"scoring": "train"}, UsageError, "did you mean 'trained'"),
        ({"scoring": "trained"}, UsageError, "no trained model of change for this encoder"),
        ({"k": 0}, UsageError, "use at least 1"),
        ({"gained": ["grss"]}, UsageError, "did you mean 'grass'"),
        ({"by": "grss"}, UsageError, r"no scores for label 'grss' \(did you mean 'grass'"),
        ({"unchanged": "2010"}, UsageError, "write two dates"),
        ({"unchanged": []}, UsageError, "there is no pair"),
        ({"unchanged": [("x", "y"), ("x",)]}, UsageError, "each pair needs the ids"),
        ({"unchanged": [("x", "y")]}, UsageError, "no record has the id 'x'"),
        ({"where": "trees"}, UsageError, "no record has the label 'trees'"),
    ],
)
def test_bad_values(folder, options, kind, word):
    with pytest.raises(kind, match=word):
        landcue.open(folder).change(**{"before": "2013", "after": "2018", **options})


def test_archives_that_cannot_be_compared(made, folder, tmp_path):
    dates = {"before": "2013", "after": "2018"}
    archive = landcue.open(folder)
    other = write(made, tmp_path / "model", [(2018, 1, 1)], sizes=made.Sizes(dim=8))
    with pytest.raises(ArchiveError, match="was made by another model") as error:
        archive.change(**dates, other=landcue.open(other))
    assert str(error.value).endswith("fitted apart from it")  # there is no model to name
    far = [
        replace(facts(made, f"s/{cell(i, '320m')}", i, (2018, 1, 1)), bbox=Bounds(50, 0, 51, 1))
        for i in range(4)
    ]
    made.make_archive(tmp_path / "far", 4, sizes=made.Sizes(dim=16), facts=far)
    with pytest.raises(DataError, match="do not match: utm 640m before, utm 320m after; index"):
        archive.change(**dates, other=landcue.open(tmp_path / "far"))
    far = [replace(one, id=f"{i}.tif") for i, one in enumerate(far)]
    made.make_archive(tmp_path / "off", 4, sizes=made.Sizes(dim=16), facts=far)
    with pytest.raises(DataError, match=r"no place was recorded in both .* of at least 0\.5"):
        archive.change(**dates, other=landcue.open(tmp_path / "off"))
    bare = [replace(one, bbox=None) for one in far]
    made.make_archive(tmp_path / "bare", 4, sizes=made.Sizes(dim=16), facts=bare)
    with pytest.raises(DataError, match="no record of after has a footprint"):
        archive.change(**dates, other=landcue.open(tmp_path / "bare"))
    undated = write(made, tmp_path / "undated", [None])
    with pytest.raises(DataError, match="has a time: index its source again"):
        landcue.open(undated).change(**dates)
    half = write(made, tmp_path / "half", [None, (2010, 1, 1), (2018, 1, 1)])
    assert "130 records have no time" in landcue.open(half).change(**dates).facts.notes[0]


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_command(folder, tmp_path):
    done = run("change", folder, "--before", "2013", "--after", "2018", "--json")
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    changes = landcue.open(folder).change(before="2013", after="2018")
    assert value == json.loads(json.dumps(changes.to_json()))
    out = tmp_path / "x.geojson"
    args = ("--before", "2013", "--after", "2018", "--lost", "ships", "-k", "2", "--out", out)
    done = run("change", folder, *args)
    assert done.exit_code == 0, done.output
    assert "130 pairs, " in done.stdout
    assert "+grass -ships" in done.stdout
    assert "1 more: -k, --out or --json" in done.stdout
    assert len(json.loads(out.read_text())["features"]) == 3
    done = run("change", folder, *args[:4], "--by", "grass")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("grass +0.70 +grass -ships") == len(CHANGED)


def test_command_for_two_archives(made, folder, tmp_path):
    early = write(made, tmp_path / "early", [(2010, 7, 1)])
    dates = ("--before", "2011", "--after", "2018")
    done = run("change", early, *dates, "--other", folder, "--alpha", "1", "--json")
    assert done.exit_code == 0, done.output
    wanted = landcue.open(early).change(
        before="2011", after="2018", other=landcue.open(folder), alpha=1
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(wanted.to_json()))
    small = made.Sizes(dim=8)
    other = write(made, tmp_path / "model", [(2018, 1, 1)], sizes=small)
    far = [
        replace(facts(made, f"s/{cell(i, '320m')}", i, (2018, 1, 1)), bbox=Bounds(50, 0, 51, 1))
        for i in range(4)
    ]
    made.make_archive(tmp_path / "far", 4, sizes=made.Sizes(dim=16), facts=far)
    off = [replace(one, id=f"{i}.tif") for i, one in enumerate(far)]
    made.make_archive(tmp_path / "off", 4, sizes=made.Sizes(dim=16), facts=off)
    for later, word in (
        (other, "was made by another model"),
        (tmp_path / "far", "the grids do not match: utm 640m before, utm 320m after"),
        (tmp_path / "off", "no place was recorded in both periods"),
        (tmp_path / "none", "none"),
    ):
        done = run("change", early, *dates, "--other", later)
        assert done.exit_code in (1, 2)
        assert word in done.output
        assert done.output.count("\n") == 1, done.output


def test_bad_commands(folder, tmp_path):
    dates = ("--before", "2013", "--after", "2018")
    for args, status, word in (
        (("--before", "2013"), 2, "--after"),
        (("--before", "2018", "--after", "2013"), 2, "use the earlier date as before"),
        ((*dates, "--out", tmp_path / "x.shp"), 2, "write .geojson, .parquet or .csv"),
        ((*dates, "-k", "0"), 2, "use at least 1"),
        ((*dates, "--bbox", "60,10,61,11"), 1, "no record matches bbox"),
    ):
        done = run("change", folder, *args)
        assert done.exit_code == status, done.output
        assert word in done.output

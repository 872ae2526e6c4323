"""``landcue evaluate --report`` and ``--compare`` as a person uses them."""

from __future__ import annotations

import json
import shutil

import pytest

from commands import landcue
from landcue.demo import write_demo_archive

SPLIT = "per-class-60-20-20-seed1"
TRAIN = [
    "--split", SPLIT, "--dataset", "folder",
    "--backbone", "mobilenetv3_small_050", "--init", "none",
    "--image-size", "32", "--epochs", "1", "--batch-size", "20",
    "--set", "loggers=[csv]", "--set", "model.n_bits=16", "--set", "model.dim=16",
]  # fmt: skip


def ok(*args):
    done = landcue(*args, env={"SOURCE_DATE_EPOCH": "86400"})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two runs on the same images, one on another split, and an archive."""
    root = tmp_path_factory.mktemp("world")
    write_demo_archive(root / "data", n=70, size=40, seed=3)
    train = ("train", "--data-root", root / "data", *TRAIN)
    ok(*train, "--out", root / "a")
    ok(*train, "--out", root / "b", "--set", "seed=9")
    shutil.copytree(root / "a", root / "c")
    config = (root / "c" / "config.yaml").read_text()
    assert config.count(SPLIT) == 1
    (root / "c" / "config.yaml").write_text(config.replace(SPLIT, SPLIT[:-1] + "2"))
    ok("index", root / "data", root / "archive", "--model", root / "a")
    return root


def test_a_run_and_an_archive_have_a_report(world, tmp_path):
    for target in ("a", "archive"):
        files = {kind: tmp_path / f"{target}.{kind}" for kind in ("html", "md", "tex")}
        done = ok(
            "evaluate", world / target, "--resamples", 50, "--json", "--report", files["html"],
            "--markdown", files["md"], "--latex", files["tex"],
        )  # fmt: skip
        found = json.loads(done.stdout)
        page, text, tex = (file.read_text() for file in files.values())
        value = f"{found['metrics']['nDCG@100']:.4f}"
        assert f'<td class="number">{value}</td>' in page
        assert f"| nDCG@100 | {value} |" in text
        assert f"nDCG@100 & {value} &" in tex
        for content in (page, text, tex):
            assert str(tmp_path.parent) not in content
            assert SPLIT in content
            assert "1970-01-02" in content
        assert page.count("<img") > 20
        assert found["spaces"]["code"]["codes"]["n_bits"] == 16
        assert str(files["html"]) in done.stderr


def test_two_runs_are_compared_in_the_order_given(world, tmp_path):
    a, b, page = world / "a", world / "b", tmp_path / "c.html"
    first = ok("evaluate", a, "--compare", b, "--json", "--report", page)
    again = json.loads(ok("evaluate", "--compare", a, b, "--json").stdout)
    found = json.loads(first.stdout)
    for value in (again, found):  # measured times differ
        for scores in (value, *value["spaces"].values()):
            assert scores.pop("retrieval_time")["n_query"] == 14
    assert again == found
    assert found["run"] == "a"
    assert found["comparison"]["with"]["run"] == "b"
    searched, *_ = found["comparison"]["contests"]
    assert searched["spaces"] == ["embedding", "embedding"]
    line = searched["metrics"]["nDCG@100"]
    assert line["first"] == pytest.approx(found["metrics"]["nDCG@100"])
    assert line["difference"] == pytest.approx(line["first"] - line["second"])
    assert 0 < line["p_value"] <= 1
    assert "<title>Comparison: a and b</title>" in page.read_text()
    said = ok("evaluate", a, "--compare", b).stdout
    assert f"{line['difference']:+.4f}" in said
    backward = json.loads(ok("evaluate", b, "--compare", a, "--json").stdout)
    turned = backward["comparison"]["contests"][0]["metrics"]["nDCG@100"]
    assert turned["difference"] == pytest.approx(-line["difference"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["{w}/a", "{w}/b"], "2 targets: expected one target, or two with --compare"),
        (["{w}/a", "--compare"], "1 target: expected two targets"),
        (["{w}/a", "--compare", "{w}/c"], "a and c differ in split"),
        (["{w}/a", "--compare", "{w}/data"], "data is neither a run"),
        (["{w}/a", "--report", "{w}/data/labels.csv/x.html"], "cannot write"),
    ],
)
def test_mistakes_are_one_line(world, args, words):
    done = landcue("evaluate", *(arg.format(w=world) for arg in args), "--resamples", 0)
    assert done.returncode in (1, 2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
    assert done.stderr.splitlines()[-1] == line

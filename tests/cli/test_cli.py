"""The command line: train, index, search and verify as processes, all else in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import commands

TRAIN = [
    "--dataset", "folder", "--backbone", "mobilenetv3_small_050", "--init", "none",
    "--image-size", "32", "--epochs", "1", "--batch-size", "20",
    "--set", "loggers=[csv]", "--set", "model.n_bits=16", "--set", "model.dim=16",
]  # fmt: skip


def landcue(*args):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "landcue.cli.main", *map(str, args)],
        capture_output=True, text=True, env=environment, timeout=300,
    )  # fmt: skip


def ok(*args, run=commands.landcue):
    """Run a command that must succeed: in this process, or with ``run=landcue`` in its own."""
    done = run(*args)
    assert done.returncode == 0, done.stderr
    return done


def fails(status, *args, run=commands.landcue) -> str:
    """Run a command that must fail with one line; return the line."""
    done = run(*args)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    return lines[0]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Train with as many threads here as in the processes that tests start."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, a trained run and an archive, all made by the command line."""
    from landcue.demo import write_demo_archive

    root = tmp_path_factory.mktemp("world")
    write_demo_archive(root / "data", n=70, size=48, seed=3)
    (root / "data" / "images" / "lake" / "broken.tif").write_bytes(b"II*\0 not really")
    labels = root / "data" / "labels.csv"
    labels.write_text(
        labels.read_text() + "images/lake/broken.tif,lake,2024-01-01T00:00:00Z,water\n"
    )
    train = ("train", "--data-root", root / "data", "--out", root / "run", *TRAIN, "--json")
    index = ("index", root / "data", root / "archive", "--model", root / "run", "--json")
    trained, indexed = ok(*train, run=landcue), ok(*index)
    return {
        "root": root,
        "data": root / "data",
        "run": root / "run",
        "archive": root / "archive",
        "trained": json.loads(trained.stdout),
        "indexed": json.loads(indexed.stdout),
        "stderr": indexed.stderr,
    }


def test_train_and_index_report_what_they_did(world):
    assert world["trained"]["best_epoch"] == 1
    assert "nDCG@100" in world["trained"]["scores"]
    assert world["indexed"]["added"] == 70
    assert [p["where"] for p in world["indexed"]["skipped"]] == ["images/lake/broken.tif"]
    assert "broken.tif" in world["stderr"]


def test_index_again_does_nothing_and_train_again_does_nothing(world):
    again = json.loads(ok("index", world["data"], world["archive"], "--json").stdout)
    assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, 70)
    done = ok("train", "--data-root", world["data"], "--out", world["run"], *TRAIN, "--json")
    assert json.loads(done.stdout)["fingerprint"] == world["trained"]["fingerprint"]
    assert "already trained" in done.stderr


def test_train_from_a_config_file_is_the_same_run(world, tmp_path):
    done = ok("train", world["run"] / "config.yaml", "--out", tmp_path / "again", "--json")
    assert json.loads(done.stdout)["fingerprint"] == world["trained"]["fingerprint"]


def test_search_by_record(world):
    query = "images/harbor/harbor_0001.tif"
    words = ("search", world["archive"], query, "-k", 7, "--json")
    found = json.loads(ok(*words, run=landcue).stdout)
    assert found["query"] == query
    assert found["mode"] == "embedding"
    hits = found["hits"]
    assert len(hits) == 7
    assert query not in [hit["id"] for hit in hits]
    assert set(hits[0]) >= {"id", "path", "distance", "score", "labels"}
    order = [(hit["distance"], hit["id"]) for hit in hits]
    assert order == sorted(order)


def test_search_by_image_finds_the_image_itself_first(world, tmp_path):
    file = world["data"] / "images" / "coast" / "coast_0002.tif"
    grid = tmp_path / "grid.png"
    done = ok("search", world["archive"], file, "-k", 3, "--json", "--grid", grid)
    hits = json.loads(done.stdout)["hits"]
    assert hits[0]["id"] == "images/coast/coast_0002.tif"
    assert hits[0]["distance"] == pytest.approx(0, abs=1e-2)  # bf16 may differ between batches
    assert Image.open(grid).size[0] > 300


def test_search_codes_and_filters(world):
    query = "images/lake/lake_0001.tif"
    args = ("search", world["archive"], query, "--mode", "code", "--json")
    found = json.loads(ok(*args, "-k", 100).stdout)
    assert found["mode"] == "code"
    assert len(found["hits"]) == 69
    assert all(hit["distance"] == int(hit["distance"]) for hit in found["hits"])
    water = json.loads(ok(*args, "-k", 100, "--labels", "water,grass").stdout)["hits"]
    assert 0 < len(water) < 69
    assert all({"water", "grass"} <= set(hit["labels"]) for hit in water)
    assert json.loads(ok(*args, "--bbox", "-10,-10,-9,-9").stdout)["hits"] == []
    assert "no record matches" in ok(*args[:-1], "--after", "2090-01-01").stdout


def test_evaluate_a_run_and_its_archive_agree(world):
    words = ("evaluate", world["run"], "--json", "--resamples", 50)
    run = json.loads(ok(*words).stdout)
    archive = json.loads(ok("evaluate", world["archive"], "--json", "--resamples", 50).stdout)
    assert run["protocol"] == archive["protocol"] == "ml-retrieval-v1"
    assert run["part"] == archive["part"] == "test"
    assert run["counts"] == archive["counts"]
    for name in ("mAP", "nDCG@100", "WAP@100"):
        assert archive["metrics"][name] == pytest.approx(run["metrics"][name], abs=0.02)
        assert archive["chance"][name] == pytest.approx(run["chance"][name], rel=1e-9)
    assert set(run["spaces"]) == {"embedding", "features", "code"}
    assert set(archive["spaces"]) == {"embedding", "code"}


def test_evaluate_prints_its_definitions(world):
    text = ok("evaluate", world["archive"], "--part", "all", "--resamples", 0).stdout
    assert "nDCG@100" in text
    assert "min(20, R)" in text
    assert "70 queries, 70 gallery images" in text


def test_models_datasets_and_archive_show(world):
    assert world["trained"]["fingerprint"] in ok("models", "show", world["run"]).stdout
    assert "mobilenetv2_folded" in ok("models", "list", "mobilenetv2*").stdout
    assert "ucmerced" in ok("datasets", "list").stdout
    checked = json.loads(ok("datasets", "check", "folder", world["data"], "--json").stdout)
    assert checked["images"] == 71
    info = json.loads(ok("archive", "info", world["archive"], "--json").stdout)
    assert info["records"] == 70
    assert info["fingerprint"] == world["trained"]["fingerprint"]
    assert "70 records" in ok("archive", "verify", world["archive"], run=landcue).stdout


def test_help_does_not_load_torch():
    code = (
        "import sys\nsys.argv=['landcue','--help']\nfrom landcue.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "slow = {'torch','timm','lancedb','numba','rasterio','pandas'}\n"
        "heavy = slow & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in ("demo", "train", "index", "search", "evaluate", "archive", "models", "datasets"):
        assert verb in done.stdout


def test_version_and_typos():
    assert ok("--version", run=landcue).stdout.startswith("landcue 0.")
    typo = commands.landcue("trian")
    assert typo.returncode == 2
    assert "train" in typo.stderr
    option = commands.landcue("train", "--epoch", "3")
    assert option.returncode == 2
    assert "--epochs" in option.stderr


@pytest.mark.parametrize(
    ("args", "status", "word"),
    [
        (["train", "--data-root", "{tmp}/gone", "--out", "{tmp}/r", *TRAIN], 1, "does not exist"),
        (["train", "--data-root", "{tmp}/empty", "--out", "{tmp}/r", *TRAIN], 1, "no usable image"),
        (["train", "--data-root", "{data}", "--out", "{tmp}/r", "--loss", "mark",
          *TRAIN], 2, "'marc'"),
        (["train", "--out", "{tmp}/r"], 2, "--data-root"),
        (["train", "--data-root", "{data}", "--out", "{tmp}/r", "--set", "optimizer.epoch=1"], 2,
         "did you mean 'epochs'"),
        (["train", "{tmp}/gone.yaml", "--out", "{tmp}/r"], 2, "gone.yaml"),
        (["index", "{tmp}/gone", "{tmp}/a", "--model", "{run}"], 1, "gone does not exist"),
        (["index", "{tmp}/empty", "{tmp}/a", "--model", "{run}"], 1, "no usable image"),
        (["index", "{data}", "{tmp}/a", "--model", "buitin"], 1, "buitin does not exist"),
        (["experiment", "{tmp}/gone.yaml", "--out", "{tmp}/r"], 2, "gone.yaml"),
        (["experiment", "{tmp}/text.png", "--out", "{tmp}/r"], 2, "must hold sections"),
        (["index", "{data}", "{tmp}/a", "--model", "{tmp}/empty"], 1, "config.json is missing"),
        (["index", "{data}", "{tmp}/file/a", "--model", "{run}"], 1, "cannot write"),
        (["search", "{tmp}/gone", "x"], 1, "gone"),
        (["search", "{archive}", "images/lake/lake_001.tif"], 2, "lake_0001.tif"),
        (["search", "{archive}", "{tmp}/text.png"], 1, "text.png: not a JPEG"),
        (["search", "{archive}", "images/lake/lake_0001.tif", "-k", "0"], 2, "k"),
        (["search", "{archive}", "images/lake/lake_0001.tif", "--labels", "watr"], 2, "'water'"),
        (["search", "{archive}", "images/lake/lake_0001.tif", "--bbox", "1,2,3"], 2, "W,S,E,N"),
        (["search", "{archive}", "images/lake/lake_0001.tif", "--mode", "hash"], 2, "code"),
        (["search", "{archive}", "images/lake/lake_0001.tif", "--grid", "{tmp}/file/g.png"], 1,
         "g.png"),
        (["evaluate", "{tmp}/empty"], 2, "neither a run"),
        (["evaluate", "{archive}", "--part", "tset"], 2, "tset"),
        (["evaluate", "{run}", "--protocol", "ml-retrival-v1"], 2, "ml-retrieval-v1"),
        (["models", "show", "{tmp}/gone"], 1, "does not exist"),
        (["datasets", "check", "ucmerce", "{data}"], 2, "ucmerced"),
        (["archive", "info", "{data}"], 1, "manifest.json"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)  # fmt: skip
def test_mistakes_are_one_line(world, tmp_path, args, status, word):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    places = {key: world[key] for key in ("data", "run", "archive")} | {"tmp": tmp_path}
    message = fails(status, *(arg.format(**places) for arg in args))
    assert word in message


def test_archive_of_another_model_is_refused_and_untouched(world):
    before = (world["archive"] / "manifest.json").read_bytes()
    index = ("index", world["data"], world["archive"], "--model", "builtin")
    message = fails(1, *index, run=landcue)
    assert world["trained"]["fingerprint"][:12] in message
    assert (world["archive"] / "manifest.json").read_bytes() == before


def test_new_archive_takes_the_built_in_encoder(world, tmp_path):
    done = ok("index", world["data"], tmp_path / "a", "--json")
    assert json.loads(done.stdout)["added"] == 70
    shown = json.loads(ok("models", "show", "--json").stdout)
    info = json.loads(ok("archive", "info", tmp_path / "a", "--json").stdout)
    assert info["fingerprint"] == shown["fingerprint"]
    assert len(shown["model"]["label_names"]) == 17
    assert "airplane" in ok("models", "show", "builtin", run=landcue).stdout
    again = ok("index", world["data"], tmp_path / "a", "--json")
    assert json.loads(again.stdout)["added"] == 0


def test_experiment_writes_tables_and_goes_on(world, tmp_path):
    spec = tmp_path / "tiny.yaml"
    spec.write_text(
        """
seeds: [1]
metrics: [nDCG@100, mAP]
base:
  data: {dataset: folder, root: elsewhere, split: "per-class-60-20-20-seed{seed}"}
  model: {backbone: mobilenetv3_small_050, init: none, image_size: 32, dim: 8, n_bits: 8}
  optimizer: {epochs: 1, batch_size: 20}
  loggers: [csv]
methods:
  marc: {rank: [embedding, code]}
  supcon: {config: {loss: {name: supcon}}}
"""
    )
    args = ("experiment", spec, "--out", tmp_path / "out", "--data-root", world["data"])
    done = ok(*args)
    assert "| supcon | embedding | 8 floats |" in done.stdout
    for name in ("table.md", "table.tex", "results.json", "by_label.png", "training.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    before = (tmp_path / "out" / "results.json").read_bytes()
    again = ok(*args, "--json")
    assert json.loads(again.stdout)["test_readings"] == 2
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    log = (tmp_path / "out" / "test_log.jsonl").read_text().splitlines()
    assert len(log) == 2
    spec.write_text(spec.read_text().replace("  supcon:", "  sup con:"))
    assert "method name" in fails(2, *args)


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_output_into_a_closed_pipe(json_):
    """As when ``head`` has read enough and ended; less and more than a buffer of output."""
    command = [sys.executable, "-m", "landcue.cli.main", "datasets", "list", *json_]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == ""


def test_a_broken_query_image_never_writes_the_grid(world, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    message = fails(
        1, "search", world["archive"], tmp_path / "a.png", "--grid", tmp_path / "grid.png"
    )
    assert "a.png: " in message
    assert not (tmp_path / "grid.png").exists()

"""``landcue index`` on scenes, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scene_files as files
from commands import landcue
from landcue.archive.archive import ArchiveFolder
from landcue.models.checkpoint import save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config


def landcue_process(*args):
    command = [sys.executable, "-m", "landcue.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    files.write_scene(folder / "a.tif", files.noise(0, 4, 100, 130))
    files.write_scene(folder / "b.tif", files.noise(1, 4, 100, 130), place={})
    (folder / "c.tif").write_bytes(b"II*\0")
    return folder


def test_scenes_become_chips(scenes, tmp_path):
    options = ["--chip", "640m", "--bands", "4,3,2", "--scale", "fixed:0,3000", "--batch", "5"]
    done = landcue_process("index", scenes / "a.tif", tmp_path / "archive", *options, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["added"], report["empty"], report["skipped"]) == (6, 0, [])
    opened = ArchiveFolder.open(tmp_path / "archive")
    columns = opened.columns()
    assert columns.ids[:2] == ("a/r000000-c000000-64x64", "a/r000000-c000064-64x64")
    assert np.isfinite(columns.bounds).all()
    opened.close()
    options[1] = "64px"
    done = landcue("index", scenes, tmp_path / "archive", *options)
    assert done.returncode == 0, done.stderr
    assert "12 records (6 added, 6 unchanged)" in done.stdout
    assert "b.tif: has no georeference; its chips have no footprint" in done.stderr
    assert "c.tif: " in done.stderr
    done = landcue("index", scenes, tmp_path / "archive", *options, "--json")
    named = [Path(problem["where"]).name for problem in json.loads(done.stdout)["problems"]]
    assert sorted(named) == ["b.tif", "c.tif"]
    found = landcue("search", tmp_path / "archive", "a/r000000-c000064-64x64", "-k", "2", "--json")
    assert json.loads(found.stdout)["hits"][0]["id"].startswith(("a/", "b/")), found.stderr


def test_a_model_of_four_bands(scenes, tmp_path):
    model = NeuralEncoder(build_config("resnet10t", in_chans=4, image_size=32, n_bits=16))
    save_checkpoint(tmp_path / "run", model, {})
    options = ["--model", tmp_path / "run"]
    done = landcue("index", scenes, tmp_path / "archive", "--chip", "50px", *options)
    assert done.returncode == 0, done.stderr
    assert "12 records (12 added)" in done.stdout
    done = landcue("index", scenes, tmp_path / "whole", *options)
    assert done.returncode == 0, done.stderr
    assert "2 records (2 added, 1 skipped)" in done.stdout
    done = landcue("search", tmp_path / "whole", scenes / "a.tif", "-k", "1", "--json")
    (hit,) = json.loads(done.stdout)["hits"]
    assert hit["id"] == "a.tif"
    assert hit["distance"] < 1e-6


def test_another_model_reads_the_chips_as_they_were_read(scenes, tmp_path):
    for name in ("first", "second"):
        model = NeuralEncoder(build_config("resnet10t", image_size=32, n_bits=16))
        save_checkpoint(tmp_path / name, model, {})
    options = ["--chip", "50px", "--bands", "4,2,1", "--scale", "fixed:0,2000", "--nodata", "0.3"]
    for archive, model in (("archive", "first"), ("fresh", "second")):
        options_ = [*options, "--model", tmp_path / model]
        done = landcue("index", scenes / "a.tif", tmp_path / archive, *options_)
        assert done.returncode == 0, done.stderr
    done = landcue("archive", "reembed", tmp_path / "archive", "--model", tmp_path / "second")
    assert done.returncode == 0, done.stderr
    again, fresh = (ArchiveFolder.open(tmp_path / name) for name in ("archive", "fresh"))
    assert again.manifest.sources == fresh.manifest.sources
    note = {"bands": [4, 2, 1], "scale": "fixed:0,2000", "nodata": 0.3}
    assert again.manifest.sources["scenes"].scenes == note
    assert again.columns().ids == fresh.columns().ids
    for old, new in zip(again.batches(["embedding"]), fresh.batches(["embedding"]), strict=True):
        assert old == new
    done = landcue("index", scenes / "a.tif", tmp_path / "archive", *options)
    assert "(6 unchanged)" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("args", "status", "word"),
    [
        (["--chip", "64px", "--bands", "1,2,9"], 1, "has no band 9, only 4; change --bands"),
        (["--chip", "64"], 2, "use pixels or meters, such as 256px or 120m"),
        (["--stride", "32px"], 2, "--stride is for chips; add their size: --chip 256px"),
        (["--chip", "64px", "--bands", "1,2"], 2, "names 2 bands, but the model takes 3"),
        (["--chip", "64px", "--bands", "1"], 2, "names 1 band, but the model takes 3"),
        (["--chip", "64px", "--labels", "x.csv"], 2, "is for whole images, not for chips"),
        (
            ["--chip", "64px", "--bands", "1,2,3", "--device", "abacus"],
            2,
            "--device abacus: exported models run on the CPU",
        ),
    ],
)
def test_bad_options(scenes, tmp_path, args, status, word):
    done = landcue("index", scenes, tmp_path / "archive", *args)
    assert done.returncode == status
    assert word in done.stderr
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("source", ["a.vrt", "/vsicurl/http://127.0.0.1/a.tif", "http://a.b/c.tif"])
def test_refused_sources(tmp_path, source):
    done = landcue("index", source, tmp_path / "archive", "--chip", "64px")
    assert done.returncode == 1
    assert "only files on this machine" in done.stderr or "VRT" in done.stderr

"""``landcue audit`` as a command, and the findings on the real copy of UC Merced."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from commands import landcue
from landcue.audit import audit
from landcue.data.datasets import load_dataset


def run(*arguments):
    return landcue("audit", *arguments)


def run_process(*arguments):
    command = [sys.executable, "-m", "landcue.cli.main", "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(5):
        image = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8)).resize((64, 64))
        (tmp_path / "in/town").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / f"in/town/{i}.png")
    (tmp_path / "in/town/5.png").write_bytes((tmp_path / "in/town/0.png").read_bytes())
    return tmp_path


def test_json_page_and_document(folder):
    out, page = folder / "new/out.json", folder / "new/out.html"
    done = run_process(
        folder / "in", "--model", "none", "--split", "files-80-20", "--json",
        "--out", out, "--report", page,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads(out.read_text())
    assert document["identical"]["across"] == {"train-test": 1}
    assert document["identical"]["groups"][0]["ids"] == ["town/0.png", "town/5.png"]
    assert document["encoder"] is None
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "wrote" in done.stderr


def test_text_names_the_pairs(folder):
    done = run(folder / "in", "--model", "none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "6 images, no split"
    assert "warning: 1 pair of identical pixels" in done.stdout
    assert "town/0.png (all), town/5.png (all)" in done.stdout


def test_a_label_table_replaces_the_folders(folder):
    table = folder / "labels.csv"
    rows = [f"town/{i}.png,{'grass' if i else 'sand'}" for i in range(6)]
    table.write_text("path,labels\n" + "\n".join(rows) + "\n")
    done = run(folder / "in", "--model", "none", "--labels", table, "--json")
    document = json.loads(done.stdout)
    assert document["identical"]["groups"][0]["contradictory"]
    kinds = {finding["kind"] for finding in document["findings"]}
    assert "contradictory-identical" in kinds


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("missing",), 1, "does not exist"),
        (("in", "--split", "half"), 2, "unknown split"),
        (("in", "--max-distance", "65"), 2, "--max-distance"),
        (("in", "--model", "nowhere"), 1, "nowhere does not exist"),
    ],
)
def test_bad_input_is_one_line(folder, arguments, status, words):
    source, *rest = arguments
    done = run(folder / source, *rest)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_the_built_in_encoder_finds_an_overlap(folder):
    large = Image.effect_mandelbrot((320, 320), (-0.76, 0.05, -0.72, 0.09), 90).convert("RGB")
    large.crop((0, 0, 256, 256)).save(folder / "in/town/a.png")
    large.crop((40, 24, 296, 280)).save(folder / "in/town/b.png")
    done = run(folder / "in", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    pairs = [(p["ids"], p["down"], p["right"]) for p in document["overlap"]["pairs"]]
    assert pairs == [(["town/a.png", "town/b.png"], 24, 40)]
    assert len(document["encoder"]) == 64


@pytest.mark.slow
@pytest.mark.real_data
def test_the_known_defects_of_uc_merced_are_found(real_data):
    images = load_dataset("ucmerced", real_data / "uc_merced")
    document = audit(images, split="per-class-70-10-20-seed1", model=None).to_json()
    (group,) = document["identical"]["groups"]
    assert group["ids"] == ["airplane01", "airplane02"]
    assert not group["contradictory"]
    assert group["parts"] == {"train": 1, "val": 1}
    assert len(document["odd_sizes"]) == 44
    assert document["sizes"][0] == {"height": 256, "width": 256, "images": 2056}
    assert document["near"]["pairs"] == []
    assert document["undecodable"] == []
    assert document["labels"]["never"] == ()
    assert document["labels"]["counts"][0] == 100

"""The wheel with its base dependencies alone: no torch, and everything but training works."""

from __future__ import annotations

import os
import subprocess
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
# The forests below carry one label.
EXAMPLE = EXAMPLE.replace("water and not ship", "trees")
SCRIPT = """
import importlib.util, json, os, sys, threading, time, urllib.request
from pathlib import Path
import numpy as np
from PIL import Image

for name in ("torch", "torchvision", "timm", "tensorboard", "matplotlib"):
    assert importlib.util.find_spec(name) is None, name
for room in ("archive", "audit", "client", "codes", "data", "demo", "metrics", "models", "report",
             "search", "server"):
    importlib.import_module("landcue." + room)

import landcue
from landcue import metrics
from landcue.demo.scenes import render_chip

folder = Path(sys.argv[1])
(folder / "photos").mkdir(parents=True)
rng = np.random.default_rng(0)
for i in range(8):
    Image.fromarray(render_chip(i, "forest")[0]).save(folder / f"photos/{i}.png")
landcue.index(folder / "photos", folder / "archive")
archive = landcue.open(folder / "archive")
hits = list(archive.search(str(folder / "photos/3.png"), k=4))
assert hits[0].id == "3.png", hits
labels = rng.integers(0, 2, (8, 3)).astype(bool)
labels[:, 0] = True
vectors = landcue.load_model("builtin").encode(sorted((folder / "photos").iterdir())).embedding
metrics.evaluate(vectors, labels, ks=(2,))
Image.open(folder / "photos/0.png").save(folder / "photos/a.jpg")
os.chdir(folder)
exec(sys.argv[2])  # the README's first example
assert (folder / "similar.png").is_file()
try:
    landcue.train({}, folder / "run")
except landcue.UsageError as error:
    assert "pip install 'landcue[train]'" in str(error)
else:
    raise AssertionError("trained without torch")
assert "torch" not in sys.modules
"""


@pytest.mark.bare
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_base_install_indexes_searches_and_serves_without_torch(tmp_path):
    def run(*words, **options):
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, **options)
        assert done.returncode == options.pop("code", 0), done.stdout + done.stderr
        return done.stdout

    venv.create(tmp_path / "venv", with_pip=True)
    bin_ = tmp_path / "venv" / "bin"
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    run(
        str(bin_ / "python"), "-m", "pip", "install", "--quiet",
        "-c", str(ROOT / "constraints.txt"), str(ROOT), env=env,
    )  # fmt: skip
    run(str(bin_ / "python"), "-c", SCRIPT, str(tmp_path / "work"), EXAMPLE, env=env)
    landcue = str(bin_ / "landcue")
    archive, photo = tmp_path / "work/archive", tmp_path / "work/photos/3.png"
    assert "3.png" in run(landcue, "search", str(archive), str(photo), "--json", env=env)
    run(landcue, "archive", "info", str(archive), env=env)
    service = subprocess.Popen(
        [landcue, "serve", str(archive), "--port", "0"], stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        assert service.stderr is not None
        address = next(word for line in service.stderr for word in line.split() if "://" in word)
        with urllib.request.urlopen(f"{address.rstrip('/')}/healthz", timeout=60) as answer:
            assert answer.status == 200
    finally:
        service.terminate()
        service.wait(60)
    refused = subprocess.run(
        [landcue, "train", "--help"], capture_output=True, text=True, env=env, check=False
    )
    assert "Traceback" not in refused.stderr
    listed = subprocess.run(
        [landcue, "models", "list"], capture_output=True, text=True, env=env, check=True
    )
    assert listed.stdout.splitlines() == ["builtin"]
    refused = subprocess.run(
        [landcue, "models", "show", "open_clip:ViT-B-32@openai"],
        **{"capture_output": True, "text": True, "env": env, "check": False},
    )
    assert refused.returncode == 2
    assert "pip install 'landcue[hub]'" in refused.stderr

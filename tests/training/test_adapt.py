"""Heads on a frozen encoder's features: judged on images that they did not see."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import commands
import landcue
import landcue.training.adapt as module
from landcue.cli.main import app
from landcue.data.marks import Marks
from landcue.errors import DataError, UsageError
from landcue.models.checkpoint import save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.load import load_model
from landcue.server.collections import Collections
from landcue.training.adapt import (
    AdaptOptions,
    adapt,
    assign_folds,
    cross_validate,
    fit_heads,
)

QUICK = AdaptOptions(dim=8, n_bits=16, epochs=20, batch_size=32, lr=3e-2, folds=4)


def informative(n=240, width=40, seed=0):
    """Eight weak dimensions of many carry the labels, one or two of eight."""
    rng = np.random.default_rng(seed)
    truth = np.eye(8, dtype=np.uint8)[rng.integers(0, 8, n)]
    truth |= np.eye(8, dtype=np.uint8)[rng.integers(0, 8, n)]
    features = rng.normal(size=(n, width))
    features[:, :8] = 2.0 * truth + 0.2 * rng.normal(size=(n, 8))
    return features.astype(np.float32), truth


NAMES = tuple("abcdefgh")


def test_heads_learn_what_the_features_hold():
    features, truth = informative()
    scores, gain = cross_validate(features, features, truth, QUICK)
    assert scores["adapted"] > scores["centered"] + 0.1
    assert scores["adapted"] > scores["unadapted"] + 0.1
    assert scores["adapted code"] > scores["centered"]
    assert len(gain) == QUICK.folds
    assert min(gain) > 0


def test_the_same_seed_trains_the_same_heads():
    features, truth = informative()
    short = replace(QUICK, epochs=3)
    first, second = (fit_heads(features, truth, NAMES, short) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_label_scores_are_probabilities_of_the_labels():
    features, truth = informative(400)
    found = fit_heads(features[:300], truth[:300], NAMES, QUICK).encode(features[300:])
    assert ((found.label_scores > 0.5) == truth[300:]).mean() > 0.9


def test_heads_never_see_what_they_are_measured_on(monkeypatch):
    features, truth = informative()
    trained, measured = [], []
    fit, evaluate = module.fit_heads, module.evaluate

    def seen_by_fit(part, labels, names, options, facts=None):
        trained.append({row.tobytes() for row in part})
        return fit(part, labels, names, options, facts)

    def seen_by_evaluate(vectors, known, **options):
        measured.append({features[int(id_)].tobytes() for id_ in known.ids})
        return evaluate(vectors, known, **options)

    monkeypatch.setattr(module, "fit_heads", seen_by_fit)
    monkeypatch.setattr(module, "evaluate", seen_by_evaluate)
    cross_validate(features, features, truth, replace(QUICK, epochs=1))
    assert len(trained) == QUICK.folds
    for fold, rows in enumerate(trained):
        for left in measured[3 * fold : 3 * fold + 3]:
            assert left
            assert not rows & left
    assert set.union(*measured) == {row.tobytes() for row in features}


def test_equal_images_are_in_one_fold_and_labels_are_spread():
    features, truth = informative(80)
    features[40:] = features[:40]
    truth[40:] = truth[:40]
    fold_of = assign_folds(features, truth, 4, 0)
    assert (fold_of[:40] == fold_of[40:]).all()
    for pattern in np.unique(truth, axis=0):
        counts = np.bincount(fold_of[:40][(truth[:40] == pattern).all(axis=1)], minlength=4)
        assert counts.max() - counts.min() <= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of noise around a color, and one broken file."""
    root = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(0)
    for name, color in (("field", (60, 160, 60)), ("sand", (200, 180, 90)), ("sea", (30, 60, 160))):
        for i in range(12):
            noise = rng.normal(0, 45, (40, 40, 3))
            file = root / name / f"{name}{i:02}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(np.uint8(np.clip(color + noise, 0, 255))).save(file)
    (root / "sea" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    config = build_config("mobilenetv3_small_050", image_size=32, dim=8, n_bits=8, label_names=())
    path = tmp_path_factory.mktemp("run")
    save_checkpoint(path, NeuralEncoder(config), {})
    return path


KILLED = """
import os, signal, sys
from landcue.models.pretrained import encoder
from landcue import AdaptOptions, adapt
from landcue.training.config import LossSection

genuine, left = encoder.write_atomic, int(sys.argv[5])

def deadly(*args):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    genuine(*args)

encoder.write_atomic = deadly
source, out, model, cache = sys.argv[1:5]
adapt(source, out, model=model, cache=__import__("pathlib").Path(cache), options=QUICK)
"""


@pytest.mark.attack
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_killed_adaptation_can_be_run_again(folder, run, tmp_path, write):
    out, cache = tmp_path / "mine", tmp_path / "cache"
    program = KILLED.replace("QUICK", repr(QUICK))
    words = [folder, out, run, cache, str(write)]
    ended = subprocess.run([sys.executable, "-c", program, *words], stderr=subprocess.PIPE)
    assert ended.returncode < 0 or sys.platform == "win32", ended.stderr
    assert not out.exists()
    made = adapt(folder, out, model=run, options=QUICK, cache=cache)
    assert load_model(made.folder).label_names == made.label_names
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_an_adapted_model_is_a_model(folder, run, tmp_path):
    made = adapt(folder, tmp_path / "mine", model=run, options=QUICK, cache=tmp_path / "cache")
    assert made.kept
    assert made.folder == tmp_path / "mine"
    assert made.label_names == ("field", "sand", "sea")
    assert made.n_images == 36
    assert ["broken.png" in problem for problem in made.problems] == [True]
    encoder = load_model(tmp_path / "mine")
    assert (encoder.dim, encoder.n_bits, encoder.label_names) == (8, 16, made.label_names)
    found = encoder.encode([folder / "sea" / "sea00.png", folder / "field" / "field00.png"])
    assert found.label_scores.argmax(axis=1).tolist() == [2, 0]
    np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-5)
    assert encoder.fingerprint == load_model(tmp_path / "mine").fingerprint
    again = adapt(folder, tmp_path / "again", model=run, options=QUICK, cache=tmp_path / "cache")
    assert again.scores == made.scores
    assert load_model(tmp_path / "again").fingerprint == encoder.fingerprint


def members(folder, count=12, **kinds):
    """Marks of the first images of each class, as the service keeps them."""
    return [
        {"id": f"{name}/{name}{i:02}.png", "mark": mark, "note": None, "labels": labels}
        for name, (mark, labels) in kinds.items()
        for i in range(count)
    ]


def test_heads_learn_from_a_collection(folder, run, tmp_path):
    kept = Collections(tmp_path / "picks.db", 1 << 20)
    kept.check()
    kept.create("a", "coast", None, members(folder, sea=("good", []), field=("bad", [])), None)
    labels = {"sea": ("good", ["water", "blue"]), "sand": (None, ["dry"]), "field": ("bad", [])}
    gone = {"id": "sea/gone.png", "mark": None, "note": None, "labels": ["water"]}
    kept.create("a", "cover", None, [*members(folder, **labels), gone], None)
    quick, said = replace(QUICK, epochs=2, folds=2), []
    found = {
        name: adapt(folder, tmp_path / name, model=run, options=quick, message=said.append,
                    marks=tmp_path / "picks.db", collection=name, cache=tmp_path / "cache")
        for name in ("coast", "cover")
    }  # fmt: skip
    assert said == [
        "1 of 25 marked ids are not among the images, such as 'sea/gone.png'",
    ]
    assert (found["coast"].label_names, found["coast"].n_images) == (("coast",), 24)
    assert (found["cover"].label_names, found["cover"].n_images) == (("blue", "dry", "water"), 24)
    table = tmp_path / "cover.csv"
    rows = [f"{one['id']},{'; '.join(one['labels'])}" for one in members(folder, **labels)]
    rows = [row for row in rows if not row.endswith(",")]
    table.write_text("\n".join(["path,labels", *rows]) + "\n")
    same = adapt(folder, tmp_path / "same", model=run, options=quick, marks=table)
    assert same.scores == found["cover"].scores


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"marks": {"sea/sea0.png": True}}, DataError, r"no image has the id 'sea/sea0\.png'"),
        ({"marks": {}}, DataError, "no record is marked or labeled"),
        ({"marks": {}, "labels": Path("labels.csv")}, UsageError, "not from both"),
        ({"collection": "coast"}, UsageError, "needs the file"),
        ({"marks": {f"sea/sea{i:02}.png": True for i in range(9)}}, DataError, "9 annotated"),
    ],
)
def test_marks_that_cannot_be_used_are_one_line(folder, run, tmp_path, given, error, message):
    with pytest.raises(error, match=message) as caught:
        adapt(folder, tmp_path / "out", model=run, options=QUICK, **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_labels_without_meaning_are_not_kept(folder, run, tmp_path):
    rng = np.random.default_rng(1)
    files = sorted(path for path in folder.glob("*/*.png") if path.name != "broken.png")
    rows = [f"{path.relative_to(folder)},{int(rng.random() < 0.5)},1" for path in files]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,odd,image", *rows]) + "\n")
    made = adapt(folder, tmp_path / "out", model=run, labels=table, options=QUICK)
    assert not made.kept
    assert made.folder is None
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_learned_is_refused(folder, run, tmp_path):
    table = tmp_path / "one.csv"
    rows = [f"{path.relative_to(folder)},image" for path in sorted((folder / "sand").glob("*.png"))]
    rows += [
        f"{path.relative_to(folder)},image" for path in sorted((folder / "sea").glob("s*.png"))
    ]
    table.write_text("\n".join(["path,labels", *rows]) + "\n")
    with pytest.raises(DataError, match="do not tell images apart"):
        adapt(folder, tmp_path / "out", model=run, labels=table, options=QUICK)
    for i in range(3):
        for name in ("field", "sea"):
            file = tmp_path / "few" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((folder / name / f"{name}0{i}.png").read_bytes())
    with pytest.raises(DataError, match="6 annotated images can be read"):
        adapt(tmp_path / "few", tmp_path / "out", model=run, options=QUICK)
    with pytest.raises(UsageError, match="is not empty"):
        adapt(folder, tmp_path / "few", model=run, options=QUICK)
    with pytest.raises(UsageError, match="--folds 1"):
        AdaptOptions(folds=1)


def test_the_command_reports_the_gain(folder, run, tmp_path):
    arguments = [
        "adapt",
        str(folder),
        "--model",
        str(run),
        "--out",
        str(tmp_path / "mine"),
        "--json",
    ]
    options = ["--dim", "8", "--bits", "16", "--epochs", "20", "--folds", "3"]
    done = CliRunner().invoke(app, [*arguments, *options], standalone_mode=False)
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["kept"] == (printed["model"] is not None)
    assert printed["images"] == 36
    assert len(printed["gain"]) == 3


def test_marks_on_the_chips_of_an_archive_make_its_next_model(run, tmp_path):
    """Search, mark, adapt, encode again: the way of a hunt for what has no label yet."""
    rng = np.random.default_rng(3)
    pixels = np.uint8(np.clip(rng.normal((60, 160, 60), 30, (160, 160, 3)), 0, 255))
    pixels[:, 80:] = np.clip(rng.normal((30, 60, 160), 30, (160, 80, 3)), 0, 255)
    (tmp_path / "scenes").mkdir()
    Image.fromarray(pixels).save(tmp_path / "scenes" / "coast.png")
    landcue.index(tmp_path / "scenes", tmp_path / "archive", model=run,
                  options=landcue.IndexOptions(chip="20px"))  # fmt: skip
    archive = landcue.open(tmp_path / "archive")
    ids = archive.ids()
    assert len(ids) == 64
    sea = {id_ for id_ in ids if archive.record(id_).window.col >= 80}
    labels = {id_: ("sea",) for id_ in sorted(sea)[:24]}
    bad = sorted(set(ids) - sea)[:24]
    marks = Marks("hunt", dict.fromkeys(labels, True) | dict.fromkeys(bad, False), labels)
    made = landcue.adapt(tmp_path / "archive", tmp_path / "mine", marks=marks, options=QUICK)
    assert (made.n_images, made.label_names) == (48, ("sea",))
    assert made.problems == ()
    assert made.kept
    queries = [id_ for id_ in ids if id_ not in marks.relevant]

    def right(archive):
        """Count the results that lie on the same side as their query."""
        found = [(query, hit.id) for query in queries for hit in archive.search(query, k=31)]
        return sum((query in sea) == (id_ in sea) for query, id_ in found)

    before = right(archive)
    archive.close()
    done = CliRunner().invoke(
        app,
        ["archive", "reembed", str(tmp_path / "archive"), "--model", str(tmp_path / "mine")],
        standalone_mode=False,
    )
    assert done.exit_code == 0, done.output
    again = landcue.open(tmp_path / "archive")
    assert right(again) > 1.2 * before
    assert again.manifest.label_names == ("sea",)
    assert again.manifest.fingerprint == load_model(tmp_path / "mine").fingerprint
    again.close()
    index = ("index", tmp_path / "scenes", tmp_path / "archive", "--chip", "20px", "--model")
    done = commands.landcue(*index, run)
    assert done.returncode == 1
    assert "was made by model" in done.stderr.splitlines()[-1]
    assert commands.landcue(*index, tmp_path / "mine").returncode == 0

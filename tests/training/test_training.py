"""Training: configuration, augmentation, schedule, and a resume that changes nothing."""

from __future__ import annotations

import csv
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from color_images import LABELS, write_color_images
from landcue.data.datasets import load_dataset
from landcue.data.imageset import label_matrix, labeled_by_group
from landcue.errors import DataError, ModelError, UsageError
from landcue.models.backbones import create_backbone, freeze_first_layers
from landcue.models.checkpoint import load_checkpoint
from landcue.models.encoder import NeuralEncoder
from landcue.training import loop
from landcue.training.augment import create_transform
from landcue.training.config import (
    AugmentSection,
    make_config,
    override,
    read_config,
    read_values,
    save_config,
)
from landcue.training.evaluation import study_run
from landcue.training.images import ImageDataset, PixelCache
from landcue.training.loop import train
from landcue.training.state import keep_freed_memory, lr_factor


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """60 tiny images whose labels are their colors."""
    return write_color_images(tmp_path_factory.mktemp("images"), 60, 40)


def config(root, **sections):
    values = {
        "data": {"dataset": "folder", "root": str(root), "split": "per-class-70-10-20-seed1"},
        "model": {
            "backbone": "test_efficientnet", "init": "none", "image_size": 32,
            "dim": 16, "n_bits": 16,
        },
        "optimizer": {"epochs": 3, "batch_size": 14},
        "loggers": ["csv"],
    }  # fmt: skip
    for name, value in sections.items():
        values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
    return make_config(values)


def test_training_learns_and_records_what_it_did(images, tmp_path):
    run = tmp_path / "run"
    summary = train(config(images, loggers=("csv", "tensorboard"), optimizer={"epochs": 4}), run)
    made = load_checkpoint(run)
    assert made.encoder.fingerprint == summary.fingerprint
    assert made.encoder.label_names == LABELS
    assert made.provenance["split"] == "per-class-70-10-20-seed1"
    assert made.provenance["label_statistics"]["n_images"] == 42
    assert made.provenance["training"]["finished"] is True
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    best = max(rows, key=lambda row: float(row["val/nDCG@100"]))
    assert int(best["epoch"]) == summary.best_epoch
    assert summary.scores["nDCG@100"] == pytest.approx(float(best["val/nDCG@100"]))
    assert any(path.name.startswith("events") for path in (run / "tensorboard").iterdir())
    assert not (run / "state.safetensors").exists()
    assert read_config(run / "config.yaml").data.split == "per-class-70-10-20-seed1"


def test_same_command_again_does_nothing(images, tmp_path):
    first = train(config(images, optimizer={"epochs": 1}), tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    said = []
    again = train(config(images, optimizer={"epochs": 1}), tmp_path / "run", message=said.append)
    assert again.fingerprint == first.fingerprint
    assert "already trained" in said[0]
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


def test_seed_decides_the_result(images, tmp_path):
    a = train(config(images, optimizer={"epochs": 1}), tmp_path / "a")
    b = train(config(images, optimizer={"epochs": 1}), tmp_path / "b")
    c = train(config(images, optimizer={"epochs": 1}, seed=1), tmp_path / "c")
    assert a.fingerprint == b.fingerprint != c.fingerprint


CHILD = """
import sys, json
from pathlib import Path
from landcue.training.config import make_config
from landcue.training.loop import train
def say(line):
    print(line, flush=True)
train(make_config(json.loads(sys.argv[1])), Path(sys.argv[2]), message=say)
"""


def child(settings, run):
    command = [sys.executable, "-c", CHILD, json.dumps(settings.model_dump(mode="json")), str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    """A training that nothing interrupts: its settings, folder and fingerprint."""
    model = {"backbone": "mobilenetv3_small_050"}  # no epoch ends too soon to be cut off
    settings = config(images, model=model, optimizer={"epochs": 5})
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    return settings, run, train(settings, run).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("after", ["epoch 1", "epoch 3"])
def test_kill_9_and_resume_ends_with_the_same_weights(undisturbed, tmp_path, after):
    settings, whole_run, fingerprint = undisturbed
    process = child(settings, tmp_path / "cut")
    for line in process.stdout:
        if line.startswith(after):
            time.sleep(0.15)  # somewhere inside the next epoch or its checkpoint
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    resumed = train(settings, tmp_path / "cut")
    assert resumed.resumed_from >= int(after[-1])
    assert resumed.fingerprint == fingerprint
    whole, cut = (
        [
            {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
            for row in csv.DictReader((run / "metrics.csv").open())
        ]
        for run in (whole_run, tmp_path / "cut")
    )
    assert whole == cut


def test_other_settings_or_other_files_are_not_overwritten(images, tmp_path):
    train(config(images, optimizer={"epochs": 1}), tmp_path / "run")
    with pytest.raises(UsageError, match=r"other settings \(optimizer\)"):
        train(config(images, optimizer={"epochs": 2}), tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"not empty \(cat\.png"):
        train(config(images), tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.png").read_bytes() == b"x"


def test_a_training_cut_off_says_so_when_it_is_evaluated(images, tmp_path):
    class CutError(Exception):
        pass

    def cut(stage, done, _total):
        if stage == "epoch 2/3" and done == 1:
            raise CutError

    with pytest.raises(CutError):
        train(config(images), tmp_path / "run", progress=cut)
    said = []
    study_run(tmp_path / "run", resamples=0, message=said.append)
    assert any("has not ended" in line for line in said)
    train(config(images), tmp_path / "run")
    said.clear()
    study_run(tmp_path / "run", resamples=0, message=said.append)
    assert said == []


def test_a_training_is_not_resumed_with_other_images(images, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(images, root)

    def cut(line):
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(root), tmp_path / "run", message=cut)
    table = root / "labels.csv"
    whole = table.read_text()
    file = sorted(root.glob("*.png"))[0]
    moved = file.rename(tmp_path / file.name)
    table.write_text("".join(x for x in whole.splitlines(True) if file.name not in x))
    with pytest.raises(UsageError, match="began with other images, labels or parts"):
        train(config(root), tmp_path / "run")
    moved.rename(file)
    table.write_text(whole)
    resumed = train(config(root), tmp_path / "run")
    assert resumed.resumed_from == 1
    assert resumed.fingerprint == train(config(root), tmp_path / "whole").fingerprint


def test_the_card_names_the_losses_of_both_heads(images, tmp_path):
    loss = {"name": "supcon", "hash_name": "dhcl", "hash_options": {"scale": 16.0}}
    for name, weights, shown in (
        ("both", {}, "supcon (embedding); dhcl {'scale': 16.0} (hash)"),
        ("hash", {"embedding": 0}, "dhcl {'scale': 16.0}"),
        ("embedding", {"hash": 0}, "supcon"),
    ):
        settings = config(images, loss=loss | weights, optimizer={"epochs": 1})
        train(settings, tmp_path / name)
        assert load_checkpoint(tmp_path / name).provenance["loss"] == shown
    settings = config(images, loss=loss, model={"n_bits": 0}, optimizer={"epochs": 1})
    train(settings, tmp_path / "no-hash-head")
    assert load_checkpoint(tmp_path / "no-hash-head").provenance["loss"] == "supcon"


def test_two_trainings_in_one_folder(images, tmp_path):
    from landcue.files import exclusive

    with (
        exclusive(tmp_path / "run", ModelError, "training in"),
        pytest.raises(ModelError, match="another process is training in"),
    ):
        train(config(images), tmp_path / "run")


def test_unwritable_run_folder(images, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot write"):
        train(config(images), tmp_path / "file" / "run")


def test_broken_state_says_what_to_do(images, tmp_path):
    settings = config(images)
    save_config(settings, tmp_path / "config.yaml")
    (tmp_path / "state.safetensors").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"cannot be resumed .* delete it to start over"):
        train(settings, tmp_path)


def test_diverging_loss_is_named(images, tmp_path):
    settings = config(images, optimizer={"lr": 1e30, "head_lr": 1e30, "warmup_epochs": 0})
    with pytest.raises(ModelError, match="loss became nan in epoch"):
        train(settings, tmp_path / "run")


def test_unlabeled_images_cannot_be_trained_on(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="has no labels"):
        train(config(tmp_path), tmp_path / "run")


def test_broken_images_are_skipped_and_counted(images, tmp_path):
    root = tmp_path / "copy"
    root.mkdir()
    for file in images.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    (root / "00.png").write_bytes(b"")
    (root / "01.png").write_text("not an image")
    said = []
    summary = train(config(root, optimizer={"epochs": 1}), tmp_path / "run", message=said.append)
    named = [line for line in said if line.startswith("skipped")]
    assert len(named) == summary.skipped
    assert 1 <= summary.skipped <= 2  # one of them may lie in the test part
    assert all("00.png" in line or "01.png" in line for line in named)


def test_split_without_validation_keeps_the_last_epoch(images, tmp_path):
    said = []
    settings = config(images, data={"split": "files-80-20"}, optimizer={"epochs": 2})
    summary = train(settings, tmp_path / "run", message=said.append)
    assert summary.best_epoch == 2
    assert summary.scores == {}
    assert any("no validation part" in line for line in said)


def test_unknown_metric_to_choose_by(images, tmp_path):
    with pytest.raises(UsageError, match="no metric 'nDCG'"):
        train(config(images, choose_by="nDCG"), tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"data": {"root": "x"}, "optimiser": {}}, "'optimiser' (did you mean 'optimizer'"),
        ({"data": {"root": "x"}, "optimizer": {"epoch": 3}}, "(did you mean 'epochs'"),
        ({"data": {}}, "'data.root'"),
        ({}, "'data'"),
        ({"data": {"root": "x"}, "optimizer": {"epochs": 0}}, "optimizer.epochs"),
        ({"data": {"root": "x"}, "model": {"projection": "big"}}, "model.projection"),
    ],
)
def test_config_mistakes_are_one_line(values, word):
    with pytest.raises(UsageError) as caught:
        make_config(values)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides():
    values = {"data": {"root": "x"}, "optimizer": {"epochs": 3}}
    got = make_config(override(values, ["optimizer.epochs=5", "loss.options.gamma=0.25", "seed=7"]))
    assert (got.optimizer.epochs, got.loss.options, got.seed) == (5, {"gamma": 0.25}, 7)
    assert values["optimizer"]["epochs"] == 3
    for bad in ("epochs", "=3", "seed.x=1", "a.b=[1"):
        with pytest.raises(UsageError, match="--set"):
            override({"seed": 0, "a": {}}, [bad])


def test_frozen_layers_and_their_statistics_stay(images, tmp_path):
    values = {"freeze_layers": 4, "init": "none"}
    data = {"split": "files-80-20"}  # without a validation part, so that the last epoch is kept
    for run, epochs in (("one", 1), ("two", 2)):
        train(config(images, data=data, model=values, optimizer={"epochs": epochs}), tmp_path / run)
    first, second = (load_checkpoint(tmp_path / run).encoder.backbone for run in ("one", "two"))
    layers = freeze_first_layers(first, 4), freeze_first_layers(second, 4)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in layers[0])
    for one, two in zip(*layers, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, two.state_dict()[name]), name
    learned = (dict(model.named_parameters()) for model in (first, second))
    assert any(not torch.equal(a, b) for a, b in zip(*(d.values() for d in learned), strict=True))


def test_frozen_depthwise_filters_stay_and_all_else_learns(images, tmp_path):
    model = {"freeze_depthwise": True, "init": "none"}
    data = {"split": "files-80-20"}  # without a validation part, so that the last epoch is kept
    for run, epochs in (("one", 1), ("two", 2)):
        train(config(images, data=data, model=model, optimizer={"epochs": epochs}), tmp_path / run)
    first, second = (load_checkpoint(tmp_path / run).encoder.backbone for run in ("one", "two"))
    stays = {True: 0, False: 0}
    for one, two in zip(first.modules(), second.modules(), strict=True):
        if isinstance(one, torch.nn.Conv2d) and isinstance(two, torch.nn.Conv2d):
            depthwise = one.groups == one.in_channels > 1
            assert torch.equal(one.weight, two.weight) == depthwise
            stays[depthwise] += 1
    assert all(stays.values())


def test_a_backbone_without_depthwise_filters_cannot_freeze_them(images, tmp_path):
    model = {"backbone": "resnet10t", "freeze_depthwise": True, "init": "none"}
    with pytest.raises(UsageError, match="freeze_depthwise: the backbone has no depthwise"):
        train(config(images, model=model), tmp_path / "run")


def test_views_are_averaged_by_the_finished_model_and_in_validation(images, tmp_path):
    scores = {}
    for run, views in (("plain", 1), ("flips", 4)):
        model = {"backbone": "mobilenetv3_small_050", "average_views": views}
        settings = config(images, model=model, optimizer={"epochs": 1})
        scores[run] = train(settings, tmp_path / run).scores
    plain, flips = (load_checkpoint(tmp_path / run).encoder for run in ("plain", "flips"))
    assert flips.config.average_views == 4
    for name, tensor in plain.state_dict().items():  # the training itself is the same
        assert torch.equal(tensor, flips.state_dict()[name]), name
    assert scores["plain"] != scores["flips"]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    mirrored = flips.encode(pixels[:, :, ::-1]).embedding
    np.testing.assert_allclose(flips.encode(pixels).embedding, mirrored, atol=5e-3)  # in bf16
    assert np.abs(plain.encode(pixels).embedding - mirrored).max() > 5e-3


def test_groups_as_the_only_label(images, tmp_path):
    run = tmp_path / "run"
    train(config(images, data={"target": "group"}), run)
    encoder = load_checkpoint(run).encoder
    assert encoder.label_names == ("g0", "g1")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    scores = encoder.encode(pixels).label_scores
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)


def test_group_target_needs_groups(images):
    names = labeled_by_group(load_dataset("folder", images))
    assert names.label_names == ("g0", "g1")
    assert {record.labels for record in names.records} == {("g0",), ("g1",)}
    bare = replace(names, records=tuple(replace(r, group=None) for r in names.records))
    with pytest.raises(DataError, match="has no group"):
        labeled_by_group(bare)


def test_freed_memory_is_kept_where_the_c_library_can():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    assert torch.ones(2**24).sum().item() == 2**24


def test_config_file_round_trip_and_errors(tmp_path):
    settings = make_config({"data": {"root": "x"}, "loss": {"options": {"alpha": 0.5}}})
    save_config(settings, tmp_path / "c.yaml")
    assert read_config(tmp_path / "c.yaml") == settings
    (tmp_path / "broken.yaml").write_text("a: [1\nb: {")
    (tmp_path / "list.yaml").write_text("- 1")
    for name, word in (("gone", "cannot read"), ("broken", "not valid YAML"), ("list", "sections")):
        with pytest.raises(UsageError, match=word):
            read_config(tmp_path / f"{name}.yaml")


def seeded(transform, image, seed):
    torch.manual_seed(seed)
    return transform(image)


def test_augmentation_is_seeded_and_switches_off():
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    plain = AugmentSection(flips=False, turns=False, min_area=1.0, color=0.0)
    assert torch.equal(create_transform(plain, 20)(image), image)
    full = create_transform(AugmentSection(), 16)
    assert torch.equal(seeded(full, image, 0), seeded(full, image, 0))
    assert not torch.equal(seeded(full, image, 0), seeded(full, image, 1))
    assert full(image).shape == (3, 16, 16)
    assert full(image).dtype == torch.uint8


def test_views_may_be_smaller_than_the_images_that_are_encoded(images, tmp_path, monkeypatch):
    seen = []
    normalize = NeuralEncoder.normalize
    monkeypatch.setattr(
        NeuralEncoder, "normalize", lambda self, x: (seen.append(x.shape), normalize(self, x))[1]
    )
    data = {"split": "files-80-20"}  # without a validation part: only training steps are seen
    settings = config(
        images, data=data, model={"image_size": 48}, augment={"size": 32}, optimizer={"epochs": 1}
    )
    run = train(settings, tmp_path / "run")
    assert {tuple(shape[1:]) for shape in seen} == {(3, 32, 32)}
    made = load_checkpoint(run.folder).encoder
    assert made.config.image_size == 48
    assert made.prepare(np.zeros((60, 60, 3), np.uint8)).shape == (48, 48, 3)


def test_a_backbone_of_one_size_refuses_views_of_another(images, tmp_path):
    model = {"backbone": "vit_tiny_patch16_224", "image_size": 224}
    with pytest.raises(UsageError, match=r"augment\.size: vit_tiny_patch16_224 takes"):
        train(config(images, model=model, augment={"size": 160}), tmp_path / "run")


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_is_used_where_the_processor_has_it(supported, monkeypatch, images, tmp_path):
    dtypes = []
    for module in ("landcue.training.loop", "landcue.models.encoder"):
        monkeypatch.setattr(f"{module}.has_bf16", lambda device: supported)
    backbone_of = loop.create_backbone

    def watched(*args, **options):
        made = backbone_of(*args, **options)
        first = next(m for m in made.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_hook(lambda m, x, y: dtypes.append(y.dtype))
        return made

    monkeypatch.setattr(loop, "create_backbone", watched)
    train(config(images, optimizer={"epochs": 1}), tmp_path / "run")  # steps and validation
    assert set(dtypes) == {torch.bfloat16 if supported else torch.float32}


def test_augmentation_without_scale_and_color_is_one_of_eight_views():
    image = torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8)
    transform = create_transform(AugmentSection(min_area=1.0, color=0.0), 12)
    views = [torch.rot90(f, k, (1, 2)) for f in (image, image.flip(2)) for k in range(4)]
    seen = set()
    for seed in range(64):
        got = seeded(transform, image, seed)
        seen.add(next(i for i, view in enumerate(views) if torch.equal(got, view)))
    assert len(seen) == 8


def test_rotation_turns_by_any_angle_up_to_its_limit():
    # A disk off the center keeps its distance from the center and moves by the drawn angle.
    side = 65
    ys, xs = np.mgrid[:side, :side] - side // 2
    disk = ((xs - 18) ** 2 + ys**2 < 30).astype(np.uint8) * 200
    image = torch.from_numpy(np.repeat(disk[None], 3, axis=0))
    options = AugmentSection(flips=False, turns=False, min_area=1.0, color=0.0, rotation=40)
    transform = create_transform(options, side)
    got = np.stack([seeded(transform, image, seed)[0].numpy() for seed in range(64)])
    got = got.astype(float) * (np.hypot(xs, ys) < 28)  # without what is mirrored into the corners
    weight = got.sum((1, 2))
    x, y = (got * xs).sum((1, 2)) / weight, (got * ys).sum((1, 2)) / weight
    np.testing.assert_allclose(np.hypot(x, y), 18, atol=0.3)
    angles = np.degrees(np.arctan2(y, x))
    assert np.abs(angles).max() < 40.5
    assert angles.min() < -25
    assert angles.max() > 25
    assert len(np.unique(angles.round(1))) > 40


def test_a_rotated_plain_image_stays_plain_since_its_edges_are_mirrored():
    image = torch.full((3, 33, 33), 120, dtype=torch.uint8)
    transform = create_transform(AugmentSection(rotation=180, min_area=1.0, color=0.0), 33)
    for seed in range(8):
        assert torch.equal(seeded(transform, image, seed), image)


def test_a_transform_of_ones_own_replaces_the_others(images, tmp_path, monkeypatch):
    (tmp_path / "own_views.py").write_text(
        "from torchvision.transforms import v2\n"
        "gray = v2.RandomGrayscale(p=1.0)\n"
        "def flat(image): return image[0]\n"
        "def broken(image): raise ValueError('no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    got = create_transform(AugmentSection(transform="own_views:gray"), 16)(image)
    assert got.shape == (3, 16, 16)
    assert torch.equal(got[0], got[1])
    for name, word in (("gone", "cannot be imported"), ("flat", "bands"), ("broken", "fails")):
        settings = config(images, augment={"transform": f"own_views:{name}"})
        with pytest.raises(UsageError, match=word) as caught:
            train(settings, tmp_path / "run")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"augment\.transform"):
        config(images, augment={"transform": "own_views"})


def test_learning_rate_warms_up_and_falls_to_zero():
    factors = [lr_factor(step, 10, 110) for step in range(111)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[60] == pytest.approx(0.5)
    assert factors[110] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def broken_records(images, tmp_path):
    records = list(load_dataset("folder", images).records[:5])
    records[2] = replace(records[2], path=tmp_path / "gone.png")
    return records


@pytest.mark.parametrize("limit", [0, 2 * (16 * 16 * 3 + 1), 2**20])
def test_images_keep_order_and_leave_broken_files_out(images, tmp_path, limit):
    records = broken_records(images, tmp_path)
    got = ImageDataset(records, LABELS, 16, cache_bytes=limit)
    got.drop_unreadable()
    assert [r.id for r in got.records] == ["00.png", "01.png", "03.png", "04.png"]
    assert got.is_cached == (limit == 2**20)
    assert got.problems[0].where == "02.png"
    labels = label_matrix([r.labels for r in got.records], LABELS)
    for row, (image, hot) in enumerate(got[i] for i in range(len(got))):
        assert image.shape == (3, 16, 16)
        assert np.array_equal(image.float().mean((1, 2)).numpy()[::-1] > 100, hot.bool().numpy())
        assert np.array_equal(hot, labels[row])
    with pytest.raises(DataError, match="none of 1 images"):
        ImageDataset([records[2]], LABELS, 16).drop_unreadable()


def test_cached_images_are_not_decoded_again_and_leave_no_file(images, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    copy = tmp_path / "copy"
    shutil.copytree(images, copy)
    source = load_dataset("folder", copy)
    cached = ImageDataset(source.records, LABELS, 16)
    cached.drop_unreadable()
    before = [cached.pixels(row) for row in range(len(cached))]
    shutil.rmtree(copy)
    assert all(np.array_equal(cached.pixels(row), old) for row, old in enumerate(before))
    plain = ImageDataset(source.records, LABELS, 16, cache_bytes=0)
    with pytest.raises(DataError, match="cannot be read"):
        plain.pixels(0)
    assert list(temporary.iterdir())
    del cached
    assert not list(temporary.iterdir())


def test_processes_of_one_machine_share_a_cache_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, two = (PixelCache(3, (2, 2, 3), 1000, "shared") for _ in range(2))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    one.write(1, pixels)
    assert np.array_equal(two.read(1), pixels)
    assert two.read(0) is None
    assert PixelCache(3, (2, 2, 3), 1000).read(1) is None
    assert PixelCache(3, (2, 2, 3), 25).capacity == 1


@pytest.mark.slow
def test_workers_change_no_result(images, tmp_path):
    marks = [
        train(config(images, optimizer={"epochs": 2}, loader=loader), tmp_path / name).fingerprint
        for name, loader in (
            ("none", {"workers": 0}),
            ("two", {"workers": 2, "cache_bytes": 0}),
        )
    ]
    assert marks[0] == marks[1]


@pytest.mark.slow
def test_a_file_that_breaks_during_a_training_is_named_in_one_line(images, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(images, copy)

    def breaking(stage, done, _total):
        if stage == "epoch 1/3" and done == 1:
            for file in copy.glob("*.png"):
                file.write_bytes(b"")

    for workers in (0, 1):
        shutil.copytree(images, copy, dirs_exist_ok=True)
        settings = config(copy, loader={"workers": workers, "cache_bytes": "0B"})
        with pytest.raises(DataError, match=r"png: the file is empty \(0 bytes\)$") as caught:
            train(settings, tmp_path / "run", progress=breaking)
        assert "\n" not in str(caught.value)


def test_how_images_are_loaded_may_differ_when_a_run_is_resumed(images, tmp_path):
    first = train(config(images, optimizer={"epochs": 1}), tmp_path / "run")
    other = config(images, optimizer={"epochs": 1}, loader={"cache_bytes": "1MiB"})
    assert other.loader.cache_bytes == 2**20
    assert train(other, tmp_path / "run").fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"optimizer": {"lr": 1e30, "head_lr": 1e30, "warmup_epochs": 0}}, ModelError),
        ({"choose_by": "nDCG@7"}, UsageError),
        ({"data": {"split": "nonsense"}}, UsageError),
        ({"model": {"backbone": "resnet1"}}, UsageError),
        ({"loss": {"name": "mark"}}, UsageError),
        ({"sampler": {"name": "class_balanced", "per_class": 5}}, UsageError),
        ({"model": {"init": "gone.npz"}}, ModelError),
    ],
)
def test_a_failed_training_does_not_block_the_corrected_one(images, tmp_path, wrong, error):
    run = tmp_path / "run"
    with pytest.raises(error) as caught:
        train(config(images, **wrong), run)
    assert "\n" not in str(caught.value)
    assert not run.exists() or [path.name for path in run.iterdir()] in ([], [".lock"])
    assert train(config(images, optimizer={"epochs": 1}), run).best_epoch == 1


def test_a_score_to_choose_by_is_checked_without_a_validation_part(images, tmp_path):
    data = {"root": str(images), "split": "files-80-20"}
    with pytest.raises(UsageError, match="choose_by: no metric 'nDCG@10'"):
        train(config(images, data=data, choose_by="nDCG@10"), tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    ["data: {root: a}\noptimizer: {lr: 1}\noptimizer: {epochs: 2}", "data: {root: a, root: b}"],
)
def test_a_key_that_occurs_twice_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"the key .(optimizer|root). occurs twice"):
        read_config(tmp_path / "c.yaml")
    with pytest.raises(UsageError, match="the value is not valid YAML: the key 'lr' occurs twice"):
        override({}, ["optimizer={lr: 1, lr: 2}"])


def test_merged_keys_of_yaml_may_be_overridden(tmp_path):
    text = "data: &a {root: a, split: x}\nmodel: {}\n"
    (tmp_path / "c.yaml").write_text(text + "optimizer: &o {lr: 1.0, epochs: 3}\n")
    assert read_config(tmp_path / "c.yaml").optimizer.epochs == 3
    (tmp_path / "c.yaml").write_text("x: &o {lr: 1.0}\noptimizer: {<<: *o, lr: 2.0}")
    assert read_values(tmp_path / "c.yaml")["optimizer"] == {"lr": 2.0}


def test_a_section_may_merge_one_that_merges_another(tmp_path):
    text = """
        root: &root {x: 1, y: 2}
        methods:
          a: &a
            <<: *root
            x: 3
        derived:
          <<: *a
          z: 1
    """
    (tmp_path / "c.yaml").write_text(text)
    values = read_values(tmp_path / "c.yaml")
    assert values["methods"] == {"a": {"x": 3, "y": 2}}
    assert values["derived"] == {"x": 3, "y": 2, "z": 1}
    (tmp_path / "c.yaml").write_text(text.replace("x: 3", "y: 3\n            y: 4"))
    with pytest.raises(UsageError, match="the key 'y' occurs twice"):
        read_values(tmp_path / "c.yaml")


@pytest.mark.parametrize("text", ["data: {root: photos, split: {{seed}}}", "[a]: 1"])
def test_a_key_that_is_no_single_value_is_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"not valid YAML: .*unhashable key") as caught:
        read_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_a_config_may_be_values_or_a_file(images, tmp_path):
    settings = config(images, optimizer={"epochs": 1})
    save_config(settings, tmp_path / "c.yaml")
    made = train(str(tmp_path / "c.yaml"), tmp_path / "run")
    again = train(settings.model_dump(), str(tmp_path / "run"))
    assert (made.fingerprint, again.resumed_from) == (again.fingerprint, 1)


def test_a_logger_that_is_not_installed_is_one_line(images, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'landcue\[wandb\]'.*'loggers=\[csv\]'"):
        train(config(images, loggers=["csv", "wandb"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_frozen_backbone_keeps_its_weights_and_the_heads_learn(images, tmp_path, monkeypatch):
    passes = []
    forward = NeuralEncoder.forward

    def counted(self, x):
        if self.training:
            passes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(NeuralEncoder, "forward", counted)
    settings = config(images, model={"frozen": True}, optimizer={"epochs": 3, "head_lr": 1e-2})
    train(settings, tmp_path / "run")
    again = train(settings, tmp_path / "again")
    made = load_checkpoint(tmp_path / "run").encoder
    torch.manual_seed(settings.seed)
    start = create_backbone(settings.model.backbone, image_size=settings.model.image_size)
    for name, tensor in start.state_dict().items():
        assert torch.equal(made.backbone.state_dict()[name], tensor), name
    assert made.fingerprint == again.fingerprint
    assert passes == []
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    losses = [float(row.split(",")[rows[0].split(",").index("loss")]) for row in rows[1:]]
    assert losses[-1] < losses[0]

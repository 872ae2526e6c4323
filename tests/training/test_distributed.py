"""Training in two processes: as in one with the same batches, and after one of them was killed."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from landcue.errors import ModelError, UsageError
from landcue.models.checkpoint import load_checkpoint
from landcue.training.config import make_config, save_config
from landcue.training.distributed import Team
from landcue.training.images import EpochBatches
from landcue.training.loop import train
from landcue.training.samplers import Shares, Shuffle

pytestmark = pytest.mark.ddp

WORKER = Path(__file__).with_name("joined_training.py")
LIMIT = 300  # seconds, for a busy machine
CANCELLED = ("2.0.bn2.bias", "3.0.bn3.bias", "4.0.bn3.bias")
"""Biases before a linear layer with batch normalization: their gradient is nothing but rounding."""
EXACT = {"precision": "float32", "epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """48 tiny images whose labels are their colors."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    lines = ["path,labels"]
    for i in range(48):
        has = rng.random(3) < 0.5
        has[i % 3] = True
        pixels = rng.integers(0, 60, (32, 32, 3))
        for channel, on in enumerate(has):
            pixels[..., channel] += 150 * on
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i:02}.png")
        lines.append(f"{i:02}.png," + ";".join(n for n, on in zip("rgb", has, strict=True) if on))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def values(root, backbone="test_resnet", **sections):
    model = {"backbone": backbone, "init": "none", "image_size": 32, "dim": 8, "n_bits": 8}
    return {
        "data": {"root": str(root), "split": "files-80-20"},
        "model": model,
        "optimizer": EXACT,
        "loggers": ["csv"],
        **sections,
    }


def several(root):
    """Batch normalization, timm's with an activation, and none; proxies; all kinds of heads."""
    return {
        # Without beta: a sharper soft-max carries rounding further than these tolerances.
        "bn": values(root, loss={"options": {"beta": 0.0}}),
        "bn_act": values(
            root,
            "test_efficientnet",
            sampler={"name": "label_aware"},
            loss={"options": {"beta": 0.0}},
        ),
        "no_bn": values(root, "test_convnext", loss={"name": "proxy_anchor", "balance": 0.5}),
        "no_metric": values(root, loss={"name": "none"}),
        "bf16": values(
            root,
            data={"root": str(root), "split": "per-class-70-10-20-seed1"},  # it has a validation
            optimizer={"epochs": 5, "batch_size": 16},
        ),
    }


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if sys.platform.startswith("linux"):
        settings["GLOO_SOCKET_IFNAME"] = "lo"  # a host name that does not resolve does no harm
    return subprocess.Popen(
        [*command, *map(str, arguments)], env=settings, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def joined(images, tmp_path_factory):
    """The folder in which two processes trained everything, and what each of them found."""
    out = tmp_path_factory.mktemp("joined")
    (out / "configs.json").write_text(json.dumps(several(images)))
    process = torchrun(WORKER, out / "configs.json", out)
    try:
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said
    finally:
        process.kill()
    return out, [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def worker():
    spec = importlib.util.spec_from_file_location("joined_training", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_batch_normalization_is_that_of_the_joined_batch(joined, worker):
    whole = worker.normalized(0, 1)
    parts = [torch.load(joined[0] / f"norm{rank}.pt") for rank in range(2)]
    for key, wanted in whole.items():
        if key == "out":
            got = torch.stack([part[key] for part in parts], 1).flatten(0, 1)
        elif key.startswith("gradient"):
            got = sum(part[key] for part in parts)
        else:
            assert torch.equal(parts[0][key], parts[1][key])
            got = parts[0][key]
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12, msg=key)
    assert whole["1.num_batches_tracked"] == 2


def history(run):
    skipped = ("seconds", "images_per_second")
    with (run / "metrics.csv").open() as file:
        return [
            {k: float(v) for k, v in row.items() if k not in skipped}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bn", "bn_act", "no_bn", "no_metric"])
def test_two_processes_learn_what_one_learns(images, joined, tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # like the two
    train(make_config(several(images)[name]), tmp_path / name)
    one, two = history(tmp_path / name), history(joined[0] / name)
    assert len(one) == EXACT["epochs"]
    assert one[0]["loss"] != one[1]["loss"]
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        for key in row:
            assert other[key] == pytest.approx(row[key], rel=1e-5, abs=1e-5), key
    single, pair = (load_checkpoint(run).encoder for run in (tmp_path / name, joined[0] / name))
    for key, tensor in single.named_parameters():
        if not key.endswith(CANCELLED):
            off = (pair.state_dict()[key] - tensor.detach()).abs()
            # Adam turns the rounding of a gradient near 0 into a step, here and there.
            assert float((off > 2e-5).double().mean()) < 0.01, key
            assert float(off.max()) < 1e-3, key


@pytest.mark.slow
def test_all_processes_know_the_result(joined):
    out, (first, second) = joined
    assert first == second
    assert first["again"] == first["bn"]
    for name in ("bn", "bf16"):
        assert load_checkpoint(out / name).encoder.fingerprint == first[name]
        assert not (out / name / "state.safetensors").exists()


@pytest.mark.slow
def test_mistakes_are_refused_by_every_process(joined):
    out, (first, second) = joined
    refused = "UsageError: the configuration of process 1 differs in seed from that of process 0"
    assert first["other settings"] == second["other settings"]
    assert first["other settings"].startswith(refused)
    assert not (out / "never").exists()
    assert first["full folder"].startswith(f"UsageError: {out / 'full'} is not empty (photo.txt")
    assert first["full folder"] == second["full folder"]
    for found in (first, second):
        assert found["no weights"].startswith("ModelError: ")
        assert "gone.npz does not exist" in found["no weights"]


def started(parent, rank):
    """Return the id of the process that torchrun, process ``parent``, started as ``rank``."""
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == parent:
                names = (folder / "environ").read_bytes().split(b"\0")
                if b"RANK=%d" % rank in names:
                    return int(folder.name)
        except (OSError, IndexError):
            continue
    raise AssertionError("no such process")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_a_killed_process_changes_nothing(images, joined, tmp_path):
    wanted = several(images)["bf16"]
    save_config(make_config(wanted | {"optimizer": EXACT}), tmp_path / "config.yaml")
    process = torchrun(
        "--max-restarts=1", "-m", "landcue", "train", tmp_path / "config.yaml",
        "--set", f"optimizer={json.dumps(wanted['optimizer'])}", "--out", tmp_path / "run",
    )  # fmt: skip
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if line.startswith("epoch 1:"):
                os.kill(started(process.pid, 1), signal.SIGKILL)
        assert process.wait(LIMIT) == 0, "".join(said)
    finally:
        process.kill()
    resumed = [line for line in said if line.startswith("resuming after epoch")]
    assert len(resumed) == 1, "".join(said)
    assert resumed[0].strip()[-1] in "1234"
    assert load_checkpoint(tmp_path / "run").encoder.fingerprint == joined[1][0]["bf16"]
    assert history(tmp_path / "run") == history(joined[0] / "bf16")


def alone_with(monkeypatch, **variables):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_missing_and_wrong_variables_are_named(monkeypatch):
    alone_with(monkeypatch, WORLD_SIZE="2", RANK="0")
    with pytest.raises(UsageError, match="MASTER_ADDR and MASTER_PORT not set; start with torchr"):
        Team.from_environment()
    there = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    alone_with(monkeypatch, WORLD_SIZE="two", **there)
    with pytest.raises(UsageError, match="WORLD_SIZE must be a number, not 'two'"):
        Team.from_environment()
    alone_with(monkeypatch, WORLD_SIZE="2", RANK="2", **there)
    with pytest.raises(UsageError, match="RANK is 2, but WORLD_SIZE 2"):
        Team.from_environment()


def test_too_few_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    there = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "4"}
    alone_with(monkeypatch, RANK="3", LOCAL_RANK="3", **there)
    with pytest.raises(UsageError, match="which has 2 GPUs; start at most 2 there"):
        Team.from_environment()
    alone_with(monkeypatch, RANK="3", LOCAL_RANK="1", **there)
    assert Team.from_environment() == Team(3, 4, torch.device("cuda:1"))


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_made(
    images, tmp_path, monkeypatch
):
    there = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    alone_with(monkeypatch, WORLD_SIZE="3", RANK="0", **there)
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 16 equally"):
        train(make_config(values(images)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_first_process_that_cannot_be_reached(monkeypatch):
    alone_with(monkeypatch, WORLD_SIZE="2", RANK="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    team = Team(1, 2, torch.device("cpu"))
    with (
        pytest.raises(ModelError, match=r"cannot meet the others at 127\.0\.0\.1:1"),
        team.connected(timeout=timedelta(seconds=1)),
    ):
        pass


def test_a_process_alone_just_works(monkeypatch):
    alone_with(monkeypatch)
    team = Team.from_environment()
    assert (team.rank, team.size, team.is_first) == (0, 1, True)
    model = torch.nn.Linear(2, 2)
    assert team.wrap(model, torch.nn.Linear(1, 1), [model]) is model
    assert model.weight.requires_grad
    assert team.first(max, 1, 2) == team.each(max, 1, 2) == 2


def test_views_do_not_depend_on_the_number_of_processes():
    def views(rank, size):
        batches = EpochBatches(Shuffle(Shares(12, 6, rank, size), 3), 3, 12)
        batches.epoch = 2
        return [dict(batch) for batch in batches]

    whole, parts = views(0, 1), [views(rank, 3) for rank in range(3)]
    for step, batch in enumerate(whole):
        assert batch == parts[0][step] | parts[1][step] | parts[2][step]

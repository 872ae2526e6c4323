"""Several processes learn from their joined batch as one process does from the whole of it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from landcue.training.distributed import broadcast_parameters, gather_batch

WORKER = Path(__file__).with_name("joined_batch.py")
LIMIT = 180  # seconds, for a busy machine
NAMES = ("marc", "supcon", "proxy_anchor", "dhcl")


def start(rank, world, folder):
    out = folder / f"{rank}of{world}.pt"
    command = [sys.executable, str(WORKER), str(rank), str(world), str(folder / "meet"), str(out)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    if sys.platform.startswith("linux"):
        settings["GLOO_SOCKET_IFNAME"] = "lo"  # a host name that does not resolve does no harm
    return out, subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What this process alone, the first and the second of two processes computed."""
    folder = tmp_path_factory.mktemp("gather")
    started = [start(0, 2, folder), start(1, 2, folder)]
    try:
        for _, process in started:
            _, said = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said
    finally:
        for _, process in started:
            process.kill()
    spec = importlib.util.spec_from_file_location("joined_batch", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    return [worker.run_whole(), *(torch.load(out) for out, _ in started)]


def of(found, name):
    return [{k: v for k, v in part.items() if k.startswith(name + "/")} for part in found]


@pytest.mark.ddp
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one_with_the_joined_batch(found, name):
    single, *ranks = of(found, name)
    for rank in ranks:
        assert set(rank) == set(single)
        for key, value in single.items():
            torch.testing.assert_close(rank[key], value, rtol=1e-9, atol=1e-13, msg=key)
    gradients = [v for k, v in single.items() if "/model/" in k or "/objective/" in k]
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


@pytest.mark.ddp
def test_proxies_are_among_what_was_compared(found):
    for name, learns in (
        ("marc", False),
        ("supcon", False),
        ("proxy_anchor", True),
        ("dhcl", True),
    ):
        compared = sorted(k for k in found[0] if k.startswith(f"{name}/objective/"))
        wanted = [f"{name}/objective/metric.{s}.proxies" for s in ("embedding", "hash")]
        assert compared == (wanted if learns else [])
    assert "marc/term/balance" in found[0]


@pytest.mark.ddp
def test_labels_come_in_order_of_rank(found):
    single, *ranks = (part["labels"] for part in found)
    assert single.dtype == torch.uint8
    for labels in ranks:
        assert labels.dtype == single.dtype
        assert torch.equal(labels, single)


@pytest.mark.ddp
def test_unequal_batches_are_refused_by_every_process(found):
    for rank in found[1:]:
        assert "batches of 3, 4 images" in rank["refused"]
        assert "multiple" in rank["refused"]


def test_one_process_gathers_nothing():
    z = torch.ones(2, 3, requires_grad=True)
    y = torch.ones(2, 4)
    one, two = gather_batch(z, y)
    assert one is z
    assert two is y
    module = torch.nn.Linear(2, 2)
    before = module.weight.clone()
    broadcast_parameters(module)
    assert torch.equal(module.weight, before)

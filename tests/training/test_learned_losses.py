"""Losses with learned proxies in training: their rate, and a resume that keeps them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from landcue.errors import ModelError
from landcue.losses.statistics import LabelStatistics
from landcue.models.backbones import create_backbone
from landcue.models.encoder import NeuralEncoder, Outputs, build_config
from landcue.training.config import LossSection, OptimizerSection, make_config
from landcue.training.loop import train
from landcue.training.objective import Objective
from landcue.training.state import TrainingState, create_optimizer, load_state, save_state

LABELS = ("blue", "green", "red")
STATISTICS = LabelStatistics.from_labels(torch.eye(3))


def encoder():
    config = build_config("mobilenetv3_small_050", dim=16, n_bits=8, label_names=LABELS)
    return NeuralEncoder(config, create_backbone("mobilenetv3_small_050"))


def objective(name="proxy_anchor", **weights):
    section = LossSection(name=name, **weights)
    return Objective(section, STATISTICS, 16, 8)


def test_each_space_has_proxies_of_its_own_length():
    shapes = {k: tuple(v.shape) for k, v in objective().named_parameters()}
    assert sorted(shapes.values()) == [(3, 8), (3, 16)]
    assert [tuple(p.shape) for p in objective(hash=0.0).parameters()] == [(3, 16)]
    assert not list(objective("marc").parameters())


@pytest.mark.parametrize(("given", "rate"), [(None, 0.02), (0.5, 0.5)])
def test_proxies_learn_100_times_as_fast_as_the_backbone_without_decay(given, rate):
    model, learned = encoder(), objective()
    options = OptimizerSection(lr=2e-4, head_lr=1e-3, proxy_lr=given, weight_decay=0.1)
    optimizer = create_optimizer(model, options, learned.parameters())
    group = optimizer.param_groups[-1]
    assert [id(p) for p in group["params"]] == [id(p) for p in learned.parameters()]
    assert group["base_lr"] == pytest.approx(rate)
    assert group["weight_decay"] == 0
    held = [id(p) for g in optimizer.param_groups for p in g["params"]]
    wanted = [id(p) for m in (model, learned) for p in m.parameters()]
    assert sorted(held) == sorted(wanted)


def test_objective_sums_what_its_spaces_lose():
    g = torch.Generator().manual_seed(0)
    out = Outputs(
        features=torch.randn(6, 4, generator=g),
        embedding=F.normalize(torch.randn(6, 16, generator=g), dim=1),
        hash=torch.tanh(torch.randn(6, 8, generator=g)),
        logits=torch.randn(6, 3, generator=g),
    )
    y = torch.eye(3).repeat(2, 1)
    both = objective("dhcl", embedding=2.0, hash=0.5, quantization=0.0, label=0.0)
    total, terms = both(out, y)
    assert set(terms) == {"embedding", "hash"}
    assert float(total.detach()) == pytest.approx(2 * float(terms["embedding"])
                                                  + 0.5 * float(terms["hash"]))  # fmt: skip
    total.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in both.parameters())


def step(model, learned, optimizer):
    g = torch.Generator().manual_seed(0)
    model.train()
    loss, _ = learned(model(torch.randn(6, 3, 32, 32, generator=g)), torch.eye(3).repeat(2, 1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_state_restores_proxies_and_their_moments(tmp_path):
    model, learned = encoder(), objective()
    optimizer = create_optimizer(model, OptimizerSection(), learned.parameters())
    step(model, learned, optimizer)
    save_state(tmp_path / "s", model, learned, optimizer, TrainingState(1, None, []))
    other_model, other = encoder(), objective()
    other_optimizer = create_optimizer(other_model, OptimizerSection(), other.parameters())
    assert not torch.equal(next(learned.parameters()), next(other.parameters()))
    load_state(tmp_path / "s", other_model, other, other_optimizer)
    step(model, learned, optimizer)
    step(other_model, other, other_optimizer)
    for one, two in zip(learned.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_state_of_another_loss_is_refused(tmp_path):
    model, learned = encoder(), objective()
    optimizer = create_optimizer(model, OptimizerSection(), learned.parameters())
    save_state(tmp_path / "s", model, learned, optimizer, TrainingState(1, None, []))
    plain = objective("marc")
    with pytest.raises(ModelError, match="cannot be resumed"):
        load_state(tmp_path / "s", model, plain, create_optimizer(model, OptimizerSection()))


class Cut(Exception):
    pass


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("colors")
    rng = np.random.default_rng(0)
    lines = ["path,labels"]
    for i in range(36):
        has = [LABELS[i % 3]] + [LABELS[(i + 1) % 3]] * (i % 2)
        pixels = rng.integers(0, 60, (40, 40, 3))
        for name in has:
            pixels[..., 2 - LABELS.index(name)] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i:02}.png")
        lines.append(f"{i:02}.png," + ";".join(has))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("loss", ["proxy_anchor", "msc"])
def test_a_run_cut_after_an_epoch_ends_as_if_it_had_not_been(images, tmp_path, loss):
    config = make_config(
        {
            "data": {"root": str(images), "split": "files-80-20"},
            "model": {"backbone": "mobilenetv3_small_050", "init": "none", "image_size": 32,
                      "dim": 16, "n_bits": 8},
            "loss": {"name": loss},
            "optimizer": {"epochs": 2, "batch_size": 12},
            "loggers": ["csv"],
        }
    )  # fmt: skip
    whole = train(config, tmp_path / "whole")

    def cut(line):
        if line.startswith("epoch 1"):
            raise Cut

    with pytest.raises(Cut):
        train(config, tmp_path / "cut", message=cut)
    resumed = train(config, tmp_path / "cut")
    assert resumed.resumed_from == 1
    assert resumed.best_epoch == 2  # no validation part: the last epoch is what is compared
    assert resumed.fingerprint == whole.fingerprint

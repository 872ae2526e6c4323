"""The objective: which terms it has, which losses they are, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from landcue.errors import UsageError
from landcue.losses import (
    BCE,
    Asymmetric,
    BitBalance,
    LabelStatistics,
    Quantization,
    Softmax,
    create_loss,
)
from landcue.models.checkpoint import load_checkpoint
from landcue.models.encoder import Outputs
from landcue.training.config import LossSection, make_config
from landcue.training.loop import train
from landcue.training.objective import Objective

N, DIM, N_BITS, C = 8, 16, 6, 3
Y = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]]).repeat(2, 1)
STATISTICS = LabelStatistics.from_labels(Y)


def metric(name, dim=DIM, **options):
    return create_loss(name, options, STATISTICS, dim)


def value(tensor):
    return float(tensor.detach())


def outputs(n_bits=N_BITS, n_labels=C):
    g = torch.Generator().manual_seed(0)
    return Outputs(
        features=torch.randn(N, 4, generator=g),
        embedding=F.normalize(torch.randn(N, DIM, generator=g), dim=1).requires_grad_(),
        hash=torch.tanh(torch.randn(N, n_bits, generator=g)).requires_grad_(),
        logits=torch.randn(N, n_labels, generator=g).requires_grad_(),
    )


def objective(n_bits=N_BITS, **section):
    return Objective(LossSection(**section), STATISTICS, DIM, n_bits)


def terms(out, y=Y, **section):
    return {k: value(v) for k, v in objective(**section)(out, y)[1].items()}


def test_default_terms_are_the_losses_of_their_heads():
    out = outputs()
    total, got = objective()(out, Y)
    unit = F.normalize(out.hash, dim=1)
    wanted = {
        "embedding": metric("marc")(out.embedding, Y),
        "hash": metric("marc")(unit, Y),
        "quantization": Quantization()(out.hash),
        "label": BCE()(out.logits, Y),
    }
    assert {k: value(v) for k, v in got.items()} == {k: value(v) for k, v in wanted.items()}
    weights = {"embedding": 1, "hash": 1, "quantization": 0.1, "label": 1}
    assert value(total) == pytest.approx(sum(weights[k] * value(v) for k, v in wanted.items()))


def test_balance_counts_only_when_asked_for():
    out = outputs()
    assert "balance" not in terms(out)
    assert terms(out, balance=0.5)["balance"] == value(BitBalance()(out.hash))
    without, weighted = (objective(balance=weight)(out, Y)[0] for weight in (0.0, 0.5))
    added = float((weighted - without).detach())
    assert added == pytest.approx(0.5 * value(BitBalance()(out.hash.detach())), rel=1e-4)


def test_hash_may_have_a_loss_of_its_own():
    out = outputs()
    unit = F.normalize(out.hash, dim=1)
    own = objective(name="marc", options={"gamma": 1.0}, hash_name="dhcl")
    (proxies,) = own.parameters()
    assert tuple(proxies.shape) == (C, N_BITS)
    total, got = own(out, Y)
    assert value(got["embedding"]) == value(metric("marc", gamma=1.0)(out.embedding, Y))
    dhcl = metric("dhcl", dim=N_BITS)
    dhcl.load_state_dict({"proxies": proxies})
    assert value(got["hash"]) == value(dhcl(unit, Y))
    total.backward()
    assert float(proxies.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("section", "temperature"),
    [
        ({"options": {"temperature": 0.3}}, 0.3),
        ({"options": {"temperature": 0.3}, "hash_name": "supcon"}, 0.3),
        ({"options": {"temperature": 0.3}, "hash_options": {"temperature": 0.2}}, 0.2),
        ({"options": {"temperature": 0.3}, "hash_options": {}}, 0.1),
        ({"name": "marc", "options": {"gamma": 1}, "hash_name": "supcon"}, 0.1),
    ],
)
def test_options_of_the_hash_loss(section, temperature):
    out = outputs()
    wanted = metric("supcon", temperature=temperature)(F.normalize(out.hash, dim=1), Y)
    assert terms(out, **{"name": "supcon", **section})["hash"] == value(wanted)


def test_classification_is_chosen_by_name():
    out = outputs()
    options = {"gamma_negative": 2.0, "clip": 0.0}
    assert terms(out, classification="asymmetric")["label"] == value(Asymmetric()(out.logits, Y))
    assert terms(out, classification="asymmetric", classification_options=options)[
        "label"
    ] == value(Asymmetric(gamma_negative=2.0, clip=0.0)(out.logits, Y))
    y = F.one_hot(torch.arange(N) % C, C)
    got = terms(out, y, classification="softmax")["label"]
    assert got == value(Softmax()(out.logits, y))
    with pytest.raises(UsageError, match="exactly one label per image"):
        terms(out, classification="softmax")


def test_no_metric_loss_leaves_the_classification_alone():
    out = outputs()
    total, got = objective(name="none", balance=1.0)(out, Y)
    assert set(got) == {"label"}
    total.backward()
    assert out.embedding.grad is None
    assert out.hash.grad is None
    assert float(out.logits.grad.abs().sum()) > 0


def test_no_metric_loss_on_one_of_the_spaces():
    assert set(terms(outputs(), hash_name="none")) == {"embedding", "label"}
    got = terms(outputs(), name="none", hash_name="dhcl")
    assert set(got) == {"hash", "quantization", "label"}
    assert set(terms(outputs(), embedding=0.0)) == {"hash", "quantization", "label"}


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"name": "nine"}, "unknown loss 'nine' .did you mean 'none'"),
        ({"name": "mark"}, "did you mean 'marc'"),
        ({"hash_name": "dhlc"}, "unknown loss 'dhlc' .did you mean 'dhcl'"),
        ({"hash_options": {"gama": 1}}, "did you mean 'gamma'"),
        ({"name": "none", "options": {"gamma": 1}}, "loss none has no option 'gamma'"),
        ({"hash_name": "none", "hash_options": {"gamma": 1}}, "loss none has no option 'gamma'"),
        ({"classification": "bcs"}, "did you mean 'bce'"),
        ({"classification_options": {"clip": 0.1}}, "bce has no option 'clip'"),
    ],
)
def test_mistakes_are_named(section, word):
    with pytest.raises(UsageError, match=word):
        objective(**section)


@pytest.mark.parametrize("section", [{"name": "none"}, {"embedding": 0.0, "hash": 0.0}])
def test_nothing_to_learn_is_refused(section):
    with pytest.raises(UsageError, match="nothing is left to learn"):
        objective(**section)(outputs(n_labels=0), Y)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("head", ["embedding", "hash", "logits"])
def test_outputs_that_are_not_finite_give_a_loss_that_is_none(head, value):
    out = outputs()
    with torch.no_grad():
        getattr(out, head)[2, 1] = value
    total, got = objective()(out, Y)
    total.backward()
    assert math.isnan(float(total.detach()))
    assert got == {}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """36 images in three folders, each with a color of its own."""
    root = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    for i in range(36):
        pixels = rng.integers(0, 60, (40, 40, 3))
        pixels[..., i % 3] += 150
        folder = root / ("red", "green", "blue")[i % 3]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02}.png")
    return root


@pytest.mark.parametrize("classification", ["bce", "asymmetric", "softmax"])
def test_training_by_classification_alone_learns_the_labels(images, tmp_path, classification):
    config = make_config(
        {
            "data": {"root": str(images), "split": "files-80-20"},
            "model": {"backbone": "mobilenetv3_small_050", "init": "none", "image_size": 32,
                      "dim": 16, "n_bits": 8, "retrieval": "features"},
            "loss": {"name": "none", "classification": classification},
            "optimizer": {"epochs": 2, "batch_size": 12, "lr": 0.003},
            "loggers": ["csv"],
        }
    )  # fmt: skip
    train(config, tmp_path / "run")
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    names = header.split(",")
    assert "loss/label" in names
    assert not {"loss/embedding", "loss/hash", "loss/quantization"} & set(names)
    losses = [float(row.split(",")[names.index("loss/label")]) for row in rows]
    assert losses[-1] < losses[0]
    encoder = load_checkpoint(tmp_path / "run").encoder
    encoded = encoder.encode(np.zeros((2, 32, 32, 3), np.uint8))
    assert encoded.embedding.shape == (2, encoder.n_features)

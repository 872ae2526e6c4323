"""Averaged weights, and calibrated label probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize_scalar

from landcue.errors import DataError, UsageError
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.training import average_checkpoints, fit_label_temperatures, train
from landcue.training.averages import calibration_errors, update_average

RNG = np.random.default_rng(0)


def test_the_average_follows_the_model_with_its_decay():
    torch.manual_seed(0)
    model, averaged = (torch.nn.BatchNorm1d(3) for _ in range(2))
    expected = averaged.weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            model.weight += torch.randn(3)
            model.num_batches_tracked += 1
        update_average(averaged, model, 0.7)
        expected = 0.7 * expected + 0.3 * model.weight.detach()
        torch.testing.assert_close(averaged.weight.detach(), expected)
        assert int(averaged.num_batches_tracked) == step + 1


def entropy(x, y, t):
    z = x / t
    return float(np.mean(np.logaddexp(0, z) - y * z))


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_temperatures_have_the_least_cross_entropy(sharpness):
    honest = RNG.normal(size=(500, 3))
    labels = (RNG.random((500, 3)) < 1 / (1 + np.exp(-honest))).astype(np.uint8)
    found = fit_label_temperatures((sharpness * honest).astype(np.float32), labels)
    for c, t in enumerate(found):
        x = sharpness * honest[:, c].astype(np.float32)
        best = minimize_scalar(lambda t, x=x, y=labels[:, c]: entropy(x, y, t), (0.1, 1.0))
        assert t == pytest.approx(best.x, rel=1e-3)
        assert t == pytest.approx(sharpness, rel=0.5)


def test_a_label_that_all_or_none_carry_takes_the_common_temperature():
    logits = RNG.normal(size=(200, 4)) * 3
    labels = (logits + RNG.normal(size=(200, 4)) * 3 > 0).astype(np.uint8)
    labels[:, 1], labels[:, 3] = 0, 1
    found = fit_label_temperatures(logits, labels)
    best = minimize_scalar(lambda t: entropy(logits.ravel(), labels.ravel(), t), (0.5, 5.0))
    assert found[1] == found[3] == pytest.approx(best.x, rel=1e-3)
    assert found[0] != found[1]


def test_exclusive_labels_have_one_temperature():
    logits = RNG.normal(size=(300, 4)) * 4
    chances = np.exp(logits / 4) / np.exp(logits / 4).sum(1, keepdims=True)
    classes = np.array([RNG.choice(4, p=p) for p in chances])
    found = fit_label_temperatures(logits, np.eye(4)[classes], exclusive=True)
    assert len(set(found)) == 1

    def cross_entropy(t):
        z = logits / t
        return np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(300), classes])

    assert found[0] == pytest.approx(minimize_scalar(cross_entropy, (1.0, 8.0)).x, rel=1e-3)


def test_separable_labels_stay_in_range():
    found = fit_label_temperatures(np.array([[1.0], [-1.0]]), [[1], [0]])
    assert found == pytest.approx((0.05,))


@pytest.mark.parametrize(
    ("logits", "labels", "error", "word"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2)), UsageError, "differ in shape"),
        (np.zeros((0, 3)), np.zeros((0, 3)), DataError, "no image"),
        (np.array([[np.nan]]), np.array([[1]]), UsageError, "not finite"),
    ],
)
def test_what_cannot_be_calibrated_is_named(logits, labels, error, word):
    with pytest.raises(error, match=word):
        fit_label_temperatures(logits, labels)


def test_calibration_errors_on_a_table():
    found = np.array([[0.75], [0.75], [0.72], [0.05]])
    cross_entropy, gap = calibration_errors(found, [[1], [1], [0], [0]])
    assert cross_entropy == pytest.approx(-np.log([0.75, 0.75, 0.28, 0.95]).mean())
    assert gap == pytest.approx((abs(2.22 - 2) + 0.05) / 4)


@pytest.mark.parametrize("temperatures", [(1.0,), (1.0, -2.0), (1.0, float("nan"))])
def test_temperatures_that_do_not_fit_are_refused(temperatures):
    with pytest.raises(UsageError, match="label temperature"):
        build_config("resnet10t", label_names=("a", "b"), label_temperatures=temperatures)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("colors")
    lines = ["path,labels"]
    for i in range(40):
        name = ("blue", "green", "red")[i % 3]
        pixels = RNG.integers(0, 90, (40, 40, 3))
        pixels[..., 2 - i % 3] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i:02}.png")
        lines.append(f"{i:02}.png,{name}" + (";bright" if i % 4 == 0 else ""))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def values(images, **over):
    return {
        "data": {"root": str(images), "split": "per-class-60-20-20-seed1"},
        "model": {"backbone": "mobilenetv3_small_050", "init": "none", "image_size": 32,
                  "dim": 16, "n_bits": 8},
        "optimizer": {"epochs": 2, "batch_size": 8} | over.pop("optimizer", {}),
        "loggers": ["csv"],
    } | over  # fmt: skip


class Cut(Exception):
    pass


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """Train with averaged weights: once undisturbed, once cut off after the first epoch."""
    out, config = tmp_path_factory.mktemp("runs"), values(images, optimizer={"ema": 0.5})

    def cut(line):
        if line.startswith("epoch 1"):
            raise Cut

    train(config, out / "whole")
    with pytest.raises(Cut):
        train(config, out / "cut", message=cut)
    train(config, out / "cut")
    train(values(images), out / "plain")
    return out


def test_averaged_weights_are_saved_and_resumed_exactly(runs):
    whole, cut, plain = (load_checkpoint(runs / name) for name in ("whole", "cut", "plain"))
    assert cut.encoder.fingerprint == whole.encoder.fingerprint != plain.encoder.fingerprint


def test_a_run_says_how_its_probabilities_were_calibrated(runs):
    made = load_checkpoint(runs / "plain")
    encoder, note = made.encoder, made.provenance["calibration"]
    assert len(encoder.config.label_temperatures) == 4
    assert note["part"] == "val"
    assert note["after"]["cross_entropy"] <= note["before"]["cross_entropy"] + 1e-9
    logits = torch.tensor([[3.0, -1.0, 0.0, 2.0]])
    expected = torch.sigmoid(logits / torch.tensor(encoder.config.label_temperatures))
    torch.testing.assert_close(encoder.label_scores(logits), expected)
    card = (runs / "plain" / "README.md").read_text()
    assert "calibrated with a temperature per label on the val part" in card


def test_a_run_without_validation_part_says_so(images, tmp_path):
    data = {"root": str(images), "split": "files-80-20"}
    train(values(images, data=data, optimizer={"epochs": 1}), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").encoder.config.label_temperatures == ()
    assert "not calibrated" in (tmp_path / "run" / "README.md").read_text()


def test_a_soup_is_the_mean_of_its_runs(runs, tmp_path):
    folders = [runs / "whole", runs / "plain"]
    mark = average_checkpoints(folders, tmp_path / "soup")
    soup = load_checkpoint(tmp_path / "soup").encoder
    assert soup.fingerprint == mark
    states = [load_checkpoint(folder).encoder.state_dict() for folder in folders]
    for name, tensor in soup.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)
    assert soup.config.label_temperatures == ()
    made, parts = load_checkpoint(tmp_path / "soup"), [load_checkpoint(f) for f in folders]
    assert made.provenance["training"]["average_of"] == [p.encoder.fingerprint for p in parts]
    for key in ("dataset", "data_id", "split", "label_statistics"):
        assert made.provenance[key] == parts[0].provenance[key]


def test_an_average_over_splits_does_not_claim_one_of_them(runs, images, tmp_path):
    data = {"root": str(images), "split": "per-class-70-10-20-seed2"}
    train(values(images, data=data), tmp_path / "other")
    average_checkpoints([runs / "plain", tmp_path / "other"], tmp_path / "soup")
    made = load_checkpoint(tmp_path / "soup")
    assert made.provenance["dataset"] == "folder"
    assert not {"split", "data_id", "label_statistics"} & set(made.provenance)
    assert "split `not recorded`" in (tmp_path / "soup" / "README.md").read_text()


def test_runs_of_different_models_have_no_average(runs, tmp_path):
    other = NeuralEncoder(build_config("mobilenetv3_small_050", dim=8, image_size=32))
    save_checkpoint(tmp_path / "other", other, {"training": {"finished": True}})
    with pytest.raises(UsageError, match="another model"):
        average_checkpoints([runs / "plain", tmp_path / "other"], tmp_path / "soup")
    with pytest.raises(UsageError, match="at least two"):
        average_checkpoints([runs / "plain"], tmp_path / "soup")

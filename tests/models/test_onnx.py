from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from landcue.demo.scenes import THEMES, render_chip
from landcue.errors import DataError, ModelError, UsageError
from landcue.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from landcue.models.encoder import ModelConfig, NeuralEncoder
from landcue.models.export import export_onnx, float32_outputs
from landcue.models.fidelity import compare_encodings
from landcue.models.load import load_model
from landcue.models.onnx import OnnxEncoder, describe
from landcue.types import Encoder, Encoding, Record

LABELS = ("water", "trees")


def quiet(_: str) -> None:
    pass


def make(backbone: str = "test_resnet", **settings) -> Checkpoint:
    torch.manual_seed(0)
    settings = {"n_bits": 24, **settings}
    config = ModelConfig(backbone, dim=16, label_names=LABELS, image_size=64, **settings)
    encoder = NeuralEncoder(config).eval()
    encoder.fingerprint = "f" * 64
    return Checkpoint(encoder, {"dataset": "synthetic"})


@pytest.fixture(scope="module")
def chips(tmp_path_factory) -> list[Record]:
    from PIL import Image

    folder = tmp_path_factory.mktemp("chips")
    records = []
    for i in range(24):
        image, _ = render_chip(i, list(THEMES)[i % len(THEMES)], 64)
        path = folder / f"{i:02}.png"
        Image.fromarray(image).save(path)
        records.append(Record(path.stem, path, (LABELS[i % 2],)))
    return records


@pytest.fixture(scope="module")
def exported_file(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "m.onnx"
    export_onnx(make(), out, message=quiet)
    return out


@pytest.fixture(scope="module")
def exported(exported_file) -> tuple[Checkpoint, OnnxEncoder]:
    return make(), OnnxEncoder(exported_file)


def pixels(n: int) -> np.ndarray:
    return np.stack([render_chip(i, "city", 64)[0] for i in range(n)])


@pytest.mark.parametrize("n", [1, 3, 7])
def test_export_computes_what_torch_computes(exported, n):
    checkpoint, encoder = exported
    assert isinstance(encoder, Encoder)
    images = pixels(n)
    out = encoder.outputs(images)
    for name, ours in zip(
        ("embedding", "hash", "label_scores"),
        float32_outputs(checkpoint.encoder, torch.from_numpy(images)),
        strict=True,
    ):
        np.testing.assert_allclose(out[name], ours.numpy(), atol=1e-5)
    encoding = encoder.encode(images)
    assert encoding.code.shape == (n, 3)
    np.testing.assert_allclose(np.linalg.norm(encoding.embedding, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_and_batches_do_not_change_a_bit(exported, exported_file, threads):
    images = pixels(23)
    together = OnnxEncoder(exported_file, threads=threads).outputs(images)
    for name, values in together.items():
        alone = [exported[1].outputs(images[i : i + 1])[name] for i in range(len(images))]
        np.testing.assert_array_equal(values, np.concatenate(alone), err_msg=name)


def test_it_says_what_it_is(exported):
    checkpoint, encoder = exported
    assert (encoder.dim, encoder.n_bits, encoder.label_names) == (16, 24, LABELS)
    assert encoder.card.source == checkpoint.encoder.fingerprint
    assert encoder.card.provenance == {"dataset": "synthetic"}
    assert len(encoder.fingerprint) == 64
    assert encoder.fingerprint != checkpoint.encoder.fingerprint
    assert "float32" in describe(encoder.card)


def test_every_setting_is_exported(tmp_path):
    """That is, at values that differ from those of the other tests; each changes an output."""
    settings = {"retrieval": "features", "n_bits": 0, "pooling": "avgmax"}
    checkpoint = make(**settings, exclusive_labels=True, channel_order="bgr")
    export_onnx(checkpoint, tmp_path / "m.onnx", message=quiet)
    encoder = OnnxEncoder(tmp_path / "m.onnx")
    images = pixels(2)
    embedding, _, scores = float32_outputs(checkpoint.encoder, torch.from_numpy(images))
    assert encoder.dim == checkpoint.encoder.dim
    found = encoder.encode(images)
    np.testing.assert_allclose(found.embedding, embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.label_scores, scores.numpy(), atol=1e-5)
    assert found.code.shape == (2, 0)


def test_int8_is_measured_on_other_images_than_it_is_calibrated_on(tmp_path, chips):
    checkpoint = make()
    out = tmp_path / "m.onnx"
    card = export_onnx(
        checkpoint, out, int8=True, records=chips, label_names=LABELS, calibration_images=8,
        message=quiet,
    )  # fmt: skip
    assert card.precision == "int8"
    assert card.fidelity["images"] == 16
    assert card.fidelity["cosine"]["mean"] > 0.9
    retrieval = card.fidelity["retrieval"]["embedding"]
    assert retrieval["loss"] == pytest.approx(1 - retrieval["exported"] / retrieval["original"])
    opened = OnnxEncoder(out)
    assert opened.card == card
    measured = [record for i, record in enumerate(chips) if i % 3]
    images = np.stack([_read(record) for record in measured])
    again = compare_encodings(
        checkpoint.encoder.encode(images), opened.encode(images), measured, LABELS
    )
    assert again["cosine"]["mean"] == pytest.approx(card.fidelity["cosine"]["mean"], abs=1e-3)
    assert "lost" in describe(card) or "gained" in describe(card)


def test_int8_takes_any_number_of_images(tmp_path, chips):
    """Also one that is no multiple of a batch, as where a file is broken."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    records = [*chips, *chips, Record("broken", broken)][-38:]
    card = export_onnx(make(), tmp_path / "m.onnx", int8=True, records=records, message=quiet)
    assert card.fidelity["images"] == 37
    assert card.fidelity["cosine"]["mean"] > 0.9


def _read(record: Record) -> np.ndarray:
    from landcue.data.images import read_image

    return read_image(record.path)


def test_fidelity_by_hand():
    first = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    codes = np.array([[0b0001], [0b0011], [0b1000]], np.uint8)
    original = Encoding(first, codes, 4, np.empty((3, 0), np.float32))
    turned = first[:, ::-1].copy()
    other = Encoding(turned, codes ^ np.uint8(0b0001), 4, np.empty((3, 0), np.float32))
    records = [Record(str(i), Path(str(i)), ("a",) if i < 2 else ("b",)) for i in range(3)]
    found = compare_encodings(original, other, records, ["a", "b"])
    assert found["cosine"] == {"mean": pytest.approx(0.32), "least": 0.0}
    assert found["flipped_bits"] == 0.25
    assert found["recall@20"] == 1.0  # with 3 images both others are always found
    same = compare_encodings(original, original, records, ["a", "b"])
    assert same["retrieval"]["embedding"]["loss"] == 0
    unlabeled = [Record(str(i), Path(str(i))) for i in range(3)]
    assert "retrieval" not in compare_encodings(original, other, unlabeled, ["a", "b"])


def test_bad_input(tmp_path, exported):
    checkpoint, encoder = exported
    with pytest.raises(UsageError, match=r"NAME\.onnx"):
        export_onnx(checkpoint, tmp_path / "m.bin", message=quiet)
    with pytest.raises(UsageError, match="--calibrate"):
        export_onnx(checkpoint, tmp_path / "m.onnx", int8=True, message=quiet)
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match="fewer than 2 images"):
        export_onnx(
            checkpoint, tmp_path / "m.onnx", records=[Record("a", broken)] * 3, message=quiet
        )
    assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(UsageError, match=r"uint8 images \[h, w, 3\]"):
        encoder.encode(np.zeros((1, 32, 32, 4), np.uint8))
    with pytest.raises(ModelError, match="cannot be read"):
        OnnxEncoder(tmp_path / "none.onnx")
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x00garbage" * 100)
    with pytest.raises(ModelError, match="no usable ONNX model"):
        OnnxEncoder(garbage)


def test_other_onnx_files_are_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = tmp_path / "other.onnx"
    onnx.save(model, file)
    with pytest.raises(ModelError, match="not exported by LandCue"):
        OnnxEncoder(file)
    for text in ("{", json.dumps({"format": 1}), json.dumps({"format": 99})):
        helper.set_model_props(model, {"landcue": text})
        onnx.save(model, file)
        with pytest.raises(ModelError, match="broken description"):
            OnnxEncoder(file)


def test_load_model_finds_the_runtime(tmp_path, exported, exported_file):
    checkpoint, _ = exported
    file = exported_file
    run = tmp_path / "run"
    save_checkpoint(run, checkpoint.encoder, {"dataset": "x"})
    assert load_model(run).fingerprint == load_checkpoint(run).encoder.fingerprint
    with pytest.raises(ModelError, match="landcue export"):
        load_model(run, runtime="onnx")
    (run / "model.onnx").write_bytes(file.read_bytes())
    assert isinstance(load_model(run, runtime="onnx"), OnnxEncoder)
    assert not isinstance(load_model(run), OnnxEncoder)
    assert isinstance(load_model(run / "model.onnx"), OnnxEncoder)
    alone = tmp_path / "alone"
    alone.mkdir()
    (run / "model.onnx").rename(alone / "model.onnx")
    assert isinstance(load_model(alone), OnnxEncoder)
    with pytest.raises(UsageError, match="--runtime onnx"):
        load_model(alone, runtime="torch")
    with pytest.raises(UsageError, match="unknown runtime"):
        load_model(run, runtime="onx")
    with pytest.raises(UsageError, match="device"):
        load_model(run, device="cuda:99")
    with pytest.raises(UsageError, match="on the CPU"):
        load_model(alone, device="cuda")

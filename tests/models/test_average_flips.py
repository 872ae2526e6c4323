from __future__ import annotations

import numpy as np
import pytest
import torch

from landcue.models.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
MIRRORED = {"columns": IMAGES[:, :, ::-1], "rows": IMAGES[:, ::-1], "both": IMAGES[:, ::-1, ::-1]}


def model(**options) -> NeuralEncoder:
    torch.manual_seed(0)
    settings = {"image_size": 48, "dim": 8, "n_bits": 12, "label_names": ("a", "b", "c")}
    return NeuralEncoder(build_config("resnet10t", **{**settings, **options})).eval()


def float32(encoder: NeuralEncoder, images: np.ndarray):
    with torch.inference_mode():
        x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)
        return encoder(encoder.normalize(x))


def test_outputs_are_means_before_normalization_and_tanh():
    encoder = model(average_flips=True)
    plain = model()
    plain.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        features = [float32(plain, x).features for x in (IMAGES, *MIRRORED.values())]
        projected = sum(plain.projection(f) for f in features) / 4
        hashed = sum(plain.hash(f) for f in features) / 4
        logits = sum(plain.label(f) for f in features) / 4
    found = float32(encoder, IMAGES)
    torch.testing.assert_close(found.features, sum(features) / 4)
    unit = projected / projected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.embedding, unit)
    torch.testing.assert_close(found.hash, torch.tanh(hashed))
    torch.testing.assert_close(found.logits, logits)
    assert not torch.allclose(found.embedding, float32(plain, IMAGES).embedding, atol=1e-4)


@pytest.mark.parametrize("axes", MIRRORED)
def test_a_mirrored_image_is_encoded_alike(axes):
    encoder = model(average_flips=True)
    ours, theirs = float32(encoder, IMAGES), float32(encoder, MIRRORED[axes])
    for name in ("features", "embedding", "hash", "logits"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), msg=name)
    plain = float32(model(), IMAGES), float32(model(), MIRRORED[axes])
    assert not torch.allclose(plain[0].embedding, plain[1].embedding, atol=1e-4)


def test_training_steps_see_one_view():
    torch.manual_seed(1)
    x = torch.randn(4, 3, 48, 48)
    flipping, plain = model(average_flips=True).train(), model().train()
    torch.testing.assert_close(flipping(x), plain(x))


def test_it_is_part_of_the_checkpoint_and_of_new_fingerprints_only(tmp_path):
    flipping, plain = model(average_flips=True), model()
    mark = save_checkpoint(tmp_path / "run", flipping, {})
    assert mark != fingerprint(plain.config, plain.state_dict())
    loaded = load_checkpoint(tmp_path / "run").encoder
    assert loaded.config.average_flips
    np.testing.assert_array_equal(
        loaded.encode(IMAGES).embedding, flipping.encode(IMAGES).embedding
    )


def test_an_exported_model_averages_too(tmp_path):
    pytest.importorskip("onnxruntime")
    from landcue.models.checkpoint import Checkpoint
    from landcue.models.onnx.export import export
    from landcue.models.onnx.runtime import OnnxEncoder

    encoder = model(average_flips=True)
    encoder.fingerprint = "f" * 64
    export(Checkpoint(encoder, {"dataset": "synthetic"}), tmp_path / "m.onnx", say=lambda _: None)
    found = OnnxEncoder(tmp_path / "m.onnx").outputs(IMAGES)
    expected = float32(encoder, IMAGES)
    np.testing.assert_allclose(found["embedding"], expected.embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["hash"], expected.hash.numpy(), atol=1e-5)

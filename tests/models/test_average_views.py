from __future__ import annotations

import numpy as np
import pytest
import torch

from landcue.errors import UsageError
from landcue.models.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
MIRRORED = {"columns": IMAGES[:, :, ::-1], "rows": IMAGES[:, ::-1], "both": IMAGES[:, ::-1, ::-1]}
TURNED = {f"turned {k}": np.rot90(x, k, (1, 2)) for k in (1, 3) for x in (IMAGES,)} | {
    f"mirrored and turned {k}": np.rot90(IMAGES[:, :, ::-1], k, (1, 2)) for k in (1, 3)
}
VIEWS = {4: MIRRORED, 8: MIRRORED | TURNED}


class Patches(torch.nn.Module):
    """One convolution, whose features change when an image is mirrored or turned."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, self.num_features, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.patches(x).relu().mean((2, 3))


def model(backbone: torch.nn.Module | None = None, **options) -> NeuralEncoder:
    torch.manual_seed(0)
    settings = {"image_size": 48, "dim": 8, "n_bits": 12, "label_names": ("a", "b", "c")}
    config = build_config("test_resnet", **{**settings, **options})
    return NeuralEncoder(config, backbone).eval()


def float32(encoder: NeuralEncoder, images: np.ndarray):
    with torch.inference_mode():
        x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)
        return encoder(encoder.normalize(x))


@pytest.mark.parametrize("n_views", VIEWS)
def test_outputs_are_means_before_normalization_and_tanh(n_views):
    encoder = model(average_views=n_views)
    plain = model()
    plain.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        features = [float32(plain, x).features for x in (IMAGES, *VIEWS[n_views].values())]
        projected = sum(plain.projection(f) for f in features) / n_views
        hashed = sum(plain.hash(f) for f in features) / n_views
        logits = sum(plain.label(f) for f in features) / n_views
    found = float32(encoder, IMAGES)
    torch.testing.assert_close(found.features, sum(features) / n_views)
    unit = projected / projected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.embedding, unit)
    torch.testing.assert_close(found.hash, torch.tanh(hashed))
    torch.testing.assert_close(found.logits, logits)
    assert not torch.allclose(found.embedding, float32(plain, IMAGES).embedding, atol=1e-4)


@pytest.mark.parametrize(("n_views", "view"), [(n, v) for n, views in VIEWS.items() for v in views])
def test_a_mirrored_or_turned_image_is_encoded_alike(n_views, view):
    encoder, other = model(average_views=n_views), VIEWS[n_views][view]
    ours, theirs = float32(encoder, IMAGES), float32(encoder, other)
    for name in ("features", "embedding", "hash", "logits"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), msg=name)
    plain = float32(model(), IMAGES), float32(model(), other)
    assert not torch.allclose(plain[0].embedding, plain[1].embedding, atol=1e-4)


def test_training_steps_see_one_view():
    torch.manual_seed(1)
    x = torch.randn(4, 3, 48, 48)
    averaging, plain = model(average_views=8).train(), model().train()
    torch.testing.assert_close(averaging(x), plain(x))


def test_it_is_part_of_the_checkpoint_and_of_new_fingerprints_only(tmp_path):
    averaging, plain = model(average_views=8), model()
    mark = save_checkpoint(tmp_path / "run", averaging, {})
    assert mark != fingerprint(plain.config, plain.state_dict())
    loaded = load_checkpoint(tmp_path / "run").encoder
    assert loaded.config.average_views == 8
    np.testing.assert_array_equal(
        loaded.encode(IMAGES).embedding, averaging.encode(IMAGES).embedding
    )


def test_an_exported_model_averages_too(tmp_path):
    pytest.importorskip("onnxruntime")
    from landcue.models.checkpoint import Checkpoint
    from landcue.models.export import export_onnx
    from landcue.models.onnx import OnnxEncoder

    torch.manual_seed(0)
    patches = Patches()
    encoder = model(patches, average_views=8)
    encoder.fingerprint = "f" * 64
    export_onnx(
        Checkpoint(encoder, {"dataset": "synthetic"}), tmp_path / "m.onnx", message=lambda _: None
    )
    found = OnnxEncoder(tmp_path / "m.onnx").outputs(IMAGES)
    expected = float32(encoder, IMAGES)
    np.testing.assert_allclose(found["embedding"], expected.embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["hash"], expected.hash.numpy(), atol=1e-5)
    one_view = float32(model(patches), IMAGES).embedding.numpy()
    assert np.abs(found["embedding"] - one_view).max() > 1e-3


def test_other_numbers_of_views_are_refused():
    with pytest.raises(UsageError, match="average_views must be 1, 4 or 8, not 2"):
        model(average_views=2)

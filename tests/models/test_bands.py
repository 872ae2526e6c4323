"""Encoders for other bands than red, green and blue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from landcue.errors import UsageError
from landcue.models.backbones import create_backbone, load_backbone_weights, normalization
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.models.encoder import ModelConfig, NeuralEncoder, build_config


@pytest.mark.parametrize("bands", [1, 2, 4, 12])
def test_encoder_of_any_bands_survives_its_checkpoint(tmp_path, bands):
    torch.manual_seed(0)
    model = NeuralEncoder(build_config("resnet18", in_chans=bands, image_size=64))
    image = np.random.default_rng(0).integers(0, 256, (100, 80, bands), np.uint8)
    pixels = [model.prepare(image), model.prepare(image[::-1])]
    assert pixels[0].shape == (64, 64, bands)
    before = model.encode(pixels)
    save_checkpoint(tmp_path / "run", model, {})
    again = load_checkpoint(tmp_path / "run").encoder
    np.testing.assert_array_equal(again.encode(pixels).embedding, before.embedding)
    assert not np.array_equal(before.embedding[0], before.embedding[1])


def test_every_band_counts():
    torch.manual_seed(0)
    model = NeuralEncoder(build_config("resnet18", in_chans=5, image_size=64))
    image = np.full((64, 64, 5), 90, np.uint8)
    plain = model.encode([image]).embedding
    for band in range(5):
        other = image.copy()
        other[:, :32, band] = 250
        assert np.abs(model.encode([other]).embedding - plain).max() > 1e-4


def test_images_of_other_bands_are_refused():
    model = NeuralEncoder(build_config("resnet18", in_chans=4, image_size=64))
    with pytest.raises(UsageError, match=r"need uint8 images \[h, w, 4\].*\[64, 64, 3\]"):
        model.encode([np.zeros((64, 64, 3), np.uint8)])


def test_color_weights_answer_alike_for_repeated_colors(tmp_path):
    """Six bands that repeat three colors give what the colors alone give."""
    torch.manual_seed(1)
    colors = create_backbone("resnet18").eval()
    save_file(colors.state_dict(), tmp_path / "w.safetensors")
    bands = create_backbone("resnet18", in_chans=6).eval()
    load_backbone_weights(bands, tmp_path / "w.safetensors")
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(bands(x.repeat(1, 2, 1, 1)), colors(x), rtol=1e-4, atol=1e-4)


def test_normalization_follows_the_weights():
    colors = normalization("resnet18")
    seven = normalization("resnet18", 7)
    assert seven.mean == (*colors.mean, *colors.mean, colors.mean[0])
    assert normalization("resnet18", 1).std == pytest.approx((sum(colors.std) / 3,))


def test_what_does_not_fit():
    with pytest.raises(UsageError, match="mobilenetv2_folded takes 3 bands, not 4"):
        create_backbone("mobilenetv2_folded", in_chans=4)
    with pytest.raises(UsageError, match="mean and std have 3 and 3 values, in_chans is 4"):
        ModelConfig("resnet18", in_chans=4)
    with pytest.raises(UsageError, match="in_chans must lie in"):
        ModelConfig("resnet18", in_chans=0, mean=(), std=())

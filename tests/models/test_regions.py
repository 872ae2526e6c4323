from __future__ import annotations

import numpy as np
import pytest
import torch

from landcue.codes.regions import encode_crop
from landcue.errors import UsageError
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.load import load_model
from landcue.models.locations import similar_regions
from landcue.models.regions import RegionEncoder


@pytest.fixture(scope="module")
def builtin():
    return load_model("builtin")


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3)).astype(np.uint8)


def stripes(size):
    pixels = np.full((size, size, 3), 90, np.uint8)
    pixels[:, np.arange(size) % 8 < 2] = 240
    pixels[np.arange(size) % 24 < 3] = 60
    return pixels


def grass(size):
    rng = np.random.default_rng(3)
    return np.clip(rng.normal((70, 110, 60), 12, (size, size, 3)), 0, 255).astype(np.uint8)


def embedding(encoder, image):
    encoder.eval()
    with torch.inference_mode():
        x = torch.from_numpy(image).permute(2, 0, 1)[None]
        out = encoder(encoder.normalize(x))
    space = out.embedding if encoder.config.retrieval == "embedding" else out.features
    return torch.nn.functional.normalize(space, dim=1)[0].numpy()


@pytest.mark.parametrize("quarter", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_quarter_that_holds_the_texture_lights_up(builtin, quarter):
    image = grass(192)
    row, column = quarter[0] * 96, quarter[1] * 96
    image[row : row + 96, column : column + 96] = stripes(96)
    query = builtin.encode(stripes(192)[None]).embedding
    found = similar_regions(builtin, image, query)
    assert found.parts.shape == (6, 6)
    ends = (slice(0, 2), slice(4, 6))
    corners = {(i, j): (ends[i], ends[j]) for i in (0, 1) for j in (0, 1)}
    across = corners[1 - quarter[0], 1 - quarter[1]]
    for grid in (found.parts, found.cosines):
        means = {place: grid[cells].mean() for place, cells in corners.items()}
        assert max(means, key=means.__getitem__) == quarter
        assert grid[corners[quarter]].min() > grid[across].max()


def test_parts_of_average_pooling_have_the_similarity_as_their_mean(builtin):
    image, other = noise(192, 1), grass(192)
    trained = load_model("builtin", runtime="torch")
    query = embedding(trained, other)
    found = similar_regions(builtin, image, query)
    again = similar_regions(trained, image, query)
    assert np.allclose(found.parts, again.parts, atol=1e-5)
    assert np.allclose(found.cosines, again.cosines, atol=1e-5)
    assert found.similarity == pytest.approx(float(embedding(trained, image) @ query), abs=1e-5)
    assert found.parts.mean() == pytest.approx(found.similarity, abs=1e-5)
    assert found.cosines.min() >= -1 - 1e-5
    assert found.cosines.max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("backbone", "retrieval"),
    [
        ("resnet10t", "embedding"),
        ("mobilenetv3_small_050", "features"),
        ("bn_inception", "features"),
    ],
)
def test_other_backbones_split_too(backbone, retrieval):
    torch.manual_seed(0)
    config = build_config(
        backbone, dim=8, projection="linear", image_size=96, retrieval=retrieval, n_bits=0
    )
    encoder = NeuralEncoder(config).eval()
    query = embedding(encoder, noise(96, 2))
    found = similar_regions(encoder, noise(96, 1), query)
    assert found.parts.size == 9
    assert found.similarity == pytest.approx(
        float(embedding(encoder, noise(96, 1)) @ query), abs=1e-4
    )
    assert found.parts.mean() == pytest.approx(found.similarity, rel=2e-3)


def test_a_hidden_layer_or_maxima_still_give_a_grid():
    torch.manual_seed(0)
    config = build_config("resnet10t", dim=8, image_size=96, pooling="avgmax")
    encoder = NeuralEncoder(config).eval()
    query = embedding(encoder, noise(96, 2))
    found = similar_regions(encoder, noise(96, 1), query)
    assert found.parts.shape == (3, 3)
    assert found.similarity == pytest.approx(
        float(embedding(encoder, noise(96, 1)) @ query), abs=1e-4
    )


def test_what_has_no_feature_map_or_size_is_refused(builtin):
    with pytest.raises(UsageError, match="256 numbers"):
        similar_regions(builtin, noise(192), np.ones(3, np.float32))
    with pytest.raises(UsageError, match=r"\[192, 192, 3\]"):
        similar_regions(builtin, noise(96), np.ones(256, np.float32))
    config = build_config("vit_tiny_patch16_224", dim=8, image_size=64, n_bits=0)
    with pytest.raises(UsageError, match="no feature map"):
        similar_regions(NeuralEncoder(config), noise(64), np.ones(8, np.float32))


def test_a_crop_is_the_mean_of_its_turns_mirrored_and_half_as_large(builtin):
    crop = stripes(192)
    crop[:60] = 200
    square = np.empty((384, 384, 3), np.uint8)
    square[:] = np.round(crop.mean(axis=(0, 1)))
    square[96:288, 96:288] = crop
    views = []
    for image in (crop, builtin.prepare(square)):
        for turned in (image, image[:, ::-1].copy()):
            views += [np.ascontiguousarray(np.rot90(turned, by)) for by in range(4)]
    mean = np.mean([builtin.encode([view]).embedding[0] for view in views], axis=0)
    found, alone = encode_crop(builtin, crop), builtin.encode([crop])
    assert found.embedding[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert found.code.tolist() == alone.code.tolist()
    assert found.label_scores == pytest.approx(alone.label_scores, abs=1e-6)
    other = encode_crop(RegionEncoder(builtin, 2), crop)
    assert other.embedding == pytest.approx(found.embedding)

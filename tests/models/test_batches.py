"""What an image's embedding owes to the images it was encoded with: the last bits, and no code."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import landcue
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.load import find_model, load_model
from landcue.models.pretrained.encoder import PretrainedEncoder


@pytest.fixture(scope="module")
def encoder():
    return load_model(find_model("builtin"))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 20, 20, 3)).astype(np.uint8)
    blocks = rng.integers(0, 256, (12, 8, 8, 3)).repeat(24, axis=1).repeat(24, axis=2)
    rough = np.clip(blocks + rng.normal(0, 20, blocks.shape), 0, 255).astype(np.uint8)
    return [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in noise] + list(rough)


@pytest.fixture(scope="module")
def alone(encoder, images):
    return [encoder.encode([image]) for image in images]


@pytest.mark.parametrize("size", [5, 12, 24])
def test_codes_are_equal_and_floats_within_a_millionth(encoder, images, alone, size):
    for first in range(0, len(images), size):
        together = encoder.encode(images[first : first + size])
        for at, one in enumerate(alone[first : first + size]):
            assert np.array_equal(together.code[at], one.code[0])
            assert np.abs(together.embedding[at] - one.embedding[0]).max() <= 1e-6
            assert np.abs(together.label_scores[at] - one.label_scores[0]).max() <= 1e-6


@pytest.mark.parametrize("size", [1, 24])
def test_the_same_batch_gives_the_same_bits(encoder, images, size):
    first, second = (encoder.encode(images[:size]) for _ in range(2))
    assert np.array_equal(first.code, second.code)
    assert np.array_equal(first.embedding, second.embedding)
    assert np.array_equal(first.label_scores, second.label_scores)


def pillow_images():
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    deep = rng.integers(0, 4000, (40, 60))
    upright = Image.fromarray(rgb)
    turned = Image.fromarray(rgb)
    turned.getexif()[0x0112] = 6
    half = np.dstack([rgb, np.repeat(np.uint8([0, 255]), 30)[None].repeat(40, axis=0)])
    return {
        "RGB": (upright, "PNG"),
        "L": (upright.convert("L"), "PNG"),
        "P": (upright.convert("P"), "PNG"),
        "RGBA": (Image.fromarray(half), "PNG"),
        "EXIF": (turned, "PNG"),
        "I;16": (Image.fromarray(deep.astype(np.uint16)), "PNG"),
        "I": (Image.fromarray(deep.astype(np.int32)), "TIFF"),
        "F": (Image.fromarray((deep / 4000).astype(np.float32)), "TIFF"),
    }


@pytest.mark.parametrize("mode", pillow_images())
def test_a_pillow_image_is_encoded_as_its_file(encoder, tmp_path, mode):
    image, kind = pillow_images()[mode]
    held = io.BytesIO()
    image.save(held, kind, exif=image.getexif())
    file = tmp_path / f"a.{kind.lower()}"
    file.write_bytes(held.getvalue())
    opened = Image.open(file)
    for given in (image, opened):
        assert np.array_equal(encoder.encode([given]).embedding, encoder.encode([file]).embedding)


def test_a_pillow_image_finds_what_its_file_finds(tmp_path):
    for name, (image, kind) in pillow_images().items():
        image.save(tmp_path / f"{name.replace(';', '-')}.{kind.lower()}", exif=image.getexif())
    archive = landcue.index(tmp_path, tmp_path / "archive")
    for file in sorted(tmp_path.glob("*.*")):
        if file.is_file():
            with Image.open(file) as image:
                hits = archive.search(image, k=1)
            assert hits[0].distance == pytest.approx(0, abs=1e-6), file.name


def test_many_images_are_not_in_memory_with_all_their_activations():
    model = NeuralEncoder(
        build_config("test_efficientnet", dim=8, n_bits=8, label_names=("a",), image_size=32)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1100, 32, 32, 3)).astype(np.uint8)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    whole = model.encode(pixels)
    assert sum(seen) == 1100
    assert max(seen) <= 512
    for first in (0, 500, 1024):
        part = model.encode(pixels[first : first + 76])
        rows = slice(first, first + 76)
        assert whole.embedding[rows] == pytest.approx(part.embedding, abs=1e-3)
        assert whole.label_scores[rows] == pytest.approx(part.label_scores, abs=1e-3)
        assert np.mean(whole.code[rows] == part.code) > 0.95


def test_many_images_are_given_to_a_pretrained_model_in_parts():
    encoder = PretrainedEncoder(Counting())
    pixels = np.random.default_rng(0).integers(0, 256, (1100, 8, 8, 3)).astype(np.uint8)
    whole = encoder.encode(pixels)
    assert sum(encoder.tower.seen) == 1100
    assert max(encoder.tower.seen) <= 512
    assert np.array_equal(whole.embedding[500:600], encoder.encode(pixels[500:600]).embedding)


class Counting:
    """A tower whose features are the mean colors of an image, and which notes how many it gets."""

    name, fingerprint, image_size, n_features = "test:colors", "0" * 64, 8, 3
    bands, has_text, on_cpu = ("red", "green", "blue"), False, True

    def __init__(self):
        self.seen = []

    def prepare(self, image):
        return image

    def features(self, pixels):
        self.seen.append(len(pixels))
        return pixels.mean(axis=(1, 2), dtype=np.float32)

"""What an image's embedding owes to the images it was encoded with: the last bits, and no code."""

from __future__ import annotations

import numpy as np
import pytest

from landcue.models.load import find_model, load_model


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

from __future__ import annotations

import numpy as np
import pytest

from landcue.codes.hashers import fit_decoder
from landcue.codes.packing import pack_bits, unpack_bits
from landcue.errors import UsageError


def drawn(n, n_bits, dim, seed=0):
    """Random codes, and embeddings that are a linear map of them."""
    rng = np.random.default_rng(seed)
    codes = pack_bits(rng.random((n, n_bits)) < 0.4)
    weights, bias = rng.normal(size=(n_bits, dim)), rng.normal(size=dim)
    signs = np.where(unpack_bits(codes, n_bits), 1.0, -1.0)
    return codes, (signs @ weights + bias).astype(np.float32), weights, bias


def test_a_linear_map_is_found_again():
    codes, embeddings, weights, bias = drawn(400, 13, 5)
    decoder = fit_decoder(codes, embeddings, 13, ridge=1e-9)
    np.testing.assert_allclose(decoder.weights, weights, atol=1e-5)
    np.testing.assert_allclose(decoder.bias, bias, atol=1e-5)
    np.testing.assert_allclose(decoder.decode(codes), embeddings, atol=1e-4)


def test_no_other_weights_have_less_penalized_error():
    codes, embeddings, _, _ = drawn(60, 9, 4)
    embeddings = embeddings + np.random.default_rng(1).normal(size=embeddings.shape)
    signs = np.where(unpack_bits(codes, 9), 1.0, -1.0)
    decoder = fit_decoder(codes, embeddings, 9, ridge=0.2)

    def penalized(weights, bias):
        error = np.square(signs @ weights + bias - embeddings).sum()
        return error + 0.2 * 60 * np.square(weights).sum()

    least = penalized(decoder.weights, decoder.bias)
    rng = np.random.default_rng(2)
    for _ in range(50):
        by, shift = 0.05 * rng.normal(size=(9, 4)), 0.05 * rng.normal(size=4)
        assert penalized(decoder.weights + by, decoder.bias + shift) > least


def test_scores_bit_by_bit():
    codes, embeddings, _, _ = drawn(30, 11, 6)
    decoder = fit_decoder(codes, embeddings, 11)
    queries = embeddings[:4] / np.linalg.norm(embeddings[:4], axis=1, keepdims=True)
    found = decoder.scores(queries, codes)
    assert found.shape == (4, 30)
    for q, query in enumerate(queries):
        for i, bits in enumerate(unpack_bits(codes, 11)):
            stands_for = decoder.bias.copy()
            for bit, weights in zip(bits, decoder.weights, strict=True):
                stands_for += weights if bit else -weights
            assert found[q, i] == pytest.approx(float(query @ stands_for), abs=1e-5)


def test_equal_codes_tie_and_flipping_a_bit_everywhere_changes_no_score():
    codes, embeddings, _, _ = drawn(50, 12, 6)
    codes[33] = codes[2]
    found = fit_decoder(codes, embeddings, 12).scores(embeddings[:5], codes)
    assert (found[:, 33] == found[:, 2]).all()
    turned = codes ^ np.array([0b00100101, 0b00001010], np.uint8)
    again = fit_decoder(turned, embeddings, 12).scores(embeddings[:5], turned)
    np.testing.assert_allclose(again, found, atol=1e-5)


def test_constant_and_equal_bits_are_no_problem():
    codes, embeddings, _, _ = drawn(40, 8, 5)
    bits = unpack_bits(codes, 8)
    bits[:, 3], bits[:, 5] = True, bits[:, 0]
    codes = pack_bits(bits)
    decoder = fit_decoder(codes, embeddings, 8)
    np.testing.assert_allclose(decoder.weights[3], 0, atol=1e-12)
    np.testing.assert_allclose(decoder.weights[5], decoder.weights[0], atol=1e-12)


def test_mistakes_are_named():
    codes, embeddings, _, _ = drawn(10, 8, 5)
    decoder = fit_decoder(codes, embeddings, 8)
    broken = embeddings.copy()
    broken[3, 1] = np.nan
    for call, word in (
        (lambda: fit_decoder(codes, embeddings[:4], 8), "one embedding"),
        (lambda: fit_decoder(codes[:0], embeddings[:0], 8), "at least one"),
        (lambda: fit_decoder(codes, embeddings, 8, ridge=0), "ridge"),
        (lambda: fit_decoder(codes, broken, 8), "not finite"),
        (lambda: fit_decoder(codes, embeddings, 17), "17"),
        (lambda: decoder.scores(embeddings[:, :3], codes), "pass"),
    ):
        with pytest.raises(UsageError, match=word):
            call()

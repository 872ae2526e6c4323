from __future__ import annotations

import itertools

import numpy as np
import pytest

from landcue.codes.hamming import hamming_distances
from landcue.codes.hashers import (
    METHODS,
    fit_hasher,
    fit_itq,
    fit_lsh,
    fit_sign,
    itq_rotation,
    quantization_error,
)
from landcue.codes.packing import unpack_bits
from landcue.errors import UsageError


def embeddings(n=300, d=24, seed=0):
    """Unit vectors around a few centers, off the origin, of very unequal variances."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((6, d)) * np.geomspace(3, 0.3, d) + 1
    vectors = centers[rng.integers(0, 6, n)] + 0.4 * rng.standard_normal((n, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_bits", [1, 7, 16, 24])
def test_bits_are_the_signs_of_centered_projections(method, n_bits):
    train, test = embeddings(), embeddings(200, seed=1)
    hasher = fit_hasher(method, train, n_bits, seed=3)
    assert (hasher.method, hasher.n_bits, hasher.dim) == (method, n_bits, 24)
    codes = hasher.encode(test, block=24 * 70)  # several parts
    assert codes.shape == (200, -(-n_bits // 8))
    mean = train.astype(np.float64).mean(axis=0)
    projection = np.eye(24) if hasher.projection is None else hasher.projection
    for row in (0, 69, 70, 199):
        values = (test[row].astype(np.float64) - mean) @ projection
        assert unpack_bits(codes, n_bits)[row].tolist() == (values > 0).tolist()


def test_sign_of_all_dimensions_keeps_the_coordinates():
    train = embeddings()
    hasher = fit_sign(train, 24)
    expected = train > train.astype(np.float64).mean(axis=0)
    assert unpack_bits(hasher.encode(train), 24).tolist() == expected.tolist()


def test_sign_of_fewer_bits_takes_the_principal_components():
    train = embeddings().astype(np.float64)
    values = fit_sign(train, 10).project(train)
    centered = train - train.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(np.abs(values), np.abs(left * sizes)[:, :10], atol=1e-9)


def test_itq_projects_on_the_same_space_as_the_principal_components():
    train = embeddings()
    plain, rotated = (f(train, 10).project(train) for f in (fit_sign, fit_itq))
    np.testing.assert_allclose(plain @ plain.T, rotated @ rotated.T, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_quantization_error_of_itq_never_rises_and_ends_below_that_of_pca(seed):
    projected = 4 * fit_sign(embeddings(), 12).project(embeddings())
    rotation, errors = itq_rotation(projected, seed)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(12), atol=1e-9)
    assert len(errors) == 51
    assert errors[-1] == pytest.approx(quantization_error(projected @ rotation))
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(errors))
    assert errors[-1] < errors[0]
    assert errors[-1] < quantization_error(projected)


def test_itq_finds_a_hidden_cube():
    # Corners of a cube, turned: only the turn back makes the error vanish.
    rng = np.random.default_rng(0)
    corners = rng.choice([-1.0, 1.0], (500, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    errors = [itq_rotation(corners @ turn, seed)[1][-1] for seed in range(8)]
    assert min(errors) == pytest.approx(0, abs=1e-12)


def test_the_quantization_error_worked_out_by_hand():
    assert quantization_error(np.array([[0.5, -1.0], [2.0, 0.0]])) == (0.25 + 0 + 1 + 1) / 4


def test_bits_of_lsh_differ_by_the_angle():
    train = embeddings(60, 16)
    n_bits = 20_000
    hasher = fit_lsh(train, n_bits, seed=1)
    codes = hasher.encode(train)
    share = hamming_distances(codes, codes) / n_bits
    centered = train.astype(np.float64) - train.astype(np.float64).mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    angles = np.arccos(np.clip(centered @ centered.T, -1, 1)) / np.pi
    assert np.ptp(angles) > 0.5
    # Six standard deviations of the mean of 20,000 coin flips.
    assert np.abs(share - angles).max() < 6 * 0.5 / np.sqrt(n_bits)


@pytest.mark.parametrize("method", METHODS)
def test_the_seed_decides(method):
    train = embeddings()
    codes = [fit_hasher(method, train, 16, seed).encode(train).tolist() for seed in (5, 5, 6)]
    assert codes[0] == codes[1]
    assert (codes[0] == codes[2]) == (method == "sign")  # nothing in it is random


@pytest.mark.parametrize("method", METHODS)
def test_only_training_embeddings_are_fitted(method):
    train, test = embeddings(), embeddings(50, seed=9)
    hasher = fit_hasher(method, train, 16)
    alone = [hasher.encode(test[i : i + 1])[0].tolist() for i in range(50)]
    assert hasher.encode(test).tolist() == alone
    assert fit_hasher(method, test, 16).encode(test).tolist() != alone


def test_lsh_alone_gives_more_bits_than_dimensions():
    assert fit_lsh(embeddings(), 100).encode(embeddings()).shape == (300, 13)
    for make in (fit_sign, fit_itq):
        with pytest.raises(UsageError, match=r"25 bits .* 24 dimensions"):
            make(embeddings(), 25)


def test_a_broken_row_is_named_wherever_it_stands():
    hasher, test = fit_lsh(embeddings(), 8), embeddings(200)
    test[143, 2] = np.nan
    with pytest.raises(UsageError, match="row 143 of the embeddings"):
        hasher.encode(test, block=24 * 70)


def test_no_embeddings_give_no_codes():
    assert fit_itq(embeddings(), 9).encode(embeddings()[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fit_hasher("itc", embeddings(), 8), "did you mean 'itq'"),
        (lambda: fit_lsh(embeddings(), 0), "0 bits hold nothing"),
        (lambda: fit_lsh(embeddings()[:0], 8), "at least one"),
        (lambda: fit_itq(embeddings(8), 8), "8 training embeddings vary in 7 directions"),
        (lambda: fit_sign(np.ones((9, 4)), 2), "vary in 0 directions"),
        (lambda: fit_lsh(embeddings()[0], 8), "pass floats"),
        (lambda: fit_lsh(np.ones((3, 3), int), 8), "pass floats"),
        (lambda: fit_sign(np.array([[0.0, 1.0], [np.inf, 0.0]]), 1), "row 1 .* not finite"),
        (lambda: fit_lsh(embeddings(), 8).encode(embeddings(5, 23)), "23 dimensions, .* on 24"),
        (lambda: fit_lsh(embeddings(), 8).encode(np.full((2, 24), np.nan)), "row 0 .* not finite"),
    ],
)
def test_wrong_inputs_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()

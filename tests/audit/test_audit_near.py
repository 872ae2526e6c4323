"""Near-duplicate search against brute force, and what altered copies do to the hash."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from landcue.audit.images import FORMS, gray, hash_bits, hashes
from landcue.audit.pairs import Limits, embedding_pairs, hash_pairs
from landcue.data.north import turned as form
from landcue.errors import UsageError


def scene(seed, size=96):
    """A picture with content at all scales, and no symmetry."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size, 3))
    for cells in (3, 6, 12, 24, 48):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) / cells**0.5
    total -= total.min()
    return (total / total.max() * 255).astype(np.uint8)


def distance(first, second, index=0):
    a, b = (hash_bits(gray(np.ascontiguousarray(image))[None])[0] for image in (first, second))
    return int((a[index] != b[0]).sum())


@pytest.mark.parametrize("index", range(8))
def test_a_turned_picture_has_the_turned_hash(index):
    image = scene(1)
    assert distance(image, form(image, index), index) == 0
    if index:
        assert distance(image, form(image, index)) > 16


def test_forms_are_what_they_are_called():
    image = scene(2)
    expected = {
        "as it is": image,
        "flipped left-right": np.fliplr(image),
        "flipped top-bottom": np.flipud(image),
        "turned by 180°": np.rot90(image, 2),
        "transposed": image.transpose(1, 0, 2),
        "turned by 90°": np.rot90(image, 1),
        "turned by 270°": np.rot90(image, 3),
        "transposed across": np.rot90(image, 2).transpose(1, 0, 2),
    }
    for index, name in enumerate(FORMS):
        assert np.array_equal(form(image, index), expected[name]), name


def test_the_hash_is_the_sign_of_a_plain_cosine_transform():
    small = gray(scene(3)).astype(float)
    lowest = sorted((u * u + v * v, u, v) for u in range(9) for v in range(9))[1:65]
    x = (2 * np.arange(32) + 1) / 64
    bits = [
        sum(
            small[i, j] * np.cos(np.pi * u * x[i]) * np.cos(np.pi * v * x[j])
            for i in range(32)
            for j in range(32)
        )
        > 0
        for _, u, v in lowest
    ]
    assert hash_bits(small[None].astype(np.float32))[0, 0].tolist() == bits
    assert hashes(small[None].astype(np.float32)).shape == (1, 8, 8)


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


ALTERED = {
    "jpeg": lambda i: jpeg(i, 60),
    "darker": lambda i: np.asarray(ImageEnhance.Brightness(Image.fromarray(i)).enhance(0.8)),
    "contrast": lambda i: np.asarray(ImageEnhance.Contrast(Image.fromarray(i)).enhance(0.7)),
    "crop by a pixel": lambda i: i[1:, 1:],
    "smaller": lambda i: np.asarray(Image.fromarray(i).resize((60, 60))),
}


@pytest.mark.parametrize("name", ALTERED)
def test_altered_copies_are_found_and_other_pictures_are_not(name):
    images = [scene(seed) for seed in range(20)]
    images.append(np.ascontiguousarray(ALTERED[name](images[4])))
    pairs, cut = hash_pairs(np.stack([gray(image) for image in images]), Limits())
    assert [(pair.first, pair.second, pair.form) for pair in pairs] == [(4, 20, 0)]
    assert not cut


def test_a_turned_and_reencoded_copy_is_found_with_its_form():
    images = [scene(seed) for seed in range(10)]
    images.append(jpeg(np.ascontiguousarray(np.rot90(images[3])), 80))
    (pair,), _ = hash_pairs(np.stack([gray(image) for image in images]), Limits())
    assert (pair.first, pair.second, FORMS[pair.form]) == (3, 10, "turned by 90°")
    assert pair.correlation > 0.99


def families():
    """Gray pictures [200, 32, 32]: forty families of copies, more and more disturbed."""
    rng = np.random.default_rng(7)
    grays = []
    for seed in range(40):
        small = gray(scene(seed))
        for place in range(5):
            turned = form(small, int(rng.integers(8)))
            grays.append(turned + rng.normal(0, 4 * place, turned.shape))
    return np.stack(grays).astype(np.float32)


@pytest.mark.parametrize(("upright", "turned"), [(8, 4), (14, 9), (0, 0)])
def test_hash_pairs_equal_brute_force(upright, turned):
    grays = families()
    limits = Limits(max_distance=upright, max_distance_turned=turned, min_correlation=0.5)
    bits = hash_bits(grays)
    expected = []
    for a, b in itertools.combinations(range(len(grays)), 2):
        tries = [(int((bits[a, i] != bits[b, 0]).sum()), i) for i in range(8)]
        allowed = [(d, i) for d, i in tries if d <= (turned if i else upright)]
        if allowed:
            d, i = min(allowed)
            r = np.corrcoef(form(grays[a], i).ravel(), grays[b].ravel())[0, 1]
            if r >= 0.5:
                expected.append((d, a, b, i, round(float(r), 4)))
    found, cut = hash_pairs(grays, limits)
    assert [
        (p.distance, p.first, p.second, p.form, round(p.correlation, 4)) for p in found
    ] == sorted(expected)
    assert (len(expected) > 50) == (upright > 0)
    assert not cut


def test_blank_pictures_are_no_near_duplicates_of_each_other():
    flat = np.full((4, 32, 32), 77, np.float32)
    assert hash_pairs(flat, Limits()) == ([], False)
    assert hash_pairs(np.empty((0, 32, 32), np.float32), Limits()) == ([], False)


def test_very_many_copies_are_cut_and_the_cut_is_told():
    rng = np.random.default_rng(5)
    small = gray(scene(11))
    grays = np.stack([small + rng.normal(0, 0.1, small.shape) for _ in range(300)])
    pairs, cut = hash_pairs(grays.astype(np.float32), Limits())
    assert cut
    assert 20_000 < len(pairs) < 300 * 299 // 2


@pytest.mark.parametrize("n", [1, 2, 700])
def test_embedding_pairs_equal_brute_force(n):
    rng = np.random.default_rng(n)
    vectors = rng.normal(size=(n, 16))
    vectors[n // 2 :] = vectors[: n - n // 2] + rng.normal(0, 0.1, (n - n // 2, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    cosines = vectors @ vectors.T
    expected = {(a, b) for a, b in itertools.combinations(range(n), 2) if cosines[a, b] >= 0.995}
    pairs, nearest, cut = embedding_pairs(vectors, 0.995, 3)
    assert {(p.first, p.second) for p in pairs} == expected
    assert n < 700 or len(expected) > 20
    assert [p.cosine for p in pairs] == sorted((p.cosine for p in pairs), reverse=True)
    assert not cut
    np.fill_diagonal(cosines, -2)
    assert nearest.shape == (n, min(3, n - 1))
    for row in range(n):
        best = set(np.argsort(-cosines[row], kind="stable")[: min(3, n - 1)].tolist())
        assert set(nearest[row].tolist()) == best


def test_limits_refuse_what_makes_no_sense():
    with pytest.raises(UsageError, match="turned <= upright"):
        Limits(max_distance=3, max_distance_turned=4)
    with pytest.raises(UsageError, match="min_cosine"):
        Limits(min_cosine=float("nan"))

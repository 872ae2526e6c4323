"""Expected gains, fused scores, query expansion and k-reciprocal re-ranking, on arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from landcue.codes.hashers import fit_decoder, fit_hasher
from landcue.codes.packing import unpack_bits
from landcue.errors import UsageError
from landcue.search import rerank


def unit(n, dim, seed):
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def enumerated_gain(p, r):
    """The mean of 2^g - 1 over all 4^C draws of the labels of both images."""
    total = 0.0
    for first in itertools.product((0, 1), repeat=len(p)):
        for second in itertools.product((0, 1), repeat=len(r)):
            chance = np.prod([q if bit else 1 - q for q, bit in zip(p, first, strict=True)])
            chance *= np.prod([q if bit else 1 - q for q, bit in zip(r, second, strict=True)])
            shared = sum(a * b for a, b in zip(first, second, strict=True))
            total += chance * (2**shared - 1)
    return total


@pytest.mark.parametrize("labels", [1, 2, 4])
def test_the_expected_gain_is_the_mean_over_label_draws(labels):
    rng = np.random.default_rng(labels)
    p, r = rng.random((3, labels)), rng.random((4, labels))
    expected = [[enumerated_gain(one, other) for other in r] for one in p]
    np.testing.assert_allclose(np.expm1(rerank.log_gain(p, r)), expected, atol=1e-12)


def test_certain_labels_give_the_gain_of_the_shared_ones():
    labels = np.random.default_rng(0).random((30, 9)) < 0.4
    gain = np.expm1(rerank.log_gain(labels[:5].astype(float), labels.astype(float)))
    np.testing.assert_allclose(gain, 2.0 ** (labels[:5].astype(int) @ labels.T) - 1, rtol=1e-12)


def test_the_scale_makes_the_sum_order_like_z_scores():
    rng = np.random.default_rng(5)
    cosine, gain = rng.normal(0.3, 0.2, 500), rng.exponential(4.0, 500)
    fused = cosine + 1.5 * rerank.label_scale(cosine, gain) * gain
    z = (cosine - cosine.mean()) / cosine.std() + 1.5 * (gain - gain.mean()) / gain.std()
    np.testing.assert_array_equal(np.argsort(fused), np.argsort(z))
    assert rerank.label_scale(cosine, np.ones(500)) == 0


def test_query_expansion_against_a_loop():
    queries, gallery = unit(6, 5, 6), unit(40, 5, 7)
    found = rerank.alpha_qe(queries, gallery, k=7, alpha=2.0)
    for query, expanded in zip(queries, found, strict=True):
        total = query.copy()
        for cosine, vector in sorted((float(v @ query), tuple(v)) for v in gallery)[::-1][:7]:
            total += max(cosine, 0.0) ** 2.0 * np.array(vector)
        np.testing.assert_allclose(expanded, total / np.linalg.norm(total), atol=1e-12)


def published_k_reciprocal(d, k1, k2, lam):
    """Zhong et al. 2017 with sets and loops."""
    n = len(d)
    ranked = [sorted(range(n), key=lambda g: (g != p, d[p, g], g)) for p in range(n)]

    def reciprocal(p, k):
        return {g for g in ranked[p][: k + 1] if p in ranked[g][: k + 1]}

    vectors = np.zeros((n, n))
    for p in range(n):
        members = set(reciprocal(p, k1))
        for g in reciprocal(p, k1):
            half = reciprocal(g, max(1, round(k1 / 2)))
            if 3 * len(reciprocal(p, k1) & half) >= 2 * len(half):
                members |= half
        for g in members:
            vectors[p, g] = np.exp(-d[p, g])
    expanded = np.array([np.mean([vectors[g] for g in ranked[p][:k2]], axis=0) for p in range(n)])
    result = np.empty((n, n))
    for p in range(n):
        for g in range(n):
            least = sum(min(a, b) for a, b in zip(expanded[p], expanded[g], strict=True))
            most = sum(max(a, b) for a, b in zip(expanded[p], expanded[g], strict=True))
            result[p, g] = (1 - lam) * (1 - least / most) + lam * d[p, g]
    return result


@pytest.mark.parametrize(("k1", "k2", "lam"), [(20, 6, 0.3), (4, 1, 0.0), (7, 3, 1.0), (1, 2, 0.5)])
def test_k_reciprocal_is_the_published_definition(k1, k2, lam):
    vectors = np.concatenate([unit(30, 4, 8), unit(3, 4, 8)])  # the last three equal the first
    d = 1 - vectors @ vectors.T
    d = np.round((d + d.T) / 2, 12)
    expected = published_k_reciprocal(d, k1, k2, lam)
    np.testing.assert_allclose(rerank.k_reciprocal(d, k1, k2, lam), expected, atol=1e-9)
    first = rerank.k_reciprocal(d, k1, k2, lam, queries=2)
    np.testing.assert_array_equal(first, rerank.k_reciprocal(d, k1, k2, lam)[:2])


def test_quantized_probabilities_keep_their_means():
    p = np.random.default_rng(9).random((200, 6)) ** 3
    for bits in (1, 2, 4, 8):
        levels, values = rerank.quantize(p, bits)
        assert levels.max() < 2**bits
        np.testing.assert_allclose(values[levels].mean(), p.mean(), atol=1e-9)
        assert np.abs(values[levels] - p).max() <= 2.0**-bits
    levels, values = rerank.quantize(np.array([[0.0, 1.0]]), 2)
    assert (levels.tolist(), values.tolist()) == ([[0, 3]], [0.0, 0.375, 0.625, 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: rerank.log_gain(p, p[:, :2]), r"3 label probabilities, the records 2"),
        (lambda p: rerank.log_gain(p * np.nan, p), r"row 0 of the queries .* or NaN"),
        (
            lambda p: rerank.log_gain(p, p + np.eye(3)[2][:, None]),
            r"row 2 of the records .* 0\.\.1",
        ),
        (lambda p: rerank.log_gain(p[:, :0], p[:, :0]), "a model with a label head"),
        (lambda _: rerank.check_weight(-1.0), "weight of the labels is -1"),
        (lambda _: rerank.check_weight(np.nan), "weight of the labels is nan"),
        (lambda p: rerank.quantize(p, 0), "0 bits per probability"),
        (lambda p: rerank.alpha_qe(p, p, k=0), "use k of 1 or more"),
        (lambda p: rerank.k_reciprocal(p[:2]), r"shape \[2, 3\]"),
        (lambda p: rerank.k_reciprocal(p, k1=0), "k1 0"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(UsageError, match=message) as error:
        call(np.full((3, 3), 0.5) + 0.1 * np.eye(3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 8])
def test_fused_codes_equal_a_loop_over_records(step):
    rng = np.random.default_rng(11)
    kinds = rng.integers(0, 12, 50)  # equal records tie
    z, p = unit(12, 16, 12)[kinds], rng.random((12, 5))[kinds]
    hasher = fit_hasher("itq", unit(80, 16, 13), 12)
    codes, bits = hasher.encode(z), unpack_bits(hasher.encode(z), 12)
    decoder = fit_decoder(codes, z, 12)
    found = rerank.FusedCodes(codes, p, decoder, bits=step)
    assert (len(found), found.bits_per_record) == (50, 12 + step * 5)
    levels = np.minimum(np.floor(p * 2**step), 2**step - 1)
    means = {level: p[levels == level].mean() for level in np.unique(levels)}
    queries, wanted = unit(3, 16, 14), rng.random((3, 5))
    scores = found.scores(queries, wanted, weight=0.8)
    for query, labels, line in zip(queries, wanted, scores, strict=True):
        for row in range(50):
            decoded = np.where(bits[row], 1.0, -1.0) @ decoder.weights + decoder.bias
            gain = sum(
                np.log(1 + one * means[level])
                for one, level in zip(labels, levels[row], strict=True)
            )
            assert line[row] == pytest.approx(query @ decoded + 0.8 * gain, abs=1e-9)
        for kind in range(12):
            assert len(set(line[kinds == kind].tolist())) <= 1


def test_fused_codes_of_other_records_are_refused():
    codes = np.zeros((3, 1), np.uint8)
    decoder = fit_decoder(codes, unit(3, 4, 0), 8)
    with pytest.raises(UsageError, match="3 codes and 2 rows of label probabilities"):
        rerank.FusedCodes(codes, np.full((2, 3), 0.5), decoder)

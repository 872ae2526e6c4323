from __future__ import annotations

import numpy as np
import pytest

from landcue.codes.cue import CueCodes, hadamard
from landcue.codes.cue_index import cue_distances
from landcue.codes.packing import pack_bits
from landcue.errors import UsageError
from landcue.metrics.annotations import annotate
from landcue.metrics.distances import cue, given
from standard_protocol import evaluate, evaluate_codes, evaluate_cue_codes


def sample(n=60, n_labels=5, n_bits=21, seed=0):
    """Images whose label bits are mostly right and whose hash bits are mostly noise."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_labels)) < 0.4
    wrong = rng.random((n, n_labels)) < 0.1
    codes = pack_bits(rng.random((n, n_bits)) < 0.5)
    scores = np.where(labels ^ wrong, 0.9, 0.1).astype(np.float32)
    images = annotate([f"image {i}" for i in range(n)], labels)
    return images, CueCodes.from_label_scores(scores, codes, n_bits)


def test_weight_0_is_the_evaluation_of_the_hash_codes():
    images, codes = sample()
    found = evaluate_cue_codes(images, codes, 0, resamples=50)
    expected = evaluate_codes(images, codes.hash, 21, resamples=50)
    assert found.to_json() == expected.to_json()
    for name, values in expected.per_query.items():
        np.testing.assert_array_equal(found.per_query[name], values)


def test_weight_1_is_the_evaluation_of_the_joined_codes():
    images, codes = sample()
    found = evaluate_cue_codes(images, codes, resamples=50)
    expected = evaluate_codes(images, codes.joined(), 26, resamples=50)
    assert found.to_json() == expected.to_json()
    assert found.to_json() != evaluate_codes(images, codes.hash, 21, resamples=50).to_json()


@pytest.mark.parametrize("weight", [2, 22, 70_000])
def test_any_weight_is_the_evaluation_of_its_distances(weight):
    images, codes = sample()
    query, gallery = (annotate(images.ids[a:b], images.labels[a:b]) for a, b in ((0, 25), (25, 60)))
    ours, theirs = codes.take(slice(0, 25)), codes.take(slice(25, 60))
    expected = evaluate(query, gallery, given(cue_distances(ours, theirs, weight)), band=True)
    found = evaluate_cue_codes(query, ours, weight, gallery, theirs)
    assert found.to_json() == expected.to_json()
    few = evaluate(query, gallery, cue(ours, theirs, weight), band=True, block=40)
    assert few.to_json() == expected.to_json()


def test_right_labels_first_rank_every_relevant_image_first():
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 6, 80)
    images = annotate([f"image {i}" for i in range(80)], np.eye(6, dtype=int)[classes])
    codes = pack_bits(rng.random((80, 12)) < 0.5)
    cues = CueCodes.from_classes(classes, hadamard(6), codes, 12)
    first = evaluate_cue_codes(images, cues, cues.label_first, protocol="sl-retrieval-v1")
    assert first.metrics["mAP"] == 1
    hash_only = evaluate_cue_codes(images, cues, 0, protocol="sl-retrieval-v1")
    assert hash_only.metrics["mAP"] < 0.5


@pytest.mark.parametrize("weight", [0, 1, 3, 200, 20_000])
def test_distances_are_computed_a_slice_at_a_time(weight):
    _, codes = sample(30)
    whole = cue_distances(codes, codes, weight)
    made = cue(codes, codes, weight)
    assert (made.n_query, made.n_gallery) == (30, 30)
    for part in (slice(0, 7), slice(7, 30)):
        np.testing.assert_array_equal(made.rows(part), whole[part])


def test_label_codes_alone():
    _, codes = sample(20)
    alone = CueCodes(codes.label, np.empty((20, 0), np.uint8), 5, 0)
    found = cue(alone, alone, 2).rows(slice(0, 20))
    np.testing.assert_array_equal(found, cue_distances(alone, alone, 2))
    assert found.max() > 0


@pytest.mark.parametrize("weight", [-1, 0.5, True, 2**31])
def test_other_weights_are_refused(weight):
    images, codes = sample(10)
    with pytest.raises(UsageError, match="label weight"):
        evaluate_cue_codes(images, codes, weight)


def test_codes_that_cannot_be_compared_are_refused():
    images, codes = sample(10)
    _, others = sample(10, n_bits=22)
    with pytest.raises(UsageError, match="21 hash bits, the gallery's 5 and 22"):
        evaluate_cue_codes(images, codes, 1, images, others)
    alone = CueCodes(codes.label, np.empty((10, 0), np.uint8), 5, 0)
    with pytest.raises(UsageError, match="at least 1"):
        evaluate_cue_codes(images, alone, 0)

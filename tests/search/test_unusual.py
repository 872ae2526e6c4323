"""Scores of change: against Gaussian likelihoods computed one by one, and as a file."""

import numpy as np

import landcue
from landcue.search import unusual


def pairs(seed, n=400, d=10):
    """Unchanged pairs differ in the first direction, changed ones in the last."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(n, d))
    second = first + 0.1 * rng.normal(size=(n, d))
    second[:, 0] += 2 * rng.normal(size=n)
    changed = np.arange(n) < n // 8
    second[changed, -1] += 1.5 * rng.normal(size=changed.sum())
    return first.astype(np.float32), second.astype(np.float32), changed


def share_of_best(scores, changed):
    best = np.argsort(-scores)[: changed.sum()]
    return changed[best].mean()


def test_a_trained_model_is_the_ratio_of_two_gaussians():
    first, second, changed = pairs(0)
    model = unusual.train(first, second, changed, rank=10)
    wanted = np.zeros(len(first))
    for values in (second.astype(float) - first, second.astype(float) + first):
        same = values[~changed].T @ values[~changed] / (~changed).sum()
        for rows, sign in ((~changed, 1), (changed, -1)):
            covariance = values[rows].T @ values[rows] / rows.sum()
            covariance += 0.1 * np.trace(same) / 10 * np.eye(10)
            wanted += sign * np.array([x @ np.linalg.solve(covariance, x) for x in values])
    np.testing.assert_allclose(model.scores(first, second), wanted, rtol=1e-3, atol=1e-3)


def test_models_find_the_direction_of_change():
    first, second, changed = pairs(1)
    cosine = 1 - (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(
        second, axis=1
    )
    trained = unusual.train(*pairs(2), rank=4).scores(first, second)
    measured = unusual.measure(first, second).scores(first, second)
    assert share_of_best(trained, changed) > 0.6
    assert share_of_best(measured, changed) > 0.7
    assert share_of_best(cosine, changed) < 0.4


def test_fewer_pairs_than_dimensions_give_finite_scores():
    for n in (1, 2, 12):
        first, second, _ = pairs(3, n, 64)
        rows = np.arange(n)
        found = unusual.Differences(first, second, rows, rows, np.zeros(n, np.int64))
        assert np.isfinite(unusual.compare_pairs(found, [None])[0]).all()
    same = unusual.Differences(first, first, rows, rows, np.zeros(n, np.int64))
    assert np.isfinite(unusual.compare_pairs(same, [None])[0]).all()


def test_changes_among_blank_images_come_first_with_finite_scores():
    """Most places show the same image at both dates, as water or missing data do."""
    rng = np.random.default_rng(0)
    blank = np.full(16, 0.25, np.float32)
    for n_blank in (0, 30, 70, 100, 114):
        first = rng.normal(size=(120, 16)) * 0.01 + blank
        first = (first / np.linalg.norm(first, axis=1, keepdims=True)).astype(np.float32)
        first[:n_blank] = blank
        second = first.copy()
        second[-6:] = second[-6:, ::-1]
        rows = np.arange(120)
        found = unusual.Differences(first, second, rows, rows, np.zeros(120, np.int64))
        scores, _ = unusual.compare_pairs(found, [None])
        assert sorted(np.argsort(-scores)[:6].tolist()) == rows[-6:].tolist()
        for known in (None, rows < 100):
            p, z, _ = unusual.conformal(scores, [], known)
            assert p[-6:].max() <= 0.06
            assert np.isfinite(z).all()
            assert z[-6:].min() > 1
        assert np.isfinite(unusual.robust(scores)).all()


def test_what_a_whole_scene_shares_is_left_out():
    first, second, _ = pairs(4, 200)
    scene = np.arange(200) // 100
    rows = np.arange(200)
    scores = [
        unusual.compare_pairs(
            unusual.Differences(first, moved.astype(np.float32), rows, rows, scene), [None]
        )[0]
        for moved in (second, second + np.where(scene[:, None] == 0, 3, -2))
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3, atol=1e-2)


def test_many_pairs_are_measured_on_a_sample_of_every_scene():
    mixed = np.random.default_rng(0).permutation(14_000)
    first, second, changed = (values[mixed] for values in pairs(6, 14_000))
    scene = np.minimum(np.arange(14_000) // 30, 100)
    second = second + np.where(scene[:, None] == 3, 40, 0).astype(np.float32)
    rows = np.arange(14_000)
    scores = unusual.compare_pairs(unusual.Differences(first, second, rows, rows, scene), [None])[0]
    assert share_of_best(scores, changed) > 0.7
    assert np.median(scores[scene == 3]) < np.quantile(scores, 0.8)


def test_a_model_is_kept_in_a_file(tmp_path):
    first, second, changed = pairs(5)
    model = unusual.train(first, second, changed, rank=6)
    model.save(tmp_path / "m.safetensors", "abc")
    again = unusual.load_trained("abc", tmp_path / "m.safetensors")
    assert unusual.load_trained("other", tmp_path / "m.safetensors") is None
    np.testing.assert_allclose(
        again.scores(first, second), model.scores(first, second), rtol=0.02, atol=0.2
    )


def test_the_built_in_encoder_has_a_model():
    encoder = landcue.load_model("builtin")
    model = unusual.load_trained(encoder.fingerprint)
    assert model is not None
    assert model.apart.shape == (encoder.dim, 64)


def test_the_measured_model_has_a_small_weight_beside_a_trained_one():
    first, second, changed = pairs(7, 9_000)
    rows = np.random.default_rng(0).permutation(9_000)
    found = unusual.Differences(first, second, rows, rows, np.zeros(9_000, np.int64))
    trained = unusual.train(*pairs(8), rank=4)
    one, other = (unusual.compare_pairs(found, [model])[0] for model in (trained, None))
    both, distances = unusual.compare_pairs(found, [trained, None])
    parts = []
    for score in (one, other):
        apart = score - np.median(score)
        parts.append(apart / (1.4826 * np.median(np.abs(apart))))
    np.testing.assert_allclose(both, 0.9 * parts[0] + 0.1 * parts[1], rtol=1e-6, atol=1e-9)
    wanted = 0.5 * ((second - first).astype(float) ** 2).sum(1)[rows]
    np.testing.assert_allclose(distances, wanted, rtol=1e-4)
    assert share_of_best(both, changed[rows]) > 0.6


def test_joined_scores_are_sums_of_log_shares():
    rng = np.random.default_rng(0)
    values = rng.normal(size=60), rng.integers(0, 5, 60).astype(float)
    wanted = [
        -sum(
            weight * np.log(sum(other >= one[i] for other in one) / 60)
            for weight, one in zip((1, 0.5), values, strict=True)
        )
        for i in range(60)
    ]
    np.testing.assert_allclose(unusual.join_scores(*values), wanted, atol=1e-12)
    swapped = rng.permutation(60)
    np.testing.assert_allclose(
        unusual.join_scores(*(one[swapped] for one in values)), np.array(wanted)[swapped]
    )

"""Fitted spaces against loops, sklearn and their own files."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from landcue.codes import unpack_bits
from landcue.errors import ModelError, UsageError
from landcue.models.fitting import fit_space, recall_of_codes
from landcue.models.probe import fit_probe
from landcue.models.space import Space, describe_space, identity_space, unit_rows


def features(m=400, width=48, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(8, width))
    kind = rng.integers(0, 8, m)
    return centers[kind] + 0.5 * rng.normal(size=(m, width)) + 2.0, kind


def test_embeddings_are_centered_principal_components_of_unit_norm_features():
    x, _ = features()
    space = fit_space(x, dim=12, n_bits=8)
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    pca = PCA(12, svd_solver="full").fit(u)
    wanted = pca.transform(u)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    found = space.encode(x).embedding
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_codes_are_signs_of_rotated_components_and_their_recall_is_measured():
    x, _ = features()
    space = fit_space(x, dim=12, n_bits=16)
    encoding = space.encode(x)
    out = unit_rows(x) @ space.weight + space.bias
    assert (unpack_bits(encoding.code, 16) == (out[:, 12:28] > 0)).all()
    bits = unpack_bits(encoding.code, 16)
    assert abs(bits.mean() - 0.5) < 0.1  # centered
    assert space.facts["codes"]["recall"].keys() == {"16"}
    assert 0 < space.facts["codes"]["recall"]["16"] <= 1


def test_directions_in_which_nearest_neighbors_differ_are_damped():
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 40, 900)
    x = rng.normal(size=(40, 20))[kind] + 0.6 * rng.normal(size=(900, 20))
    x[:, 0] += 3 * rng.normal(size=900)  # what all kinds vary in
    damped = fit_space(x, dim=12, n_bits=8, neighbors=True)
    plain = fit_space(x, dim=12, n_bits=8)
    u = unit_rows(x).astype(np.float64)
    z = u - u.mean(axis=0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    cosine = z @ z.T
    kept = []
    for i in range(900):
        if all(cosine[i, j] <= 0.8 for j in kept):
            kept.append(i)
    assert 128 <= len(kept) < 600
    within = np.zeros((20, 20))
    near = {i: set(sorted(kept, key=lambda j: -cosine[i, j])[1:11]) for i in kept}
    for i in kept:
        for j in near[i]:
            if i in near[j]:
                within += np.outer(z[i] - z[j], z[i] - z[j])
    spread, turn = np.linalg.eigh(within)
    added = 0.1 * (600 / len(kept)) ** 3 * spread.mean()
    y = (u - u.mean(axis=0)) @ turn / np.sqrt(spread + added)
    wanted = unit_rows(PCA(12, svd_solver="full").fit_transform(y))
    found = damped.encode(x)
    np.testing.assert_allclose(found.embedding @ found.embedding.T, wanted @ wanted.T, atol=1e-4)

    def right(embedding):
        """Return the share of images of the same kind among the five nearest."""
        near = np.argsort(-(embedding @ embedding.T), axis=1)[:, 1:6]
        return (kind[near] == kind[:, None]).mean()

    assert right(found.embedding) > right(plain.encode(x).embedding) + 0.02
    assert damped.facts["neighbors"] == 10


def test_a_space_of_all_dimensions_gives_back_the_features_of_embeddings():
    x, _ = features(300, 24)
    space = fit_space(x, dim=24, n_bits=8, neighbors=True)
    others = features(50, 24, seed=5)[0]
    found = space.invert(space.encode(others).embedding)
    np.testing.assert_allclose(found, unit_rows(others), atol=2e-5)
    with pytest.raises(UsageError, match="cannot be turned into the 24 features"):
        fit_space(x, dim=12, n_bits=8).invert(found[:, :12])


def test_neighbors_of_few_images_are_not_looked_at():
    x, _ = features(200)
    with_neighbors = fit_space(x, dim=12, n_bits=8, neighbors=True)
    assert with_neighbors.fingerprint == fit_space(x, dim=12, n_bits=8).fingerprint


def test_near_duplicates_are_taken_once():
    x, _ = features(300, 24)
    x += 3 * np.random.default_rng(2).normal(size=x.shape)
    copies = x[:, None] + 0.001 * np.random.default_rng(3).normal(size=(300, 4, 24))
    found = fit_space(copies.reshape(-1, 24), dim=24, n_bits=0, neighbors=True)
    wanted = fit_space(x, dim=24, n_bits=0, neighbors=True)
    one, other = (space.encode(x).embedding for space in (found, wanted))
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=0.01)
    few = fit_space(copies[:100].reshape(-1, 24), dim=24, n_bits=0, neighbors=True)
    plain = fit_space(copies[:100].reshape(-1, 24), dim=24, n_bits=0)
    assert (few.weight == plain.weight).all()  # 400 images, but only 100 that differ


@pytest.mark.parametrize("kinds", [1, 20])
def test_images_that_all_have_copies_are_not_damped(kinds):
    x = np.tile(features(kinds)[0], (400 // kinds, 1))
    space = fit_space(x, dim=12, n_bits=8, neighbors=True)
    plain = fit_space(x, dim=12, n_bits=8)
    assert np.isfinite(space.weight).all()
    assert (space.weight == plain.weight).all()


def test_bits_are_chosen_by_recall():
    x, _ = features(600, 300)
    space = fit_space(x, dim=64)
    recall = space.facts["codes"]["recall"]
    assert str(space.n_bits) in recall
    below = [bits for bits, found in recall.items() if int(bits) < space.n_bits]
    assert all(recall[bits] < 0.95 for bits in below)


def test_recall_of_codes_equals_a_loop():
    rng = np.random.default_rng(1)
    embedding = unit_rows(rng.normal(size=(90, 8)))
    codes = rng.integers(0, 256, (90, 2), np.uint8)
    found = recall_of_codes(embedding, codes, k=5, shortlist=200)
    hits = 0
    for i in range(90):
        others = [j for j in range(90) if j != i]
        near = sorted(others, key=lambda j: -float(embedding[i] @ embedding[j]))[:5]
        bits = {j: int(np.unpackbits(codes[i] ^ codes[j]).sum()) for j in others}
        listed = sorted(others, key=lambda j: (bits[j], j))[:9]  # a tenth of 90 images
        hits += len(set(near) & set(listed))
    assert found == pytest.approx(hits / (5 * 90))


def test_the_probe_is_the_ridge_regression_with_the_least_leave_one_out_error():
    x, kind = features(120, 20)
    u = unit_rows(x).astype(np.float64)
    truth = np.stack([kind % 2 == 0, kind < 3], axis=1)
    probe = fit_probe(u, truth, ["even", "low"])
    energy = np.linalg.svd(u - u.mean(0), compute_uv=False) ** 2
    errors, ranked = {}, {}
    for penalty in 10.0 ** np.arange(-4, 3) * energy.mean():
        apart = np.empty(truth.shape)
        for i in range(len(u)):
            rest = np.arange(len(u)) != i
            apart[i] = Ridge(penalty).fit(u[rest], truth[rest]).predict(u[i : i + 1])[0]
        errors[penalty] = np.mean((apart - truth) ** 2)
        ranked[penalty] = np.mean(
            [average_precision_score(truth[:, c], apart[:, c]) for c in range(2)]
        )
    best = min(errors, key=errors.get)
    assert probe.facts["average_precision"] == pytest.approx(ranked[best], abs=1e-4)
    values = Ridge(best).fit(u, truth).predict(u)
    logits = u @ probe.weight + probe.bias
    for c in range(2):  # an affine function of the regression's values
        assert np.corrcoef(values[:, c], logits[:, c])[0, 1] == pytest.approx(1, abs=1e-6)


def test_label_scores_are_probabilities_of_images_that_were_not_fitted():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 24))
    logit = 10 * (x / np.linalg.norm(x, axis=1, keepdims=True))[:, :3].sum(axis=1) - 1
    truth = (rng.random(3000) < 1 / (1 + np.exp(-logit)))[:, None]
    space = fit_space(x[:2000], dim=8, n_bits=8, labels=truth[:2000], label_names=["noisy"])
    scores = space.encode(x[2000:]).label_scores[:, 0]
    share, predicted = calibration_curve(truth[2000:, 0], scores, n_bins=5, strategy="quantile")
    assert np.abs(share - predicted).max() < 0.12
    assert space.facts["probe"]["calibration_error"] < 0.05


def test_images_without_annotation_and_rare_labels_are_left_out_of_the_probe():
    x, kind = features(200, 16)
    labels = np.stack([kind < 4, np.arange(200) < 3, kind >= 0], axis=1).astype(float)
    labels[150:] = np.nan
    space = fit_space(x, dim=8, n_bits=8, labels=labels, label_names=["low", "rare", "all"])
    assert space.label_names == ("low",)
    assert space.facts["probe"]["left_out"] == ["rare", "all"]
    assert space.facts["probe"]["images"] == 150
    only = fit_space(x[:150], dim=8, n_bits=8, labels=labels[:150, :1], label_names=["low"])
    gap = space.encode(x).label_scores - only.encode(x).label_scores
    assert np.abs(gap).max() < 1e-5
    with pytest.raises(UsageError, match="cannot be learned"):
        fit_space(x, dim=8, labels=labels[:, 1:], label_names=["rare", "all"])


def test_a_file_holds_all_of_a_space():
    x, kind = features()
    space = fit_space(
        x, dim=12, n_bits=16, labels=(kind < 2)[:, None], label_names=["ü"], text_features=x[:9]
    )
    again = Space.from_bytes(space.to_bytes(), "space.safetensors")
    assert again.fingerprint == space.fingerprint
    assert again.facts == space.facts
    ours, theirs = space.encode(x), again.encode(x)
    assert (ours.code == theirs.code).all()
    assert (ours.embedding == theirs.embedding).all()
    assert (ours.label_scores == theirs.label_scores).all()
    ours, theirs = space.encode_text(x), again.encode_text(x)
    assert (ours.embedding == theirs.embedding).all()
    assert (ours.code == theirs.code).all()
    assert (space.texts == again.texts).all()
    other = fit_space(x[1:], dim=12, n_bits=16)
    assert other.fingerprint != space.fingerprint
    for broken in (b"", b"{}", space.to_bytes()[:-1], space.to_bytes()[8:]):
        with pytest.raises(ModelError, match=r"a\.safetensors is broken"):
            Space.from_bytes(broken, "a.safetensors")


def test_texts_are_centered_on_texts():
    x, _ = features()
    texts = np.random.default_rng(3).normal(size=(30, 48)) + 5
    space = fit_space(x, dim=12, n_bits=8, text_features=texts)
    found = space.encode_text(texts)
    u = unit_rows(texts)
    wanted = (u - u.mean(0)) @ space.weight
    np.testing.assert_allclose(found.embedding, unit_rows(wanted[:, :12]), atol=1e-4)
    bits = np.unpackbits(found.code, axis=1, bitorder="little").astype(bool)
    clear = np.abs(wanted[:, 12:]) > 1e-6
    assert (bits == (wanted[:, 12:] > 0))[clear].all()
    np.testing.assert_array_equal(space.texts, u)
    with pytest.raises(UsageError, match="no text tower"):
        fit_space(x, dim=12).encode_text(texts)


def test_few_images_still_give_all_dimensions():
    x, _ = features(5, 40)
    encoding = fit_space(x, dim=32, n_bits=16).encode(features(50, 40, seed=4)[0])
    assert encoding.embedding.shape == (50, 32)
    assert encoding.code.shape == (50, 2)
    assert np.isfinite(encoding.embedding).all()


def test_what_cannot_be_fitted_is_named():
    x, _ = features(50, 16)
    for wrong, message in [
        ({"dim": 17}, "--dim 17"),
        ({"dim": 0}, "--dim 0"),
        ({"n_bits": 17}, "--bits 17"),
    ]:
        with pytest.raises(UsageError, match=message):
            fit_space(x, **wrong)
    with pytest.raises(UsageError, match="2 images"):
        fit_space(x[:1])
    x[3, 2] = np.nan
    with pytest.raises(UsageError, match="not finite"):
        fit_space(x)
    with pytest.raises(ModelError, match="returned features"):
        identity_space(8).encode(x)


def test_the_description_names_what_was_measured():
    x, kind = features()
    space = fit_space(x, dim=12, n_bits=16, labels=(kind < 2)[:, None], label_names=["a"])
    line = describe_space(space)
    assert "400 images: 12 dimensions, 16 bits" in line
    assert "recall@20" in line
    assert "1 labels (average precision" in line
    assert describe_space(identity_space(7)) == "7 dimensions, as the model returns them"

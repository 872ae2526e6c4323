"""Codes that are fitted to an archive's images, for encoders of ours; nothing is encoded twice."""

import shutil

import numpy as np
import pytest
from PIL import Image

import landcue as api
import tiny_models
from landcue.archive import reading
from landcue.archive.indexing import IndexOptions, index_source, reembed_archive
from landcue.codes import pack_bits
from landcue.errors import ArchiveError, ModelError, UsageError
from landcue.models import load_model
from landcue.models.fitted_codes import CODES, FittedCodes, fit_codes
from landcue.models.load import BUILTIN, describe_model, is_builtin
from landcue.models.locations import similar_regions
from landcue.models.space import unit_rows
from landcue.types import Encoding


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    tiny_models.write_pictures(folder, 24)
    return folder


@pytest.fixture(scope="module")
def coded(photos, tmp_path_factory):
    """An archive of the built-in encoder with codes of 32 bits."""
    folder = tmp_path_factory.mktemp("coded") / "archive"
    lines = []
    options = IndexOptions(bits=32)
    report = index_source(photos, folder, options=options, notify=lines.append)
    return folder, report, lines


def encoding(n, n_bits, rng, own="random"):
    """Return clustered embeddings, with codes of chance or of the embedding itself."""
    centers = rng.normal(size=(12, 32))
    x = unit_rows(centers[rng.integers(12, size=n)] + 0.6 * rng.normal(size=(n, 32)))
    values = (
        rng.normal(size=(n, n_bits)) if own == "random" else x[:, :n_bits] - x[:, :n_bits].mean(0)
    )
    return Encoding(x, pack_bits(values > 0), n_bits, np.zeros((n, 0), np.float32))


def test_codes_are_fitted_where_their_recall_is_higher_than_that_of_the_encoders_own():
    rng = np.random.default_rng(3)
    poor, few = encoding(400, 32, rng), encoding(127, 32, rng)
    space = fit_codes(poor)
    assert (space.dim, space.n_bits) == (0, 32)
    codes = space.facts["codes"]
    assert codes["images"] == 200
    assert codes["recall"]["32"] > 0.8 > 0.5 > codes["own"]["recall"]
    assert fit_codes(few) is None  # too few to compare
    assert fit_codes(few, 16).n_bits == 16  # but on demand
    fitted = space.encode(poor.embedding).code
    same = Encoding(poor.embedding, fitted, 32, poor.label_scores)
    assert fit_codes(same) is None  # the encoder's own are as good


def test_bits_are_signs_of_centered_and_turned_embeddings():
    found = encoding(300, 0, np.random.default_rng(1))
    space = fit_codes(found, 8)
    x = found.embedding.astype(np.float64)
    values = x @ space.weight.astype(np.float64) + space.bias
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)  # centered
    np.testing.assert_allclose(space.weight.T @ space.weight, np.eye(8), atol=1e-5)  # turned
    spread = np.linalg.eigvalsh(np.cov(x.T))[::-1][:8]
    np.testing.assert_allclose(values.var(0, ddof=1).sum(), spread.sum(), rtol=1e-5)  # principal
    np.testing.assert_array_equal(space.encode(found.embedding).code, pack_bits(values > 0))


def test_an_encoder_without_codes_gets_the_fewest_bits_of_enough_recall_and_labels():
    rng = np.random.default_rng(2)
    found = encoding(300, 0, rng)
    labels = (found.embedding[:, :2] > 0).astype(float)
    space = fit_codes(found, labels=labels, label_names=["a", "b"])
    assert space.n_bits == 32  # the embedding has no more
    assert space.label_names == ("a", "b")
    scores = space.encode(found.embedding).label_scores
    assert np.mean((scores > 0.5) == (labels > 0)) > 0.9
    rare = np.zeros((300, 1))
    space = fit_codes(found, labels=rare, label_names=["a"])
    assert space.label_names == ()
    assert "cannot be learned" in space.facts["no_labels"]
    with pytest.raises(UsageError, match="--bits 33: the model's embedding allows 0 to 32 bits"):
        fit_codes(found, 33)


def test_embeddings_and_labels_stay_the_encoders_own(coded, photos):
    folder, report, lines = coded
    builtin = load_model(BUILTIN)
    assert report.codes == lines[0]
    assert "codes fitted on 24 images: 32 bits (two-stage: recall@20" in report.codes
    archive = api.open(folder)
    assert archive.verify() == ()
    assert (archive.manifest.dim, archive.manifest.n_bits) == (builtin.dim, 32)
    assert archive.manifest.label_names == builtin.label_names
    columns = archive.columns()
    wanted = builtin.encode([photos / path for path in columns.paths])
    np.testing.assert_allclose(columns.embedding, wanted.embedding, atol=2e-6)
    np.testing.assert_allclose(archive.label_scores(), wanted.label_scores, atol=2e-6)
    own = archive.encoder()
    assert own.fingerprint == archive.manifest.fingerprint != builtin.fingerprint
    again = own.encode([photos / path for path in columns.paths])
    np.testing.assert_array_equal(columns.code, again.code)
    for mode in ("embedding", "code", "cue", "two-stage"):
        assert archive.search(photos / "sand003.png", k=1, mode=mode).ids == ("sand003.png",)
    image = own.prepare(np.full((80, 80, 3), 90, np.uint8))
    ours = similar_regions(own, image, wanted.embedding[:1])
    theirs = similar_regions(builtin, image, wanted.embedding[:1])
    np.testing.assert_array_equal(ours.parts, theirs.parts)
    card, facts = describe_model(folder / "model")
    assert "Codes fitted on 24 images: 32 bits" in card
    assert (facts["fingerprint"], facts["codes"]["n_bits"]) == (own.fingerprint, 32)


def test_codes_are_kept_for_new_images_and_fitted_again_by_reembed(coded, photos, tmp_path):
    folder = tmp_path / "archive"
    shutil.copytree(coded[0], folder)
    before = api.open(folder).manifest
    tiny_models.write_pictures(tmp_path / "more", 4, first=60)
    for model in (None, BUILTIN):
        assert index_source(tmp_path / "more", folder, model=model).records == 28
        assert api.open(folder).manifest.fingerprint == before.fingerprint
    with pytest.raises(UsageError, match="--bits 16: the archive has 32"):
        index_source(tmp_path / "more", folder, options=IndexOptions(bits=16))
    reembed_archive(folder, bits=16)
    after = api.open(folder)
    assert (after.manifest.n_bits, after.manifest.dim) == (16, before.dim)
    assert after.verify() == ()
    reembed_archive(folder)  # too few images to do without bits
    assert is_builtin(api.open(folder).encoder())


def test_few_images_keep_the_encoders_own_codes_and_the_report_says_so(photos, tmp_path):
    report = index_source(photos, tmp_path / "archive")
    assert report.codes == (
        "the encoder's own codes, 64 bits: 128 images or more are needed to fit codes to them"
    )
    assert report.to_json()["codes"] == report.codes
    assert api.open(tmp_path / "archive").manifest.fingerprint == load_model(BUILTIN).fingerprint


def test_an_archive_of_other_codes_or_another_adaptation_is_refused(coded, photos, tmp_path):
    folder = tmp_path / "archive"
    index_source(photos, folder, options=IndexOptions(bits=16))
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ArchiveError, match=r"was made by model .* not by") as error:
        index_source(photos, folder, model=coded[0] / "model")
    assert "\n" not in str(error.value)
    assert (folder / "manifest.json").read_bytes() == before
    shutil.copyfile(coded[0] / "model" / CODES, folder / "model" / CODES)
    with pytest.raises(ArchiveError, match=rf"{CODES} is damaged: its checksum differs"):
        api.open(folder)
    (folder / "model" / CODES).write_bytes(b"broken")
    with pytest.raises(ModelError, match=rf"{CODES} is broken"):
        load_model(folder / "model")


def test_codes_of_another_encoder_are_refused():
    found = encoding(300, 0, np.random.default_rng(1))
    with pytest.raises(ModelError, match="was not fitted to this encoder"):
        FittedCodes(load_model(BUILTIN), fit_codes(found, 8))


def test_no_image_is_read_twice_and_one_that_changed_meanwhile_is_read_again(
    photos, tmp_path, monkeypatch
):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    names = []
    read = reading.read_picture

    def counted(*args, **kwargs):
        names.append(kwargs["name"])
        return read(*args, **kwargs)

    monkeypatch.setattr(reading, "read_picture", counted)
    other = tiny_models.picture("water", 999)

    def change(line):
        Image.fromarray(other).save(folder / "sand003.png")

    report = index_source(
        folder, tmp_path / "archive", options=IndexOptions(bits=32), notify=change
    )
    assert report.added == 24
    assert sorted(names) == sorted([*(p.name for p in folder.iterdir()), "sand003.png"])
    archive = api.open(tmp_path / "archive")
    wanted = archive.encoder().encode([other]).embedding[0]
    row = archive.columns().paths.index("sand003.png")
    np.testing.assert_allclose(archive.columns().embedding[row], wanted, atol=2e-6)

"""Codes that are fitted to an archive's images, for encoders of ours; nothing is encoded twice."""

import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import landcue as api
import remembered
import tiny_models
from landcue.archive import reading
from landcue.archive.fitting import outgrown
from landcue.archive.indexing import IndexOptions, index_source, reembed_archive
from landcue.cli.main import app
from landcue.codes import pack_bits
from landcue.errors import ArchiveError, ModelError, UsageError
from landcue.models import load_model
from landcue.models.fitted_codes import CODES, FittedCodes, fit_codes
from landcue.models.load import BUILTIN, describe_model, is_builtin
from landcue.models.locations import similar_regions
from landcue.models.space import unit_rows
from landcue.types import Encoding


@pytest.fixture(scope="module", autouse=True)
def each_image_once():
    with remembered.encodings():
        yield


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


def test_embeddings_are_damped_and_the_first_part_is_centered():
    rng = np.random.default_rng(4)
    kind = rng.integers(0, 30, 900)
    x = rng.normal(size=(30, 24))[kind] + 0.7 * rng.normal(size=(900, 24)) + 0.5
    x[:, 3] += 3 * rng.normal(size=900)  # what all kinds vary in
    x = unit_rows(x)
    none = Encoding(x, np.empty((900, 0), np.uint8), 0, np.empty((900, 0), np.float32))
    space = fit_codes(none, 8, centered=16)
    assert (space.dim, space.n_bits, space.facts["neighbors"]) == (24, 8, 10)
    out = x @ space.weight[:, :24] + space.bias[:24]
    np.testing.assert_allclose(out[:, :16].mean(0), 0, atol=1e-5)
    assert np.abs(out[:, 16:].mean(0)).max() > 0.05
    squares = np.square(out).sum(0) / len(x)
    np.testing.assert_allclose([squares[:16].sum(), squares[16:].sum()], 1, rtol=1e-4)
    found = space.encode(x)
    np.testing.assert_allclose(space.invert(found.embedding), x, atol=2e-5)
    np.testing.assert_array_equal(
        found.code, pack_bits(x @ space.weight[:, 24:32] + space.bias[24:32] > 0)
    )

    def right(embedding):
        near = np.argsort(-(embedding @ embedding.T), axis=1)[:, 1:6]
        return (kind[near] == kind[:, None]).mean()

    assert right(found.embedding) > right(x) + 0.01
    few = Encoding(x[:255], none.code[:255], 0, none.label_scores[:255])
    assert fit_codes(few, 8, centered=16).dim == 0


def test_the_fit_can_be_undone_for_any_image_where_neighbors_differ_along_the_mean():
    rng = np.random.default_rng(1)
    width, angle = 256, np.radians(rng.uniform(10, 85, 900))[:, None]
    kinds = rng.normal(size=(200, width)) * (np.arange(width) < width - 1)
    x = np.sin(angle) * unit_rows(kinds)[rng.integers(0, 200, 900)]
    x[:, -1:] = np.cos(angle)
    x = unit_rows(x + 0.01 * rng.normal(size=x.shape))
    none = Encoding(x, np.empty((900, 0), np.uint8), 0, np.empty((900, 0), np.float32))
    space = fit_codes(none, 8, centered=128)
    assert space.dim == width
    for u in (x, -x, unit_rows(rng.normal(size=(300, width)))):
        np.testing.assert_allclose(space.invert(space.encode(u).embedding), u, atol=1e-4)


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


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """Pictures of 300 places at two dates, and an archive of each date, fitted by default.

    The first pictures are of 9 squares in two colors: of all their regions, 2 a side, 16 differ.
    """
    folder = tmp_path_factory.mktemp("dated")
    rng = np.random.default_rng(0)
    colors = np.array([(40, 90, 60), (200, 170, 120)])
    archives = []
    for year in (2020, 2021):
        lines = ["path,west,south,east,north,time"]
        for i in range(300):
            squares = colors[((100 + i) >> np.arange(9)) & 1].reshape(3, 3, 3)
            if year == 2021:
                squares = squares + rng.integers(-3, 4, (3, 3, 3))
                if i >= 270:
                    squares = rng.integers(20, 236, (3, 3, 3))  # a change
            image = np.kron(squares, np.ones((16, 16, 1))).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{year}-{i:03}.png")
            west = f"{0.01 * i:.2f},1,{0.01 * i + 0.01:.2f},1.01"
            lines.append(f"{year}-{i:03}.png,{west},{year}-06-01T00:00:00Z")
        table = folder / f"{year}.csv"
        table.write_text("\n".join(lines) + "\n")
        archives.append(folder / f"a{year}")
        index_source(table, archives[-1])
    both = folder / "both.csv"
    both.write_text(
        (folder / "2020.csv").read_text() + (folder / "2021.csv").read_text()[len(lines[0]) + 1 :]
    )
    archives.append(folder / "own")
    index_source(both, archives[-1], options=IndexOptions(fit=False))
    return folder, [api.open(one) for one in archives]


def test_archives_that_were_fitted_apart_are_compared_in_the_space_of_their_encoder(dated):
    folder, (one, other, own) = dated
    builtin = load_model(BUILTIN)
    assert own.manifest.fingerprint == builtin.fingerprint
    assert len({a.manifest.fingerprint for a in (one, other, own)}) == 3
    mine = own.columns()
    for year, archive in ((2020, one), (2021, other)):
        columns = archive.columns()
        rows = [mine.find(id_) for id_ in columns.ids]
        space = archive.encoder().space
        assert space.dim == builtin.dim
        assert np.abs(columns.embedding - mine.embedding[rows]).max() > 0.05
        np.testing.assert_allclose(space.invert(columns.embedding), mine.embedding[rows], atol=1e-4)
        np.testing.assert_allclose(archive.label_scores(), own.label_scores()[rows], atol=1e-5)
        assert archive.verify() == ()
        assert archive.search(folder / f"{year}-007.png", k=1).ids == (f"{year}-007.png",)
    periods = {"before": "2021", "after": "2021", "alpha": 1.0}
    wanted = {(c.before, c.after): c for c in own.change(**periods)}
    found = one.change(**periods, other=other)
    assert len(found) == len(wanted) == 300
    for change in found:
        same = wanted[change.before, change.after]
        assert change.distance == pytest.approx(same.distance, abs=1e-4)
        assert change.z == pytest.approx(same.z, abs=0.02)


def test_vectors_of_another_archive_are_converted(dated):
    _, (one, other, own) = dated
    query = one.embed("2020-003.png")
    assert other.embed("2021-003.png") @ query.T != pytest.approx(1, abs=0.01)
    moved = other.convert(query, one)
    np.testing.assert_allclose(one.convert(moved, other), query, atol=1e-4)
    np.testing.assert_allclose(own.convert(query, one), own.embed("2020-003.png"), atol=1e-4)
    np.testing.assert_allclose(one.convert(own.embed("2020-003.png")), query, atol=1e-4)
    assert other.search(moved, k=1).ids == ("2021-003.png",)
    np.testing.assert_allclose(other.convert(3 * query[0].astype(float), one), moved, atol=1e-5)
    assert other.convert(query[:0], one).shape == (0, 256)
    for wrong, what in (
        (query * 0, "length 0"),
        (query * np.nan, "length nan"),
        (query[:, 1:], "255"),
    ):
        for archive, source in ((own, None), (one, None), (other, one)):
            with pytest.raises(UsageError, match=what):
                archive.convert(wrong, source)


def test_remarks_compare_the_encoders_own_embeddings(dated):
    folder, (one, _, own) = dated
    mine = own.columns()
    known = one.backend.typical("embedding")
    rows = [mine.find(one.ids()[row]) for row in known.sample.rows]
    np.testing.assert_allclose(known.sample.embedding, mine.embedding[rows], atol=1e-4)
    assert not np.array_equal(known.near, known.nearest)  # percentiles are of fitted ones
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (48, 48, 3)).astype(np.uint8))
    assert "nothing here is very similar" in one.search(noise).remark
    assert one.search(folder / "2021-007.png").remark is None


def test_nothing_is_fitted_without_fit(dated, tmp_path):
    folder, (one, _, own) = dated
    with pytest.raises(UsageError, match="undo that with landcue archive reembed --no-fit"):
        index_source(folder / "2020.csv", one.folder, options=IndexOptions(fit=False))
    with pytest.raises(UsageError, match="leave out --dim and --bits"):
        index_source(folder / "2020.csv", tmp_path / "a", options=IndexOptions(fit=False, bits=8))
    shutil.copytree(one.folder, tmp_path / "copy")
    reembed_archive(tmp_path / "copy", fit=False)
    found = api.open(tmp_path / "copy")
    assert is_builtin(found.encoder())
    rows = [own.columns().find(id_) for id_ in found.columns().ids]
    np.testing.assert_allclose(found.columns().embedding, own.columns().embedding[rows], atol=2e-6)
    reembed_archive(tmp_path / "copy")
    assert api.open(tmp_path / "copy").manifest.fingerprint == one.manifest.fingerprint


def test_an_archive_that_has_outgrown_its_fit_says_so_until_it_is_fitted_again(
    dated, coded, tmp_path
):
    folder, (one, _, _) = dated
    lines = (folder / "both.csv").read_text().splitlines()

    def grow(archive, start, stop, fit=True):
        table = folder / f"from-{start}.csv"
        table.write_text("\n".join([lines[0], *lines[1 + start : 1 + stop]]) + "\n")
        said = []
        options = IndexOptions(fit=fit)
        report = index_source(table, archive, options=options, notify=said.append)
        assert (report.outgrown in said) == bool(report.outgrown)
        assert report.to_json()["outgrown"] == report.outgrown
        return report.outgrown

    bare, few = tmp_path / "bare", tmp_path / "few"
    assert grow(bare, 0, 100) == grow(bare, 100, 200) == ""
    command = f"landcue archive reembed {bare}"
    assert grow(bare, 200, 260, fit=False) == ""  # so wanted
    assert grow(bare, 260, 300) == (
        "the archive was not fitted to its images and has 300 records now: fit it again with "
        + command
    )
    assert grow(bare, 260, 300) == ""  # it has not grown
    assert CliRunner().invoke(app, command.split()[1:]).exit_code == 0
    assert api.open(bare).encoder().space.dim
    assert grow(bare, 300, 310) == ""
    assert grow(few, 0, 130) == ""  # codes alone
    assert "was fitted when it had 130 records and has 260 now" in grow(few, 130, 260)
    fitted, own_codes = one.encoder(), load_model(BUILTIN)
    assert fitted.space.facts["records"] == 300
    assert outgrown(fitted, "a", 1199) == outgrown(own_codes, "a", 255) == ""
    assert outgrown(fitted, "a", 1200).endswith("landcue archive reembed a")
    small = api.open(coded[0]).encoder()
    assert outgrown(small, "a", 95) == ""
    assert outgrown(small, "a", 96).endswith("landcue archive reembed a --bits 32")
    assert outgrown(own_codes, "a", 10_000, regions=2) == ""


def test_embeddings_stay_the_encoders_own_beside_regions(dated):
    folder, (_, _, own) = dated
    lines = (folder / "2020.csv").read_text().splitlines()[: 1 + 256]  # what damping needs
    (folder / "some.csv").write_text("\n".join(lines) + "\n")
    index_source(folder / "some.csv", folder / "regions", options=IndexOptions(regions=2))
    found = api.open(folder / "regions")
    columns, mine = found.columns(), own.columns()
    rows = [mine.find(id_) for id_ in columns.ids]
    np.testing.assert_allclose(columns.embedding, mine.embedding[rows], atol=2e-6)
    assert found.encoder().space.facts["codes"]["recall"]  # its codes are fitted


def test_similar_regions_add_up_in_a_fitted_space(dated):
    _, (one, _, _) = dated
    encoder = one.encoder()
    image = encoder.prepare(np.random.default_rng(1).integers(0, 255, (48, 48, 3)).astype(np.uint8))
    query = one.embed("2020-003.png")
    found = similar_regions(encoder, image, query)
    wanted = float((encoder.encode(image[None]).embedding @ query.T).item())
    assert found.similarity == pytest.approx(wanted, abs=1e-4)
    assert found.parts.mean() == pytest.approx(wanted, abs=1e-4)


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


def test_the_fit_of_an_interrupted_call_is_used_only_if_it_is_what_is_asked_for(
    coded, photos, tmp_path
):
    folder = tmp_path / "archive"
    shutil.copytree(coded[0], folder)

    def stop(stage, done, total):
        if stage == "encoding again":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reembed_archive(folder, bits=8, progress=stop)
    reembed_archive(folder, bits=16)
    assert api.open(folder).manifest.n_bits == 16
    with pytest.raises(KeyboardInterrupt):
        reembed_archive(folder, bits=8, progress=stop)
    tiny_models.write_pictures(tmp_path / "more", 4, first=60)
    index_source(tmp_path / "more", folder)
    reembed_archive(folder, bits=8)
    assert api.open(folder).encoder().space.facts["records"] == 28


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


def test_a_folder_of_other_files_is_refused_before_an_image_is_encoded(photos, tmp_path):
    folder, seen = tmp_path / "archive", []
    folder.mkdir()
    (folder / "thesis.docx").write_bytes(b"years of work")
    with pytest.raises(ArchiveError, match=r"not empty \(thesis\.docx"):
        index_source(
            photos,
            folder,
            options=IndexOptions(bits=32),
            progress=lambda *reported: seen.append(reported),
        )
    assert seen == []


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

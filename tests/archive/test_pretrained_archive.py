"""Archives of encoders from other libraries: fitted codes and labels, kept and fitted again."""

import json

import numpy as np
import pytest

import landcue as api
import tiny_models
from commands import error_line, landcue
from landcue.archive.fitting import choose_sample
from landcue.archive.indexing import IndexOptions, index_source, reembed_archive
from landcue.models import load_model
from landcue.models.pretrained.own_models import as_pretrained
from landcue.models.space import unit_rows
from landcue.types import Record


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures, their labels, and two models."""
    folder = tmp_path_factory.mktemp("made")
    tiny_models.write_pictures(folder / "photos", 60)
    file = tiny_models.onnx_model(folder / "tiny.onnx", n_features=40)
    file.with_suffix(".yaml").write_text("size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\n")
    tiny_models.timm_weights(folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def indexed(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexed") / "archive"
    lines = []
    options = IndexOptions(labels=made / "labels.csv", dim=16, bits=32)
    model = f"onnx:{made / 'tiny.onnx'}"
    report = index_source(
        made / "photos", folder, model=model, options=options, notify=lines.append
    )
    assert report.added == 60
    return folder, lines


def test_codes_and_labels_are_fitted_and_what_was_measured_is_printed(indexed):
    folder, lines = indexed
    assert len(lines) == 1
    assert "fitted on 60 images: 16 dimensions, 32 bits (two-stage" in lines[0]
    assert "4 labels (average precision" in lines[0]
    archive = api.open(folder)
    assert (archive.manifest.dim, archive.manifest.n_bits) == (16, 32)
    assert archive.manifest.label_names == ("city", "field", "sand", "water")
    assert archive.modes == ("auto", "embedding", "code", "cue", "two-stage")
    predicted = [archive.predicted_of(id_) == archive.labels_of(id_) for id_ in archive.ids()]
    assert np.mean(predicted) > 0.9


def test_every_mode_finds_images_of_the_kind(indexed):
    archive = api.open(indexed[0])
    new = tiny_models.picture("water", 777)
    for mode in ("embedding", "code", "cue", "two-stage"):
        hits = archive.search(new, k=5, mode=mode)
        assert all(hit.labels == ("water",) for hit in hits), mode


def test_stored_vectors_are_those_of_the_archives_own_model(indexed, made):
    archive = api.open(indexed[0])
    encoder = load_model(archive.model_folder)
    assert encoder.fingerprint == archive.manifest.fingerprint
    columns = archive.columns()
    again = encoder.encode([made / "photos" / path for path in columns.paths])
    np.testing.assert_allclose(columns.embedding, again.embedding, atol=1e-6)
    np.testing.assert_allclose(archive.label_scores(), again.label_scores, atol=1e-6)
    assert archive.verify() == ()


def test_new_images_use_the_same_space(indexed, made, tmp_path):
    archive = tmp_path / "archive"
    model = f"onnx:{made / 'tiny.onnx'}"
    index_source(made / "photos", archive, model=model, options=IndexOptions(dim=8, bits=16))
    mark = api.open(archive).manifest.fingerprint
    tiny_models.write_pictures(tmp_path / "more", 8, first=60)
    for again in (model, None):
        report = index_source(tmp_path / "more", archive, model=again)
        assert report.records == 68
        assert api.open(archive).manifest.fingerprint == mark


def test_reembed_fits_again_and_can_change_sizes_and_model(indexed, made, tmp_path):
    archive = tmp_path / "archive"
    model = f"onnx:{made / 'tiny.onnx'}"
    options = IndexOptions(dim=8, bits=16)
    index_source(made / "photos", archive, model=model, options=options)
    before = api.open(archive).manifest
    index_source(made / "photos", archive, options=IndexOptions(labels=made / "labels.csv"))
    assert api.open(archive).manifest.label_names == ()  # the space is kept
    lines = []

    def stop(stage, done, total):
        if stage == "encoding again":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reembed_archive(archive, dim=9, progress=stop)
    reembed_archive(archive, dim=12, notify=lines.append)
    opened = api.open(archive)
    assert (opened.manifest.dim, len(opened.manifest.label_names)) == (12, 4)
    assert opened.manifest.fingerprint != before.fingerprint
    assert len(lines) == 1
    assert opened.verify() == ()
    assert opened.search(tiny_models.picture("city", 999), k=1)[0].labels == ("city",)
    weights = made / "weights.safetensors"
    done = landcue(
        *("archive", "reembed", archive, "--model", f"timm:{tiny_models.TIMM}@{weights}"),
        *("--bits", "0", "--json"),
    )
    assert json.loads(done.stdout)["records"] == 60, done.stderr
    opened = api.open(archive)
    assert (opened.manifest.dim, opened.manifest.n_bits) == (96, 0)
    assert opened.search("sand003.png", k=3).ids[0].startswith("sand")


def test_export_and_import_keep_codes_and_labels(indexed, tmp_path):
    folder, _ = indexed
    table = tmp_path / "table.parquet"
    done = landcue("archive", "export", folder, "--geoparquet", table)
    assert done.returncode == 0, done.stderr
    columns = ("--embedding", "embedding", "--code", "code", "--bits", 32, "--labels", "labels")
    done = landcue("archive", "import", table, tmp_path / "copy", *columns)
    assert done.returncode == 0, done.stderr
    ours, theirs = api.open(folder), api.open(tmp_path / "copy")
    gap = ours.columns().embedding - theirs.columns().embedding  # import scales to length 1
    assert np.abs(gap).max() < 1e-6
    np.testing.assert_array_equal(ours.columns().code, theirs.columns().code)
    assert ours.search("city002.png", k=5, mode="code").ids == (
        theirs.search("city002.png", k=5, mode="code").ids
    )


def test_the_builtin_is_fitted_to_an_archive_on_demand(made, tmp_path):
    folder = tmp_path / "fitted"
    api.index(made / "photos", folder, options=IndexOptions(dim=8, bits=16))
    archive = api.open(folder)
    assert archive.columns().embedding.shape[1] == 8
    features = as_pretrained(api.load_model("builtin"))
    one = sorted((made / "photos").iterdir())[0]
    u = unit_rows(features.features([one]))
    own = api.load_model(folder / "model")
    assert (own.dim, own.n_bits) == (8, 16)
    expected = unit_rows(u @ own.space.weight[:, :8] + own.space.bias[:8])
    np.testing.assert_allclose(own.encode([one]).embedding, expected, atol=1e-5)
    api.index(made / "photos", folder)
    assert len(api.open(folder)) == len(archive)


def test_mistakes_are_named_in_one_line(indexed, made, tmp_path):
    folder, _ = indexed
    model = f"onnx:{made / 'tiny.onnx'}"
    new = tmp_path / "new"
    photos = made / "photos"
    index = ("index", photos)
    assert "--dim 17: the archive has 16" in error_line(
        2, *index, folder, "--model", model, "--dim", 17
    )
    assert "--dim 41: the model's features have 40" in error_line(
        2, *index, new, "--model", model, "--dim", 41
    )
    assert "--dim 2561: the model's features have 2560" in error_line(2, *index, new, "--dim", 2561)
    other = f"timm:{tiny_models.TIMM}@{made / 'weights.safetensors'}"
    assert "was made by model" in error_line(1, *index, folder, "--model", other)
    one = tmp_path / "one"
    tiny_models.write_pictures(one, 1)
    assert "2 are needed" in error_line(1, *index[:1], one, new, "--model", model)
    assert "unknown kind of model" in error_line(2, *index, new, "--model", "onx:a.onnx")
    assert not new.exists()


def test_an_encoder_that_returns_no_numbers_is_refused(made, tmp_path):
    import onnx
    from onnx import numpy_helper

    file = tmp_path / "nan.onnx"
    proto = onnx.load(made / "tiny.onnx")
    kernel = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    kernel[0] = np.nan
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    onnx.save(proto, file)
    text = (made / "tiny.yaml").read_text()
    file.with_suffix(".yaml").write_text(text)
    line = error_line(1, "index", made / "photos", tmp_path / "new", "--model", f"onnx:{file}")
    assert "values that are not finite for 60 of 60 images" in line
    assert not (tmp_path / "new").exists()


def test_the_sample_leaves_test_parts_out_and_holds_annotated_images(tmp_path):
    records = [
        Record(
            f"{i:05}",
            tmp_path / f"{i}.png",
            labels=("a",) if i % 50 == 0 else None,
            part="test" if i % 3 == 0 else None,
        )
        for i in range(5000)
    ]
    chosen = choose_sample(records, n=100)
    assert chosen == choose_sample(records, n=100)
    assert all(record.part is None for record in chosen)
    annotated = [record for record in records if record.labels and record.part is None]
    assert sum(record.labels is not None for record in chosen) == len(annotated)
    assert 100 <= len(chosen) <= 100 + len(annotated)
    assert [record.id for record in chosen] == sorted(record.id for record in chosen)


def test_bands_of_scenes_are_found_by_name_and_scaled_as_the_model_needs(tmp_path):
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(0)
    values = rng.integers(0, 10000, (5, 128, 128)).astype(np.uint16)
    places = from_origin(500000, 5000000, 10, 10)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", width=128, height=128, count=5,
        dtype="uint16", crs="EPSG:32633", transform=places,
    ) as file:  # fmt: skip
        file.write(values)
        for i, name in enumerate(("B02", "B03", "B04", "B08", "B11"), start=1):
            file.set_band_description(i, name)
    model = tiny_models.onnx_model(tmp_path / "bands.onnx", bands=4)
    model.with_suffix(".yaml").write_text(
        "size: 32\nmean: [0, 0, 0, 0]\nstd: [1, 1, 1, 1]\nbands: [B4, B8, B11, B2]\n"
        "value_range: [0, 10000]\n"
    )
    options = IndexOptions(chip="32px", dim=4, bits=4)
    archive = tmp_path / "archive"
    uri = f"onnx:{model}"
    report = index_source(tmp_path / "scene.tif", archive, model=uri, options=options)
    assert report.added == 16
    opened = api.open(archive)
    encoder = load_model(opened.model_folder)
    record = opened.record(opened.ids()[5])
    window = record.window
    rows = slice(window.row, window.row + 32)
    columns = slice(window.col, window.col + 32)
    chosen = values[[2, 3, 4, 0], rows, columns].transpose(1, 2, 0)
    pixels = np.clip(np.round(chosen / 10000 * 255), 0, 255).astype(np.uint8)
    wanted = encoder.encode([pixels]).embedding[0]
    found = opened.columns().embedding[5]
    assert float(wanted @ found) > 0.9999
    wrong = model.with_suffix(".yaml").read_text().replace("B11", "B12")
    model.with_suffix(".yaml").write_text(wrong)
    with pytest.raises(api.LandcueError, match="no band named 'B12'"):
        index_source(tmp_path / "scene.tif", tmp_path / "new", model=uri, options=options)


def test_files_sent_to_workers_hold_the_whole_encoder(indexed):
    from landcue.archive.ray_encoding import ModelFiles

    archive = api.open(indexed[0])
    sent = ModelFiles.read(archive.model_folder, lambda folder, threads: load_model(folder))
    picture = [tiny_models.picture("city", 5)]
    ours, theirs = archive.encoder().encode(picture), sent(1).encode(picture)
    assert sent(1).fingerprint == archive.manifest.fingerprint
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-6)
    np.testing.assert_array_equal(ours.code, theirs.code)

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from landcue.archive.archive import ArchiveFolder
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.images import read_image
from landcue.errors import ArchiveError, DataError, LandcueError, ModelError, UsageError
from landcue.types import Bounds, Encoding, Record

NAMES = [f"{'ab'[i % 2]}/{i:02}.png" for i in range(30)]


@pytest.fixture
def source(tmp_path, tools):
    root = tmp_path / "source"
    return root, tools.write_images(root, NAMES)


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


def counts(report):
    return {
        name: getattr(report, name)
        for name in ("added", "updated", "refreshed", "unchanged", "vanished", "pruned")
        if getattr(report, name)
    }


def test_new_archive_holds_what_the_encoder_says(source, archive, tools):
    root, records = source
    encoder = tools.PixelEncoder()
    steps = []
    report = ingest(
        SourceImages(records[::-1], root),
        archive,
        encoder,
        options=EncodingOptions(batch_size=7, commit_every=10),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert counts(report) == {"added": 30}
    assert report.records == 30
    assert report.images_per_second > 0
    assert steps == [(7, 30), (14, 30), (21, 30), (28, 30), (30, 30)]

    opened = ArchiveFolder.open(archive)
    columns = opened.columns()
    assert columns.ids == tuple(sorted(NAMES))
    assert columns.paths == columns.ids
    by_id = {record.id: record for record in records}
    pixels = [encoder.prepare(read_image(by_id[id_].path)) for id_ in columns.ids]
    expected = encoder.encode(pixels)
    np.testing.assert_array_equal(columns.embedding, expected.embedding)
    np.testing.assert_array_equal(columns.code, expected.code)
    np.testing.assert_array_equal(opened.label_scores(), expected.label_scores)
    for row, id_ in enumerate(columns.ids):
        assert columns.find(id_) == row
        assert columns.labels.row(row) == by_id[id_].labels
        scores = zip(encoder.label_names, expected.label_scores[row], strict=True)
        assert columns.predicted.row(row) == tuple(name for name, score in scores if score >= 0.5)
    assert opened.verify() == ()
    assert opened.manifest.records == opened.count == 30


def test_same_run_again_changes_nothing(source, archive, tools):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    files = {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    encoder = tools.PixelEncoder()
    assert counts(ingest(SourceImages(records, root), archive, encoder)) == {"unchanged": 30}
    assert encoder.encoded == 0
    assert {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()} == files


def test_changed_new_touched_and_vanished_files(source, archive, tools):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    tools.write_image(records[3].path, seed=999)
    os.utime(records[3].path, ns=(1, 1))
    os.utime(records[5].path, ns=(2, 2))
    records[7].path.unlink()
    kept = [record for record in records if record.id != records[9].id]
    kept += tools.write_images(root, ["new/1.png", "new/2.png"], first_seed=500)

    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(kept, root), archive, encoder)
    assert counts(report) == {
        "added": 2, "updated": 1, "refreshed": 1, "unchanged": 26, "vanished": 2,
    }  # fmt: skip
    assert encoder.encoded == 3
    assert report.skipped == ()
    assert report.records == 32
    columns = ArchiveFolder.open(archive).columns()
    changed = encoder.encode([encoder.prepare(read_image(records[3].path))])
    row = columns.find(records[3].id)
    np.testing.assert_array_equal(columns.embedding[row], changed.embedding[0])
    assert ArchiveFolder.open(archive).read_records([records[5].id])[0]["mtime_ns"] == 2

    report = ingest(SourceImages(kept, root), archive, tools.PixelEncoder(), prune=True)
    assert counts(report) == {"unchanged": 30, "vanished": 2, "pruned": 2}
    ids = ArchiveFolder.open(archive).columns().ids
    assert set(ids) == {record.id for record in kept} - {records[7].id}
    assert ArchiveFolder.open(archive).verify() == ()


def test_new_metadata_does_not_encode_again(source, archive, tools):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    before = ArchiveFolder.open(archive).columns()
    box = Bounds(170, -10, -170, 10)
    when = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    records[0] = replace(records[0], labels=("sand", "it's"), part="test", group="g")
    records[1] = replace(records[1], labels=None, bbox=box)
    records[2] = replace(records[2], datetime=when)
    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(records, root), archive, encoder)
    assert counts(report) == {"refreshed": 3, "unchanged": 27}
    assert encoder.encoded == 0

    columns = ArchiveFolder.open(archive).columns()
    np.testing.assert_array_equal(columns.embedding, before.embedding)
    np.testing.assert_array_equal(columns.code, before.code)
    rows = [columns.find(record.id) for record in records]
    assert columns.labels.row(rows[0]) == ("sand", "it's")
    assert (columns.part[rows[0]], columns.group[rows[0]]) == ("test", "g")
    assert columns.labels.row(rows[1]) is None
    assert columns.bounds[rows[1]].tolist() == [170, -10, -170, 10]
    assert np.isnan(columns.bounds[rows[2]]).all()
    assert columns.time[rows[2]] == np.datetime64("2024-05-06T07:08:09.123456")
    assert ArchiveFolder.open(archive).verify() == ()
    # Nobody says any more where record 1 lies: the archive still knows.
    records[1] = replace(records[1], bbox=None)
    assert counts(ingest(SourceImages(records, root), archive, encoder)) == {"unchanged": 30}


def test_times_are_kept_in_utc(source, archive, tools):
    root, records = source
    naive = datetime(2024, 1, 2, 3)
    shifted = datetime.fromisoformat("2024-01-02T03:00:00+05:00")
    records[0] = replace(records[0], datetime=naive)
    records[1] = replace(records[1], datetime=shifted)
    for expected in ({"added": 30}, {"unchanged": 30}):
        report = ingest(SourceImages(records, root), archive, tools.PixelEncoder())
        assert counts(report) == expected
    columns = ArchiveFolder.open(archive).columns()
    times = [columns.time[columns.find(records[i].id)] for i in (0, 1)]
    assert times == [np.datetime64("2024-01-02T03:00:00"), np.datetime64("2024-01-01T22:00:00")]


def test_broken_files_are_skipped_by_name(source, archive, tools):
    root, records = source
    whole = records[4].path.read_bytes()
    records[4].path.write_bytes(whole[: len(whole) // 2])
    records[8].path.write_bytes(b"")
    records[12].path.unlink()
    records[16].path.unlink()
    os.mkfifo(records[16].path)
    report = ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    assert counts(report) == {"added": 26}
    assert {problem.where for problem in report.skipped} == {NAMES[i] for i in (4, 8, 12, 16)}
    assert all("\n" not in str(problem) for problem in report.skipped)
    assert "4 skipped" in report.summary()
    assert len(json.loads(json.dumps(report.to_json()))["skipped"]) == 4

    records[4].path.write_bytes(whole)  # repaired: only this one is read and encoded
    assert counts(ingest(SourceImages(records, root), archive, tools.PixelEncoder())) == {
        "added": 1, "unchanged": 26,
    }  # fmt: skip


def test_file_that_breaks_later_keeps_its_row(source, archive, tools):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    before = tools.contents(ArchiveFolder.open(archive))
    records[4].path.write_bytes(b"no image")
    report = ingest(SourceImages(records, root), archive, tools.PixelEncoder(), prune=True)
    assert counts(report) == {"unchanged": 29}
    assert [problem.where for problem in report.skipped] == [NAMES[4]]
    assert tools.contents(ArchiveFolder.open(archive)) == before


def test_images_the_model_cannot_embed_are_skipped(source, archive, tools):
    root, records = source
    for i in (2, 11):
        Image.new("RGB", (64, 64)).save(records[i].path)
    report = ingest(
        SourceImages(records, root),
        archive,
        tools.BlindEncoder(),
        options=EncodingOptions(batch_size=5),
    )
    assert counts(report) == {"added": 28}
    assert {problem.where for problem in report.skipped} == {NAMES[2], NAMES[11]}
    assert "finite" in report.skipped[0].what
    assert np.isfinite(ArchiveFolder.open(archive).columns().embedding).all()


def test_encoder_that_breaks_its_promise(source, archive, tools):
    class Liar(tools.PixelEncoder):
        def encode(self, pixels):
            encoding = super().encode(pixels)
            return Encoding(
                encoding.embedding[:, :-1], encoding.code, encoding.n_bits, encoding.label_scores
            )

    root, records = source
    with pytest.raises(ModelError, match="promised"):
        ingest(SourceImages(records, root), archive, Liar())


def test_no_readable_image(tmp_path, archive, tools):
    (tmp_path / "a.png").write_bytes(b"nothing")
    records = [Record("a.png", tmp_path / "a.png"), Record("b.png", tmp_path / "b.png")]
    with pytest.raises(DataError, match=r"no readable image among 2 records.*b\.png"):
        ingest(SourceImages(records, tmp_path), archive, tools.PixelEncoder())
    with pytest.raises(DataError, match="no readable image among 0 records"):
        ingest(SourceImages([], tmp_path), archive, tools.PixelEncoder())
    # Nothing binds the folder to that model: another may use it.
    tools.write_image(tmp_path / "a.png", 1)
    report = ingest(SourceImages(records, tmp_path), archive, tools.PixelEncoder(seed=5))
    assert counts(report) == {"added": 1}


def test_two_records_with_one_id(source, archive, tools):
    root, records = source
    twin = replace(records[1], id=records[0].id)
    with pytest.raises(DataError, match=r"a/00\.png.* and .*b/01\.png"):
        ingest(SourceImages([records[0], twin], root), archive, tools.PixelEncoder())
    assert not archive.exists()


@pytest.mark.parametrize("option", ["batch_size", "commit_every", "workers"])
def test_sizes_below_one(option):
    with pytest.raises(UsageError, match="-1"):
        EncodingOptions(**{option: -1})


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"dim": 8}, {"n_bits": 24}, {"label_names": ("dark",)}]
)
def test_another_model_is_refused_before_any_work(source, archive, tools, other):
    root, records = source
    ours, theirs = tools.PixelEncoder(), tools.PixelEncoder(**other)
    ingest(SourceImages(records[:5], root), archive, ours)
    files = {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    with pytest.raises(ArchiveError) as caught:
        ingest(SourceImages(records, root), archive, theirs, prune=True)
    assert ours.fingerprint[:12] in str(caught.value)
    assert theirs.fingerprint[:12] in str(caught.value)
    assert theirs.encoded == 0
    assert {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()} == files


def test_second_writer_is_refused_while_the_first_works(source, archive, tools):
    root, records = source
    refused = []

    def meanwhile(done, total):
        with pytest.raises(ArchiveError, match="another process is indexing"):
            ingest(SourceImages(records, root), archive, tools.PixelEncoder())
        refused.append(done)

    ingest(SourceImages(records, root), archive, tools.PixelEncoder(), progress=meanwhile)
    assert refused == [30]
    assert ArchiveFolder.open(archive).count == 30


def test_reader_keeps_its_version_while_a_writer_works(source, archive, tools):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    reader = ArchiveFolder.open(archive)
    before, picture = tools.contents(reader), reader.thumbnail(NAMES[1])
    tools.write_image(records[0].path, seed=77)
    os.utime(records[0].path, ns=(1, 1))
    left = [record for record in records if record.id != NAMES[1]]
    ingest(SourceImages(left, root), archive, tools.PixelEncoder(), prune=True)
    assert tools.contents(reader) == before
    assert reader.thumbnail(NAMES[1]) == picture
    assert reader.count == 30
    now = ArchiveFolder.open(archive)
    assert now.count == 29
    assert now.columns().find(NAMES[1]) is None
    now.close()
    reader.close()
    # With nobody reading, the next run leaves a single version and file.
    ingest(SourceImages(left, root), archive, tools.PixelEncoder())
    assert len(list((archive / "records.lance/data").iterdir())) == 1
    assert len(list((archive / "records.lance/_versions").glob("*.manifest"))) == 1
    assert ArchiveFolder.open(archive).verify() == ()


def test_model_without_hash_and_label_heads(source, archive, tools):
    root, records = source
    encoder = tools.PixelEncoder(n_bits=0, label_names=())
    ingest(SourceImages(records, root), archive, encoder)
    opened = ArchiveFolder.open(archive)
    assert opened.columns().code.shape == (30, 0)
    assert opened.label_scores().shape == (30, 0)
    assert opened.columns().predicted.names == ()
    assert opened.verify() == ()


def test_model_is_copied_without_training_state(source, archive, tools, tmp_path):
    root, records = source
    encoder = tools.PixelEncoder()
    run = tools.write_model(tmp_path / "run", encoder)
    ingest(SourceImages(records, root), archive, encoder, model_folder=run)
    model = ArchiveFolder.open(archive).model_folder
    assert sorted(path.name for path in model.iterdir()) == ["config.json", "model.safetensors"]
    assert (model / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    # The archive's own copy serves for the next run.
    report = ingest(SourceImages(records, root), archive, encoder, model_folder=model)
    assert counts(report) == {"unchanged": 30}

    other = tools.write_model(tmp_path / "other", tools.PixelEncoder(seed=3))
    with pytest.raises(ArchiveError, match="holds model"):
        ingest(SourceImages(records, root), tmp_path / "second", encoder, model_folder=other)
    with pytest.raises(ArchiveError, match="holds no model"):
        ingest(SourceImages(records, root), tmp_path / "third", encoder, model_folder=root)


def test_source_that_moved(source, archive, tools, tmp_path):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    records = [replace(record, path=moved / record.id) for record in records]
    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(records, moved), archive, encoder)
    assert (counts(report), report.source) == ({"unchanged": 30}, "source")
    assert report.moved_from == str(root)
    assert encoder.encoded == 0
    assert ArchiveFolder.open(archive).file(NAMES[0]) == moved / NAMES[0]

    # A second source: the first keeps its records and its folder.
    extra = tools.write_images(tmp_path / "extra", ["x.png"])
    report = ingest(SourceImages(extra, tmp_path / "extra"), archive, encoder, prune=True)
    assert counts(report) == {"added": 1}
    assert ArchiveFolder.open(archive).file("x.png") == tmp_path / "extra/x.png"
    assert ArchiveFolder.open(archive).file(NAMES[0]) == moved / NAMES[0]


def test_named_source_in_a_copy_of_its_folder(source, archive, tools, tmp_path):
    """The old folder still exists: only the name tells that the copy is the same source."""
    root, records = source
    ingest(SourceImages(records, root, name="photos"), archive, tools.PixelEncoder())
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    records = [replace(record, path=copy / record.id) for record in records]
    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(records, copy, name="photos"), archive, encoder)
    assert (counts(report), encoder.encoded) == ({"unchanged": 30}, 0)
    assert ArchiveFolder.open(archive).file(NAMES[0]) == copy / NAMES[0]
    with pytest.raises(UsageError, match=r"copy is the source 'photos' of this archive already"):
        ingest(SourceImages(records, copy, name="other"), archive, encoder)
    for name in ("", "a:b", "a/b", "a\nb", "x" * 101):
        with pytest.raises(UsageError, match="source name"):
            ingest(SourceImages(records, root, name=name), archive, encoder)


def test_sources_of_equal_names(archive, tools, tmp_path):
    """Two folders with the same 200 names: all are kept apart, and prune of one only."""
    names = [f"tile_{i:04}.png" for i in range(200)]
    folders = {year: tmp_path / year for year in ("2021", "2022")}
    for seed, folder in enumerate(folders.values()):
        first = tools.write_images(folder, names[:20], first_seed=1000 * seed)
        for i, name in enumerate(names[20:], start=20):
            os.link(first[i % 20].path, folder / name)
    records = {y: [Record(n, f / n, group="tiles") for n in names] for y, f in folders.items()}
    encoder = tools.PixelEncoder()
    for year, folder in folders.items():
        report = ingest(SourceImages(records[year], folder), archive, encoder, prune=True)
        assert counts(report) == {"added": 200}
        assert report.source == year
    assert (report.records, report.renamed) == (400, 200)
    assert "200 ids start with '2022:'" in report.summary()
    opened = ArchiveFolder.open(archive)
    assert set(opened.columns().ids) == {*names, *(f"2022:{name}" for name in names)}
    assert opened.file("tile_0003.png") == folders["2021"] / "tile_0003.png"
    assert opened.file("2022:tile_0003.png") == folders["2022"] / "tile_0003.png"
    before = [row for row in tools.contents(opened) if row["source"] == "2021"]
    encoder.encoded = 0
    for year, folder in folders.items():  # again, in the same order: nothing changes
        report = ingest(SourceImages(records[year], folder), archive, encoder)
        assert counts(report) == {"unchanged": 200}
    assert encoder.encoded == 0

    report = ingest(
        SourceImages(records["2022"][:1], folders["2022"]), archive, encoder, prune=True
    )
    assert counts(report) == {"unchanged": 1, "vanished": 199, "pruned": 199}
    rows = tools.contents(ArchiveFolder.open(archive))
    assert [row for row in rows if row["source"] == "2021"] == before
    assert [row["id"] for row in rows if row["source"] == "2022"] == ["2022:tile_0000.png"]
    # The ids of the second source stay what they are when the first one is gone.
    report = ingest(
        SourceImages(records["2021"][:1], folders["2021"]), archive, encoder, prune=True
    )
    report = ingest(SourceImages(records["2022"], folders["2022"]), archive, encoder)
    assert counts(report) == {"added": 199, "unchanged": 1}
    ids = ArchiveFolder.open(archive).columns().ids
    assert {"tile_0000.png", "tile_0001.png", "2022:tile_0000.png"} <= set(ids)


def test_folders_of_one_name_are_two_sources(archive, tools, tmp_path):
    for place in ("a", "b", "c/a"):
        records = tools.write_images(tmp_path / place / "images", ["1.png"])
        root = tmp_path / place / "images"
        report = ingest(SourceImages(records, root), archive, tools.PixelEncoder())
        assert counts(report) == {"added": 1}
    ids = ArchiveFolder.open(archive).columns().ids
    assert ids == ("1.png", "a-images:1.png", "b-images:1.png")


def test_one_folder_by_two_paths_is_one_source(source, archive, tools, tmp_path):
    root, records = source
    ingest(SourceImages(records, root), archive, tools.PixelEncoder())
    (tmp_path / "link").symlink_to(root)
    linked = [replace(record, path=tmp_path / "link" / record.id) for record in records]
    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(linked, tmp_path / "link"), archive, encoder)
    assert (counts(report), report.source, encoder.encoded) == ({"unchanged": 30}, "source", 0)


def test_tables_in_one_folder_are_two_sources(archive, tools, tmp_path):
    records = tools.write_images(tmp_path, ["1.png", "2.png"])
    for record, table in zip(records, ("train.csv", "test.csv"), strict=True):
        (tmp_path / table).write_text(f"path\n{record.id}\n")
        report = ingest(
            SourceImages([record], tmp_path, location=tmp_path / table),
            archive,
            tools.PixelEncoder(),
            prune=True,
        )
        assert (counts(report), report.source) == ({"added": 1}, table[:-4])


def test_ids_that_look_like_those_of_a_source(archive, tools, tmp_path):
    """Whatever two sources call their images, every image has one id of its own."""
    names = ["x.png", "b:x.png", "b:b:x.png", "a:x.png"]
    encoder = tools.PixelEncoder()
    for source in ("a", "b"):
        root = tmp_path / source
        records = tools.write_images(root, names)
        for _ in range(2):
            report = ingest(SourceImages(records, root, name=source + "!"), archive, encoder)
            assert report.skipped == ()
        assert counts(report) == {"unchanged": 4}
    assert report.records == 8
    opened = ArchiveFolder.open(archive)
    files = {str(opened.file(id_)) for id_ in opened.columns().ids}
    assert files == {str(tmp_path / source / name) for source in "ab" for name in names}
    with pytest.raises(UsageError, match="other ids start with 'b:'"):
        ingest(SourceImages(records, tmp_path, name="b"), archive, encoder)


def test_footprint_is_read_from_geotiff(tmp_path, archive, tools):
    import rasterio
    from rasterio.transform import from_bounds

    place = {"crs": "EPSG:4326", "transform": from_bounds(10, 50, 11, 51, 64, 64)}
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    with rasterio.open(
        tmp_path / "geo.tif", "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8",
        **place,
    ) as scene:  # fmt: skip
        scene.write(pixels)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "plain.tif")
    given = Bounds(1, 2, 3, 4)
    records = [
        Record("geo", tmp_path / "geo.tif"),
        Record("given", tmp_path / "geo.tif", bbox=given),
        Record("plain", tmp_path / "plain.tif"),
    ]
    ingest(SourceImages(records, tmp_path), archive, tools.PixelEncoder())
    columns = ArchiveFolder.open(archive).columns()
    np.testing.assert_allclose(columns.bounds[0], [10, 50, 11, 51])
    assert columns.bounds[1].tolist() == [1, 2, 3, 4]
    assert np.isnan(columns.bounds[2]).all()


def test_thumbnails_are_small_jpegs_of_the_image(tmp_path, archive, tools):
    path = tmp_path / "wide.png"
    half = np.zeros((100, 200, 3), np.uint8)
    half[:, 100:] = (250, 120, 10)
    Image.fromarray(half).save(path)
    ingest(SourceImages([Record("wide", path)], tmp_path), archive, tools.PixelEncoder())
    picture = read_image(ArchiveFolder.open(archive).thumbnail("wide"))
    assert picture.shape == (34, 67, 3)
    assert np.abs(picture[:, :28].astype(int)).max() < 12
    assert np.abs(picture[:, 40:].astype(int) - (250, 120, 10)).max() < 12


def test_folder_with_other_things_is_refused(source, archive, tools):
    root, records = source
    archive.mkdir()
    (archive / "thesis.docx").write_bytes(b"years of work")
    with pytest.raises(ArchiveError, match=r"not empty \(thesis\.docx"):
        ingest(SourceImages(records, root), archive, tools.PixelEncoder())


def test_target_that_cannot_be_written(source, tmp_path, tools):
    root, records = source
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LandcueError) as caught:
        ingest(SourceImages(records, root), tmp_path / "file" / "archive", tools.PixelEncoder())
    assert "\n" not in str(caught.value)


def test_interrupt_keeps_what_was_encoded(source, archive, tools):
    root, records = source

    def interrupt(done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(
            SourceImages(records, root),
            archive,
            tools.PixelEncoder(),
            options=EncodingOptions(batch_size=5),
            progress=interrupt,
        )
    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(records, root), archive, encoder)
    assert counts(report) == {"added": 10, "unchanged": 20}
    assert encoder.encoded == 10

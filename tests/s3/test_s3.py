"""Images in an object store as a source, and a store as the place of an archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import commands
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.published import publishing, readable
from landcue.archive.verify import verify_archive
from landcue.data.sources import open_source
from landcue.errors import ArchiveError, DataError, LandcueError, StoreError, UsageError

pytestmark = pytest.mark.s3

SOURCE = Path("s3://bucket/images")
TARGET = Path("s3://bucket/archives/one")


def upload(files, folder, key):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with files.open_output_stream(f"{key}/{path.relative_to(folder).as_posix()}") as to:
                to.write(path.read_bytes())


@pytest.fixture
def folder(tools, tmp_path):
    names = [f"{kind}/{i:02}.png" for kind in ("field", "lake") for i in range(10)]
    tools.write_images(tmp_path / "images", names)
    (tmp_path / "images" / "lake" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "images" / "notes.txt").write_text("no image either")
    return tmp_path / "images"


def run(source, archive, encoder, **options):
    images = open_source(source)
    return ingest(
        images.records, archive, encoder, source_root=images.root,
        batch_size=8, commit_every=8, scenes=None, **options,
    )  # fmt: skip


def rows(tools, archive):
    """All values of all records but where and when their files were."""
    opened = ArchiveFolder.open(archive)
    found = tools.contents(opened)
    opened.close()
    return [
        {name: value for name, value in row.items() if name not in ("mtime_ns", "metadata_check")}
        for row in found
    ]


def error_line(status, *args, **env):
    return commands.error_line(status, *args, env={name: env[name] or None for name in env})


def test_source_equals_folder(tools, store, folder, tmp_path):
    upload(store, folder, "bucket/images")
    encoder = tools.PixelEncoder()
    plain = run(folder, tmp_path / "plain", encoder)
    report = run(SOURCE, tmp_path / "a", encoder)
    assert (report.added, len(report.skipped)) == (plain.added, len(plain.skipped)) == (20, 1)
    assert report.skipped == plain.skipped
    assert rows(tools, tmp_path / "a") == rows(tools, tmp_path / "plain")


def test_only_changed_objects_are_read_again(tools, store, folder, throttle, tmp_path):
    (folder / "lake" / "broken.jpg").unlink()
    upload(store, folder, "bucket/images")
    encoder = tools.PixelEncoder()
    run(SOURCE, tmp_path / "a", encoder)
    throttle.passed = 0
    assert run(SOURCE, tmp_path / "a", encoder).unchanged == 20
    assert throttle.passed == 1  # the listing
    tools.write_image(folder / "lake" / "03.png", 99)
    store.delete_file("bucket/images/lake/04.png")
    with store.open_output_stream("bucket/images/lake/03.png") as to:
        to.write((folder / "lake" / "03.png").read_bytes())
    encoder.encoded = 0
    report = run(SOURCE, tmp_path / "a", encoder, prune=True)
    assert (report.updated, report.pruned, report.unchanged) == (1, 1, 18)
    assert encoder.encoded == 1


def test_table_of_labels(tools, store, folder):
    (folder / "labels.csv").write_text("path,labels\nlake/01.png,water;trees\nnone.png,water\n")
    upload(store, folder, "bucket/images")
    images = open_source(SOURCE)
    by_id = {record.id: record for record in images.records}
    assert by_id["lake/01.png"].labels == ("water", "trees")
    assert by_id["lake/02.png"].labels is None
    assert any("none.png" in str(problem) for problem in images.problems)


def test_throttling_is_waited_for(tools, store, folder, throttle, tmp_path):
    upload(store, folder, "bucket/images")
    encoder = tools.PixelEncoder()
    throttle.refuse = 4
    report = run(SOURCE, tmp_path / "a", encoder)
    assert throttle.refused == 4
    assert report.added == 20


def test_throttling_without_end(store, folder, throttle, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    upload(store, folder, "bucket/images")
    throttle.refuse = 10**6
    with pytest.raises(DataError, match="asks to slow down") as caught:
        open_source(SOURCE)
    assert "\n" not in str(caught.value)
    assert throttle.refused == 4  # a cap


def test_throttling_amid_an_ingest(tools, store, folder, throttle, tmp_path, monkeypatch):
    """Objects that the store does not give are not skipped as broken; the next run goes on."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    upload(store, folder, "bucket/images")

    class Ending(tools.PixelEncoder):
        def encode(self, pixels):
            if self.encoded >= 8:
                throttle.refuse = 10**6
            return super().encode(pixels)

    with pytest.raises(StoreError, match="run the same command again later"):
        run(SOURCE, tmp_path / "a", Ending(), workers=1)
    throttle.refuse = 0
    report = run(SOURCE, tmp_path / "a", tools.PixelEncoder())
    assert report.unchanged >= 8
    assert report.added == 20 - report.unchanged
    assert len(report.skipped) == 1


def test_publish_and_open(tools, store, folder, tmp_path):
    encoder = tools.PixelEncoder()
    with publishing(TARGET) as place:
        run(folder, place, encoder)
    run(folder, tmp_path / "plain", encoder)
    opened = ArchiveFolder.open(TARGET)
    assert opened.count == 20
    assert rows(tools, TARGET) == rows(tools, tmp_path / "plain")
    assert not verify_archive(readable(TARGET)).problems
    # What is added later is seen by whoever opens it then; an open view stays as it is.
    tools.write_image(folder / "lake" / "99.png", 99)
    encoder.encoded = 0
    with publishing(TARGET) as place:
        assert run(folder, place, encoder).added == 1
    assert encoder.encoded == 1
    assert ArchiveFolder.open(TARGET).count == 21
    assert opened.count == 20
    assert len(opened.columns().ids) == 20


def test_writer_on_another_machine(tools, store, folder, tmp_path, monkeypatch):
    encoder = tools.PixelEncoder()
    with publishing(TARGET) as place:
        run(folder, place, encoder)
    monkeypatch.setenv("LANDCUE_CACHE", str(tmp_path / "elsewhere"))
    tools.write_image(folder / "lake" / "99.png", 99)
    encoder.encoded = 0
    with publishing(TARGET) as place:
        assert run(folder, place, encoder).added == 1
    assert encoder.encoded == 1  # it went on with what was published
    monkeypatch.setenv("LANDCUE_CACHE", str(tmp_path / "cache"))
    with publishing(TARGET) as place:
        assert run(folder, place, encoder).unchanged == 21


def test_two_writers(tools, store, folder, tmp_path, monkeypatch):
    """The one that comes second is refused, and what was published stays whole."""
    encoder = tools.PixelEncoder()
    with publishing(TARGET) as place:
        run(folder, place, encoder)
    tools.write_image(folder / "lake" / "98.png", 98)
    with (  # noqa: PT012
        pytest.raises(ArchiveError, match="another process published"),
        publishing(TARGET) as place,
    ):
        run(folder, place, encoder)
        tools.write_image(folder / "lake" / "99.png", 99)
        monkeypatch.setenv("LANDCUE_CACHE", str(tmp_path / "elsewhere"))
        with publishing(TARGET) as other:
            run(folder, other, encoder)
    assert ArchiveFolder.open(TARGET).count == 22
    monkeypatch.setenv("LANDCUE_CACHE", str(tmp_path / "cache"))
    with publishing(TARGET) as place:
        assert run(folder, place, encoder).records == 22
    assert not verify_archive(readable(TARGET)).problems


def test_interrupted_before_publication(tools, store, folder):
    encoder = tools.PixelEncoder()
    with pytest.raises(KeyboardInterrupt), publishing(TARGET) as place:  # noqa: PT012
        run(folder, place, encoder)
        raise KeyboardInterrupt
    with pytest.raises(ArchiveError, match="holds no archive"):
        ArchiveFolder.open(TARGET)
    encoder.encoded = 0
    with publishing(TARGET) as place:
        run(folder, place, encoder)
    assert encoder.encoded == 0
    assert ArchiveFolder.open(TARGET).count == 20


def test_interrupted_while_publishing(tools, store, folder, throttle, monkeypatch):
    """The store fails after some objects: readers see the archive before."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    encoder = tools.PixelEncoder()
    with publishing(TARGET) as place:
        run(folder, place, encoder)
    tools.write_image(folder / "lake" / "99.png", 99)
    with pytest.raises(LandcueError, match="slow down"), publishing(TARGET) as place:  # noqa: PT012
        run(folder, place, encoder)
        throttle.refuse = 10**6
    throttle.refuse = 0
    assert ArchiveFolder.open(TARGET).count == 20
    with publishing(TARGET) as place:
        run(folder, place, encoder)
    assert ArchiveFolder.open(TARGET).count == 21


def test_damaged_object(tools, store, folder):
    with publishing(TARGET) as place:
        run(folder, place, tools.PixelEncoder())
    from pyarrow import fs

    found = store.get_file_info(fs.FileSelector("bucket/archives/one/objects"))
    with store.open_output_stream(found[0].path) as to:
        to.write(b"other bytes")
    with pytest.raises(ArchiveError, match="is damaged"):
        ArchiveFolder.open(TARGET)


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "a//b"])
def test_list_that_leads_out(store, name):
    with store.open_output_stream("bucket/archives/one/archive.json") as to:
        to.write(json.dumps({"format": 1, "files": {name: "0" * 32}}).encode())
    with pytest.raises(ArchiveError, match="is broken"):
        ArchiveFolder.open(TARGET)


def test_clear_errors(store, folder, tmp_path):
    assert "there is no bucket 'none'" in error_line(1, "index", "s3://none/x", tmp_path / "a")
    line = error_line(
        2, "index", SOURCE, tmp_path / "a", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""
    )
    assert "no credentials for s3://bucket" in line
    line = error_line(1, "index", SOURCE, tmp_path / "a", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert "http://127.0.0.1:1 cannot be reached" in line
    line = error_line(2, "index", SOURCE, tmp_path / "a", AWS_MAX_ATTEMPTS="0")
    assert "AWS_MAX_ATTEMPTS is '0': give a whole number of at least 1" in line
    line = error_line(1, "index", SOURCE, tmp_path / "a", "--chip", "64px")
    assert "s3://bucket/images: there is nothing" in line
    with pytest.raises(UsageError, match="name a bucket"):
        open_source(Path("s3://"))

"""Images in an object store as a source, and a store as the place of an archive."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import commands
import landcue
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import compact, delete, describe
from landcue.archive.encoding import EncodingOptions
from landcue.archive.import_columns import ImportColumns
from landcue.archive.importing import import_table
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed, repair
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


def run(source, archive, encoder, workers=None, **options):
    images = open_source(source)
    return ingest(
        SourceImages(images.records, images.root), archive, encoder,
        options=EncodingOptions(8, commit_every=8, workers=workers), **options,
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


def test_write_and_open(tools, store, folder, tmp_path):
    encoder = tools.PixelEncoder()
    run(folder, TARGET, encoder)
    run(folder, tmp_path / "plain", encoder)
    opened = ArchiveFolder.open(TARGET)
    assert opened.count == 20
    assert rows(tools, TARGET) == rows(tools, tmp_path / "plain")
    assert not verify_archive(TARGET).problems
    # What is added later is seen by whoever opens it then; an open view stays as it is.
    tools.write_image(folder / "lake" / "99.png", 99)
    encoder.encoded = 0
    assert run(folder, TARGET, encoder).added == 1
    assert encoder.encoded == 1
    assert ArchiveFolder.open(TARGET).count == 21
    assert opened.count == 20
    assert len(opened.columns().ids) == 20
    assert len(opened.thumbnails(opened.columns().ids)) == 20


def test_search_equals_folder(tools, store, folder, throttle, tmp_path):
    encoder = tools.PixelEncoder()
    model = tools.write_model(tmp_path / "model", encoder)
    for archive in (TARGET, tmp_path / "plain"):
        run(folder, archive, encoder, model_folder=model)
    found = [
        [(hit.id, hit.score) for hit in landcue.search(url, "lake/03.png", k=20)]
        for url in ("s3://bucket/archives/one", tmp_path / "plain")
    ]
    assert found[0] == found[1]
    assert (ArchiveFolder.open(TARGET).model_folder / "model.safetensors").is_file()
    # What was derived from this version is kept on this machine: only small files are read again.
    throttle.sent.clear()
    assert len(landcue.search("s3://bucket/archives/one", "lake/03.png", k=20)) == 19
    assert not [path for path, _, _ in throttle.sent if "/data/" in path or "/model/" in path]


def test_writer_on_another_machine(tools, store, folder, tmp_path, monkeypatch):
    encoder = tools.PixelEncoder()
    run(folder, TARGET, encoder)
    monkeypatch.setenv("LANDCUE_CACHE", str(tmp_path / "elsewhere"))
    tools.write_image(folder / "lake" / "99.png", 99)
    encoder.encoded = 0
    assert run(folder, TARGET, encoder).added == 1
    assert encoder.encoded == 1  # it went on with what was written
    monkeypatch.setenv("LANDCUE_CACHE", str(tmp_path / "cache"))
    assert run(folder, TARGET, encoder).unchanged == 21


def test_two_writers(tools, store, folder):
    """The second one is refused in one line, and what the first one writes stays whole."""
    encoder = tools.PixelEncoder()
    run(folder, TARGET, encoder)
    tools.write_image(folder / "lake" / "98.png", 98)
    refused = []

    def second(done, total):
        with pytest.raises(ArchiveError, match="another process is indexing into s3://") as caught:
            run(folder, TARGET, tools.PixelEncoder())
        refused.append(str(caught.value))

    assert run(folder, TARGET, encoder, progress=second).added == 1
    assert len(refused) == 1
    assert "\n" not in refused[0]
    assert ArchiveFolder.open(TARGET).count == 21
    assert not verify_archive(TARGET).problems
    assert run(folder, TARGET, encoder).unchanged == 21  # the lock is gone


def lock(store, **values):
    value = {"host": "other", "machine": "other", "pid": 1, "doing": "writing to"} | values
    with store.open_output_stream("bucket/archives/one/.lock") as to:
        to.write(json.dumps(value).encode())


def test_lock_of_another_machine(tools, store, folder):
    lock(store, until=time.time() + 60)
    with pytest.raises(ArchiveError, match=r"process 1 on other\).*its lock ends at"):
        run(folder, TARGET, tools.PixelEncoder())
    lock(store, until=time.time() - 1)  # it was not renewed
    assert run(folder, TARGET, tools.PixelEncoder()).added == 20


def test_lock_of_another_writer_stays(tools, store, folder):
    """A writer removes only its own lock."""

    def taken(done, total):
        lock(store, until=time.time() + 60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, TARGET, tools.PixelEncoder(), progress=taken)
    with store.open_input_stream("bucket/archives/one/.lock") as found:
        assert json.loads(found.read())["host"] == "other"


def test_killed_writer_loses_nothing(tools, store, folder, tmp_path):
    """Its committed rows stay, and the next writer on this machine needs not wait."""
    code = (
        "import os, sys; import pixel_encoder as tools; from pathlib import Path\n"
        "from landcue.archive.ingest import ingest; from landcue.data.sources import open_source\n"
        "from landcue.archive.encoding import EncodingOptions\n"
        "from landcue.archive.plan import SourceImages\n"
        "images = open_source(Path(sys.argv[1]))\n"
        "die = lambda done, total: done >= 14 and os.kill(os.getpid(), 9)\n"
        "ingest(SourceImages(images.records, images.root), Path(sys.argv[2]),\n"
        "       tools.PixelEncoder(), options=EncodingOptions(2, commit_every=4), progress=die)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder), "s3://bucket/archives/one"])
    assert done.returncode == -9
    encoder = tools.PixelEncoder()
    kept = ArchiveFolder.open(TARGET).count
    assert kept >= 4
    report = run(folder, TARGET, encoder)
    assert (report.records, encoder.encoded) == (20, 20 - kept)
    run(folder, tmp_path / "plain", encoder)
    assert rows(tools, TARGET) == rows(tools, tmp_path / "plain")
    assert not verify_archive(TARGET).problems


def test_store_fails_while_writing(tools, store, folder, throttle, monkeypatch):
    """What was committed stays readable, and the next run continues."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    run(folder, TARGET, tools.PixelEncoder())
    tools.write_image(folder / "lake" / "99.png", 99)

    def fail(done, total):
        throttle.refuse = 10**6

    with pytest.raises(LandcueError) as caught:
        run(folder, TARGET, tools.PixelEncoder(), progress=fail)
    assert "\n" not in str(caught.value)
    throttle.refuse = 0
    assert ArchiveFolder.open(TARGET).count in (20, 21)
    assert run(folder, TARGET, tools.PixelEncoder()).records == 21
    assert not verify_archive(TARGET).problems


def test_delete_compact_and_reembed(tools, store, folder, tmp_path):
    encoder, other = tools.PixelEncoder(), tools.PixelEncoder(seed=5, dim=24, n_bits=12)
    model = tools.write_model(tmp_path / "model", encoder)
    second = tools.write_model(tmp_path / "second", other)
    for archive in (TARGET, tmp_path / "plain"):
        run(folder, archive, encoder, model_folder=model)
        assert delete(archive, ["lake/03.png", "lake/04.png"]).records == 18
        reembed(archive, other, options=EncodingOptions(batch_size=8), model_folder=second)
        compact(archive)
    assert rows(tools, TARGET) == rows(tools, tmp_path / "plain")
    assert not verify_archive(TARGET).problems
    assert describe(TARGET)["versions"] == 1
    from pyarrow import fs

    found = store.get_file_info(fs.FileSelector("bucket/archives/one", recursive=True))
    names = [info.path.removeprefix("bucket/archives/one/") for info in found if info.is_file]
    assert all(name.startswith("v2/") for name in names if "/" in name)  # nothing older is left
    assert not any(b"lake/03.png" in store.open_input_stream(f"bucket/archives/one/{name}").read()
                   for name in names)  # fmt: skip


def test_import_and_repair(tools, store, tmp_path):
    tools.write_table(tmp_path / "table.parquet", 40)
    import_table(tmp_path / "table.parquet", TARGET, ImportColumns("embedding"))
    assert verify_archive(TARGET).records == 40
    store.delete_file("bucket/archives/one/checksums.json")
    repair(TARGET, apply=True)
    report = verify_archive(TARGET)
    assert (report.records, report.problems) == (40, ())


def test_damaged_object(tools, store, folder):
    run(folder, TARGET, tools.PixelEncoder())
    from pyarrow import fs

    found = store.get_file_info(fs.FileSelector("bucket/archives/one/records.lance/data"))
    with store.open_output_stream(found[0].path) as to:
        to.write(b"other bytes")
    with pytest.raises(ArchiveError, match=r"s3://.*is damaged"):
        ArchiveFolder.open(TARGET)
    assert "is damaged" in str(verify_archive(TARGET).files[0])


def test_no_archive(store):
    with pytest.raises(ArchiveError, match="holds no archive; create one"):
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
    assert "AWS_MAX_ATTEMPTS is '0': pass a whole number of at least 1" in line
    line = error_line(1, "index", SOURCE, tmp_path / "a", "--chip", "64px")
    assert "s3://bucket/images: there is nothing" in line
    with pytest.raises(UsageError, match="name a bucket"):
        open_source(Path("s3://"))

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import landcue
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import DeleteReport, compact, delete, size_of
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.layout import unfinished
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed, repair
from landcue.archive.verify import verify_archive
from landcue.errors import ArchiveError, DataError, LandcueError, UsageError
from landcue.files import exclusive

NAMES = [f"{i:02}.png" for i in range(12)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tools):
    folder = tmp_path_factory.mktemp("made")
    records = tools.write_images(folder / "source", NAMES)
    model = tools.write_model(folder / "run", tools.PixelEncoder())
    ingest(
        SourceImages(records, folder / "source"),
        folder / "archive",
        tools.PixelEncoder(),
        model_folder=model,
    )
    return folder


@pytest.fixture
def archive(made, tmp_path):
    return shutil.copytree(made / "archive", tmp_path / "archive")


def other(tools):
    return tools.PixelEncoder(seed=4, dim=8, n_bits=9, label_names=("green",))


def test_delete(archive, tools):
    expected = [
        row for row in tools.contents(ArchiveFolder.open(archive)) if row["id"] not in NAMES[:2]
    ]
    assert delete(archive, NAMES[:2]) == DeleteReport(2, (), 10)
    opened = ArchiveFolder.open(archive)
    assert tools.contents(opened) == expected
    assert opened.manifest.records == 10
    assert verify_archive(archive).problems == ()
    # The same command again finds nothing to do; of others it names what is not there.
    assert delete(archive, NAMES[:2]) == DeleteReport(0, tuple(NAMES[:2]), 10)
    assert delete(archive, [NAMES[5], "0x"], apply=False) == DeleteReport(1, ("0x",), 9)
    assert ArchiveFolder.open(archive).count == 10
    assert delete(archive, [NAMES[5], "0x"]) == DeleteReport(1, ("0x",), 9)
    assert ArchiveFolder.open(archive).count == 9


def test_compact_removes_deleted_records_from_the_disk(tmp_path, tools):
    """Also where so few are deleted that LanceDB would keep their file."""
    names = [f"{i:03}.png" for i in range(60)]
    records, encoder = tools.write_images(tmp_path / "source", names), tools.PixelEncoder()
    archive = tmp_path / "archive"
    ingest(SourceImages(records, tmp_path / "source"), archive, encoder)
    gone = ArchiveFolder.open(archive)
    thumbnail, kept = gone.thumbnail("031.png"), gone.thumbnail("032.png")
    gone.close()
    landcue.open(archive, cache=True).search("030.png", k=3)
    delete(archive, ["031.png"])
    compact(archive)
    content = {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    assert any(kept in data for data in content.values())
    assert not [path for path, data in content.items() if thumbnail in data or b"031.png" in data]
    assert not (archive / "indexes").exists()
    assert ArchiveFolder.open(archive).count == 59
    assert verify_archive(archive).problems == ()


def test_stopped_writer_keeps_no_reader_out(archive):
    """A writer that holds its lock on the readers' file and does not run."""
    import fcntl

    with (archive / ".readers").open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        opened = ArchiveFolder.open(archive)
        assert len(opened.columns().ids) == 12


def test_next_writer_removes_temporary_files(archive):
    for name in (".manifest.json.99.7.tmp", ".checksums.json.99.7.tmp", ".model.tmp/config.json"):
        (archive / name).parent.mkdir(exist_ok=True)
        (archive / name).write_text("left")
    (archive / "records.lance/data/.tmp99").write_text("left")
    delete(archive, [NAMES[0]])
    assert not [path for path in archive.rglob("*") if "tmp" in path.name]


def test_deleted_records_come_back_with_the_next_index(archive, made, tools):
    delete(archive, [NAMES[3]])
    encoder = tools.PixelEncoder()
    records = tools.stored_images(made / "source", NAMES)
    report = ingest(SourceImages(records, made / "source"), archive, encoder)
    assert (report.added, report.unchanged, encoder.encoded) == (1, 11, 1)


def test_compact_waits_for_readers(archive):
    reader = ArchiveFolder.open(archive)
    seen = reader.columns()
    delete(archive, [NAMES[0]])
    delete(archive, [NAMES[1]])
    before, after = compact(archive)
    assert after.versions > 1
    assert reader.count == 12
    np.testing.assert_array_equal(reader.columns().embedding, seen.embedding)
    reader.close()
    before, after = compact(archive)
    assert (before.versions > 1, after.versions) == (True, 1)
    assert after == size_of(archive)
    assert after.bytes < before.bytes
    assert ArchiveFolder.open(archive).count == 10


def test_reembed_serves_the_old_embeddings_until_it_is_done(archive, made, tools):
    reader = ArchiveFolder.open(archive)
    old = reader.columns()
    during = []

    def look(done, total):
        now = ArchiveFolder.open(archive)
        during.append((now.manifest.dim, now.count, unfinished(archive, now.manifest) is not None))
        now.close()

    tools.write_model(made / f"other-{archive.parent.name}", other(tools))
    report = reembed(
        archive,
        other(tools),
        options=EncodingOptions(batch_size=4),
        model_folder=made / f"other-{archive.parent.name}",
        progress=look,
    )
    assert during == [(16, 12, True)] * 3
    assert (report.records, report.dropped) == (12, ())
    # Who reads keeps what was opened; who opens now sees the new ones.
    np.testing.assert_array_equal(reader.columns().embedding, old.embedding)
    assert reader.thumbnail(NAMES[0])
    new = ArchiveFolder.open(archive)
    assert (new.manifest.dim, new.manifest.n_bits) == (8, 9)
    assert new.columns().ids == old.ids
    assert [new.columns().labels.row(i) for i in range(12)] == [
        old.labels.row(i) for i in range(12)
    ]
    assert other(tools).fingerprint in (new.model_folder / "config.json").read_text()
    assert new.manifest.created == reader.manifest.created
    expected = [np.asarray(row["embedding"], np.float32) for row in fresh_rows(made, tools)]
    np.testing.assert_array_equal(new.columns().embedding, expected)
    assert (archive / "records.lance").exists()
    new.close()
    reader.close()
    # With nobody reading, the next change removes the old ones.
    compact(archive)
    assert sorted(path.name for path in archive.iterdir() if path.name[0] != ".") == [
        "checksums.json", "manifest.json", "v2",
    ]  # fmt: skip
    assert sorted(path.name for path in (archive / "v2").iterdir()) == ["model", "records.lance"]
    assert verify_archive(archive).problems == ()


def fresh_rows(made, tools):
    """Return the rows of a new archive by the other model."""
    folder = made / "fresh"
    if not folder.exists():
        records = tools.stored_images(made / "source", NAMES)
        ingest(SourceImages(records, made / "source"), folder, other(tools))
    return tools.contents(ArchiveFolder.open(folder))


def test_archive_goes_on_after_reembedding(archive, made, tools):
    """Index, delete, repair and another model again, in the new folder."""
    reembed(archive, other(tools))
    records = tools.stored_images(made / "source", NAMES)
    delete(archive, [NAMES[2]])
    encoder = other(tools)
    report = ingest(SourceImages(records, made / "source"), archive, encoder)
    assert (report.added, report.unchanged) == (1, 11)
    with pytest.raises(ArchiveError, match="was made by model"):
        ingest(SourceImages(records, made / "source"), archive, tools.PixelEncoder())
    assert repair(archive, apply=True).problems == ()
    reembed(archive, tools.PixelEncoder())
    assert ArchiveFolder.open(archive).manifest.base == "v3"
    first = tools.contents(ArchiveFolder.open(made / "archive"))
    assert tools.contents(ArchiveFolder.open(archive)) == first


def test_reembed_needs_all_images(archive, made, tmp_path, tools):
    moved = shutil.copytree(made / "source", tmp_path / "source")
    records = tools.stored_images(moved, NAMES)
    ingest(SourceImages(records, moved, name="source"), archive, tools.PixelEncoder())
    (moved / NAMES[4]).unlink()
    (moved / NAMES[5]).write_bytes(b"no image")
    before = tools.contents(ArchiveFolder.open(archive))
    with pytest.raises(ArchiveError, match="2 of 12 records cannot be encoded again"):
        reembed(archive, other(tools))
    assert tools.contents(ArchiveFolder.open(archive)) == before
    report = reembed(archive, other(tools), drop_missing=True)
    assert report.dropped == (NAMES[4], NAMES[5])
    assert ArchiveFolder.open(archive).count == 10
    shutil.rmtree(moved)
    with pytest.raises(DataError, match="no readable image"):
        reembed(archive, tools.PixelEncoder())


@pytest.mark.parametrize("same", [True, False])
def test_parts_belong_to_the_training_of_a_model(tmp_path, tools, same):
    records = tools.write_images(tmp_path / "source", NAMES[:3])
    parts = ["train", "test", None]
    records = [replace(r, part=part) for r, part in zip(records, parts, strict=True)]
    archive = tmp_path / "archive"
    ingest(SourceImages(records, tmp_path / "source"), archive, tools.PixelEncoder())
    reembed(archive, other(tools), keep_parts=same)
    assert ArchiveFolder.open(archive).columns().part == (tuple(parts) if same else (None,) * 3)


def test_reembed_by_the_same_model(archive, tools):
    with pytest.raises(UsageError, match="nothing to do"):
        reembed(archive, tools.PixelEncoder())


def test_unfinished_reembedding_by_a_third_model_is_replaced(archive, tools):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reembed(
            archive,
            other(tools),
            options=EncodingOptions(batch_size=4, commit_every=4),
            progress=interrupt,
        )
    manifest = ArchiveFolder.open(archive).manifest
    assert "embeddings of model" in unfinished(archive, manifest)
    third = tools.PixelEncoder(seed=6)
    reembed(archive, third, options=EncodingOptions(batch_size=4))
    assert third.encoded == 12
    assert ArchiveFolder.open(archive).manifest.fingerprint == third.fingerprint


@pytest.mark.parametrize("task", ["ingest", "delete", "compact", "repair", "reembed"])
def test_second_writer_is_refused(archive, made, tools, task):
    """The lock is held by another process, as it would be on a real machine."""
    hold = (
        "import sys, pathlib; from landcue.files import exclusive; from landcue.errors import *\n"
        "with exclusive(pathlib.Path(sys.argv[1]), ArchiveError, 'testing'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(archive)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    records = tools.stored_images(made / "source", NAMES)
    tasks = {
        "ingest": lambda: ingest(
            SourceImages(records, made / "source"), archive, tools.PixelEncoder()
        ),
        "delete": lambda: delete(archive, NAMES[:1]),
        "compact": lambda: compact(archive),
        "repair": lambda: repair(archive, apply=True),
        "reembed": lambda: reembed(archive, other(tools)),
    }
    with pytest.raises(ArchiveError, match="another process is") as caught:
        tasks[task]()
    assert "\n" not in str(caught.value)
    assert ArchiveFolder.open(archive).count == 12  # readers are not kept out
    holder.kill()
    holder.wait()
    with exclusive(archive, ArchiveError, "testing"):  # the lock died with its holder
        pass


@pytest.fixture
def read_only(archive, tmp_path):
    target = tmp_path / "read only"
    target.mkdir()
    done = subprocess.run(["mount", "--bind", str(archive), str(target)], capture_output=True)
    if done.returncode:
        pytest.skip("cannot mount a folder")
    options = "remount,ro,bind"
    done = subprocess.run(["mount", "-o", options, str(target)], capture_output=True)
    if done.returncode:
        subprocess.run(["umount", str(target)], check=True)
        pytest.skip("cannot mount read-only")
    yield target
    subprocess.run(["umount", str(target)], check=True)


def test_read_only_archive(read_only, made, tools):
    opened = ArchiveFolder.open(read_only)
    assert len(opened.columns()) == 12
    assert opened.thumbnail(NAMES[0])
    opened.close()
    assert verify_archive(read_only).problems == ()
    assert repair(read_only, apply=False).problems == ()
    records = tools.stored_images(made / "source", NAMES)
    changes = (
        lambda: ingest(SourceImages(records, made / "source"), read_only, tools.PixelEncoder()),
        lambda: delete(read_only, NAMES[:1]),
        lambda: compact(read_only),
        lambda: repair(read_only, apply=True),
        lambda: reembed(read_only, other(tools)),
    )
    for change in changes:
        with pytest.raises(LandcueError, match="Read-only file system") as caught:
            change()
        assert "\n" not in str(caught.value)


def test_no_archive_is_made_by_looking(tmp_path):
    for change in (
        lambda: delete(tmp_path / "none", ["a"]),
        lambda: compact(tmp_path / "none"),
        lambda: repair(tmp_path / "none", apply=True),
        lambda: verify_archive(tmp_path / "none"),
    ):
        with pytest.raises(ArchiveError, match="does not exist"):
            change()
    assert not (tmp_path / "none").exists()

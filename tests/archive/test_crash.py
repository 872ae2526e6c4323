from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from landcue.archive.archive import Archive
from landcue.archive.ingest import ingest
from landcue.errors import ArchiveError

SCRIPT = Path(__file__).with_name("kill_ingest.py")
OPTIONS = {"prune": True, "batch_size": 4, "commit_every": 8}


@pytest.fixture(scope="module")
def stage(tmp_path_factory, tools):
    """A changed source, the archive of its first state, and what an undisturbed run makes."""
    folder = tmp_path_factory.mktemp("crash")
    root = folder / "source"
    encoder = tools.PixelEncoder()
    run = tools.write_model(folder / "run", encoder)
    ingest(tools.first_state(root), folder / "old", encoder, source_root=root, model_folder=run)
    tools.change_source(root)
    shutil.copytree(folder / "old", folder / "undisturbed")
    resume(folder / "undisturbed", root, tools)
    return folder, tools.contents(Archive.open(folder / "undisturbed"))


def resume(archive, root, tools):
    encoder = tools.PixelEncoder()
    records = tools.second_state(root)
    return ingest(
        records, archive, encoder, source_root=root, model_folder=root.parent / "run", **OPTIONS
    )


def kill(archive, root, point, count):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(archive), str(root), point, str(count)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("point", "count"),
    [
        *[(" progress", 6), (" progress", 28)],
        *[("<add", 1), ("~add", 2), (">add", 1)],
        *[("<replace", 1), ("~replace", 1), (">replace", 2)],
        *[("<delete", 1), ("~compact", 1), (">compact", 1), ("<last manifest", 1)],
    ],
)
def test_update_killed_anywhere_goes_on(stage, tmp_path, tools, point, count):
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    shutil.copytree(folder / "old", archive)
    kill(archive, root, point, count)
    # What the dead process left is a whole archive: rows of the old state or of the new one.
    between = Archive.open(archive)
    assert between.verify() == ()
    new = {row["id"]: row["content"] for row in expected}
    old = {row["id"]: row["content"] for row in tools.contents(Archive.open(folder / "old"))}
    for row in tools.contents(between):
        assert row["content"] in {new.get(row["id"]), old.get(row["id"])}
    between.close()

    resume(archive, root, tools)
    again = Archive.open(archive)
    assert tools.contents(again) == expected
    assert again.verify() == ()
    again.close()
    report = resume(archive, root, tools)
    assert report.unchanged == report.records == len(expected)
    # Nothing of the killed run stays behind.
    assert len(list((archive / "records.lance/data").iterdir())) == 1


@pytest.mark.parametrize(
    ("point", "count"),
    [
        *[("<copy_model", 1), ("~copy_model", 1), (">copy_model", 1), (">first manifest", 1)],
        *[*[("~create", 1)] * 3, (">create", 1), ("~add", 1), (" progress", 20)],
    ],
)
def test_new_archive_killed_anywhere_goes_on(stage, tmp_path, tools, point, count):
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    kill(archive, root, point, count)
    resume(archive, root, tools)
    again = Archive.open(archive)
    assert tools.contents(again) == expected
    assert again.manifest.records == len(expected)
    weights = folder / "run/model.safetensors"
    assert (again.model_folder / "model.safetensors").read_bytes() == weights.read_bytes()
    assert not (archive / ".model.tmp").exists()


def test_killed_while_made_leaves_the_choice_of_model(stage, tmp_path, tools):
    folder, _ = stage
    root, archive = folder / "source", tmp_path / "archive"
    kill(archive, root, ">copy_model", 1)
    other = tools.PixelEncoder(seed=9)
    run = tools.write_model(tmp_path / "other", other)
    ingest(tools.second_state(root), archive, other, source_root=root, model_folder=run)
    opened = Archive.open(archive)
    assert opened.manifest.fingerprint == other.fingerprint
    assert other.fingerprint in (opened.model_folder / "config.json").read_text()


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"cannot mount a small disk: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_disk_full_names_what_is_safe_and_goes_on(small_disk, tmp_path, tools):
    root, archive = tmp_path / "source", small_disk / "archive"
    records = tools.write_images(root, [f"{i:03}.png" for i in range(200)])
    encoder = tools.PixelEncoder()
    with pytest.raises(ArchiveError) as caught:
        ingest(records, archive, encoder, source_root=root, batch_size=10, commit_every=20)
    message = str(caught.value)
    assert "\n" not in message
    reader = Archive.open(archive)
    assert 0 < reader.count < 200
    assert f"no space left; {reader.count} records are safe, free space" in message
    assert reader.verify() == ()
    reader.close()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    ingest(records, archive, encoder, source_root=root)
    assert Archive.open(archive).columns().ids == tuple(record.id for record in records)

"""Flipped bits, truncated and swapped files: named by verify, no crash, no other answer."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from landcue.archive.changes import compact
from landcue.archive.checksums import read_checksums, start_cleaning
from landcue.archive.ingest import ingest
from landcue.archive.manifest import checksum_of, read_manifest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import repair
from landcue.errors import ArchiveError, LandcueError

pytestmark = pytest.mark.attack

DAMAGES = int(os.environ.get("LANDCUE_DAMAGES", "24"))
"""Damages of each kind of archive; the full run has 1000."""
HELPERS = Path(__file__).parents[1] / "helpers"
UNCHECKED = {".checked.json", ".readers", ".lock"}
"""Files without content of an archive; that of the first is compared with the present files."""


class Reader:
    """Looks at archives in processes that may die."""

    def __init__(self, scratch):
        self._process = subprocess.Popen(
            [sys.executable, str(HELPERS / "damage_server.py"), str(scratch / "answer")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        )  # fmt: skip

    def look(self, archive):
        self._process.stdin.write(f"{archive}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    reader = Reader(tmp_path_factory.mktemp("reader"))
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory, tools, reader):
    """Two archives with a model, each also with derived files, and their answers."""
    folder = tmp_path_factory.mktemp("sound")
    found = {}
    for name, seed in (("one", 1), ("other", 2)):
        archive = folder / name / "plain"
        encoder = tools.PixelEncoder(seed=seed)
        model = tools.write_model(folder / f"model{seed}", encoder)
        root = folder / f"images{seed}"
        records = tools.write_images(root, [f"{i:02}.png" for i in range(30 + seed)])
        ingest(SourceImages(records, root), archive, encoder, model_folder=model)
        derived = shutil.copytree(archive, folder / name / "derived")
        said = reader.look(derived)
        assert said["problems"] == []
        assert "hits" in said, said
        found[name] = {key: said[key] for key in ("hits", "records", "thumbnails")}
        assert {path.name for path in derived.glob("indexes/*/*.json")} >= {"cue.index.json"}
    assert found["one"] != found["other"]
    return folder, found["one"]


@pytest.mark.parametrize("kind", ["plain", "derived"])
def test_damage_is_named_and_changes_no_answer(sound, reader, tmp_path, kind):
    folder, expected = sound
    chance = random.Random(kind)
    files = sorted(
        path.relative_to(folder / "one" / kind)
        for path in (folder / "one" / kind).rglob("*")
        if path.is_file() and path.stat().st_size and path.name not in UNCHECKED
    )
    files = [name for name in files if not name.name.endswith(".checked")]
    for i in range(DAMAGES):
        archive = shutil.copytree(folder / "one" / kind, tmp_path / "archive")
        name = files[i % len(files)]
        what = damage(archive, name, folder / "other" / kind, files, chance, i + i // len(files))
        said = reader.look(archive)
        where = f"{i}: {what}: { {k: v for k, v in said.items() if k not in expected} }"
        assert not said["signal"], where
        assert "crash" not in said, where
        for text in (said.get("error", ""), said.get("verify", "")):
            assert "\n" not in text, where
        if "hits" in said:
            assert {key: said[key] for key in expected} == expected, where
        named = {problem[0] for problem in said["problems"]}
        assert named or "verify" in said, where
        shutil.rmtree(archive)


def damage(archive, name, other, files, chance, turn):
    """Damage one file, in turn by a flip, a cut, a swap or removal; return what was done."""
    file = archive / name
    content = bytearray(file.read_bytes())
    if turn % 4 in (0, 2):
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        content[place] ^= 1 << bit
        file.write_bytes(content)
        return f"{name}: bit {bit} of byte {place}"
    if turn % 4 == 1:
        size = chance.randrange(len(content))
        file.write_bytes(content[:size])
        return f"{name}: cut to {size} bytes"
    twin = other / name
    if not twin.exists():
        twin = archive / chance.choice([one for one in files if one.suffix == name.suffix])
    if twin.read_bytes() == bytes(content):
        content[0] ^= 1
        file.write_bytes(content)
        return f"{name}: bit 0 of byte 0"
    there = twin.read_bytes()
    file.write_bytes(there)
    if twin.is_relative_to(archive):
        twin.write_bytes(content)
    return f"{name}: swapped with {twin}"


@pytest.mark.parametrize("name", ["manifest.json", "checksums.json"])
def test_small_file_of_another_archive(sound, reader, tmp_path, name):
    folder, _ = sound
    archive = shutil.copytree(folder / "one" / "plain", tmp_path / "archive")
    shutil.copyfile(folder / "other" / "plain" / name, archive / name)
    said = reader.look(archive)
    assert [name, "is that of another archive"] in said["problems"]
    assert "of another archive" in said["error"]


def test_missing_checksums(sound, reader, tmp_path):
    folder, expected = sound
    archive = shutil.copytree(folder / "one" / "plain", tmp_path / "archive")
    (archive / "checksums.json").unlink()
    said = reader.look(archive)
    assert said["problems"] == [["checksums.json", "is missing: the files cannot be checked"]]
    assert {key: said[key] for key in expected} == expected


def test_cleaning_does_not_excuse_a_missing_table(sound, reader, tmp_path):
    folder, _ = sound
    for part in ("records.lance", "records.lance/data", "records.lance/_versions"):
        archive = shutil.copytree(folder / "one" / "plain", tmp_path / "archive")
        start_cleaning(archive)
        shutil.rmtree(archive / part)
        said = reader.look(archive)
        assert said["problems"], part
        assert "error" in said, part
        shutil.rmtree(archive)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_paths_that_lead_out_are_refused(sound, reader, tmp_path):
    folder, _ = sound
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name in ("records.lance/data/pipe", "manifest.json", "checksums.json", "data", "link"):
        archive = shutil.copytree(folder / "one" / "plain", tmp_path / "archive")
        (data,) = (archive / "records.lance/data").iterdir()
        file = data if name in ("data", "link") else archive / name
        file.unlink(missing_ok=True)
        if name == "link":
            file.symlink_to(secret)
        else:
            os.mkfifo(file)
        said = reader.look(archive)
        assert not said["signal"], name
        assert said["problems"] or "verify" in said, name
        for change in (compact, functools.partial(repair, apply=True)):
            with contextlib.suppress(LandcueError):
                change(archive)
        assert secret.read_text() == "secret"
        shutil.rmtree(archive)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "records.lance/../../secret", "model//x", "other/x", ""]
)
def test_checksums_that_name_other_files(sound, reader, tmp_path, name):
    folder, _ = sound
    (tmp_path / "secret").write_text("secret")
    archive = shutil.copytree(folder / "one" / "plain", tmp_path / "archive")
    value = json.loads((archive / "checksums.json").read_text())
    del value["checksum"]
    value["files"][name] = "0" * 32
    value["checksum"] = checksum_of(value)
    (archive / "checksums.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    with pytest.raises(ArchiveError, match="which is no file of an archive"):
        read_checksums(archive)
    said = reader.look(archive)
    assert [one[0] for one in said["problems"]] == ["checksums.json"]
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("dim", -1), ("dim", 2**40), ("dim", "12"), ("dim", 1.5), ("dim", True), ("n_bits", -8)],
        *[("label_names", "water"), ("label_names", [1]), ("records", -1), ("records", None)],
        *[("sources", []), ("sources", {"a": 1}), ("sources", {"a": {"root": 1}}), ("base", "v")],
        *[("base", "../v2"), ("model", []), ("fingerprint", 5), ("id", 7)],
    ],
)
def test_manifest_values(sound, tmp_path, key, value):
    folder, _ = sound
    stored = json.loads((folder / "one/plain/manifest.json").read_text()) | {key: value}
    del stored["checksum"]
    stored["checksum"] = checksum_of(stored)
    (tmp_path / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(ArchiveError, match=f"has a wrong value of '{key}'"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "9" * 6000 + "}", "\xff", "[]"])
def test_files_that_are_no_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArchiveError) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)

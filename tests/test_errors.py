"""Suggestions, atomic files and locks."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from landcue.errors import (
    ArchiveError,
    DataError,
    LandcueError,
    ModelError,
    UsageError,
    did_you_mean,
)
from landcue.files import core_count, exclusive, read_json, reserve, write_atomic
from landcue.models.onnx import OnnxCard
from landcue.search.query import read_vector
from landcue.training.config import read_values


def test_suggestions_name_near_matches_or_what_is_known():
    assert did_you_mean("watr", ["water", "trees"]) == " (did you mean 'water'?)"
    assert did_you_mean("zzz", ["b", "a", "c"]) == " (known: a, b, c)"
    assert did_you_mean("zzz", ["b", "a", "c"], most=2) == " (known: a, b, …)"
    assert did_you_mean("zzz", []) == ""


def test_a_failed_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_atomic(file, '{"x": 1}')
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "folder.json" / "child").write_bytes(b"")
    with pytest.raises(LandcueError, match=r"cannot write .*folder\.json"):
        write_atomic(tmp_path / "folder.json", "{}")
    assert read_json(file, ArchiveError, "") == {"x": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "folder.json"]


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LandcueError, match="cannot write"):
        write_atomic(tmp_path / "file" / "x", "y")
    with (
        pytest.raises(ArchiveError, match="cannot write"),
        exclusive(tmp_path / "file" / "x", ArchiveError, "indexing into"),
    ):
        pass


def test_a_lock_is_free_again_after_use(tmp_path):
    for _ in range(2):
        with (
            exclusive(tmp_path, ArchiveError, "indexing into"),
            pytest.raises(ArchiveError, match="another process is indexing into"),
            exclusive(tmp_path, ArchiveError, "indexing into"),
        ):
            pass
    assert (tmp_path / ".lock").stat().st_mode & 0o111 == 0  # a file, no program


@pytest.mark.parametrize(
    ("content", "word"), [(None, "is missing"), (b"\xff", "not valid JSON"), (b"3", "JSON object")]
)
def test_broken_json_names_the_file_and_the_hint(tmp_path, content, word):
    if content is not None:
        (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        read_json(tmp_path / "m.json", ArchiveError, "do this")
    assert word in str(caught.value)
    assert str(caught.value).endswith("do this")


def test_a_lock_of_a_killed_process_is_free(tmp_path):
    code = (
        "import os, signal, sys, pathlib; from landcue.files import exclusive\n"
        "from landcue.errors import ArchiveError\n"
        "with exclusive(pathlib.Path(sys.argv[1]), ArchiveError, 'indexing into'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    with exclusive(tmp_path, ArchiveError, "indexing into"):
        pass


def test_the_core_count_obeys_the_affinity_of_the_process():
    assert 1 <= core_count() <= (os.cpu_count() or 1)
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from landcue.files import core_count; print(core_count())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "1"


def test_reserved_bytes_are_there(tmp_path):
    reserve(tmp_path / "a", 12_345)
    assert (tmp_path / "a").stat().st_size == 12_345


DEEP, LONG = "[" * 100_000, "9" * 5_000


@pytest.mark.parametrize("text", [DEEP, LONG, f'{{"a": {LONG}}}', "[]", "{", "\udcff", "null"])
def test_broken_json_files_are_one_line(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"a\.json .*; restore it$") as caught:
        read_json(tmp_path / "a.json", DataError, "restore it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [DEEP, LONG, "- a\n- b", "a: 2024-13-01", "a: [", "&a [*a]", "7"])
def test_broken_yaml_files_are_one_line(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"a\.yaml") as caught:
        read_values(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


GOOD = {
    "format": 1,
    "model": {"dim": 4, "n_bits": 0, "image_size": 32, "label_names": ["a"]},
    "precision": "int8",
    "source": "",
    "provenance": {},
    "fidelity": {},
}


@pytest.mark.parametrize(
    "text",
    [
        *(DEEP, LONG, "7", "{}", "null", json.dumps({**GOOD, "format": "\x1b[2J"})),
        json.dumps({**GOOD, "model": [], "provenance": []}),
        json.dumps({**GOOD, "provenance": []}),
        *(
            json.dumps({**GOOD, "model": {**GOOD["model"], **changed}})
            for changed in (
                *({"dim": "4"}, {"dim": True}, {"n_bits": -1}, {"image_size": 10**9}),
                *({"label_names": "abc"}, {"label_names": [7]}, {"in_chans": None}),
            )
        ),
    ],
)
def test_broken_cards_of_models_are_one_line(text):
    with pytest.raises(ModelError, match=r"a\.onnx") as caught:
        OnnxCard.from_json(text, Path("a.onnx"))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "header",
    [
        *(DEEP, "(" * 10_000, "{", "7", "{'descr': '<f4', 'fortran_order': False}", "\0"),
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,), }",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},), }}",
    ],
)
def test_broken_vectors_are_one_line(tmp_path, header):
    data = header.encode().ljust(64)
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\2\0" + struct.pack("<I", len(data)) + data)
    with pytest.raises(UsageError, match=r"a\.npy is not a \.npy file of numbers"):
        read_vector(tmp_path / "a.npy")

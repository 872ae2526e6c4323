"""Suggestions, atomic files and locks."""

from __future__ import annotations

import pytest

from landcue.errors import ArchiveError, LandcueError, did_you_mean
from landcue.files import exclusive, read_json, write_atomic


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

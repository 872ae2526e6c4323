from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from landcue.codes import codefile
from landcue.errors import ArchiveError, LandcueError

ARRAYS = {
    "numbers": np.arange(5000, dtype=np.int64).reshape(2, 2500),
    "bytes": np.arange(7, dtype=np.uint8),
    "none": np.empty(0, np.uint32),
}


@pytest.fixture
def path(tmp_path):
    codefile.write(tmp_path / "index.bin", "test", {"n_bits": 64}, ARRAYS)
    return tmp_path / "index.bin"


@pytest.mark.parametrize("in_memory", [False, True])
def test_what_is_written_is_read(path, in_memory):
    stored = codefile.read(path, "test", in_memory=in_memory, verify=True)
    assert stored.facts == {"n_bits": 64}
    assert list(stored.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(stored.arrays[name], array)
        assert stored.arrays[name].dtype == array.dtype
        assert stored.arrays[name].flags.writeable == in_memory
    assert os.listdir(path.parent) == ["index.bin"]


def test_the_layout_is_the_documented_one(path):
    content = path.read_bytes()
    assert content[:8] == b"LANDCUE\0"
    length = int.from_bytes(content[12:16], "little")
    assert content[16 : 16 + length].startswith(b'{"format": 1, "kind": "test"')
    assert not any(content[16 + length : 4096])
    np.testing.assert_array_equal(np.frombuffer(content, "<i8", 5000, 4096), np.arange(5000))


def test_every_flipped_bit_of_the_header_is_noticed(path):
    content = path.read_bytes()
    for byte in [*range(600), 1000, 4095]:
        broken = bytearray(content)
        broken[byte] ^= 1 << (byte % 8)
        path.write_bytes(broken)
        with pytest.raises(ArchiveError, match=r"index\.bin.*rebuild it"):
            codefile.read(path, "test")


def test_flipped_data_is_named_when_verified(path):
    content = bytearray(path.read_bytes())
    content[4096 + 9000] ^= 4
    path.write_bytes(content)
    codefile.read(path, "test")
    with pytest.raises(ArchiveError, match="checksum of its numbers differs"):
        codefile.read(path, "test", verify=True)


@pytest.mark.parametrize("size", [0, 3, 8, 100, 4095, 4096, 20_000, -1])
def test_a_truncated_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ArchiveError, match="rebuild it"):
        codefile.read(path, "test")


def test_a_longer_file_is_refused(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArchiveError, match="cut off or added to"):
        codefile.read(path, "test")


def test_other_kinds_formats_and_folders_are_refused(path):
    with pytest.raises(ArchiveError, match="is a test index, not cue"):
        codefile.read(path, "cue")
    with pytest.raises(ArchiveError, match="cannot read"):
        codefile.read(path.parent, "test")
    with pytest.raises(ArchiveError, match="does not hold its count"):
        codefile.read(path, "test").fact("count")
    with pytest.raises(ArchiveError, match="no usable rows"):
        codefile.read(path, "test").array("rows", np.uint32, 1)
    with pytest.raises(ArchiveError, match="no usable bytes"):
        codefile.read(path, "test").array("bytes", np.uint64, 1)
    header = bytearray(path.read_bytes()[:4096]).replace(b'"format": 1', b'"format": 2')
    header[8:12] = zlib.crc32(header[12:]).to_bytes(4, "little")
    path.write_bytes(header + path.read_bytes()[4096:])
    with pytest.raises(ArchiveError, match="has format 2, this LandCue reads 1"):
        codefile.read(path, "test")


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LandcueError, match=r"cannot write .*index\.bin: No space left"):
        codefile.write(path, "test", {}, {"other": np.zeros(3)})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["index.bin"]


def test_a_crash_before_the_rename_leaves_the_old_file(path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Killed):
        codefile.write(path, "test", {}, {"other": np.zeros(3)})
    assert path.read_bytes() == before


def test_strided_and_big_endian_arrays_are_stored_plain(tmp_path):
    wide = np.arange(20, dtype=">u4").reshape(4, 5)[:, ::2]
    codefile.write(tmp_path / "a.bin", "test", {}, {"wide": wide})
    stored = codefile.read(tmp_path / "a.bin", "test", verify=True).array("wide", np.uint32, 2)
    np.testing.assert_array_equal(stored, wide)

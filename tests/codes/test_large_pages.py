from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from landcue.codes.codefile import read, want_large_pages, write


def wants_large_pages(path):
    """Look up the flags of this process's mapping of a file."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.endswith(str(path)):
            flags = next(line for line in lines if line.startswith("VmFlags:"))
            return "hg" in flags.split()
    raise LookupError(f"{path} is not mapped")


needs_linux = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE")
    or not sys.platform.startswith("linux")
    or not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="needs Linux with large pages",
)


@needs_linux
def test_views_of_a_mapped_file_are_advised(tmp_path):
    np.arange(3000, dtype=np.float32).tofile(tmp_path / "a.bin")
    mapped = np.memmap(tmp_path / "a.bin", np.float32, "r", shape=(1000, 3))
    assert not wants_large_pages(tmp_path / "a.bin")
    view = np.asarray(mapped)[1:, ::2]
    want_large_pages(view)
    assert wants_large_pages(tmp_path / "a.bin")
    assert view[0].tolist() == [3, 5]


@needs_linux
def test_code_files_are_advised(tmp_path):
    write(tmp_path / "codes.bin", "some", {}, {"words": np.arange(5000, dtype=np.uint64)})
    stored = read(tmp_path / "codes.bin", "some")
    assert wants_large_pages(tmp_path / "codes.bin")
    assert stored.array("words", np.uint64, 1)[-1] == 4999


def test_arrays_in_memory_are_left_alone():
    array = np.arange(10)
    want_large_pages(array)
    want_large_pages(array[2:5])
    assert array.tolist() == list(range(10))

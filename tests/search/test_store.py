"""Derived files: built once, checked, rebuilt when stale, harmless when shared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from landcue.archive.archive import ArchiveFolder
from landcue.archive.table import RecordTable
from landcue.archive.verify import verify_archive
from landcue.errors import UsageError
from landcue.search import Archive, ById, Filter, SearchOptions

MODES = ("embedding", "code", "cue", "two-stage")


def answers(searcher):
    ids = [searcher.backend.records.id(row) for row in (0, 7, 99)]
    return [searcher.search(ById(id_), k=11, mode=mode) for id_ in ids for mode in MODES]


def index_problems(folder):
    return tuple(one for one in verify_archive(folder).files if one.where.startswith("indexes/"))


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "indexes").rglob("*.*")}


def test_files_are_built_once_and_used_again(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    plain = answers(Archive(archive))
    assert not (tmp_path / "a/indexes").exists()
    first = Archive(archive, cache=True)
    assert answers(first) == plain
    built = files(tmp_path / "a")
    assert {name for name in built if name.endswith(".json")} == {
        *("records.arrow.json", "embedding.bin.json", "code.bin.json", "cue.bin.json"),
        *("cue.index.json", "sketch.bin.json", "sketch-projection.bin.json"),
        *(f"typical-{kind}.arrow.json" for kind in ("embedding", "code", "cue")),
    }
    second = Archive(ArchiveFolder.open(tmp_path / "a"), cache=True)
    assert answers(second) == plain
    assert files(tmp_path / "a") == built
    assert isinstance(second.backend.vectors.embedding.base, np.memmap)
    assert index_problems(tmp_path / "a") == ()


def test_a_header_that_lost_its_last_byte_is_named(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    Archive(archive, cache=True).search(ById(archive.columns().ids[0]), k=3, mode="code")
    for header in (tmp_path / "a/indexes").glob("*/*.json"):
        whole = header.read_bytes()
        header.write_bytes(whole[:-1])
        (problem,) = index_problems(tmp_path / "a")
        assert problem.where.endswith(header.name)
        header.write_bytes(whole)


def test_swapped_headers_are_named(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    expected = answers(Archive(archive, cache=True))
    first, second = (
        next(tmp_path.glob(f"a/indexes/*/{name}.bin.json")) for name in ("code", "cue")
    )
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    second.write_text(texts[0])
    named = {problem.where.rpartition("/")[2] for problem in index_problems(tmp_path / "a")}
    assert named == {"code.bin.json", "cue.bin.json"}
    assert answers(Archive(ArchiveFolder.open(tmp_path / "a"), cache=True)) == expected
    assert index_problems(tmp_path / "a") == ()


def test_only_what_a_mode_needs_is_read(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    for mode, needed in (
        ("embedding", {"embedding"}),
        ("code", {"code"}),
        ("cue", {"code", "cue"}),
        ("two-stage", {"embedding"}),
    ):
        searcher = Archive(archive, cache=True)
        assert searcher.backend.vectors.read == frozenset()
        searcher.search(ById(searcher.backend.records.id(3)), k=5, mode=mode)
        assert searcher.backend.vectors.read == needed


def test_a_changed_archive_gets_new_files_and_loses_the_old(made, tmp_path):
    folder = tmp_path / "a"
    old = Archive(made.make_archive(folder, 150), cache=True)
    before = answers(old)
    gone = old.backend.records.id(7)
    RecordTable.open(folder, pinned=False).delete([gone])
    new = Archive(ArchiveFolder.open(folder), cache=True)
    assert new.backend.records.find(gone) is None
    assert len(new) == 149
    assert {hit.id for hit in new.search(k=200, where=Filter(path="")).hits} == {
        old.backend.records.id(row) for row in range(150) if row != 7
    }
    assert len(list((folder / "indexes").iterdir())) == 1
    assert answers(old) == before  # what it has mapped is still there


def test_a_cursor_of_another_version_is_refused(made, tmp_path):
    folder = tmp_path / "a"
    searcher = Archive(made.make_archive(folder, 150))
    query = ById(searcher.backend.records.id(0))
    cursor = searcher.search(query, k=5).cursor
    assert searcher.search(query, k=5, options=SearchOptions(cursor=cursor)).hits
    RecordTable.open(folder, pinned=False).delete([searcher.backend.records.id(99)])
    with pytest.raises(UsageError, match=r"another version .* first page"):
        Archive(ArchiveFolder.open(folder)).search(query, k=5, options=SearchOptions(cursor=cursor))
    assert searcher.search(
        query, k=5, options=SearchOptions(cursor=cursor)
    ).hits  # the searcher's own view did not change


def test_other_content_of_the_same_version_is_not_mistaken(made, tmp_path):
    """A copy restored over an archive may reach a version number that had other rows."""
    folder = tmp_path / "a"
    one = answers(Archive(made.make_archive(folder, 150, seed=1), cache=True))
    kept = tmp_path / "indexes"
    shutil.copytree(folder / "indexes", kept)
    shutil.rmtree(folder)
    made.make_archive(folder, 150, seed=2)
    shutil.copytree(kept, folder / "indexes")
    two = Archive(ArchiveFolder.open(folder), cache=True)
    assert answers(two) == answers(Archive(ArchiveFolder.open(folder)))
    assert answers(two) != one


@pytest.mark.parametrize("harm", ["flip", "truncate", "header", "remove"])
def test_damage_is_named_and_mended(made, tmp_path, harm):
    folder = tmp_path / "a"
    archive = made.make_archive(folder, 150)
    expected = answers(Archive(archive, cache=True))
    path = next((folder / "indexes").rglob("*-code.bin"))
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[40] ^= 4
        path.write_bytes(data)
    elif harm == "truncate":
        path.write_bytes(data[:-1])
    elif harm == "header":
        (path.parent / "code.bin.json").write_text("{nonsense")
    else:
        path.unlink()
    problems = index_problems(folder)
    assert len(problems) == 1
    assert "code.bin" in problems[0].where
    if harm == "flip":  # the size is right: verify tells, and its advice mends
        path.unlink()
    assert answers(Archive(archive, cache=True)) == expected
    assert index_problems(folder) == ()


def test_a_damaged_cue_index_is_not_used(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    expected = answers(Archive(archive, cache=True))
    path = next((tmp_path / "a/indexes").rglob("*-cue.index"))
    data = bytearray(path.read_bytes())
    data[:64] = bytes(64)
    path.write_bytes(data)
    assert "cue.index" in index_problems(tmp_path / "a")[0].where
    assert answers(Archive(archive, cache=True)) == expected


def test_a_header_of_another_archive_is_not_used(made, tmp_path):
    folder = tmp_path / "a"
    archive = made.make_archive(folder, 150)
    expected = answers(Archive(archive, cache=True))
    header = next((folder / "indexes").rglob("embedding.bin.json"))
    value = json.loads(header.read_text())
    header.write_text(json.dumps({**value, "fingerprint": "other"}))
    assert answers(Archive(archive, cache=True)) == expected
    assert json.loads(header.read_text())["fingerprint"] == value["fingerprint"]


def test_a_folder_that_cannot_be_written_is_searched_in_memory(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    (tmp_path / "a/indexes").write_text("in the way, as for root no folder is read-only")
    searcher = Archive(archive, cache=True)
    assert answers(searcher) == answers(Archive(archive))
    assert not isinstance(searcher.backend.vectors.embedding, np.memmap)


def test_a_read_only_folder(made, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    archive = made.make_archive(tmp_path / "a", 150)
    (tmp_path / "a").chmod(0o500)
    try:
        assert answers(Archive(archive, cache=True)) == answers(Archive(archive))
    finally:
        (tmp_path / "a").chmod(0o700)
    assert not (tmp_path / "a/indexes").exists()


def test_threads_share_a_searcher(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    expected = answers(Archive(archive))
    fresh = Archive(archive, cache=True)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: answers(fresh), range(8)):
            assert found == expected


def test_threads_with_searchers_of_their_own(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 150)
    expected = answers(Archive(archive))
    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(lambda _: answers(Archive(archive, cache=True)), range(6)):
            assert found == expected
    assert index_problems(tmp_path / "a") == ()


PROCESS = """
import json, sys
from pathlib import Path
from landcue.archive.archive import ArchiveFolder
from landcue.search import Archive, ById
searcher = Archive(ArchiveFolder.open(Path(sys.argv[1])), cache=True)
sys.stdin.readline()
found = [searcher.search(ById(searcher.backend.records.id(r)), k=9, mode=mode).to_json()
         for r in (0, 7, 99) for mode in ("embedding", "code", "cue", "two-stage")]
print(json.dumps(found))
"""


def test_two_processes_build_at_once(made, tmp_path):
    made.make_archive(tmp_path / "a", 150)
    run = [sys.executable, "-c", PROCESS, str(tmp_path / "a")]
    both = [
        subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(json.loads(outputs[0])) == 12
    assert index_problems(tmp_path / "a") == ()


MEMORY = """
import gc, sys
from pathlib import Path
from landcue.archive.archive import ArchiveFolder
from landcue.search import Archive, ById

def anonymous():
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

small, large = (Archive(ArchiveFolder.open(Path(folder)), cache=True) for folder in sys.argv[1:3])
small.search(ById("0000003.tif"), k=20, mode="two-stage")  # loads every library
before = anonymous()
large.search(ById("0000003.tif"), k=20, mode="two-stage")
print(anonymous() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_two_stage_never_holds_all_embeddings(made, tmp_path):
    sizes = made.Sizes(dim=512, n_bits=64)
    n = 30_000
    for name, count in (("small", 100), ("large", n)):
        archive = made.make_archive(
            tmp_path / name, count, sizes=sizes, distinct=None, metadata=False
        )
        Archive(archive, cache=True).search(ById("0000003.tif"), k=5, mode="two-stage")
    run = [sys.executable, "-c", MEMORY, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=True)
    grown = int(done.stdout)
    embeddings = n * 512 * 4
    assert grown < 24 * n + 4_000_000 < embeddings / 10, grown


def test_an_empty_archive_writes_nothing(made, tmp_path):
    archive = made.make_archive(tmp_path / "a", 20)
    RecordTable.open(tmp_path / "a", pinned=False).delete(Archive(archive).ids())
    empty = ArchiveFolder.open(tmp_path / "a")
    assert len(Archive(empty, cache=True)) == 0
    assert not (tmp_path / "a/indexes").exists()


def test_whoever_comes_while_a_file_is_built_shares_it(made, tmp_path):
    store = Archive(made.make_archive(tmp_path / "a", 150), cache=True).backend.vectors.store
    second = Archive(ArchiveFolder.open(tmp_path / "a"), cache=True).backend.vectors.store
    began, may, written = threading.Event(), threading.Event(), []

    def write(path):
        written.append(path)
        began.set()
        may.wait()
        path.write_bytes(b"built")
        return {}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.file, "some.bin", write)
        began.wait()
        other = pool.submit(second.file, "some.bin", write)
        may.set()
        assert first.result() == other.result()
    assert len(written) == 1
    assert {path.suffix for path in store.folder.glob(".*")} == {".checked"}

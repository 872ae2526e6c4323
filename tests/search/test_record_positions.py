"""Records are read by their places in the table, not by a scan of all ids."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from landcue import Archive
from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import write_manifest
from landcue.archive.table import RecordTable
from landcue.errors import UsageError

NAMES = ("a/é.png", "a/日本 1.png", "a/it's.png", "b", "b/", "b0", "🛰.png", "z%'_.png")


@pytest.fixture
def archive(made, tmp_path):
    """Twenty plain records and some of unusual ids, in two files, some deleted, some replaced."""
    facts = [made.plain_record(i) for i in range(20)]
    facts += [replace(facts[0], id=name, path=f"{i}.png") for i, name in enumerate(NAMES)]
    folder = tmp_path / "a"
    written = made.make_archive(folder, len(facts), facts=facts)
    table = RecordTable.open(folder, pinned=False)
    gone = [facts[i].id for i in (0, 7, 19)]
    table.delete(gone)
    table.replace(table.rows([facts[3].id, NAMES[1]]))
    write_manifest(folder, replace(written.manifest, records=len(facts) - len(gone)))
    return folder, sorted({fact.id for fact in facts} - set(gone)), gone


@pytest.mark.parametrize("cache", [False, True])
def test_records_are_those_that_a_scan_finds(archive, cache):
    folder, ids, _ = archive
    plain = ArchiveFolder.open(folder)
    assert plain.lookup is None
    for _ in range(2):  # the second time the places are read from disk
        storage = ArchiveFolder.open(folder)
        opened = Archive(storage, cache=cache)
        some = [ids[-1], NAMES[0], ids[2], ids[-1], *reversed(ids)]
        assert storage.lookup is not None
        assert storage.read_records(some) == plain.read_records(some)
        assert opened.record(ids[4]) == opened.records([ids[4]])[0]
        assert [record.id for record in opened.records(ids)] == ids
        assert opened.thumbnails([*ids, "none"]) == plain.thumbnails(ids)
        assert opened.file(NAMES[3]) == plain.file(NAMES[3])


def test_ids_that_no_record_has(archive):
    folder, ids, gone = archive
    opened = Archive(ArchiveFolder.open(folder), cache=True)
    for id_ in (*gone, "", "0", "zzz", "🛰", "a/e\u0301.png", "\ud800", NAMES[1] + " "):
        with pytest.raises(UsageError, match="no record has the id"):
            opened.record(id_)
        with pytest.raises(UsageError, match="no record has the id"):
            opened.thumbnail(id_)
        assert opened.thumbnails([id_]) == {}
    with pytest.raises(UsageError, match=r"no record has the id '0000007\.tif'"):
        opened.records([ids[0], "0000007.tif"])
    with pytest.raises(UsageError, match=r"'0000008\.tif'"):  # a near match is named
        opened.record("0000008.tiff")


def test_an_empty_archive_has_none(archive):
    folder, ids, _ = archive
    table = RecordTable.open(folder, pinned=False)
    table.delete(ids)
    write_manifest(folder, replace(ArchiveFolder.open(folder).manifest, records=0))
    opened = Archive(ArchiveFolder.open(folder), cache=True)
    assert opened.records([]) == []
    assert opened.thumbnails(["a"]) == {}
    with pytest.raises(UsageError, match="no record has the id"):
        opened.record("a")


def test_wrong_places_change_no_answer(archive):
    folder, ids, _ = archive
    storage = ArchiveFolder.open(folder)
    right = storage.read_records(ids[:3])
    storage.lookup = SimpleNamespace(positions=lambda wanted: [5, 6, 7])
    assert storage.read_records(ids[:3]) == right


def test_readers_keep_their_version(archive):
    folder, ids, _ = archive
    before = Archive(ArchiveFolder.open(folder), cache=True)
    expected = before.records(ids)
    table = RecordTable.open(folder, pinned=False)
    table.delete(ids[:5])
    table.compact()
    assert before.records(ids) == expected
    after = Archive(ArchiveFolder.open(folder), cache=True)
    assert after.records(ids[5:]) == expected[5:]
    assert ids[0] not in after

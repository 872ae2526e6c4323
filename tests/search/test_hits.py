"""Hits that wait to be looked at, and the sorted ids they are read from."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.archive.table import RecordTable
from landcue.search import Archive, ById
from landcue.search.records import SortedIds


@given(st.sets(st.text(max_size=4), max_size=40), st.text(max_size=4), st.integers(0, 5))
def test_ids_are_found_where_python_sorts_them(ids, other, skipped):
    ordered = sorted(ids)
    column = pa.chunked_array([pa.array(["-"] * skipped + ordered, pa.large_string())])
    found = SortedIds(column.slice(skipped))
    assert len(found) == len(ordered)
    assert [found[row] for row in range(len(ordered))] == ordered
    for id_ in (*ordered, other):
        assert found.place(id_) == sum(known < id_ for known in ordered)


@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 1025, 3000])
def test_many_ids(n):
    ordered = [f"{2 * i:07}" for i in range(n)]
    halves = [pa.array(part, pa.large_string()) for part in (ordered[: n // 3], ordered[n // 3 :])]
    found = SortedIds(pa.chunked_array(halves, pa.large_string()))
    for i in range(0, 2 * n + 2, 7):
        assert found.place(f"{i:07}") == min((i + 1) // 2, n)
    assert found.place("") == 0
    assert found.place("\ud800") == n  # half a character is in no id
    with pytest.raises(IndexError):
        found[n]


def test_hits_read_as_the_tuple_they_stand_for(made, tmp_path):
    searcher = Archive(made.make_archive(tmp_path / "a", 90))
    name = searcher.backend.records.id(4)
    result = searcher.search(ById(name), k=9, mode="code")
    hits = tuple(result.hits)
    assert len(result.hits) == len(hits) == 9
    assert result.hits == hits
    assert result.hits == searcher.search(ById(name), k=9, mode="code").hits
    assert result.hits != searcher.search(ById(name), k=8, mode="code").hits
    assert hash(result) == hash(searcher.search(ById(name), k=9, mode="code"))
    assert (result.hits[0], result.hits[-1], result.hits[2:4]) == (hits[0], hits[8], hits[2:4])
    assert result.ids == tuple(hit.id for hit in hits)
    assert result.distances.tolist() == [hit.distance for hit in hits]
    assert result.scores.tolist() == [hit.score for hit in hits]
    assert repr(result.hits) == repr(hits)


def test_hits_are_of_the_version_that_was_searched(made, tmp_path):
    """Looked at after a writer removed one of them, and the derived files with it."""
    searcher = Archive(made.make_archive(tmp_path / "a", 150), cache=True)
    name = searcher.backend.records.id(4)
    expected = tuple(searcher.search(ById(name), k=9, mode="code").hits)
    waiting = searcher.search(ById(name), k=9, mode="code")
    RecordTable.open(tmp_path / "a", pinned=False).delete([expected[0].id])
    Archive(type(searcher.backend.archive).open(tmp_path / "a"), cache=True)
    assert not searcher.backend.vectors.store.folder.exists()
    del searcher
    assert waiting.hits == expected

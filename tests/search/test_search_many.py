"""Several searches at once give what each gives alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from landcue.errors import ArchiveError, UsageError
from landcue.search import Archive, ById, Query, SearchOptions


@pytest.fixture(scope="module")
def searcher(made, tmp_path_factory):
    return Archive(made.make_archive(tmp_path_factory.mktemp("many") / "archive"))


def timeless(result):
    return result, replace(result.plan, milliseconds=0.0)


@pytest.mark.parametrize("mode", ["auto", "embedding", "code", "cue", "two-stage"])
@pytest.mark.parametrize("k", [1, 7, 298, 299, 300, 1000])
def test_each_is_as_alone(searcher, mode, k):
    ids = searcher.ids()
    queries = [ById(id_) for id_ in (*ids[:12], ids[3], ids[3], *ids[-3:])]
    together = searcher.search_many(queries, k=k, mode=mode)
    alone = [searcher.search(query, k=k, mode=mode) for query in queries]
    assert [timeless(one) for one in together] == [timeless(one) for one in alone]
    assert [one.plan.why for one in together] == [one.plan.why for one in alone]
    assert [one.hits for one in together] == [one.hits for one in alone]
    assert [one.predicted() for one in together] == [one.predicted() for one in alone]
    assert any(labels for one in together for labels in one.predicted())
    assert all(len(one.hits) == min(k, 299) for one in together)


@pytest.mark.parametrize("weight", [0, 1, 30])
def test_label_weight(searcher, weight):
    queries = [ById(id_) for id_ in searcher.ids()[:12]]
    together = searcher.search_many(
        queries, k=20, mode="cue", options=SearchOptions(label_weight=weight)
    )
    assert together == [
        searcher.search(q, k=20, mode="cue", options=SearchOptions(label_weight=weight))
        for q in queries
    ]
    assert (
        searcher.search_many(
            queries, k=20, mode="cue", options=SearchOptions(label_weight=31 - weight)
        )
        != together
    )


def test_several_own_records(searcher):
    ids = searcher.ids()
    queries = [Query(tuple(map(ById, ids[:9])), (ById(ids[9]),)), ById(ids[0])]
    together = searcher.search_many(queries, k=290, mode="code")
    assert together == [searcher.search(query, k=290, mode="code") for query in queries]
    assert [len(one.hits) for one in together] == [290, 290]


def test_a_page_goes_on(searcher):
    query = ById(searcher.backend.records.id(0))
    first = searcher.search_many([query, query], k=10, mode="code")[1]
    whole = searcher.search(query, k=20, mode="code")
    then = searcher.search(query, k=10, mode="code", options=SearchOptions(cursor=first.cursor))
    assert (*first.hits, *then.hits) == tuple(whole.hits)


@pytest.mark.parametrize("mode", ["auto", "code"])
def test_nothing_asked(searcher, mode):
    assert searcher.search_many([], k=5, mode=mode) == []


def test_refusals(searcher, made, tmp_path):
    known = ById(searcher.backend.records.id(0))
    with pytest.raises(UsageError, match="no record has the id 'nowhere'"):
        searcher.search_many([known, ById("nowhere")], k=5, mode="code")
    with pytest.raises(UsageError, match="k is"):
        searcher.search_many([known], k=0, mode="code")
    with pytest.raises(UsageError, match="unknown mode 'codes'"):
        searcher.search_many([known], k=5, mode="codes")
    with pytest.raises(UsageError, match="label weight is -1"):
        searcher.search_many([known], k=5, mode="cue", options=SearchOptions(label_weight=-1))
    vector = searcher.backend.vectors.embedding[0]
    with pytest.raises(UsageError, match="a vector alone has neither code nor labels"):
        searcher.search_many([known, vector], k=5, mode="code")
    empty = Archive(made.make_archive(tmp_path / "empty", n=0))
    with pytest.raises(ArchiveError, match="holds no records"):
        empty.search_many([known], k=5, mode="code")

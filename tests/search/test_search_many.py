"""Several searches at once give what each gives alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from landcue.errors import ArchiveError, UsageError
from landcue.search.searcher import ById, ByVector, Mix, Searcher


@pytest.fixture(scope="module")
def searcher(made, tmp_path_factory):
    return Searcher(made.make_archive(tmp_path_factory.mktemp("many") / "archive"))


def timeless(result):
    return replace(result, plan=replace(result.plan, milliseconds=0.0)), result.plan.scanned


@pytest.mark.parametrize("mode", ["auto", "embedding", "code", "cue", "two-stage"])
@pytest.mark.parametrize("k", [1, 7, 298, 299, 300, 1000])
def test_each_is_as_alone(searcher, mode, k):
    ids = searcher.records.ids()
    queries = [ById(id_) for id_ in (*ids[:40], ids[3], ids[3], *ids[-5:])]
    together = searcher.search_many(queries, k, mode)
    alone = [searcher.search(query, k, mode) for query in queries]
    assert [timeless(one) for one in together] == [timeless(one) for one in alone]
    assert [one.plan.why for one in together] == [one.plan.why for one in alone]
    assert [one.hits for one in together] == [one.hits for one in alone]
    assert all(len(one.hits) == min(k, 299) for one in together)


@pytest.mark.parametrize("weight", [0, 1, 30])
def test_label_weight(searcher, weight):
    queries = [ById(id_) for id_ in searcher.records.ids()[:30]]
    together = searcher.search_many(queries, 20, "cue", label_weight=weight)
    assert together == [searcher.search(q, 20, "cue", label_weight=weight) for q in queries]
    assert searcher.search_many(queries, 20, "cue", label_weight=31 - weight) != together


def test_several_own_records(searcher):
    ids = searcher.records.ids()
    queries = [Mix(tuple(map(ById, ids[:9])), (ById(ids[9]),)), ById(ids[0])]
    together = searcher.search_many(queries, 290, "code")
    assert together == [searcher.search(query, 290, "code") for query in queries]
    assert [len(one.hits) for one in together] == [290, 290]


def test_a_page_goes_on(searcher):
    query = ById(searcher.records.id(0))
    first = searcher.search_many([query, query], 10, "code")[1]
    whole = searcher.search(query, 20, "code")
    then = searcher.search(query, 10, "code", cursor=first.cursor)
    assert (*first.hits, *then.hits) == tuple(whole.hits)


@pytest.mark.parametrize("mode", ["auto", "code"])
def test_nothing_asked(searcher, mode):
    assert searcher.search_many([], 5, mode) == []


def test_refusals(searcher, made, tmp_path):
    known = ById(searcher.records.id(0))
    with pytest.raises(UsageError, match="no record has the id 'nowhere'"):
        searcher.search_many([known, ById("nowhere")], 5, "code")
    with pytest.raises(UsageError, match="k is"):
        searcher.search_many([known], 0, "code")
    with pytest.raises(UsageError, match="unknown mode 'codes'"):
        searcher.search_many([known], 5, "codes")
    with pytest.raises(UsageError, match="label weight is -1"):
        searcher.search_many([known], 5, "cue", label_weight=-1)
    vector = ByVector(searcher.vectors.embedding[0])
    with pytest.raises(UsageError, match="a vector alone has neither code nor labels"):
        searcher.search_many([known, vector], 5, "code")
    empty = Searcher(made.make_archive(tmp_path / "empty", n=0))
    with pytest.raises(ArchiveError, match="holds no records"):
        empty.search_many([known], 5, "code")

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from landcue.archive.archive import ArchiveFolder
from landcue.archive.table import RecordTable
from landcue.errors import UsageError
from landcue.search import Archive, ById, Filter, SearchOptions
from landcue.search.exact import AnnFacts, AnnIndex, FloatIndex, held_out, load_faiss, measure
from landcue.search.pages import Cursor

pytest.importorskip("faiss")


def clustered(n, dim, seed, clusters=30):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(clusters, dim))[rng.integers(0, clusters, n)]
    rows = rows + 0.3 * rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_recall_is_that_of_a_plain_count():
    rows = clustered(3000, 24, 0)
    queries = held_out(len(rows))
    index = AnnIndex.build(rows, queries)
    facts = measure(rows, index, queries, k=10, shortlist=60)
    assert facts.queries == tuple(queries.tolist())
    assert list(facts.recall) == [1, 2, 4, 8][: len(facts.recall)]
    for lists, recall in facts.recall.items():
        found = total = 0
        for query in queries.tolist():
            dots = rows.astype(np.float64) @ rows[query].astype(np.float64)
            dots[query] = -np.inf
            least = np.sort(dots)[-10]
            candidates = index.candidates(rows[[query]], 61, lists)
            found += int((dots[candidates] >= least - 1e-6).sum())
            total += 10
        assert recall == pytest.approx(found / total, abs=2 / total)
    assert sorted(facts.recall.values()) == list(facts.recall.values())


def test_held_out_rows_do_not_train_the_index(tmp_path):
    """Queries far from all else would get a list of their own if they were trained on."""
    rows = clustered(2000, 8, 1)
    queries = held_out(len(rows))
    assert len(queries) == len(set(queries.tolist())) == 256
    one = AnnIndex.build(rows, queries)
    moved = rows.copy()
    moved[queries] = -moved[queries]
    other = AnnIndex.build(moved, queries)
    faiss = load_faiss()
    centers = []
    for index in (one, other):
        index.save(tmp_path / "ann")
        stored = faiss.read_index(str(tmp_path / "ann"))
        centers.append(faiss.downcast_index(stored.quantizer).reconstruct_n(0, index.lists))
    np.testing.assert_array_equal(*centers)


def test_all_lists_find_what_the_exact_search_finds(made, tmp_path):
    searcher = Archive(made.make_archive(tmp_path / "a", 400), cache=True)
    lists = searcher.backend.indexes.ann_index()[0].lists
    for row in (0, 50, 399):
        query = searcher.backend.vectors.embedding[[row]]
        candidates = searcher.backend.indexes.ann_index()[0].candidates(query, 400, lists)
        assert sorted(candidates.tolist()) == list(range(400))
        found = searcher.search(
            ById(searcher.backend.records.id(row)),
            k=30,
            mode="ann",
            options=SearchOptions(shortlist=400),
        )
        exact = searcher.search(ById(searcher.backend.records.id(row)), k=30, mode="embedding")
        assert found.hits == exact.hits
        assert found.mode == "ann"


@pytest.mark.parametrize("where", [Filter(path="scene1"), Filter(labels=("ships",))])
def test_filters_apply_before_candidates_are_taken(made, tmp_path, where):
    searcher = Archive(made.make_archive(tmp_path / "a", 400), cache=True)
    query = ById(searcher.backend.records.id(7))
    found = searcher.search(
        query, k=200, mode="ann", where=where, options=SearchOptions(shortlist=400)
    )
    exact = searcher.search(query, k=200, mode="embedding", where=where)
    assert found.hits == exact.hits
    assert 0 < len(found.hits) < 200
    assert found.plan.recall is None


def test_recall_is_stored_beside_the_index_and_can_be_measured_again(made, tmp_path):
    folder = tmp_path / "a"
    searcher = Archive(made.make_archive(folder, 600), cache=True)
    facts = searcher.build_ann()
    header = json.loads(next((folder / "indexes").rglob("ann.faiss.json")).read_text())
    assert header["facts"] == facts
    again = Archive(ArchiveFolder.open(folder), cache=True)

    def files():
        """Return when each file was written, without the notes of what was compared."""
        found = (folder / "indexes").rglob("*ann*")
        return {path.name: path.stat().st_mtime_ns for path in found if path.name[0] != "."}

    built = files()
    assert again.backend.indexes.ann_facts() == AnnFacts.from_json(facts)
    index, stored = again.backend.indexes.ann_index()
    rows = np.array(stored.queries)
    assert (
        measure(again.backend.vectors.embedding, index, rows, stored.k, stored.shortlist) == stored
    )
    assert len(built) == 2
    assert built == files()


def test_an_index_of_an_older_version_is_not_used(made, tmp_path):
    folder = tmp_path / "a"
    searcher = Archive(made.make_archive(folder, 300), cache=True)
    searcher.build_ann()
    gone = searcher.backend.records.id(5)
    RecordTable.open(folder, pinned=False).delete([gone])
    newer = Archive(ArchiveFolder.open(folder), cache=True)
    assert newer.backend.indexes.ann_facts() is None
    found = newer.search(
        ById(newer.backend.records.id(5)), k=299, mode="ann", options=SearchOptions(shortlist=299)
    )
    assert gone not in {hit.id for hit in found.hits}
    assert len(found.hits) == 298


def test_auto_takes_it_only_when_measured_recall_is_enough(made, tmp_path):
    searcher = Archive(made.make_archive(tmp_path / "a", 500), cache=True)
    query = ById(searcher.backend.records.id(3))
    assert searcher.search(query).mode == "embedding"  # small
    few = partial(SearchOptions, exact_rows=100)
    found = searcher.search(query, options=few())
    assert (found.mode, "no approximate index" in found.plan.why) == ("embedding", True)
    facts = AnnFacts.from_json(searcher.build_ann())
    best = max(facts.recall.values())
    found = searcher.search(query, options=few(recall=best))
    assert found.mode == "ann"
    assert found.plan.recall >= best
    missed = searcher.search(query, options=few(recall=min(1.0, best + 1e-6)))
    if best < 1:
        assert missed.mode == "embedding"
        assert f"reaches recall {best:.3f}" in missed.plan.why
    filtered = searcher.search(query, where=Filter(no_labels=("ships",)), options=few(recall=0))
    assert (filtered.mode, "under a filter" in filtered.plan.why) == ("embedding", True)


def test_pages_join_to_the_shortlist(made, tmp_path):
    searcher = Archive(made.make_archive(tmp_path / "a", 500), cache=True)
    query = ById(searcher.backend.records.id(3))
    whole = searcher.search(query, k=120, mode="ann", options=SearchOptions(shortlist=120))
    joined, cursor = [], None
    while cursor or not joined:
        page = searcher.search(
            query, k=11, mode="ann", options=SearchOptions(shortlist=120, cursor=cursor)
        )
        joined, cursor = [*joined, *page.hits], page.cursor
    assert joined[:120] == list(whole.hits)
    assert len(whole.hits) == 120


@pytest.mark.parametrize("mode", ["embedding", "code", "two-stage", "ann"])
def test_more_hits_and_candidates_than_memory_holds(made, tmp_path, mode):
    searcher = Archive(made.make_archive(tmp_path / "a", 60), cache=False)
    query, huge = ById(searcher.backend.records.id(0)), 10**15
    exact = searcher.search(query, k=60, mode="embedding")
    found = searcher.search(query, k=huge, mode=mode, options=SearchOptions(shortlist=huge))
    assert len(found) == 59
    if mode != "code":
        assert found.ids == exact.ids
    options = SearchOptions(collapse=0.0)
    distinct = searcher.search(query, k=huge, mode=mode, options=options)
    assert distinct.ids == searcher.search(query, k=60, mode=mode, options=options).ids


def test_cursors_of_other_searches_are_refused(made, tmp_path):
    searcher = Archive(made.make_archive(tmp_path / "a", 60), cache=False)
    query = ById(searcher.backend.records.id(0))
    listed = searcher.search(k=5).cursor
    with pytest.raises(UsageError, match="the cursor is for another search"):
        searcher.search(query, k=5, options=SearchOptions(cursor=listed))
    ranked = replace(Cursor.decode(searcher.search(query, k=5).cursor or ""), seen=10**15)
    with pytest.raises(UsageError, match="the cursor is for another search"):
        searcher.search(query, options=SearchOptions(collapse=0.1, cursor=ranked.encode()))


def test_in_memory_and_few_records(made, tmp_path):
    for n in (1, 2, 3, 40):
        searcher = Archive(made.make_archive(tmp_path / f"a{n}", n), cache=False)
        query = ById(searcher.backend.records.id(0))
        exact = searcher.search(query, k=50, mode="embedding").hits
        assert searcher.search(query, k=50, mode="ann").hits == exact
        assert len(exact) == n - 1
        assert not (tmp_path / f"a{n}/indexes").exists()


def test_without_faiss_one_line_says_what_to_install(made, tmp_path, monkeypatch):
    searcher = Archive(made.make_archive(tmp_path / "a", 50))
    monkeypatch.setitem(sys.modules, "faiss", None)
    load_faiss.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'landcue\[ann\]'"):
        searcher.search(ById(searcher.backend.records.id(0)), mode="ann")
    assert searcher.search(ById(searcher.backend.records.id(0))).hits
    load_faiss.cache_clear()


def test_searching_imports_no_faiss(made, tmp_path):
    import subprocess

    made.make_archive(tmp_path / "a", 50)
    code = (
        "import sys; from pathlib import Path; from landcue.archive.archive import ArchiveFolder;"
        "from landcue.search import Archive, ById;"
        "s = Archive(ArchiveFolder.open(Path(sys.argv[1])));"
        "s.search(ById(s.backend.records.id(0)));"
        "print([m for m in ('faiss', 'torch', 'matplotlib') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_exact_distances_are_those_of_the_exact_index(made, tmp_path):
    searcher = Archive(made.make_archive(tmp_path / "a", 300), cache=True)
    query = searcher.backend.vectors.embedding[[9]]
    distances, rows = FloatIndex(searcher.backend.vectors.embedding).search(query, 300)
    exact = dict(zip(rows[0].tolist(), distances[0].tolist(), strict=True))
    for hit in searcher.search(ById(searcher.backend.records.id(9)), k=40, mode="ann").hits:
        row = searcher.backend.records.find(hit.id)
        assert hit.distance == pytest.approx(max(0, exact[row]), abs=1e-9)


def test_faiss_as_torch_libraries_change_it_gives_the_same():
    """pytorch-metric-learning imports faiss.contrib.torch_utils, whose search takes no params."""
    pytest.importorskip("torch")
    code = (
        "import numpy as np\n"
        "from landcue.search.exact import AnnIndex, held_out\n"
        "rows = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)\n"
        "rows /= np.linalg.norm(rows, axis=1, keepdims=True)\n"
        "index = AnnIndex.build(rows, held_out(500))\n"
        "before = index.candidates(rows[:1], 20, 2)\n"
        "import faiss.contrib.torch_utils\n"
        "assert sorted(before) == sorted(index.candidates(rows[:1], 20, 2))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

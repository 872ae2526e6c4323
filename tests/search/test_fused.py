"""Mode fused and re-ranked shortlists against plain arrays; the weight measured on an archive."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import numpy as np
import pytest

from landcue.archive.archive import ArchiveFolder
from landcue.codes.hashers import fit_decoder
from landcue.errors import UsageError
from landcue.search import Archive, ById, Filter, Query, SearchOptions
from landcue.search.pages import Cursor
from landcue.search.rerank import alpha_qe, k_reciprocal, quantize

N = 240
FILTERS = {
    "all": None,
    "labels": Filter(any_labels=("water", "grass"), no_labels=("ships",)),
    "score": Filter(scores=(("trees", 0.5),), sensors=("S2A", "S2B")),
    "few": Filter(groups=("scene1",), parts=("test",)),
}


@pytest.fixture(scope="module", params=[False, True], ids=["memory", "mapped"])
def archive(request, made, tmp_path_factory):
    """60 kinds of vectors, so that distances tie."""
    folder = tmp_path_factory.mktemp("fused") / "archive"
    return Archive(made.make_archive(folder, N, distinct=60), cache=request.param)


@functools.cache
def arrays(archive):
    columns = archive.columns()
    return columns.ids, columns.embedding.astype(np.float64), archive.label_scores()


def expected(archive, row, allowed, weight, shortlist, rerank="none"):
    """Rank by loops: the shortlist by the linear form, then the log form; ties by id."""
    ids, z, p = arrays(archive)
    p64 = p.astype(np.float64)
    fusion = archive.measure_fusion()
    others = [r for r in range(len(ids)) if r != row and ids[r] in allowed]
    query = np.concatenate([z[row], (weight * fusion["linear"] * p[row]).astype(np.float32)])
    linear = {r: np.float32(1 - np.sum(query * np.concatenate([z[r], p64[r]]))) for r in others}
    kept = sorted(others, key=lambda r: (linear[r], ids[r]))[:shortlist]
    apart = {r: max(0.0, float(np.float32(1 - np.sum(z[row] * z[r])))) for r in kept}
    kept = sorted(kept, key=lambda r: (apart[r], ids[r]))
    if rerank == "alpha-qe":
        new = alpha_qe(z[[row]], z[kept])[0].astype(np.float32).astype(np.float64)
        apart = {r: max(0.0, float(np.float32(1 - np.sum(new * z[r])))) for r in kept}
    if rerank == "k-reciprocal":
        both = z[[row, *kept]]
        found = k_reciprocal(np.maximum(1 - both @ both.T, 0), queries=1)[0, 1:]
        apart = dict(zip(kept, found.tolist(), strict=True))
    slope = weight * fusion["scale"]
    most = sum(np.log1p(p64[row]))
    gain = {r: sum(np.log1p(p64[row] * p64[r])) for r in kept}
    score = {r: (1 - apart[r] + slope * gain[r]) / (1 + slope * most) for r in kept}
    ranked = sorted(kept, key=lambda r: (-round(score[r], 9), ids[r]))
    return [(ids[r], score[r], slope * gain[r] / (1 + slope * most)) for r in ranked]


@pytest.mark.parametrize("rerank", ["none", "alpha-qe", "k-reciprocal"])
@pytest.mark.parametrize("name", FILTERS)
def test_fused_equals_a_brute_force_under_filters(archive, name, rerank):
    ids, where = arrays(archive)[0], FILTERS[name]
    listed = archive.search(None, k=N, where=where or Filter(path=""))
    for row, weight, shortlist, k in ((3, 1.0, 40, 12), (77, 0.5, 200, 40), (150, 3.0, 9, 9)):
        options = SearchOptions(shortlist=shortlist, fused_weight=weight, rerank=rerank)
        found = archive.search(ById(ids[row]), k=k, mode="fused", where=where, options=options)
        ranked = expected(archive, row, set(listed.ids), weight, shortlist, rerank)[:k]
        assert list(found.ids) == [id_ for id_, _, _ in ranked]
        np.testing.assert_allclose(found.scores, [s for _, s, _ in ranked], atol=1e-6)
        np.testing.assert_allclose(
            [hit.why["labels"] for hit in found], [part for _, _, part in ranked], atol=1e-6
        )
        for hit in found:
            assert hit.score == pytest.approx(sum(hit.why.values()), abs=1e-9)


@pytest.mark.parametrize("mode", ["embedding", "two-stage"])
def test_other_modes_are_ranked_again_within_their_shortlist(archive, mode):
    ids, z, _ = arrays(archive)
    near = archive.search(ById(ids[5]), k=30, mode=mode, options=SearchOptions(shortlist=30)).ids
    options = SearchOptions(shortlist=30, rerank="k-reciprocal")
    found = archive.search(ById(ids[5]), k=30, mode=mode, options=options)
    assert set(found.ids) == set(near)
    both = z[[5, *(ids.index(id_) for id_ in near)]]
    distances = k_reciprocal(np.maximum(1 - both @ both.T, 0), queries=1)[0, 1:]
    ranked = sorted(zip(distances.round(9), near, strict=True))
    assert list(found.ids) == [id_ for _, id_ in ranked]
    assert found.plan.reranked == 30
    assert all(hit.why is None for hit in found)


def test_pages_of_a_fused_search_join_to_one(archive):
    ids = arrays(archive)[0]
    whole = archive.search(
        ById(ids[9]), k=30, mode="fused", options=SearchOptions(fused_weight=1.0, shortlist=50)
    )
    cursor, seen = None, []
    for _ in range(3):
        options = SearchOptions(fused_weight=1.0, shortlist=50, cursor=cursor)
        page = archive.search(ById(ids[9]), k=10, mode="fused", options=options)
        seen, cursor = [*seen, *page.ids], page.cursor
    assert tuple(seen) == whole.ids


def test_several_examples_have_the_mean_of_their_probabilities(archive, made):
    ids, _, p = arrays(archive)
    mix = Query((ById(ids[1]), ById(ids[2])), (ById(ids[3]),), negative_weight=0.5)
    found = archive.search(mix, k=5, mode="fused", options=SearchOptions(fused_weight=50.0))
    wanted = np.clip((p[1] + p[2]) / 2 - 0.5 * p[3], 0, 1).astype(np.float64)
    gains = np.log1p(wanted * p.astype(np.float64)).sum(axis=1)
    best = gains[[ids.index(id_) for id_ in found.ids]]
    assert best[0] >= np.sort(np.delete(gains, [1, 2, 3]))[-4]
    encoding = made.random_encoding(4, 1, made.Sizes())
    assert len(archive.search(encoding, k=3, mode="fused")) == 3


def labeled(folder, made, names, informative=True, seed=0, parts=(None,), label_of=lambda n: n):
    """Records whose predicted labels are those annotated, and whose embeddings are noise."""
    rng, n = np.random.default_rng(seed), 160
    sizes = made.Sizes(label_names=names)
    true = rng.random((n, len(names))) < 0.35
    encoding = made.random_encoding(seed, n, sizes)
    scores = np.where(true if informative else rng.permutation(true), 0.9, 0.1)
    encoding = replace(encoding, label_scores=scores.astype(np.float32))
    facts = [
        replace(
            made.plain_record(i),
            labels=tuple(label_of(name) for name, on in zip(names, true[i], strict=True) if on),
            part=parts[i % len(parts)],
        )
        for i in range(n)
    ]
    return Archive(made.make_archive(folder, n, sizes=sizes, facts=facts, encoding=encoding))


def test_auto_uses_labels_only_where_they_were_measured_to_help(made, tmp_path):
    helpful = labeled(tmp_path / "helpful", made, made.NAMES)
    query = ById(helpful.ids()[0])
    assert helpful.search(query, k=5).mode == "embedding"
    assert "fused" not in helpful.modes
    measured = helpful.measure_fusion()
    assert measured["weight"] > 0
    assert measured["interval"][0] > 0
    assert measured["fused"] > measured["plain"]
    assert "fused" in helpful.modes
    found = helpful.search(query, k=5)
    assert found.mode == "fused"
    assert found.plan.why.startswith("label probabilities changed nDCG@100 by +")
    vector = helpful.embed(query)
    assert helpful.search(vector, k=5).mode == "embedding"  # it has no label probabilities
    again = Archive(ArchiveFolder.open(tmp_path / "helpful"))  # it is kept on disk
    assert again.search(query, k=5).mode == "fused"
    assert again.measure_fusion() == measured


def test_labels_that_do_not_help_or_are_foreign_have_no_weight(made, tmp_path):
    useless = labeled(tmp_path / "useless", made, made.NAMES, informative=False)
    foreign = labeled(tmp_path / "foreign", made, made.NAMES, label_of=lambda n: f"class {n}")
    for archive in (useless, foreign):
        assert archive.measure_fusion()["weight"] == 0
        query = ById(archive.ids()[7])
        assert archive.search(query, k=9).mode == "embedding"
        fused, plain = (archive.search(query, k=9, mode=m) for m in ("fused", "embedding"))
        assert fused.ids == plain.ids
        np.testing.assert_array_equal(fused.distances, plain.distances)
        assert all(hit.why is None for hit in fused)
    assert "are foreign to the archive" in foreign.measure_fusion()["why"]


def test_the_weight_never_reads_labels_of_test_and_train_records(made, tmp_path):
    archives = []
    for name, wrong in (("right", False), ("wrong", True)):
        parts = ("val", "test", "train", "val")
        archive = labeled(tmp_path / name, made, made.NAMES, parts=parts)
        if wrong:  # labels of the parts that must not be read
            records = archive.backend.records
            part = np.array(archive.columns().part, object)
            values, hidden = records.labels, part != "val"
            shuffled = replace(values, values=values.values.copy())
            for row in np.flatnonzero(hidden):
                at = slice(values.offsets[row], values.offsets[row + 1])
                shuffled.values[at] = len(values.names) - 1 - values.values[at]
            records.__dict__["labels"] = shuffled
            assert not np.array_equal(shuffled.values, values.values)
        archives.append(archive.measure_fusion())
    assert archives[0] == archives[1]
    assert 20 <= archives[0]["queries"] <= 40  # half of the 80 that may be read
    few = labeled(tmp_path / "few", made, made.NAMES, parts=("val", *("test",) * 9))
    assert "too few to measure" in few.measure_fusion()["why"]
    assert few.measure_fusion()["weight"] == 0


@pytest.mark.parametrize("shared", [1, 3, 39])
def test_the_weight_needs_enough_records_that_share_a_label(made, tmp_path, shared):
    """Most are annotated without any label, so that they cannot measure anything."""
    facts = [
        replace(made.plain_record(i), labels=("ships",) if i < shared else ()) for i in range(100)
    ]
    archive = Archive(made.make_archive(tmp_path / "a", 100, facts=facts))
    fusion = archive.measure_fusion()
    assert (fusion["weight"], fusion["queries"]) == (0, 0)
    assert "too few to measure a gain: 40 are needed" in fusion["why"]


def test_one_record_alone_has_no_spread(made, tmp_path):
    archive = Archive(made.make_archive(tmp_path / "a", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert archive.measure_fusion()["scale"] == 0


def test_more_hits_than_pairs_can_be_compared_are_refused(made, tmp_path):
    archive = Archive(made.make_archive(tmp_path / "a", 1_100))
    options = SearchOptions(rerank="k-reciprocal")
    query = ById(archive.ids()[0])
    with pytest.raises(UsageError, match=r"k is 1,100: k-reciprocal re-ranking compares all pairs"):
        archive.search(query, k=10**6, options=options)
    page = archive.search(query, k=5, options=options)
    longer = replace(Cursor.decode(page.cursor or ""), shortlist=10**6).encode()
    with pytest.raises(UsageError, match=r"the shortlist is 1,100: k-reciprocal"):
        archive.search(query, k=5, options=replace(options, cursor=longer))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        ({"options": SearchOptions(rerank="kreciprocal")}, "unknown re-ranking 'kreciprocal'"),
        ({"mode": "code", "options": SearchOptions(rerank="alpha-qe")}, "mode code does not"),
        ({"options": SearchOptions(fused_weight=-1.0)}, "weight of the labels is -1"),
        ({"options": SearchOptions(fused_weight=np.nan)}, "weight of the labels is nan"),
        (
            {"options": SearchOptions(rerank="k-reciprocal", shortlist=5_000)},
            "compares all pairs of it, use at most 1,000",
        ),
        ({"query": np.ones(12, np.float32), "mode": "fused"}, "neither code nor labels"),
    ],
)
def test_bad_input_is_one_line(archive, ask, message):
    with pytest.raises(UsageError, match=message) as error:
        archive.search(**{"query": ById(arrays(archive)[0][0]), "mode": "embedding", **ask})
    assert "\n" not in str(error.value)


def test_without_a_label_head_fused_is_refused(made, tmp_path):
    folder = tmp_path / "archive"
    plain = Archive(made.make_archive(folder, 20, sizes=made.Sizes(label_names=())))
    for refused in (
        lambda: plain.search(ById(plain.ids()[0]), mode="fused"),
        lambda: plain.measure_fusion(),
    ):
        with pytest.raises(UsageError, match="model has no label head; search with mode embedding"):
            refused()


@pytest.mark.parametrize("where", [None, FILTERS["score"]])
def test_fused_codes_are_ranked_like_a_loop_over_the_records(archive, where):
    ids, z, p = arrays(archive)
    columns = archive.columns()
    bits = archive.manifest.n_bits
    allowed = set(archive.search(None, k=N, where=where or Filter(path="")).ids)
    decoder = fit_decoder(columns.code, columns.embedding, bits)  # fewer records than are sampled
    levels, values = quantize(p, 2)
    scale = archive.measure_fusion()["scale"]
    decoded = decoder.decode(columns.code)
    for row, weight in ((3, 1.0), (77, 0.0), (150, 3.0)):
        options = SearchOptions(fused_weight=weight)
        found = archive.search(
            ById(ids[row]), k=25, mode="fused-code", where=where, options=options
        )
        slope = weight * scale
        most = 1 + slope * np.log1p(p[row].astype(np.float64)).sum()
        ranked = []
        for other in range(len(ids)):
            if other == row or ids[other] not in allowed:
                continue
            gain = sum(
                np.log1p(float(a) * values[b]) for a, b in zip(p[row], levels[other], strict=True)
            )
            score = z[row] @ decoded[other] + slope * gain
            ranked.append((round(max(0.0, most - score), 9), ids[other]))
        ranked.sort()
        assert list(found.ids) == [id_ for _, id_ in ranked[:25]]
        np.testing.assert_allclose(found.distances, [d for d, _ in ranked[:25]], atol=1e-6)
        assert all(hit.percentile is None for hit in found)


def test_fused_codes_need_a_hash_head(made, tmp_path):
    sizes = made.Sizes(n_bits=0)
    archive = Archive(made.make_archive(tmp_path / "a", 20, sizes=sizes))
    assert "fused-code" not in archive.modes
    with pytest.raises(UsageError, match="mode fused-code needs codes"):
        archive.search(ById(arrays(archive)[0][0]), mode="fused-code")

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given as randomly
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

import brute_force
from landcue.errors import UsageError
from landcue.metrics.annotations import annotate
from landcue.metrics.distances import given
from landcue.metrics.protocol import PROTOCOLS, Protocol, find_protocol
from landcue.metrics.relevance import gains, relevant
from standard_protocol import evaluate, evaluate_codes, evaluate_embeddings

DEFAULT = PROTOCOLS["ml-retrieval-v1"]


def sample(n_query=12, n_gallery=30, n_labels=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((n_query + n_gallery, n_labels)) < 0.3
    query = annotate([f"q{i}" for i in range(n_query)], labels[:n_query])
    gallery = annotate([f"g{i}" for i in range(n_gallery)], labels[n_query:])
    return query, gallery, rng.random((n_query, n_gallery)).astype(np.float32)


def test_a_small_evaluation_worked_out_by_hand():
    # Ranks for q: a (0.1), c (0.2), b (0.3). Gains 1, 0, 2; R = 2.
    query = annotate(["q"], [[1, 1]], ["sea", "sand"])
    gallery = annotate(["a", "b", "c"], [[1, 0], [1, 1], [0, 0]], ["sea", "sand"])
    scores = evaluate(query, gallery, given(np.array([[0.1, 0.3, 0.2]], np.float32)))
    assert scores.metrics["mAP"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores.metrics["mAP(exact)"] == pytest.approx(1 / 3)
    assert scores.metrics["P@5"] == pytest.approx(2 / 5)
    assert scores.metrics["hit rate@1"] == 1
    # DCG = 1 + 3/2 = 2.5; ideal = 3 + 1/log2(3)
    assert scores.metrics["nDCG@10"] == pytest.approx(2.5 / 3.6309297536)
    # ACG@1 = 1, ACG@3 = 1
    assert scores.metrics["WAP@100"] == pytest.approx(1)
    # 1 relevant of 3, exact: (1 + 1/2 + 1/3) / 3
    assert scores.chance["mAP(exact)"] == pytest.approx(11 / 18)
    assert scores.counts["n_query"] == 1
    assert scores.counts["n_gallery"] == 3


@pytest.mark.parametrize("gain", ["shared", "jaccard"])
@pytest.mark.parametrize("coarse", [False, True])
def test_every_metric_equals_loops_over_the_definitions(gain, coarse):
    query, gallery, distances = sample(n_query=5, n_gallery=7 if coarse else 25)
    if coarse:
        distances = np.floor(distances * 3).astype(np.uint8)
    tools = find_protocol("ml-retrieval-v1+tools")
    protocol = replace(
        tools, gain=gain, map_ks=(3, 60), precision_ks=(1, 4), recall_ks=(2,), gain_ks=(4, 60)
    )
    scores = evaluate(query, gallery, given(distances), protocol=protocol)
    for metric in protocol.metrics():
        if metric.relevance == gain:
            matrix = gains(query.labels, gallery.labels, gain)
        else:
            matrix = relevant(query.labels, gallery.labels, metric.relevance).astype(float)
        for q in range(len(query)):
            groups = [
                matrix[q, distances[q] == value].tolist() for value in np.unique(distances[q])
            ]
            got = scores.per_query[metric.name][q]
            if not matrix[q].any() and not metric.family.zero:
                assert np.isnan(got), metric.name
            else:
                ks = () if metric.k is None else (metric.k,)
                expected = brute_force.expectation(groups, ks)[metric.kind, metric.k]
                assert got == pytest.approx(expected, abs=1e-12), metric.name


def test_average_precision_and_ndcg_agree_with_scikit_learn():
    query, gallery, distances = sample(20, 150)
    scores = evaluate(query, gallery, given(distances))
    any_label = relevant(query.labels, gallery.labels)
    shared = gains(query.labels, gallery.labels)
    for q in np.flatnonzero(any_label.any(axis=1)):
        expected = average_precision_score(any_label[q], -distances[q])
        assert scores.per_query["mAP"][q] == pytest.approx(expected)
        for k in (10, 100):
            expected = ndcg_score(2 ** shared[[q]] - 1, -distances[[q]], k=k)
            assert scores.per_query[f"nDCG@{k}"][q] == pytest.approx(expected)


def test_tied_ndcg_agrees_with_scikit_learn():
    # scikit-learn, too, averages over the orders of ties in DCG.
    query, gallery, distances = sample(20, 150)
    coarse = np.floor(distances * 8).astype(np.uint8)
    scores = evaluate(query, gallery, given(coarse))
    shared = gains(query.labels, gallery.labels)
    for q in np.flatnonzero(shared.any(axis=1)):
        expected = ndcg_score(2 ** shared[[q]] - 1, -coarse[[q]].astype(float), k=10)
        assert scores.per_query["nDCG@10"][q] == pytest.approx(expected)


def test_metrics_agree_with_trec_eval():
    query, gallery, distances = sample(20, 150)
    scores = evaluate(query, gallery, given(distances))
    shared = gains(query.labels, gallery.labels).astype(int)
    qrels = {
        q: {g: int(2 ** shared[i, j] - 1) for j, g in enumerate(gallery.ids) if shared[i, j]}
        for i, q in enumerate(query.ids)
    }
    run = {
        q: {g: -float(distances[i, j]) for j, g in enumerate(gallery.ids)}
        for i, q in enumerate(query.ids)
    }
    names = {
        "map": "mAP",
        "P_5": "P@5",
        "P_100": "P@100",
        "Rprec": "R-precision",
        "recip_rank": "MRR",
        "success_5": "hit rate@5",
        "recall_100": "recall@100",
        "ndcg_cut_10": "nDCG@10",
        "ndcg_cut_100": "nDCG@100",
    }
    asked = {"map", "P.5,100", "Rprec", "recip_rank", "success.5", "recall.100", "ndcg_cut.10,100"}
    judged = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    compared = 0
    for i, q in enumerate(query.ids):
        if qrels[q]:
            for theirs, ours in names.items():
                assert scores.per_query[ours][i] == pytest.approx(judged[q][theirs]), ours
                compared += 1
    assert compared >= 10 * len(names)


def test_a_query_does_not_find_itself_by_id_not_by_place():
    labels = [[1, 0], [1, 0], [0, 1], [0, 1]]
    both = annotate(["a", "b", "c", "d"], labels)
    # The gallery in another order; each query is nearest to itself, then to the other class.
    order = [2, 0, 3, 1]
    gallery = annotate([both.ids[i] for i in order], np.array(labels)[order])
    near = np.array([[0, 3, 1, 2], [3, 0, 1, 2], [1, 2, 0, 3], [1, 2, 3, 0]], np.uint8)
    scores = evaluate(both, gallery, given(near[:, order]), exclude_self=True)
    assert scores.metrics["mAP"] == pytest.approx(1 / 3)
    assert scores.metrics["recall@100"] == 1
    assert scores.chance["P@1"] == pytest.approx(1 / 3)


def test_no_image_of_the_own_group_is_found_where_the_protocol_says_so():
    labels = [[1], [1], [1], [0]]
    images = annotate(list("abcd"), labels, groups=["s1", "s1", None, None])
    distances = given(np.array([[0, 1, 3, 2], [1, 0, 3, 2], [1, 2, 0, 3], [1, 2, 3, 0]], np.uint8))
    free = evaluate(images, images, distances)
    assert free.per_query["mAP"][:3].tolist() == pytest.approx([(1 + 2 / 3) / 2] * 2 + [1])
    strict = evaluate(images, images, distances, protocol=replace(DEFAULT, exclude_group=True))
    # a and b find only d, then c; c and d have no group and lose only themselves.
    assert strict.per_query["mAP"][:3].tolist() == pytest.approx([1 / 2, 1 / 2, 1])
    no_groups = annotate(list("abcd"), labels)
    with pytest.raises(UsageError, match="no groups"):
        evaluate(no_groups, no_groups, distances, protocol=replace(DEFAULT, exclude_group=True))


def test_queries_without_a_relevant_image_are_counted_and_left_out_or_zero():
    query = annotate(["a", "b", "c"], [[1, 0], [0, 1], [0, 0]])
    gallery = annotate(["x", "y"], [[1, 0], [0, 0]])
    scores = evaluate(query, gallery, given(np.array([[0, 1], [0, 1], [0, 1]], np.uint8)))
    assert scores.counts["n_without_relevant"] == 2
    for name in ("mAP", "mAP@20", "nDCG@10", "hit rate@1", "recall@100", "MRR", "R-precision"):
        assert scores.metrics[name] == 1, name
    assert scores.metrics["P@1"] == pytest.approx(1 / 3)
    assert scores.metrics["ACG@100"] == pytest.approx(1 / 100 / 3)
    assert scores.metrics["WAP@100"] == pytest.approx(1 / 3)
    assert np.isnan(scores.per_query["mAP"]).tolist() == [False, True, True]


def test_an_evaluation_without_any_relevant_image_says_null_not_nan():
    images = annotate(["a", "b"], [[1, 0], [0, 1]])
    scores = evaluate(images, images, given(np.zeros((2, 2), np.uint8)), resamples=10, band=True)
    text = json.dumps(scores.to_json(), allow_nan=False)
    assert json.loads(text)["metrics"]["mAP"] is None
    assert json.loads(text)["intervals"]["mAP"] == [None, None]
    assert json.loads(text)["metrics"]["P@1"] == 0
    assert json.loads(text)["macro"]["rare"] is None
    assert "mAP  " in scores.to_text()


def test_images_without_any_label_are_all_left_out():
    images = annotate(["a", "b"], np.zeros((2, 3), int))
    scores = evaluate(images, images, given(np.zeros((2, 2), np.uint8)), band=True)
    assert scores.counts["n_without_relevant"] == 2
    assert np.isnan(scores.metrics["nDCG@10"])
    assert scores.metrics["P@1"] == 0


@settings(max_examples=25)
@randomly(st.integers(0, 2**32 - 1), st.booleans())
def test_the_order_of_the_gallery_changes_nothing(seed, by_id):
    query, gallery, distances = sample(6, 20, seed=seed)
    coarse = np.floor(distances * 4).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(20)
    shuffled = annotate([gallery.ids[i] for i in order], gallery.labels[order])
    protocol = replace(DEFAULT, ties="id" if by_id else "expectation")
    one = evaluate(query, gallery, given(coarse), protocol=protocol)
    other = evaluate(query, shuffled, given(coarse[:, order]), protocol=protocol)
    for name, values in one.per_query.items():
        assert other.per_query[name] == pytest.approx(values, nan_ok=True), name


def test_ties_by_id_follow_the_ids():
    query = annotate(["q"], [[1]])
    gallery = annotate(["b", "a"], [[1], [0]])
    tied = given(np.zeros((1, 2), np.uint8))
    assert evaluate(query, gallery, tied).metrics["mAP"] == pytest.approx(3 / 4)
    by_id = evaluate(query, gallery, tied, protocol=replace(DEFAULT, ties="id"))
    assert by_id.metrics["mAP"] == pytest.approx(1 / 2)


def test_ranking_in_small_blocks_changes_nothing():
    query, gallery, distances = sample(23, 17)
    whole = evaluate(query, gallery, given(distances), band=True)
    seen = []
    split = evaluate(
        query,
        gallery,
        given(distances),
        band=True,
        progress=lambda *done: seen.append(done),
        block=20,
    )
    for name, values in whole.per_query.items():
        assert split.per_query[name] == pytest.approx(values, nan_ok=True), name
    for name, pair in whole.bands.items():
        assert split.bands[name] == pytest.approx(pair), name
    assert len(seen) > 1
    assert seen[-1] == (23, 23)


def test_a_collapsed_model_scores_exactly_chance():
    query, gallery, _ = sample(40, 300)
    same = np.full((340, 16), 0.25, np.float32)
    scores = evaluate_embeddings(query, same[:40], gallery, same[40:])
    assert scores.metrics == pytest.approx(scores.chance)


def test_random_rankings_average_to_chance():
    query, gallery, _ = sample(3, 40, seed=4)
    rng = np.random.default_rng(0)
    repeated = annotate([f"q{i}" for i in range(3000)], np.repeat(query.labels, 1000, axis=0))
    scores = evaluate(repeated, gallery, given(rng.random((3000, 40), np.float32)), resamples=200)
    off = 0
    for name, (low, high) in scores.intervals.items():
        width = high - low
        if width > 0:
            assert low - width < scores.chance[name] < high + width, name
            off += not low < scores.chance[name] < high
    assert off <= 8


@pytest.mark.parametrize("n_bits", [3, 9])
def test_tie_bands_hold_every_order_of_ties(n_bits):
    rng = np.random.default_rng(n_bits)
    query, gallery, _ = sample(15, 60, seed=n_bits)
    codes = np.packbits(rng.random((75, n_bits)) < 0.5, axis=1, bitorder="little")
    scores = evaluate_codes(query, codes[:15], n_bits, gallery, codes[15:])
    protocol = replace(DEFAULT, ties="id")
    for seed in range(5):
        names = np.random.default_rng(seed).permutation([f"g{i}" for i in range(60)])
        renamed = annotate(names.tolist(), gallery.labels)
        one = evaluate_codes(
            query, codes[:15], n_bits, renamed, codes[15:], protocol=protocol, band=False
        )
        for name, value in one.metrics.items():
            low, high = sorted(scores.bands[name])
            assert low - 1e-12 <= value <= high + 1e-12, name
    for name, value in scores.metrics.items():
        low, high = sorted(scores.bands[name])
        assert low - 1e-12 <= value <= high + 1e-12, name
    assert scores.bands["mAP"][0] < scores.metrics["mAP"] < scores.bands["mAP"][1]
    assert scores.bands["ANMRR"][0] > scores.bands["ANMRR"][1]  # worst, best


def test_bands_are_met_by_sorting_ties_by_gain():
    query, gallery, distances = sample(8, 40)
    coarse = np.floor(distances * 3)
    shared = gains(query.labels, gallery.labels)
    scores = evaluate(query, gallery, given(coarse.astype(np.uint8)), band=True)
    for place, sign in ((0, 1), (1, -1)):
        order = given(coarse * 100 + sign * shared)
        exact = evaluate(query, gallery, order)
        for name in ("nDCG@10", "ACG@100", "WAP@100", "mAP", "P@5"):
            assert exact.metrics[name] == pytest.approx(scores.bands[name][place]), name


def test_per_label_scores_and_thirds():
    # Label frequencies in the gallery: a 1, b 2, c 3; nobody asks for d.
    gallery = annotate(
        [f"g{i}" for i in range(6)],
        [[1, 0, 0, 0], *[[0, 1, 0, 0]] * 2, *[[0, 0, 1, 0]] * 3],
        ["a", "b", "c", "d"],
    )
    query = annotate(["q0", "q1", "q2"], np.eye(4, dtype=int)[:3], ["a", "b", "c", "d"])
    ranks = np.array([[0, 1, 2, 3, 4, 5], [2, 0, 1, 3, 4, 5], [0, 1, 2, 3, 4, 5]], np.uint8)
    scores = evaluate(query, gallery, given(ranks))
    # a and b are first; c fills ranks 4 to 6: (1/4 + 2/5 + 3/6) / 3
    low = (1 / 4 + 2 / 5 + 3 / 6) / 3
    assert [scores.per_label[c].mean for c in "abc"] == pytest.approx([1, 1, low])
    assert [scores.per_label[c].third for c in "abcd"] == ["rare", "medium", "frequent", ""]
    assert [scores.per_label[c].n_gallery for c in "abcd"] == [1, 2, 3, 0]
    assert np.isnan(scores.per_label["d"].mean)
    assert scores.macro == pytest.approx(
        {"all": (2 + low) / 3, "rare": 1, "medium": 1, "frequent": low}
    )
    # One relevant of six: mean of 1/rank.
    assert scores.per_label["a"].chance == pytest.approx(np.mean(1 / np.arange(1, 7)))


def test_single_label_protocol_needs_single_labels():
    labels = np.eye(3, dtype=int)[[0, 0, 1, 2]]
    images = annotate(list("abcd"), labels)
    distances = given(np.zeros((4, 4), np.uint8))
    scores = evaluate(images, images, distances, protocol="sl-retrieval-v1")
    assert scores.counts["n_without_relevant"] == 2
    several = annotate(list("abcd"), np.ones((4, 3), int))
    with pytest.raises(UsageError, match="several labels"):
        evaluate(several, several, distances, protocol="sl-retrieval-v1")


def test_the_table_and_the_json_show_everything():
    query, gallery, distances = sample()
    scores = evaluate(query, gallery, given(distances), resamples=50, band=True)
    table = scores.rows()
    assert table[0] == ["metric", "value", "95 % interval", "ties worst..best", "chance"]
    assert len(table) == 1 + len(scores.metrics)
    assert ["mAP", f"{scores.metrics['mAP']:.4f}"] == table[1][:2]
    text = scores.to_text()
    for name, definition in scores.protocol.definitions().items():
        assert f"{name}: {definition}" in text
    parsed = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert parsed["protocol"] == "ml-retrieval-v1"
    names = list(parsed["metrics"])
    for part in ("chance", "intervals", "bands", "definitions"):
        assert list(parsed[part]) == names
    assert parsed["metrics"]["nDCG@10"] == scores.metrics["nDCG@10"]
    assert set(parsed["per_label"]) == set(query.label_names)
    low, high = parsed["intervals"]["mAP"]
    assert low < parsed["metrics"]["mAP"] < high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance": "j2"}, "unknown relevance"),
        ({"grades": ("exakt",)}, "did you mean 'exact'"),
        ({"gain": "jacard"}, "did you mean 'jaccard'"),
        ({"ties": "random"}, "unknown tie rule"),
        ({"map_ks": (0,)}, "cut-off 0"),
        ({"hit_ks": (1.5,)}, "cut-off 1.5"),
    ],
)
def test_impossible_protocols_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        Protocol("mine", **change)


def test_wrong_inputs_are_refused():
    query, gallery, distances = sample()
    with pytest.raises(UsageError, match="did you mean 'ml-retrieval-v1'"):
        evaluate(query, gallery, given(distances), protocol="ml-retrieval-v2")
    with pytest.raises(UsageError, match="distances are for 12 queries and 29"):
        evaluate(query, gallery, given(distances[:, 1:]))
    broken = distances.copy()
    broken[3, 4] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        evaluate(query, gallery, given(broken))
    lying = replace(given(distances), rows=lambda part: distances[part, 1:])
    with pytest.raises(UsageError, match=r"shape \[12, 29\]"):
        evaluate(query, gallery, lying)
    other = annotate(gallery.ids, gallery.labels, list("vwxyz"))
    with pytest.raises(UsageError, match="name different labels"):
        evaluate(query, other, given(distances))
    empty = annotate([], np.zeros((0, 5), int))
    with pytest.raises(UsageError, match="at least one"):
        evaluate(empty, gallery, given(distances[:0]))


@pytest.mark.parametrize(
    ("ids", "labels", "names", "groups", "message"),
    [
        (["a", "a"], [[1], [0]], ["x"], (), "'a' occurs twice"),
        (["a"], [[1], [0]], ["x"], (), "shape"),
        (["a"], [[1, 0]], ["x", "x"], (), "label name occurs twice"),
        (["a"], [[3]], ["x"], (), "other than 0 and 1"),
        (["a"], [[1]], ["x"], ("s", "t"), "2 groups for 1 ids"),
    ],
)
def test_contradicting_annotations_are_refused(ids, labels, names, groups, message):
    with pytest.raises(UsageError, match=message):
        annotate(ids, labels, names, groups)

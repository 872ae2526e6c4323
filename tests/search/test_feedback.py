from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from landcue.archive.archive import ArchiveFolder
from landcue.errors import ArchiveError, UsageError
from landcue.search.feedback import direction, linear, relevant_to, rocchio, simulate_feedback


def unit(rng, n, dim):
    rows = rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_rocchio_is_its_formula():
    rng = np.random.default_rng(0)
    query, positives, negatives = unit(rng, 1, 6)[0], unit(rng, 3, 6), unit(rng, 2, 6)
    expected = [
        1.0 * float(q) + 0.75 * sum(map(float, p)) / 3 - 0.15 * sum(map(float, m)) / 2
        for q, p, m in zip(query, positives.T, negatives.T, strict=True)
    ]
    np.testing.assert_allclose(rocchio(query, positives, negatives), expected, rtol=1e-12)
    np.testing.assert_allclose(rocchio(query, positives[:0], negatives[:0]), query)


@pytest.mark.parametrize(("n_pos", "n_neg", "dim"), [(1, 1, 5), (3, 9, 40), (12, 4, 6)])
def test_linear_is_a_ridge_classifier_of_what_the_mean_leaves(n_pos, n_neg, dim):
    rng = np.random.default_rng(n_pos)
    positives, negatives = unit(rng, n_pos, dim), unit(rng, n_neg, dim)
    rows = np.concatenate([positives, negatives]).astype(np.float64)
    target = [1.0] * n_pos + [-1.0] * n_neg
    weights = [1 / n_pos] * n_pos + [1 / n_neg] * n_neg
    center = rows[:n_pos].mean(axis=0)
    known = Ridge(alpha=1.0).fit(rows, target - rows @ center, sample_weight=weights)
    np.testing.assert_allclose(linear(positives, negatives), center + known.coef_, atol=1e-9)


def test_linear_without_negatives_is_the_mean():
    positives = unit(np.random.default_rng(1), 4, 5)
    np.testing.assert_allclose(linear(positives, positives[:0]), positives.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("rule", ["mean", "rocchio", "linear"])
def test_a_direction_has_unit_norm(rule):
    rng = np.random.default_rng(2)
    found = direction(unit(rng, 3, 9), unit(rng, 4, 9), rule)
    assert (found.dtype, found.shape) == (np.float32, (9,))
    assert np.linalg.norm(found) == pytest.approx(1)


def test_examples_that_cancel_out():
    rows = unit(np.random.default_rng(3), 1, 4)
    with pytest.raises(UsageError, match="cancel each other"):
        direction(rows, rows, "mean", 1.0)


def test_relevance_by_sets():
    labels = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0],
                       [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)  # fmt: skip
    sets = [set(np.flatnonzero(row)) for row in labels]
    for query in range(6):
        for rule, least in (("jaccard-0.4", 0.4), ("any-shared", 1e-9)):
            expected = [
                row != query
                and bool(sets[row] | sets[query])
                and len(sets[row] & sets[query]) / len(sets[row] | sets[query]) >= least
                for row in range(6)
            ]
            assert relevant_to(labels, query, rule).tolist() == expected
    assert relevant_to(labels, 0, "jaccard-0.4")[2]  # 2 of 5 is just enough


def reference(embeddings, relevant, query, rounds, per_round, rule):
    """One query's rounds with lists: (judged relevant, plain AP, feedback AP) or None."""

    def ranked(vector, rows):
        scores = embeddings @ vector
        return sorted(rows, key=lambda row: (-scores[row], row))

    def average_precision(order):
        found, total = 0, 0.0
        for rank, row in enumerate(order, start=1):
            if relevant[row]:
                found += 1
                total += found / rank
        return total / found

    rest = [row for row in range(len(embeddings)) if row != query]
    positives, negatives, out = [query], [], []
    vector = embeddings[query]
    for _ in range(rounds):
        for row in ranked(vector, rest)[:per_round]:
            (positives if relevant[row] else negatives).append(row)
        rest = [row for row in rest if row not in positives and row not in negatives]
        if not any(relevant[row] for row in rest):
            return out
        vector = direction(embeddings[positives], embeddings[negatives], rule)
        plain = average_precision(ranked(embeddings[query], rest))
        out.append((len(positives) - 1, plain, average_precision(ranked(vector, rest))))
    return out


@pytest.mark.parametrize("rule", ["rocchio", "linear"])
@pytest.mark.parametrize("relevance", ["jaccard-0.4", "any-shared"])
def test_rounds_equal_a_loop_over_lists(made, tmp_path, rule, relevance):
    folder = tmp_path / "a"
    made.make_archive(folder, 50, distinct=None)
    columns = ArchiveFolder.open(folder).columns()
    rows = np.flatnonzero(columns.labels.known)
    labels = np.stack([columns.labels.having(n)[rows] for n in columns.labels.names], axis=1)
    report = simulate_feedback(
        folder, 3, part="all", rule=rule, relevance=relevance, per_round=4, most_queries=10**6
    )
    found = [[] for _ in range(3)]
    left_out = 0
    for query in range(len(rows)):
        relevant = relevant_to(labels, query, relevance)
        left_out += not relevant.any()
        scores = reference(columns.embedding[rows], relevant, query, 3, 4, rule)
        for number, values in enumerate(scores):
            found[number].append(values)
    assert report.left_out == left_out
    assert report.records == len(rows)
    for number, (one, values) in enumerate(zip(report.rounds, found, strict=True), start=1):
        relevant, plain, feedback = np.mean(values, axis=0)
        assert (one.round, one.judged, one.queries) == (number, 4 * number, len(values))
        assert one.relevant == pytest.approx(relevant)
        assert one.plain["AP"] == pytest.approx(plain)
        assert one.feedback["AP"] == pytest.approx(feedback)
        assert one.gain["AP"] == pytest.approx(feedback - plain)


def test_feedback_helps_where_labels_lie_in_space(made, tmp_path):
    """Embeddings that show the labels, blurred: judged examples sharpen the query."""
    from dataclasses import replace as change

    from landcue.archive.layout import create_table
    from landcue.archive.manifest import write_manifest
    from landcue.archive.schema import encoded_rows
    from landcue.types import Encoding

    rng = np.random.default_rng(5)
    sizes, n = made.Sizes(dim=16), 400
    labels = rng.random((n, 5)) < 0.4
    blurred = labels @ rng.normal(size=(5, 16)) + 1.2 * rng.normal(size=(n, 16))
    blurred /= np.linalg.norm(blurred, axis=1, keepdims=True)
    plain = made.random_encoding(0, n, sizes)
    encoding = Encoding(blurred.astype(np.float32), plain.code, 20, plain.label_scores)
    rows = [
        change(made.plain_record(i), labels=tuple(np.array(made.NAMES)[labels[i]].tolist()))
        for i in range(n)
    ]
    folder = tmp_path / "a"
    folder.mkdir()
    manifest, table = create_table(folder, sizes, {}, None, {})
    table.add(
        encoded_rows(rows, ["x"] * n, [b""] * n, encoding, sizes.label_names, manifest.schema)
    )
    write_manifest(folder, change(manifest, records=n))
    for rule in ("rocchio", "linear"):
        report = simulate_feedback(folder, 3, rule=rule, most_queries=100)
        assert report.part == "all"  # the archive knows no parts
        gains = [one.gain["AP"] for one in report.rounds]
        assert all(gain > 0.01 for gain in gains)
        assert [one.relevant for one in report.rounds] == sorted(
            {o.relevant for o in report.rounds}
        )
        json.dumps(report.to_json(), allow_nan=False)
        assert f"{gains[2]:+.4f}" in report.to_text()


def test_mistakes(made, tmp_path):
    folder = tmp_path / "a"
    made.make_archive(folder, 40)
    for options, word in (
        ({"rounds": 0}, "rounds"),
        ({"per_round": 0}, "judged"),
        ({"rule": "rochio"}, "did you mean 'rocchio'"),
        ({"relevance": "jaccard"}, "did you mean 'jaccard-0.4'"),
        ({"part": "tset"}, "did you mean 'test'"),
    ):
        with pytest.raises(UsageError, match=word):
            simulate_feedback(folder, **options)
    made.make_archive(tmp_path / "b", 40, metadata=False)
    with pytest.raises(ArchiveError, match="0 annotated records in part all"):
        simulate_feedback(tmp_path / "b")

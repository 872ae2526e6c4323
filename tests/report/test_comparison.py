"""Two models side by side: the paired test, refusals, and the page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from landcue.errors import UsageError
from landcue.metrics.annotations import annotate
from landcue.metrics.intervals import compare
from landcue.report.comparison import column_names, compare_evaluations, to_json, verdict
from landcue.report.pages import comparison_page
from landcue.report.write import comparison_latex, comparison_markdown

RESAMPLES = 400


@pytest.fixture(scope="module")
def pair(make_subject):
    return make_subject("good", noise=0.4), make_subject("bad", seed=1, noise=3.0)


@pytest.fixture(scope="module")
def contests(pair):
    return compare_evaluations(*pair, resamples=RESAMPLES)


def test_each_metric_is_the_paired_test_of_its_values(pair, contests):
    first, second = pair
    assert [c.spaces for c in contests] == [("embedding", "embedding"), ("code", "code")]
    for contest in contests:
        ours = first.spaces[contest.spaces[0]].scores
        theirs = second.spaces[contest.spaces[1]].scores
        assert list(contest.metrics) == list(ours.metrics)
        for name, line in contest.metrics.items():
            assert line.first == pytest.approx(ours.metrics[name], abs=1e-12)
            assert line.second == pytest.approx(theirs.metrics[name], abs=1e-12)
            values = [ours.per_query[name]], [theirs.per_query[name]]
            assert line.test == compare(*values, resamples=RESAMPLES)


def test_labels_are_tested_on_their_own_queries_and_corrected(pair, contests):
    first, second = pair
    labels = contests[0].labels
    for name, line in labels.items():
        assert line.first == pytest.approx(first.main.scores.per_label[name].mean)
        assert line.second == pytest.approx(second.main.scores.per_label[name].mean)
    p = sorted(line.test.p_value for line in labels.values() if line.test)
    expected, largest = [], 0.0
    for place, value in enumerate(p):
        largest = max(largest, min(1.0, value * (len(p) - place)))
        expected.append(largest)
    assert sorted(line.adjusted for line in labels.values() if line.test) == expected
    counts = [first.main.scores.per_label[name].n_gallery for name in labels]
    assert counts == sorted(counts)


def test_the_order_of_the_queries_does_not_matter(pair, contests):
    first, second = pair
    order = np.random.default_rng(3).permutation(len(second.query))
    shuffled = annotate(
        [second.query.ids[i] for i in order], second.query.labels[order], second.query.label_names
    )
    scores = second.main.scores
    turned = {n: v[order] for n, v in scores.per_query.items()}
    turned = replace(scores, per_query=turned, own_label=scores.own_label[order])
    spaces = {"embedding": replace(second.main, scores=turned)}
    other = replace(second, query=shuffled, spaces=spaces)
    assert compare_evaluations(first, other, resamples=RESAMPLES) == contests[:1]


def test_a_model_against_itself_cannot_be_told_apart(pair):
    (contest, _) = compare_evaluations(pair[0], pair[0], resamples=50)
    line = contest.metrics["nDCG@100"]
    assert (line.test.difference, line.test.p_value) == (0, 1)
    assert "cannot tell" in verdict(contest, "nDCG@100", ("a", "b"))
    assert column_names(pair[0], pair[0]) == ("good (first)", "good (second)")


def test_the_verdict_knows_which_direction_is_better(contests):
    names = ("good", "bad")
    assert verdict(contests[0], "nDCG@100", names).startswith("good is better. nDCG@100 ")
    assert contests[0].metrics["ANMRR"].test.difference < 0
    assert verdict(contests[0], "ANMRR", names).startswith("good is better. ANMRR ")


def relabeled(subject):
    labels = subject.query.labels.copy()
    labels[3, 0] ^= 1
    images = annotate(subject.query.ids, labels, subject.query.label_names)
    return replace(subject, query=images, gallery=images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"part": "val"}, "differ in part (test and val)"),
        ({"split": "files-80-20"}, "differ in split (per-class-70-10-20-seed1 and files-80-20)"),
        ({"protocol": "sl-retrieval-v1", "labels": np.eye(5)[[0, 1] * 20]}, "different protocols"),
        ({"n": 39}, "different queries (40 and 39; 'img<39>.png' is only among the first's)"),
        ({"n_gallery": 30}, "different gallery images (40 and 30;"),
        (relabeled, "disagree on the labels of 'img<03>.png'"),
    ],
    ids=["part", "split", "protocol", "queries", "gallery", "labels"],
)
def test_other_things_are_refused_with_one_line(make_subject, subject, change, words):
    other = change(subject) if callable(change) else make_subject(**change)
    with pytest.raises(UsageError) as error:
        compare_evaluations(subject, other)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_of_a_single_image_has_no_mean_and_no_test(make_subject):
    subject = make_subject(labels=[[1, 0], [1, 1], [0, 0]], groups=0)
    contests = compare_evaluations(
        subject, make_subject(seed=2, labels=subject.query.labels, groups=0)
    )
    line = contests[0].labels["_under|bar"]
    assert line.test is None
    assert np.isnan(line.first)
    assert np.isnan(subject.main.scores.per_label["_under|bar"].mean)
    assert np.isnan(line.adjusted)
    assert to_json(contests)[0]["per_label"]["_under|bar"]["first"] is None


def test_queries_without_relevant_images_give_nulls(make_subject):
    subject = make_subject(labels=np.eye(4), groups=0)
    contests = compare_evaluations(subject, subject, resamples=20)
    line = to_json(contests)[0]["metrics"]["mAP"]
    assert line == {"first": None, "second": None}
    json.dumps(to_json(contests), allow_nan=False)
    assert "nothing can be compared" in verdict(contests[0], "mAP", ("a", "b"))
    assert "| – | – | – | – | – |" in comparison_markdown([], contests, ("a", "b"))


def test_the_page_is_well_formed_and_shows_the_tests(pair, contests, read_page):
    text = comparison_page(*pair, contests, "2026-01-02")
    found = read_page(text)
    assert found.errors == []
    assert len(found.ids) == len(set(found.ids))
    sections = ["scores", "curves", "labels", "queries", "protocol", "provenance"]
    assert [i for i in found.ids if i in sections] == sections
    assert "http" not in text.replace("http-equiv", "")
    for contest in contests:
        for name, line in contest.metrics.items():
            low, high = line.test.interval
            title = name + (" (lower is better)" if name == "ANMRR" else "")
            assert [
                title, f"{line.first:.4f}", f"{line.second:.4f}", f"{line.test.difference:+.4f}",
                f"{low:+.4f} .. {high:+.4f}", f"{line.test.p_value:.4f}",
            ] in found.rows  # fmt: skip
    assert comparison_page(*pair, contests, "2026-01-02") == text


def test_markdown_and_latex_have_all_tables(contests):
    names = ("a_1", "b|2")
    text = comparison_markdown(["fact"], contests, names)
    assert text.count("| metric | a_1 | b\\|2 |") == 2
    tex = comparison_latex(["fact"], contests, names)
    assert tex.count(r"\begin{tabular}{lrrrrr}") == 2
    assert tex.count(r"\begin{tabular}{lrrrrrr}") == 2
    assert r"a\_1" in tex

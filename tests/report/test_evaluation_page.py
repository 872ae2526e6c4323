"""The page of an evaluation: structure, numbers, safety, and what it does without data."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from landcue.metrics.report import RETRIEVAL_TIME
from landcue.report.evaluation import measure_times
from landcue.report.pages import evaluation_page
from landcue.report.tables import evaluation_latex, evaluation_markdown

SECTIONS = [
    "scores", "curves", "labels", "queries", "failures", "codes", "map", "protocol", "provenance",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(subject):
    return evaluation_page(subject, "2026-01-02")


@pytest.fixture(scope="module")
def found(text, read_page):
    return read_page(text)


def test_the_page_is_well_formed_with_all_sections_in_order(found):
    assert found.errors == []
    assert [i for i in found.ids if i in SECTIONS] == SECTIONS
    assert len(found.ids) == len(set(found.ids))
    links = [attrs["href"] for tag, attrs in found.tags if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]
    charts = {attrs["aria-label"] for tag, attrs in found.tags if tag == "svg"}
    assert len(charts) == 8  # four curves, labels, confusions, bits, map


def test_nothing_outside_is_referred_to(found, text):
    assert "http" not in text.replace("http-equiv", "")
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in found.tags)
    known = set(found.ids)
    for _, attrs in found.tags:
        for name in ("src", "href", "xlink:href"):
            address = str(attrs.get(name) or "data:")
            assert address.startswith("data:") or address[1:] in known, address
    for target in re.findall(r"url\((.*?)\)", text):
        assert target[0] == "#"
        assert target[1:] in known
    assert "<b>&" not in text  # names are escaped
    assert "img<" not in text
    assert "a&lt;b&gt;&amp;" in text


def test_its_numbers_are_the_scores(found, subject):
    for scores in subject.scores.values():
        for name, value in scores.metrics.items():
            low, high = scores.intervals[name]
            cells = [f"{value:.4f}", f"{low:.4f} .. {high:.4f}"]
            if scores.bands:
                cells.append(" .. ".join(f"{v:.4f}" for v in scores.bands[name]))
            cells.append(f"{scores.chance[name]:.4f}")
            title = name + (" (lower is better)" if name == "ANMRR" else "")
            assert [title, *cells] in found.rows
    main, code = subject.scores.values()
    for name, score in main.per_label.items():
        assert found.row(name, score.third or "–")[2:] == [
            str(score.n_query), str(score.n_gallery),
            *(f"{v:.4f}" if np.isfinite(v) else "–"
              for v in (score.mean, code.per_label[name].mean, score.chance)),
        ]  # fmt: skip


def test_every_definition_and_the_provenance_are_there(found, subject):
    protocol = subject.main.scores.protocol
    for line in (*protocol.describe(), *protocol.definitions().values()):
        assert line in found.text
    assert subject.about["model"] in found.text
    assert found.row("evaluated") == ["evaluated", "2026-01-02"]
    assert found.row("split")[1] == "per-class-70-10-20-seed1"


def test_labels_are_from_rare_to_frequent(found, subject):
    names = [row[0] for row in found.rows if len(row) == 7 and row[1] in ("rare", "medium")]
    counts = [subject.main.scores.per_label[name].n_gallery for name in names]
    assert counts == sorted(counts)
    assert len(counts) >= 3


def test_hits_tell_relevance_without_color(found):
    kinds = [attrs["class"] for tag, attrs in found.tags
             if tag == "div" and str(attrs.get("class")).startswith("tile ")]  # fmt: skip
    assert {"tile asked", "tile hit", "tile miss"} == set(kinds)
    assert found.text.count("✗ none shared") == kinds.count("tile miss")
    assert "✓" in found.text


def test_the_same_evaluation_gives_the_same_bytes(text, make_subject):
    assert evaluation_page(make_subject(), "2026-01-02") == text
    assert evaluation_page(make_subject(seed=1), "2026-01-02") != text


def test_an_evaluation_without_relevant_images_shows_dashes(make_subject, read_page):
    text = evaluation_page(make_subject(labels=np.eye(4), groups=0), "2026-01-02")
    found = read_page(text)
    assert found.errors == []
    assert found.row("mAP")[1] == "–"
    assert "No query has a relevant image" in found.text
    assert "4 of 4" in found.text
    assert re.search(r"\bnan\b", text.lower()) is None


def test_one_image_and_one_query_have_a_page(make_subject, read_page):
    alone = read_page(evaluation_page(make_subject(labels=[[1, 0]], groups=0), "2026-01-02"))
    assert alone.errors == []
    assert "Too few images for a map" in alone.text
    one = make_subject(labels=[[1, 0], [1, 1]], n_gallery=1, groups=0)
    assert one.main.scores.counts["n_gallery"] == 1
    page = read_page(evaluation_page(one, "2026-01-02"))
    assert page.errors == []
    assert page.row("mAP")[1] == "1.0000"


def test_an_unlabeled_gallery_and_many_labels_have_a_page(make_subject, read_page):
    half = np.zeros((12, 3))
    half[:6, 0] = 1
    found = read_page(evaluation_page(make_subject(labels=half), "2026-01-02"))
    assert found.errors == []
    assert "6 of 12" in found.text
    assert "no label" in found.text


def test_without_intervals_and_codes_the_page_leaves_them_out(make_subject, read_page):
    plain = make_subject(resamples=0)
    del plain.spaces["code"]
    found = read_page(evaluation_page(plain, "2026-01-02"))
    assert found.errors == []
    assert found.row("metric") == ["metric", "value", "chance"]
    assert "makes no hash codes" in found.text


def test_measured_times_stand_in_all_tables(make_subject, read_page):
    plain = make_subject()
    assert "retrieval time" not in evaluation_page(plain, "2026-01-02") + plain.to_text()
    subject = replace(plain, spaces=measure_times(plain.spaces))
    times = {name: scores.retrieval_time for name, scores in subject.scores.items()}
    n = len(subject.query)
    assert [(one.n_query, one.k) for one in times.values()] == [(n, n)] * 2
    shown = [f"{one.median_ms:.3f}" for one in times.values()]
    page = read_page(evaluation_page(subject, "2026-01-02"))
    rows = [row for row in page.rows if row[0] == RETRIEVAL_TIME]
    assert [row[1] for row in rows] == shown
    widths = {len(row) for row in page.rows if row[0] in (RETRIEVAL_TIME, "mAP")}
    assert widths == {4, 5}
    text = evaluation_markdown("Title", [], subject.scores)
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {RETRIEVAL_TIME[:9]}"))
    assert [cell for cell in line.strip("| ").split(" | ")[1:] if cell != "–"] == shown
    tex = evaluation_latex([], subject.scores)
    assert f"{RETRIEVAL_TIME} & {shown[0]} &" in tex
    (line,) = (
        row for row in subject.to_text().splitlines() if row.startswith(f"{RETRIEVAL_TIME} ")
    )
    assert line.removeprefix(RETRIEVAL_TIME).split() == shown
    spaces = subject.to_json()["spaces"]
    assert [spaces[name]["retrieval_time"]["median_ms"] for name in times] == [
        one.median_ms for one in times.values()
    ]


def test_markdown_and_latex_hold_the_same_numbers(subject):
    text = evaluation_markdown("Title", ["fact"], subject.scores)
    scores = subject.main.scores
    value = f"{scores.metrics['nDCG@100']:.4f}"
    line = next(line for line in text.splitlines() if line.startswith("| nDCG@100"))
    assert line.split(" | ")[1] == value
    assert r"| _under\|bar |" in text
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in text.splitlines() if row[:2] == "| "}
    assert widths == {7, 8}  # labels; metrics with intervals and the codes' bands
    tex = evaluation_latex(["50 % of a_b"], subject.scores)
    assert r"\_under|bar" in tex
    assert r"a\textless{}b\textgreater{}\&" in tex
    assert rf"nDCG@100 & {value} &" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2
    for body in re.findall(r"\\toprule\n(.*?)\\bottomrule", tex, re.DOTALL):
        rows = [row for row in body.splitlines() if row.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


@pytest.mark.parametrize("n_gallery", [None, 25])
def test_the_page_says_whether_a_query_may_find_itself(make_subject, read_page, n_gallery):
    made = make_subject(n_gallery=n_gallery)
    text = read_page(evaluation_page(made, "2026-01-31")).text
    rules = ("a query does not find itself", "an item with the id of the query counts")
    wanted, other = rules if n_gallery is None else reversed(rules)
    assert wanted in text
    assert other not in text
    for rule in made.main.scores.rules():
        assert rule in text

"""Write the report of an evaluation or a comparison: a page, Markdown and LaTeX tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from landcue import __version__
from landcue.errors import UsageError
from landcue.files import write_atomic
from landcue.report.comparison import (
    Contest,
    column_names,
    compare_evaluations,
    label_cells,
    metric_cells,
)
from landcue.report.evaluation import Evaluation
from landcue.report.pages import NOTE, comparison_page, evaluation_page
from landcue.report.tables import (
    escaped,
    evaluation_latex,
    evaluation_markdown,
    latex,
    markdown,
    markdown_escape,
    size_facts,
)


def write_report(
    first: Evaluation,
    second: Evaluation | None = None,
    *,
    contests: Sequence[Contest] | None = None,
    page: str | Path | None = None,
    markdown: str | Path | None = None,
    latex: str | Path | None = None,
) -> list[Path]:
    """Write the report of an evaluation, or of the comparison of two; return the files.

    >>> write_report(landcue.evaluate("runs/a"), page="report.html")           # doctest: +SKIP
    [PosixPath('report.html')]

    Args:
        first: The evaluation, as :func:`landcue.evaluate` returns it for an archive or a run.
        second: Another one of the same images, to compare with.
        contests: Result of :func:`compare_evaluations`; computed if it is not given.
        page: HTML file to write: one file without scripts.
        markdown: Markdown tables to write.
        latex: LaTeX tables to write, for the package ``booktabs``.

    Raises:
        UsageError: The two differ in protocol, queries, gallery or labels.
        LandcueError: A file cannot be written.
    """
    made = day()
    if second is None:
        facts, name = _facts(first, made), f"Retrieval report: {first.name}"
        texts = (
            lambda: evaluation_page(first, made),
            lambda: evaluation_markdown(name, facts, first.scores),
            lambda: evaluation_latex(facts, first.scores),
        )
    else:
        contests = compare_evaluations(first, second) if contests is None else contests
        facts, names = _common_facts(first, second, made), column_names(first, second)
        texts = (
            lambda: comparison_page(first, second, contests, made),
            lambda: comparison_markdown(facts, contests, names),
            lambda: comparison_latex(facts, contests, names),
        )
    written: list[Path] = []
    for file, text in zip((page, markdown, latex), texts, strict=True):
        if file is not None:
            written.append(Path(file))
            write_atomic(written[-1], text())
    return written


def day() -> str:
    """Return the day in UTC, ISO 8601: that of SOURCE_DATE_EPOCH where it is set."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if seconds is None:
        return datetime.now(UTC).date().isoformat()
    try:
        return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"SOURCE_DATE_EPOCH is {seconds!r}: use seconds since 1970, or unset it"
        ) from None


def _facts(subject: Evaluation, made: str) -> list[str]:
    facts = [f"{key}: {value}" for key, value in subject.about.items()]
    scores = subject.main.scores
    return [
        *facts,
        *scores.rules(),
        *size_facts(scores.counts),
        f"LandCue {__version__}, {made}",
    ]


def _common_facts(first: Evaluation, second: Evaluation, made: str) -> list[str]:
    """Return the facts of the first, and of the second where they differ."""
    names = column_names(first, second)
    facts: list[str] = []
    for key, value in first.about.items():
        other = second.about.get(key, "–")
        same = value == other
        facts.append(f"{key}: {value}" if same else f"{key}: {value} / {other}")
    return [f"{names[0]} / {names[1]}", *facts, *_facts(first, made)[len(first.about) :]]


def comparison_markdown(
    facts: Sequence[str], contests: Sequence[Contest], names: tuple[str, str]
) -> str:
    """Return the tables of a comparison as Markdown."""
    lines = [f"# {markdown_escape(f'{names[0]} and {names[1]}')}", ""]
    lines += [*(f"* {markdown_escape(fact)}" for fact in facts), "", NOTE]
    for contest in contests:
        lines += ["", f"## {markdown_escape(contest.title)}", ""]
        lines += markdown(metric_cells(contest, *names))
        lines += ["", "Own-label AP, rare labels first:", ""]
        lines += markdown(label_cells(contest, *names))
    return "\n".join(lines) + "\n"


def comparison_latex(
    facts: Sequence[str], contests: Sequence[Contest], names: tuple[str, str]
) -> str:
    """Return the tables of a comparison as LaTeX ``tabular`` blocks."""
    blocks: list[str] = []
    for contest in contests:
        for cells in (metric_cells(contest, *names), label_cells(contest, *names)):
            blocks.append(latex(escaped(cells), 1, [*facts, contest.title]))
    return "\n".join(blocks)

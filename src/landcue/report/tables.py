"""Tables of text cells as Markdown and LaTeX, and pages from templates with data URIs."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from landcue.data.names import printable
from landcue.metrics.report import RETRIEVAL_TIME, Report

if TYPE_CHECKING:
    from jinja2 import Environment

Cells = list[list[str]]
"""Rows of a table, the header first."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": "--",
}  # fmt: skip


def markdown(cells: Cells) -> list[str]:
    """Return the lines of a Markdown table."""
    header, *body = cells
    return [_bar(header), _bar(["---"] * len(header)), *(_bar(line) for line in body)]


def latex(cells: Cells, n_text: int, facts: Sequence[str] = ()) -> str:
    """Return a LaTeX ``tabular`` (needs ``booktabs``) of cells that are LaTeX already.

    Args:
        cells: See :func:`latex_escape`.
        n_text: How many first columns are text, to the left; the others are numbers, to the right.
        facts: Facts for the comment lines above the table.
    """
    header, *body = cells
    columns = "l" * n_text + "r" * (len(header) - n_text)
    lines = [f"% {printable(fact)}" for fact in facts]
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_line(header), r"\midrule"]
    lines += [_latex_line(line) for line in body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_escape(text: str) -> str:
    """Return text whose special characters LaTeX prints as they are."""
    return "".join(_LATEX.get(character, character) for character in printable(text))


def score_cells(spaces: Mapping[str, Report]) -> Cells:
    """Return every metric in every space, with 95 % intervals, tie bands and chance.

    Args:
        spaces: Report of the same images and protocol by column name; the first one's chance is
            shown.
    """
    first = next(iter(spaces.values()))
    header = ["metric"]
    for name, scores in spaces.items():
        header += [name]
        header += ["95 % interval"] if scores.intervals else []
        header += ["ties worst..best"] if scores.bands else []
    table = [[*header, "chance"]]
    for metric in first.protocol.metrics():
        line = [metric.name + (" (lower is better)" if metric.family.falling else "")]
        for scores in spaces.values():
            line.append(number(scores.metrics[metric.name]))
            line += [span(scores.intervals[metric.name])] if scores.intervals else []
            line += [span(scores.bands[metric.name])] if scores.bands else []
        table.append([*line, number(first.chance[metric.name])])
    if any(scores.retrieval_time for scores in spaces.values()):
        line = [RETRIEVAL_TIME]
        for scores in spaces.values():
            line.append(milliseconds(scores))
            line += ["–"] * (bool(scores.intervals) + bool(scores.bands))
        table.append([*line, "–"])
    return table


def milliseconds(scores: Report) -> str:
    """Return the time of a query in milliseconds, or a dash if it was not measured."""
    timed = scores.retrieval_time
    return f"{timed.median_ms:.3f}" if timed else "–"


def evaluation_markdown(title: str, facts: Sequence[str], spaces: Mapping[str, Report]) -> str:
    """Return scores, scores by label of the first space, and definitions as Markdown."""
    main, scores = next(iter(spaces.items()))
    lines = [f"# {markdown_escape(title)}", ""]
    lines += [*(f"* {markdown_escape(fact)}" for fact in facts), ""]
    lines += [*markdown(score_cells(spaces)), "", f"By label ({main}), rare labels first:", ""]
    lines += [*markdown(scores.label_rows()), "", "Definitions:", ""]
    lines += [f"* {name}: {text}" for name, text in scores.protocol.definitions().items()]
    if scores.retrieval_time:
        lines.append(f"* {RETRIEVAL_TIME}: {scores.retrieval_time.describe()}")
    return "\n".join(lines) + "\n"


def evaluation_latex(facts: Sequence[str], spaces: Mapping[str, Report]) -> str:
    """Return scores and scores by label of the first space as two ``tabular`` blocks."""
    scores = next(iter(spaces.values()))
    by_label = latex(escaped(scores.label_rows()), 1)
    return latex(escaped(score_cells(spaces)), 1, facts) + "\n" + by_label


def size_facts(counts: dict[str, int]) -> list[str]:
    """Return how many images took part, and how many queries have nothing to find."""
    facts = [f"{counts['n_query']:,} queries, {counts['n_gallery']:,} gallery images"]
    for name, count in counts.items():
        if name.startswith("n_without_relevant") and count:
            what = name.removeprefix("n_without_relevant")
            facts.append(f"{count:,} queries have no relevant image {what}".rstrip())
    return facts


def number(value: float) -> str:
    """Return four digits, or a dash for NaN."""
    return f"{value:.4f}" if math.isfinite(value) else "–"


def signed(value: float) -> str:
    """Return four digits with their sign, or a dash for NaN."""
    return f"{value:+.4f}" if math.isfinite(value) else "–"


def span(pair: tuple[float, float]) -> str:
    """Return an interval, or a dash if it is not known."""
    return f"{number(pair[0])} .. {number(pair[1])}" if all(map(math.isfinite, pair)) else "–"


def escaped(cells: Cells) -> Cells:
    """Return cells whose special characters LaTeX prints as they are."""
    return [[latex_escape(cell) for cell in line] for line in cells]


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_escape(cell) for cell in cells) + " |"


def markdown_escape(text: str) -> str:
    r"""Return text in which Markdown finds no HTML, link, table or line of its own.

    >>> from landcue.report.tables import markdown_escape
    >>> markdown_escape("a|b <i>[c](d)")
    'a\\|b &lt;i>\\[c](d)'
    """
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", r"\|").replace("[", r"\[")


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


# Okabe and Ito's palette: apart for the color-blind, and in gray by their lightness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def render(template: str, **values: object) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**values)


def data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    """Return bytes as a ``data:`` address of the media type ``kind``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def shown(value: object) -> object:
    """Return floats with four digits, or a dash for NaN; other values as they are."""
    return number(value) if isinstance(value, float) else value


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("landcue.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = shown
    return environment

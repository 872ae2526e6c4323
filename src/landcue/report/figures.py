"""Figures inside a page: matplotlib's SVG, in the page's own colors and font.

Ink, lines and paper become style variables of the page, so a figure is dark on light, light on
dark, and black on white in print. The bytes depend on the data alone: no date, fixed identifiers.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from landcue.report.html import PALETTE, Html, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_P = ParamSpec("_P")

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
COLORS = PALETTE[:-1]
"""Okabe and Ito's palette without its black, which is the ink."""

INK, MUTED, LINE, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
"""Stand for the page's variables --text, --muted, --line and --page; no figure needs these hues."""

_VARIABLES = {INK: "--text", MUTED: "--muted", LINE: "--line", PAPER: "--page"}
_RULES: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "landcue",
    "text.color": INK,
    "patch.linewidth": 0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so sizes are the same everywhere
    "path.simplify": True,
}
_POINTS_PER_PIXEL = 0.75


def themed(draw: Callable[_P, Html]) -> Callable[_P, Html]:
    """Let a function that draws see the page's colors, sizes and font."""

    @functools.wraps(draw)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Html:
        from matplotlib import rc_context

        with rc_context(_RULES):
            return draw(*args, **kwargs)

    return wrapped


class Canvas:
    """One figure, drawn without pyplot and its window system; use it in a themed function."""

    def __init__(self, width: float, height: float) -> None:
        """Make the figure; width and height in inches of 96 CSS pixels."""
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.figure: Figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        self.figure.patch.set_visible(False)
        self.axes.patch.set_visible(False)

    def html(self, name: str, text: str, caption: object = "") -> Html:
        """Return a ``<figure>`` with the drawing inline.

        Args:
            name: Prefix of its identifiers, unique within the page.
            text: What a reader without the picture gets.
            caption: What one sees.
        """
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return Html(
            f'<figure class="chart">{inline(buffer.getvalue(), name, text)}{below}</figure>'
        )


def inline(svg: str, name: str, text: str) -> str:
    """Return matplotlib's SVG document as an element of an HTML page.

    The prolog, metadata and name spaces go, identifiers get the prefix ``name``, fonts are the
    page's, and stand-in colors become the page's variables.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(?::\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href=", "href=")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"'DejaVu Sans'", "system-ui", svg)
    svg = re.sub(r" version=\"[^\"]*\"", "", svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    width, height = (float(v) for v in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    opening = (
        f'<svg role="img" aria-label="{escape(text)}" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width / _POINTS_PER_PIXEL:g}" height="{height / _POINTS_PER_PIXEL:g}">'
    )
    return re.sub(r"\n\s*", "\n", opening + svg[svg.index(">") + 1 :]).strip()


def line_style(number: int) -> dict[str, Any]:
    """Return the look of the n-th line: color, dashes and marker differ, for print too."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.6,
    }

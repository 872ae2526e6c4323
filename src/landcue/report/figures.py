"""Figures inside a page: inline SVG in the page's own colors and font, without matplotlib.

Ink, lines and paper are style variables of the page, so a figure is dark on light, light on dark,
and black on white in print. The bytes depend on the data alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from landcue.report.tables import PALETTE

COLORS = PALETTE[:-1]
"""Okabe and Ito's palette without its black, which is the ink."""
INK, MUTED, LINE, PAPER = "var(--text)", "var(--muted)", "var(--line)", "var(--page)"
DASHES = ("", "7 3", "2 3", "7 3 2 3")
MARKERS = (
    "M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0z",  # circle
    "M-3,-3h6v6h-6z",  # square
    "M0,-3.6L3.4,2.6L-3.4,2.6z",  # triangle up
    "M0,-4L4,0L0,4L-4,0z",  # diamond
    "M0,3.6L3.4,-2.6L-3.4,-2.6z",  # triangle down
    "M-1.2,-3.6h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z",  # plus
    "M-3.4,-1.8L-1.8,-3.4L0,-1.6L1.8,-3.4L3.4,-1.8L1.6,0L3.4,1.8L1.8,3.4L0,1.6L-1.8,3.4"
    "L-3.4,1.8L-1.6,0z",  # cross
)
_LETTER = 6.2
"""Width of a letter of the 11 px text in pixels, a little more than the mean of most fonts."""

Point = tuple[float, float]


def style_of(number: int) -> tuple[str, str, str]:
    """Return color, dashes and marker of the n-th line: all three differ, for print too."""
    return (
        COLORS[number % len(COLORS)],
        DASHES[number % len(DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def text_width(texts: Iterable[str]) -> float:
    """Return about how many pixels the longest text takes."""
    return _LETTER * max((len(text) for text in texts), default=0)


class Figure:
    """A drawing of ``width`` pixels; the height grows with the legend.

    Attributes:
        x: Turns a value of the horizontal axis into pixels.
        y: Turns a value of the vertical axis into pixels.
    """

    def __init__(
        self,
        size: tuple[float, float],
        margins: tuple[float, float, float, float],
        x_range: Point,
        y_range: Point,
        *,
        log_x: bool = False,
    ) -> None:
        """Lay out the axes.

        Args:
            size: Width and height in pixels, without the legend.
            margins: Left, top, right and bottom, in pixels.
            x_range: Values at the left and the right end.
            y_range: Values at the bottom and the top.
            log_x: Whether the horizontal axis is logarithmic.
        """
        self.width, self.height = size
        self.left, self.top = margins[0], margins[1]
        self.right, self.bottom = size[0] - margins[2], size[1] - margins[3]
        self._parts: list[Markup] = []
        self._legend: list[tuple[Markup, str]] = []
        scale: Callable[[float], float] = math.log10 if log_x else float
        low, high = scale(x_range[0]), scale(x_range[1])
        wide, tall = self.right - self.left, self.bottom - self.top
        span = y_range[1] - y_range[0]
        self.x: Callable[[float], float] = lambda v: (
            self.left + wide * (scale(v) - low) / (high - low)
        )
        self.y: Callable[[float], float] = lambda v: self.bottom - tall * (v - y_range[0]) / span

    def add(self, markup: str, *values: object) -> None:
        """Append an element; ``{}`` stand for values, which are escaped, floats with two digits."""
        self._parts.append(_fill(markup, values))

    def ticks_x(
        self,
        ticks: Iterable[tuple[float, str]],
        title: str,
        *,
        grid: bool = True,
        turned: bool = False,
    ) -> None:
        """Draw the horizontal axis, given (value, label)."""
        for value, label in ticks:
            x = self.x(value)
            if grid:
                self.line([(x, self.top), (x, self.bottom)], LINE, width=0.7)
            if turned:
                self.text((x + 4, self.bottom + 6), label, anchor="end", turned=True)
            else:
                self.text((x, self.bottom + 15), label)
        self.line([(self.left, self.bottom), (self.right, self.bottom)], MUTED, width=1)
        self.text(((self.left + self.right) / 2, self.height - 5), title, size=12)

    def ticks_y(
        self, ticks: Iterable[tuple[float, str]], title: str = "", *, grid: bool = True
    ) -> None:
        """Draw the vertical axis, given (value, label)."""
        for value, label in ticks:
            y = self.y(value)
            if grid:
                self.line([(self.left, y), (self.right, y)], LINE, width=0.7)
            self.text((self.left - 6, y + 4), label, anchor="end")
        self.line([(self.left, self.top), (self.left, self.bottom)], MUTED, width=1)
        if title:
            middle = (self.top + self.bottom) / 2
            self.text((12, middle), title, size=12, turned=True)

    def text(
        self,
        at: Point,
        text: str,
        *,
        anchor: str = "middle",
        size: float = 11,
        color: str = INK,
        turned: bool = False,
    ) -> None:
        """Write text at a point in pixels; ``turned``: upwards."""
        turn = Markup(' transform="rotate(-90 {:.2f} {:.2f})"').format(*at) if turned else ""
        self.add(
            '<text x="{}" y="{}" style="font-size:{}px;fill:{};text-anchor:{}"{}>{}</text>',
            *(*at, size, color, anchor, turn, text),
        )

    def line(
        self, points: Sequence[Point], color: str, *, width: float = 1.8, dash: str = ""
    ) -> None:
        """Draw a line through points in pixels."""
        self._parts.append(_line(points, color, width, dash))

    def bar(self, corner: Point, size: Point, fill: str) -> None:
        """Fill a rectangle, given its upper left corner and size in pixels."""
        self._parts.append(_bar(corner, size, fill))

    def marker(self, at: Point, marker: str, color: str) -> None:
        """Draw a marker at a point in pixels, with an edge of the page's color."""
        self._parts.append(_marker(at, marker, color))

    def legend_line(self, label: str, color: str, dash: str = "", marker: str = "") -> None:
        """Name a line below the figure."""
        sample = _line([(0, 0), (24, 0)], color, 1.8, dash)
        self._legend.append((sample + (_marker((12, 0), marker, color) if marker else ""), label))

    def legend_bar(self, label: str, fill: str) -> None:
        """Name a bar below the figure."""
        self._legend.append((_bar((4, -5), (16, 10), fill), label))

    def legend_marker(self, label: str, marker: str, color: str) -> None:
        """Name a marker below the figure."""
        self._legend.append((_marker((12, 0), marker, color), label))

    def to_html(self, text: str, caption: str = "") -> Markup:
        """Return a ``<figure>``.

        Args:
            text: What a reader without the picture gets.
            caption: What one sees.
        """
        x, y = 10.0, self.height + 14
        entries = list[Markup]()
        for sample, label in self._legend:
            wide = 46 + _LETTER * len(label)
            if x > 10 and x + wide > self.width:
                x, y = 10.0, y + 18
            entries.append(
                _fill(
                    '<g transform="translate({} {})">{}<text x="30" y="4" '
                    'style="font-size:11px;fill:{}">{}</text></g>',
                    (x, y, sample, INK, label),
                )
            )
            x += wide
        height = y + 10 if entries else self.height
        below = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
        body = Markup("\n").join([*self._parts, *entries])
        return _fill(
            '<figure class="chart"><svg role="img" aria-label="{}" viewBox="0 0 {} {}" '
            'width="{}" height="{}" style="font-family: system-ui, sans-serif">\n{}\n</svg>{}'
            "</figure>",
            (text, self.width, height, self.width, height, body, below),
        )


def _fill(markup: str, values: Sequence[object]) -> Markup:
    shown = [f"{round(v, 2):g}" if isinstance(v, float) else v for v in values]
    return Markup(markup).format(*shown)


def _line(points: Sequence[Point], color: str, width: float, dash: str) -> Markup:
    path = "M" + "L".join(f"{round(x, 2):g},{round(y, 2):g}" for x, y in points)
    dashes = Markup(";stroke-dasharray:{}").format(dash) if dash else ""
    return _fill(
        '<path d="{}" style="fill:none;stroke:{};stroke-width:{}{}"/>',
        (path, color, width, dashes),
    )


def _bar(corner: Point, size: Point, fill: str) -> Markup:
    return _fill(
        '<rect x="{}" y="{}" width="{}" height="{}" style="fill:{}"/>',
        (*(float(v) for v in (*corner, *size)), fill),
    )


def _marker(at: Point, marker: str, color: str) -> Markup:
    return _fill(
        '<path d="{}" transform="translate({} {})" style="fill:{};stroke:{};stroke-width:.6"/>',
        (marker, float(at[0]), float(at[1]), color, PAPER),
    )

"""Drawings inside a page: the page's colors, unique identifiers, the same bytes, no matplotlib."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from landcue.codes.packing import CodeStatistics
from landcue.report.charts import bits_figure
from landcue.report.figures import COLORS, MARKERS, Figure, style_of

STATISTICS = CodeStatistics(10, 3, (0.1, 0.5, 1.0), 0.6, 4, 0.8)


@pytest.fixture(scope="module")
def drawn():
    return bits_figure(STATISTICS)


def test_a_figure_is_well_formed_and_refers_to_nothing(drawn, read_page):
    found = read_page(drawn)
    assert found.errors == []
    assert "http" not in drawn
    assert "url(" not in drawn
    assert "share of ones" in found.text  # text stays text
    assert "<figcaption>" in drawn


def test_ink_and_lines_are_the_pages_own(drawn):
    used = set(re.findall(r"var\((--\w+)\)", drawn))
    assert {"--text", "--muted", "--line"} <= used
    colors = {color.upper() for color in re.findall(r"#[0-9a-fA-F]{6}\b", drawn)}
    assert colors == {COLORS[0].upper()}
    assert set(re.findall(r"font-family: ([^;\"]+)", drawn)) == {"system-ui, sans-serif"}


def test_the_same_data_give_the_same_bytes(drawn):
    assert bits_figure(STATISTICS) == drawn


def test_bars_are_as_high_as_their_values():
    bars = re.findall(r'<rect x="[^"]+" y="[^"]+" width="[^"]+" height="([^"]+)"',
                      bits_figure(STATISTICS))  # fmt: skip
    heights = [float(height) for height in bars]
    assert heights[0] / heights[2] == pytest.approx(0.1, abs=1e-3)
    assert heights[1] / heights[2] == pytest.approx(0.5, abs=1e-3)


def test_axes_put_values_where_they_belong():
    figure = Figure((300, 200), (50, 10, 50, 40), (1, 100), (0, 2), log_x=True)
    assert [figure.x(v) for v in (1, 10, 100)] == pytest.approx([50, 150, 250])
    assert [figure.y(v) for v in (0, 1, 2)] == pytest.approx([160, 85, 10])


def test_names_cannot_become_markup(read_page):
    figure = Figure((300, 200), (50, 10, 10, 40), (0, 1), (0, 1))
    figure.text((1, 1), "<script>")
    figure.legend_line('"<b>', COLORS[0])
    text = figure.to_html('say "x"', "<i>")
    assert read_page(text).errors == []
    assert "<script>" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    assert 'aria-label="say &#34;x&#34;"' in text


def test_lines_differ_in_more_than_color():
    styles = [style_of(number) for number in range(12)]
    assert len({(dash, marker) for _, dash, marker in styles}) == 12
    pairs = {(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i in range(21)}
    assert len(pairs) == 21  # the map's categories


def test_pages_need_no_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None; "
        "import landcue.report.write, landcue.audit.page; print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stderr

"""Drawings inside a page: the page's colors, unique identifiers, the same bytes."""

from __future__ import annotations

import re

import pytest

from landcue.codes.packing import CodeStatistics
from landcue.report.charts import bits_figure, plain
from landcue.report.figures import COLORS, MARKERS, inline, line_style

STATISTICS = CodeStatistics(10, 3, (0.1, 0.5, 1.0), 0.6, 4, 0.8)


@pytest.fixture(scope="module")
def drawn():
    return bits_figure(STATISTICS, "bits")


def test_a_figure_is_well_formed_and_refers_to_itself_only(drawn, read_page):
    found = read_page(drawn)
    assert found.errors == []
    assert all(name.startswith("bits-") for name in found.ids)
    assert len(found.ids) == len(set(found.ids))
    targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn)
    assert targets
    assert {a or b for a, b in targets} <= set(found.ids)
    assert "http" not in drawn
    assert "share of ones" in found.text  # text stays text
    assert "<figcaption>" in drawn


def test_ink_and_lines_are_the_pages_own(drawn):
    used = set(re.findall(r"var\((--\w+)\)", drawn))
    assert {"--text", "--muted", "--line"} <= used
    colors = {color.upper() for color in re.findall(r"#[0-9a-fA-F]{6}\b", drawn)}
    assert colors == {COLORS[0].upper()}
    assert set(re.findall(r"font-family: ([^;\"]+)", drawn)) == {"system-ui, sans-serif"}


def test_the_same_data_give_the_same_bytes(drawn):
    assert bits_figure(STATISTICS, "bits") == drawn
    other = bits_figure(STATISTICS, "other")
    assert other.replace("other-", "bits-") == drawn


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    bits_figure(STATISTICS, "bits")
    assert dict(mpl.rcParams) == before


def test_an_element_has_its_size_in_pixels_and_a_text():
    svg = '<?xml version="1.0"?>\n<svg width="75pt" height="30pt" viewBox="0 0 75 30"><g/></svg>'
    assert inline(svg, "a", 'say "x"') == (
        '<svg role="img" aria-label="say &quot;x&quot;" viewBox="0 0 75 30" width="100" '
        'height="40"><g/></svg>'
    )


def test_lines_differ_in_more_than_color():
    styles = [line_style(number) for number in range(12)]
    assert len({(s["marker"], s["linestyle"]) for s in styles}) == 12
    pairs = {(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i in range(21)}
    assert len(pairs) == 21  # the map's categories


def test_names_are_neither_mathematics_nor_hidden():
    assert plain("$x$") == r"\$x\$"
    assert plain("_a").endswith("_a")
    assert not plain("_a").startswith("_")

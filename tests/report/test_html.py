"""The page helpers: well-formed, self-contained, and safe with any name."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from landcue.report.html import (
    Html,
    badge,
    escape,
    figure_svg,
    image_png,
    join,
    page,
    paragraph,
    section,
    table,
)

NASTY = "<script>alert('\"&')</script>"
VOID = {"meta", "img", "br", "hr"}


class Checker(HTMLParser):
    """Collects elements and text; remembers whatever is not properly nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.errors: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        self.errors += [f"{tag} is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"{tag} closes something else")

    def handle_data(self, data):
        self.text.append(data)


def test_a_whole_page_is_well_formed_and_refers_to_nothing_outside():
    body = section(
        "Findings", paragraph("one ", NASTY), table(("a", "b"), [(1, 2.5), ("x", NASTY)])
    )
    found = Checker(page(NASTY, body))
    assert found.errors == []
    tags = [tag for tag, _ in found.tags]
    assert "script" not in tags
    assert "link" not in tags
    addresses = [v for _, attrs in found.tags for k, v in attrs.items() if k in ("src", "href")]
    assert all(str(address).startswith("data:") for address in addresses)
    policies = [a["content"] for t, a in found.tags if a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "".join(found.text).count(NASTY) == 4  # title, heading, paragraph, cell


def test_only_html_is_not_escaped_again():
    assert escape("a<b") == "a&lt;b"
    assert escape(escape("a<b")) == "a&lt;b"
    assert join([Html("<b>x</b>"), "<"], "|") == "<b>x</b>|&lt;"
    assert badge('"', "error") == '<span class="badge error">&quot;</span>'


def test_numbers_stand_to_the_right_and_truth_values_are_no_numbers():
    text = table(("name", "n"), [("a", 3), ("b", 0.123456), ("c", True)])
    assert '<td class="number">3</td>' in text
    assert '<td class="number">0.1235</td>' in text
    assert "<td>True</td>" in text


def test_an_image_holds_the_very_pixels():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    ((tag, attrs),) = Checker(image_png(pixels, NASTY, width=70)).tags
    assert tag == "img"
    assert attrs["alt"] == NASTY
    assert attrs["width"] == "70"
    content = base64.b64decode(str(attrs["src"]).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


def test_a_figure_embeds_its_svg_unchanged():
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>'
    found = Checker(figure_svg(svg, "dot", "one <dot>"))
    assert found.errors == []
    src = str(next(attrs["src"] for tag, attrs in found.tags if tag == "img"))
    assert base64.b64decode(src.removeprefix("data:image/svg+xml;base64,")).decode() == svg
    assert "".join(found.text) == "one <dot>"


def test_sections_have_anchors_pages_a_style_and_missing_numbers_a_dash():
    text = page("t", section("A", "b", anchor='x"y'), style=".mine { color: red }")
    checked = Checker(text)
    assert checked.errors == []
    assert ("section", {"id": 'x"y'}) in checked.tags
    assert ".mine { color: red }</style>" in text
    cells = table(["n"], [[float("nan")], [0.5]])
    assert '<td class="number">–</td>' in cells
    assert '<td class="number">0.5000</td>' in cells

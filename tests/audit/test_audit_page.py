"""The page of an audit: its structure, its escaping, and that it refers to nothing outside."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from landcue.audit import audit
from landcue.audit.page import SHOWN
from landcue.data.sources import open_source

NASTY = "<script>alert(1)"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects a page's elements, headings and text, and what is not properly nested."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.errors, self.tags, self.headings, self.text = [], [], [], [], []
        self.feed(text)
        self.close()
        self.errors += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["path,group,grass,<b>label</b>"]
    for i in range(6):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(pixels).resize((64, 64 if i else 60), Image.Resampling.BICUBIC)
        name = f"{NASTY}{i}.png"
        image.save(tmp_path / name)
        rows.append(f"{name},g,1,{i % 2}")
    (tmp_path / f"{NASTY}5.png").write_bytes((tmp_path / f"{NASTY}1.png").read_bytes())
    (tmp_path / f"{NASTY}4.png").write_bytes(b"garbage")
    image = Image.open(tmp_path / f"{NASTY}2.png")
    image.save(tmp_path / f"{NASTY}3.png", "JPEG", quality=70)
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_structure_escaping_and_no_outside_address(folder):
    found = audit(open_source(folder), split="files-50-50", model=None)
    shown = Page(found.to_html(NASTY))
    assert shown.errors == []
    assert shown.headings == [
        "Findings", "Leakage", "Identical images", "Near-duplicates", "Labels", "Sizes and bands",
        "Broken and blank files",
    ]  # fmt: skip
    assert {tag for tag, _ in shown.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "div", "span",
        "table", "caption", "thead", "tbody", "tr", "th", "td", "img", "br", "b",
    }  # fmt: skip
    for _, attributes in shown.tags:
        for name, value in attributes.items():
            assert name not in ("href", "srcset", "action")
            assert not name.startswith("on")
            if name == "src":
                assert value.startswith("data:image/jpeg;base64,")
            if name == "style":
                assert "url(" not in value
    text = " ".join(shown.text)
    assert f"Audit of {NASTY}" in text
    assert f"{NASTY}4.png" in text
    assert "<b>label</b>" in text
    assert "across parts" in text
    badges = [a["class"] for tag, a in shown.tags if a.get("class", "").startswith("badge")]
    assert "badge error" in badges
    assert "badge warning" in badges


def test_thumbnails_are_the_pairs(folder):
    shown = Page(audit(open_source(folder), model=None).to_html())
    images = [attributes for tag, attributes in shown.tags if tag == "img"]
    assert [a["alt"] for a in images] == [f"{NASTY}{i}.png" for i in (1, 5, 2, 3)]
    content = base64.b64decode(images[0]["src"].removeprefix("data:image/jpeg;base64,"))
    small = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)
    with Image.open(folder / f"{NASTY}1.png") as image:
        expected = np.asarray(image.resize((112, 112)), float)
    assert small.shape == (112, 112, 3)
    assert np.abs(small - expected).mean() < 8


def test_very_many_pairs_are_shown_in_part(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(SHOWN + 3):
        image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((40, 40))
        for copy in "ab":
            image.save(tmp_path / f"{i:03d}{copy}.png")
    shown = Page(audit(open_source(tmp_path), model=None).to_html())
    assert sum(tag == "img" for tag, _ in shown.tags) == 2 * SHOWN
    assert "3 more are in the JSON." in shown.text
    assert "Labels" not in shown.headings
    assert "Leakage" not in shown.headings


def test_a_clean_set_says_so(tmp_path):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8))
    (tmp_path / "a").mkdir()
    for i in range(5):
        image.rotate(17 * i).resize((32, 32)).save(tmp_path / f"a/{i}.png")
    shown = Page(audit(open_source(tmp_path, folder_labels=True), model=None).to_html())
    assert "Nothing stands out." in shown.text

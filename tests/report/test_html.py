"""The page templates: well-formed, self-contained, and safe with any name."""

from __future__ import annotations

from landcue.audit.counts import PairCounts
from landcue.report.tables import data_uri, render, shown

NASTY = "<script>alert('\"&')</script>"


def test_every_name_of_a_page_is_escaped(read_page):
    nothing = PairCounts({}, {})
    text = render(
        "audit.html",
        title=NASTY,
        summary=NASTY,
        findings=[{"severity": "error", "count": 1, "text": NASTY}],
        leaks=[],
        copies=[{
            "title": NASTY, "about": NASTY, "severity": "error", "counts": list(nothing.within),
            "cards": [{
                "images": [{"id": NASTY, "about": NASTY, "picture": None}],
                "text": NASTY, "crossing": True, "rest": 0,
            }],
            "rest": 0,
        }],
        card_width=9,
        labels=None,
        sizes=[],
        broken=[{"head": [NASTY], "rows": [[NASTY]], "caption": NASTY, "rest": 3}],
    )  # fmt: skip
    found = read_page(text)
    assert found.errors == []
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.text.count(NASTY) >= 10
    policies = [a["content"] for _, a in found.tags if a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_numbers_have_four_digits_and_missing_ones_a_dash():
    assert shown(0.123456) == "0.1235"
    assert shown(float("nan")) == "–"
    assert shown(3) == 3
    assert shown(True) is True


def test_a_data_uri_holds_the_bytes():
    assert data_uri(b"\x00\x01", "image/png") == "data:image/png;base64,AAE="

"""The Changes page: pairs of one place at two dates, ranked, opened, exported; and bad input."""

from __future__ import annotations

import csv
import json
import os
import shutil
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import expect
from rasterio.transform import from_origin

import landcue
from landcue.demo.canvas import Air
from landcue.demo.pairs import SceneDate, render_pair
from scene_files import write_scene
from visitor import LOST, violations, wide_parts

N = 24
SIDE = 64
CHANGED = 5
"""The place on which houses are built."""
LIGHT = SceneDate("summer", 1.5, 0.9, Air(gain=1, tint=(1, 1, 1), haze=0.05, noise=2))
ASKED = "?page=changes&before=2012-01-01/2012-12-31&after=2018-01-01/2018-12-31"


@pytest.fixture(scope="module")
def dated(tmp_path_factory, chromium):
    folder = tmp_path_factory.mktemp("places")
    rows = ["path,time,labels"]
    for i in range(N):
        change = "houses" if i == CHANGED else None
        images = render_pair(i, "farmland", (LIGHT, LIGHT), change, size=SIDE)
        transform = from_origin(500_000 + i * SIDE, 5_500_000, 1, 1)
        for year, image in zip((2012, 2018), images, strict=True):
            place = {"crs": "EPSG:32633", "transform": transform}
            write_scene(folder / f"{year}/{i:02}.tif", image.transpose(2, 0, 1), place=place)
            labels = "buildings;trees" if change and year == 2018 else "field;trees"
            rows.append(f"{year}/{i:02}.tif,{year}-07-01T10:00:00Z,{labels}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    landcue.index(folder, folder.with_name("area"))
    return folder.with_name("area")


@pytest.fixture(scope="module")
def area(dated, serve_all):
    return serve_all(dated).url


def is_change(request):
    return urlsplit(request.url).path == "/v1/change"


def shot(guest, name):
    if os.environ.get("LANDCUE_SHOTS"):
        guest.page.wait_for_timeout(1000)
        guest.page.screenshot(path=f"{os.environ['LANDCUE_SHOTS']}/{name}.png")


def ranked(guest):
    return guest.page.get_by_role("list", name="Ranked changes").get_by_role("listitem")


def test_changes_are_ranked_opened_and_found_again_by_their_address(dated, area, visit):
    guest = visit(url=area)
    guest.page.get_by_role("link", name="Changes").click()
    guest.page.get_by_label("Before: until").fill("2015-06-30")
    guest.page.get_by_label("After: from").fill("2018-01-01")
    guest.page.get_by_label("False alarm rate").select_option("show all pairs")
    request, answer = guest.answered(guest.button("Compare").click, is_change)
    asked = request.post_data_json
    assert (asked["before"], asked["after"], asked["alpha"]) == ("2015-07-01", "2018-01-01", 1)
    wanted = landcue.open(dated).change(before="2015-07-01", after="2018-01-01", alpha=1)
    assert [(one["before"], one["after"]) for one in answer["changes"]] == list(wanted.ids)
    expect(ranked(guest)).to_have_count(N)
    first = ranked(guest).first
    for text in ("2012-07-01", "2018-07-01", "− field", "+ buildings", f"{CHANGED:02}"):
        expect(first).to_contain_text(text)
    expect(first).to_contain_text(f"p {wanted[0].p:.3f}")
    expect(first).to_contain_text(f"z {wanted[0].z:.1f}")
    for place in range(2):
        image = first.locator("img").nth(place)
        expect(image).to_be_visible()
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    shot(guest, "changes")
    assert violations(guest) == []
    # Opened by the keyboard; Escape closes, and the focus is where it was.
    first.get_by_role("button").focus()
    guest.page.keyboard.press("Enter")
    dates = guest.page.get_by_role("region", name="Dates of this place")
    expect(dates.locator("img:not(.sharp)")).to_have_count(2)
    divider = dates.get_by_role("slider", name="Divider between 2012-07-01 and 2018-07-01")
    divider.press("ArrowRight")
    expect(divider).to_have_value("51")
    shot(guest, "changes-open")
    assert violations(guest) == []
    guest.page.keyboard.press("Escape")
    expect(dates).to_have_count(0)
    expect(first.get_by_role("button")).to_be_focused()
    guest.page.reload()
    expect(ranked(guest)).to_have_count(N)
    expect(guest.page.get_by_label("Before: until")).to_have_value("2015-06-30")
    # The later image leads on to a search.
    ranked(guest).first.get_by_role("button").click()
    guest.searching(guest.button("Search with the later one").click)
    assert f"2018/{CHANGED:02}" in guest.page.url


def test_labels_and_place_filter_the_pairs(area, visit):
    guest = visit(f"{ASKED}&alpha=1", url=area)
    expect(ranked(guest)).to_have_count(N)
    guest.page.get_by_label("Labels before").fill("field")
    guest.page.get_by_label("Labels after").fill("buildings and not field")
    request, answer = guest.answered(guest.button("Compare").click, is_change)
    assert request.post_data_json["labels_before"] == "field"
    expect(ranked(guest)).to_have_count(1)
    west, south, east, north = answer["changes"][0]["bbox"]
    guest.page.get_by_label("Labels before").fill("")
    guest.page.get_by_label("Labels after").fill("")
    guest.answered(guest.button("Compare").click, is_change)
    expect(ranked(guest)).to_have_count(N)
    box = guest.page.get_by_label("Bounding box")
    inset = (east - west) / 4
    box.fill(f"{west + inset}, {south}, {east - inset}, {north}")
    request, answer = guest.answered(lambda: box.press("Enter"), is_change)
    assert len(request.post_data_json["filters"]["bbox"]) == 4
    expect(ranked(guest)).to_have_count(1)
    assert f"{CHANGED:02}" in answer["changes"][0]["after"]


def test_gained_and_lost_labels_filter_the_pairs(dated, area, visit):
    guest = visit(f"{ASKED}&alpha=1", url=area)
    expect(ranked(guest)).to_have_count(N)
    guest.page.get_by_label("Labels lost").select_option("field")
    guest.page.get_by_label("Labels gained").select_option("buildings")
    request, answer = guest.answered(guest.button("Compare").click, is_change)
    asked = request.post_data_json
    assert (asked["lost"], asked["gained"]) == (["field"], ["buildings"])
    wanted = landcue.open(dated).change(
        before=asked["before"], after=asked["after"], alpha=1, lost=["field"], gained=["buildings"]
    )
    assert [(one["before"], one["after"]) for one in answer["changes"]] == list(wanted.ids)
    expect(ranked(guest)).to_have_count(len(wanted))
    assert wanted.ids[0][1] == f"2018/{CHANGED:02}.tif"
    guest.page.reload()
    expect(ranked(guest)).to_have_count(len(wanted))
    expect(guest.page.get_by_label("Labels lost").locator("option").first).to_have_text("field")
    # Chosen once more, a label is free again.
    guest.page.get_by_label("Labels lost").select_option(label=f"✓ field ({2 * N - 1})")
    guest.page.get_by_label("Labels gained").select_option(label="✓ buildings (1)")
    guest.answered(guest.button("Compare").click, is_change)
    expect(ranked(guest)).to_have_count(N)


def test_pairs_are_ranked_by_a_label(dated, area, visit):
    guest = visit(f"{ASKED}&alpha=1", url=area)
    expect(ranked(guest)).to_have_count(N)
    guest.page.get_by_label("Rank by").select_option(index=1)
    request, answer = guest.answered(guest.button("Compare").click, is_change)
    asked = request.post_data_json
    dates = {"before": asked["before"], "after": asked["after"]}
    wanted = landcue.open(dated).change(**dates, alpha=1, by=asked["by"])
    assert [(one["before"], one["after"]) for one in answer["changes"]] == list(wanted.ids)
    rise = wanted[0].rise
    said = f"{asked['by']} {'−' if rise < 0 else '+'}{abs(rise):.2f}"
    expect(ranked(guest).first).to_contain_text(said)
    guest.page.reload()
    expect(guest.page.get_by_label("Rank by")).to_have_value(asked["by"])
    expect(ranked(guest).first).to_contain_text(said)


@pytest.fixture(scope="module")
def halves(dated):
    """An archive of each date; their ids are the same."""
    source, made = next(dated.parent.glob("places*")), []
    for name, year in (("early", 2012), ("late", 2018)):
        folder = dated.with_name(f"{name}-images")
        shutil.copytree(source / str(year), folder)
        rows = (source / "labels.csv").read_text().splitlines()
        own = [row.removeprefix(f"{year}/") for row in rows if row.startswith(f"{year}/")]
        (folder / "labels.csv").write_text("\n".join([rows[0], *own]) + "\n")
        landcue.index(folder, dated.with_name(name))
        made.append(dated.with_name(name))
    return made


def test_dates_of_two_archives_are_compared(halves, dated, serve, visit):
    guest = visit("?page=changes", url=serve(*halves).url)
    guest.expected.append(LOST)
    guest.page.get_by_label("Before: until").fill("2015-06-30")
    guest.page.get_by_label("After: from").fill("2015-07-01")
    guest.button("Compare").click()
    expect(guest.page.get_by_role("alert")).to_contain_text(
        "No record has a time that fits after 2015-07-01"
    )
    guest.page.get_by_label("Archive of the later dates").select_option("late")
    expect(guest.page.get_by_text("2018-07-01 – 2018-07-01 in this archive")).to_be_visible()
    guest.page.get_by_label("False alarm rate").select_option("show all pairs")
    _, answer = guest.answered(guest.button("Compare").click, is_change)
    assert (answer["archive"], answer["other"]) == ("early", "late")
    expect(guest.page.get_by_role("heading", level=1)).to_have_text("Changes from early to late")
    one = landcue.open(dated).change(before="2015-07-01", after="2015-07-01", alpha=1)
    assert [c["after"] for c in answer["changes"]] == [after[5:] for _, after in one.ids]
    assert answer["changes"][0]["p"] == one[0].p
    first = ranked(guest).first
    for side, name in enumerate(halves):
        expect(first.locator("img").nth(side)).to_be_visible()
        shown = f"/v1/records/{answer['changes'][0]['after']}/thumbnail?archive={name.name}"
        assert any(url.endswith(shown) for url in guest.asked)
    first.get_by_role("button").click()
    dates = guest.page.get_by_role("region", name="Dates of this place")
    expect(dates.get_by_role("slider")).to_have_attribute(
        "aria-label", "Divider between 2012-07-01 and 2018-07-01"
    )
    expect(dates.locator(".swipe img:not(.sharp)")).to_have_count(2)
    expect(dates.locator(".moments li")).to_have_count(2)
    shot(guest, "changes-two-archives")
    assert violations(guest) == []
    answer = guest.searching(guest.button("Search with the later one").click)
    assert answer["archive"] == "late"
    assert "archive=late" in guest.page.url


def test_changes_are_exported(area, visit, tmp_path):
    guest = visit(f"{ASKED}&alpha=1", url=area)
    expect(ranked(guest)).to_have_count(N)
    for name, read in (
        ("GeoJSON", lambda path: len(json.loads(path.read_text())["features"])),
        ("CSV", lambda path: len(list(csv.DictReader(path.open())))),
        ("GeoParquet", lambda path: pq.read_table(path).num_rows),
    ):
        guest.page.locator(".stage summary").click()
        with guest.page.expect_download() as waited:
            guest.button(name).click()
        path = tmp_path / waited.value.suggested_filename
        waited.value.save_as(path)
        assert read(path) == N
        expect(guest.page.locator(".toast")).to_contain_text(f"{N} rows saved as {path.name}")


BAD = [
    ("before=/2018-12-31&after=2012-01-01/", "Before: until", "use the earlier date as before"),
    ("before=/&after=2018-01-01/", "Before: until", "Before: a date is missing: write 2013"),
    (
        "before=/2012-12-31&after=2030-01-01/",
        "After: from",
        "No record has a time that fits after 2030",
    ),
    (f"{ASKED[14:]}&has=field+and", "Labels after", "expected a label name"),
    (f"{ASKED[14:]}&had=feild", "Labels before", "did you mean 'field'"),
    (f"{ASKED[14:]}&bbox=1,1,2,2", None, "No record matches bbox 1,1,2,2"),
]


def test_bad_input_is_one_line_at_its_place(area, visit):
    guest = visit(url=area)
    guest.expected.append(LOST)
    for asked, field, line in BAD:
        guest.open(f"?page=changes&{asked}")
        alert = guest.page.get_by_role("alert")
        expect(alert).to_have_count(1)
        expect(alert).to_contain_text(line)
        if field:
            named = guest.page.get_by_label(field, exact=True)
            expect(named).to_have_attribute("aria-invalid", "true")
            expect(named).to_have_attribute("aria-describedby", alert.get_attribute("id"))
        assert violations(guest) == []


def test_the_page_fits_a_narrow_screen(area, visit):
    guest = visit(f"{ASKED}&alpha=1", url=area, width=360, height=740)
    expect(ranked(guest)).to_have_count(N)
    assert wide_parts(guest) == []
    shot(guest, "changes-narrow")
    guest.button("What to compare").click()
    expect(guest.page.get_by_label("Before: until")).to_be_visible()
    assert wide_parts(guest) == []
    assert violations(guest) == []
    guest.button("Compare").click()
    ranked(guest).first.get_by_role("button").click()
    expect(guest.page.get_by_role("region", name="Dates of this place")).to_be_visible()
    assert wide_parts(guest) == []

"""The dates of one place in the details of a result: a list, and two images with a divider."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import expect
from rasterio.transform import from_origin

import landcue
from scene_files import noise, write_scene

PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_500_000, 10, 10)}
YEARS = (2012, 2015, 2018)


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dated")
    for year in YEARS:
        image = noise(year, bands=3, height=256, width=256, low=40, high=200, dtype="uint8")
        tags = {"TIFFTAG_DATETIME": f"{year}:07:01 10:00:00"}
        write_scene(folder / "scenes" / f"{year}.tif", image, place=PLACE, tags=tags)
    options = landcue.IndexOptions(chip="640m", grid="utm", scale="fixed:0,255")
    landcue.index(folder / "scenes", folder / "area", options=options)
    return folder / "area"


def test_dates_of_a_place_are_compared_with_the_keyboard(dated, serve, visit):
    guest = visit(url=serve(dated).url)
    guest.ask_record()
    opened = guest.ids()[0]
    guest.cards.first.get_by_role("button").first.click()
    guest.button("Dates of this place").click()
    dates = guest.page.get_by_role("region", name="Dates of this place")
    buttons = dates.get_by_role("button")
    expect(buttons).to_have_count(len(YEARS))
    for place, year in enumerate(YEARS):
        expect(buttons.nth(place)).to_contain_text(f"{year}-07-01")
    own = YEARS.index(int(opened[:4]))
    expect(buttons.nth(own)).to_be_disabled()
    others = [i for i in range(len(YEARS)) if i != own]
    buttons.nth(others[0]).focus()
    guest.page.keyboard.press("Enter")
    expect(buttons.nth(others[0])).to_have_attribute("aria-pressed", "true")
    expect(dates.get_by_role("img")).to_have_count(2)
    divider = dates.get_by_role("slider")
    divider.focus()
    guest.page.keyboard.press("ArrowRight")
    expect(divider).to_have_value("51")
    box = dates.locator(".swipe").bounding_box()
    at = {"x": box["width"] / 4, "y": box["height"] / 2}
    dates.locator(".swipe").click(position=at)  # on the images
    assert abs(float(divider.input_value()) - 25) < 5
    divider.fill("51")
    expect(dates.locator(".swipe-late")).to_have_attribute(
        "style", "clip-path: inset(0px 0px 0px 51%);"
    )
    panel, own = (one.bounding_box() for one in (guest.detail, dates))
    assert panel["x"] <= own["x"]
    assert own["x"] + own["width"] <= panel["x"] + panel["width"] + 1
    if os.environ.get("LANDCUE_SHOTS"):
        guest.page.wait_for_timeout(1000)
        guest.page.screenshot(path=os.environ["LANDCUE_SHOTS"] + "/dates.png")

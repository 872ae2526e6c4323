"""The map: footprints drawn and linked to the grid, boxes drawn, themes and sizes."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image
from playwright.sync_api import expect

LEAST = 3000
"""Warm pixels of footprints; the legend alone has fewer."""


def show_map(guest, view="Grid and map"):
    guest.button(view).click()
    drawn(guest)


def drawn(guest):
    """Wait until the map has drawn what it has."""
    expect(guest.page.locator(".map-holder canvas")).to_be_visible()
    expect(guest.page.get_by_text("Drawing the map …")).to_have_count(0)


def pixels(guest):
    """Return the colors of the map's place on the screen, ``[height, width, 3]``."""
    shot = guest.page.screenshot(clip=guest.page.locator(".map-holder").bounding_box())
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def orange(colors):
    """Return where footprints are: the only warm colors of the map."""
    return (colors[..., 0] - colors[..., 2]) > 30


def wait_for_footprints(guest, dark=False):
    """Return the map's colors once it shows footprints on the paper of a theme."""
    for _ in range(60):
        found = pixels(guest)
        if orange(found).sum() > LEAST and (np.median(found) < 100) == dark:
            return found
        guest.page.wait_for_timeout(250)
    raise AssertionError("the map shows no footprints")


def spot_of_a_footprint(guest):
    """Return a point within a footprint that nothing lies over, in pixels of the page."""
    found = orange(wait_for_footprints(guest))
    box = guest.page.locator(".map-holder").bounding_box()
    solid = found.copy()
    for dy, dx in ((6, 0), (-6, 0), (0, 6), (0, -6)):
        solid &= np.roll(found, (dy, dx), (0, 1))
    solid[-80:] = solid[:40] = False
    solid[:, :80] = solid[:, -80:] = False
    y, x = np.argwhere(solid)[0]
    return box["x"] + float(x), box["y"] + float(y)


def test_footprints_are_drawn_in_both_themes_and_at_every_size(guest):
    guest.ask_record()
    show_map(guest)
    light = wait_for_footprints(guest)
    guest.button("Dark colors").click()
    dark = wait_for_footprints(guest, dark=True)
    # The same footprints, whatever their color.
    assert 0.5 < orange(dark).sum() / orange(light).sum() < 2
    guest.page.set_viewport_size({"width": 1600, "height": 700})
    canvas, holder = guest.page.locator(".map-holder canvas"), guest.page.locator(".map-holder")
    for _ in range(40):
        small, large = canvas.bounding_box(), holder.bounding_box()
        if abs(small["width"] - large["width"]) < 2 and abs(small["height"] - large["height"]) < 2:
            break
        guest.page.wait_for_timeout(250)
    assert abs(small["width"] - large["width"]) < 2
    assert abs(small["height"] - large["height"]) < 2
    wait_for_footprints(guest, dark=True)
    expect(guest.page.locator(".map-tick-x").first).to_be_visible()


def test_grid_and_map_point_at_each_other(guest):
    guest.ask_record()
    show_map(guest)
    wait_for_footprints(guest)
    note = guest.page.locator(".map-note")
    guest.cards.nth(3).hover()
    expect(note).to_contain_text(guest.ids()[3])
    peek = guest.page.locator(".map-peek img").first
    expect(peek).to_have_count(0)
    guest.page.mouse.move(*spot_of_a_footprint(guest))
    expect(peek).to_be_visible()
    pointed = guest.page.locator(".card[data-pointed]")
    expect(pointed).to_have_count(1)
    name = pointed.locator(".card-image").get_attribute("aria-label")
    expect(note).to_contain_text(re.sub(r"^\d+: ", "", name.split(";")[0]))


def test_a_footprint_opens_its_result(guest):
    guest.ask_record()
    show_map(guest, "Map")
    x, y = spot_of_a_footprint(guest)
    guest.page.mouse.click(x, y)
    expect(guest.detail).to_be_visible()
    opened = re.search(r"open=([^&]+)", guest.page.url)[1]
    expect(guest.detail.get_by_role("heading", level=2)).to_contain_text(opened.rsplit("/", 1)[1])


def test_a_drawn_box_filters_and_is_cleared(guest):
    guest.ask_record()
    show_map(guest)
    wait_for_footprints(guest)
    before = guest.ids()
    guest.button("Draw box").click()
    expect(guest.page.locator(".map-holder.map-drawing")).to_be_visible()
    frame = guest.page.locator(".map-holder").bounding_box()
    left, top, width, height = (frame[name] for name in ("x", "y", "width", "height"))

    def draw():
        guest.page.mouse.move(left + 0.2 * width, top + 0.2 * height)
        guest.page.mouse.down()
        guest.page.mouse.move(left + 0.55 * width, top + 0.7 * height, steps=4)
        guest.page.mouse.up()

    answer = guest.searching(draw)
    box = [float(one) for one in re.search(r"bbox=([^&]+)", guest.page.url)[1].split(",")]
    assert answer["hits"]
    for hit in answer["hits"]:
        west, south, east, north = hit["bbox"]
        assert west <= box[2]
        assert east >= box[0]
        assert south <= box[3]
        assert north >= box[1]
    assert answer["plan"]["allowed"] < answer["plan"]["records"]
    expect(guest.chip("box")).to_be_visible()
    expect(guest.page.get_by_text("Searched box:")).to_be_visible()
    guest.searching(guest.button("Clear box").click)
    assert guest.ids() == before


def test_begin_on_the_map(guest):
    guest.searching(guest.button("Start on the map").click)
    drawn(guest)
    wait_for_footprints(guest)
    # A page of records beside the map, and all of them on it.
    assert len(guest.ids()) == 24
    expect(guest.results.get_by_role("heading", level=1)).to_have_text("140 records")
    note = guest.page.locator(".map-note")
    expect(note).to_contain_text("140 of 140 matching records in view")
    guest.page.get_by_text("Enter coordinates").click()
    for name, value in zip(
        ("West", "South", "East", "North"), ("13.6", "45.14", "x", "45.143"), strict=True
    ):
        guest.page.get_by_label(name, exact=True).fill(value)
    guest.button("Apply").click()
    expect(guest.page.get_by_role("alert").filter(has_text="East")).to_be_visible()
    guest.page.get_by_label("East", exact=True).fill("13.604")
    answer = guest.searching(guest.button("Apply").click)
    assert 0 < len(answer["hits"]) < 140


def test_search_in_this_view(guest):
    guest.ask_record()
    show_map(guest)
    wait_for_footprints(guest)
    guest.button("Zoom in").click()
    guest.page.wait_for_timeout(800)
    answer = guest.searching(guest.button("Search in this view").click)
    assert answer["plan"]["allowed"] < answer["plan"]["records"]

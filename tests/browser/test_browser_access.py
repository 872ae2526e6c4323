"""For everybody: axe's rules, keys alone, narrow screens, both themes."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from visitor import small_parts, violations, wide_parts


def walk(guest, narrow=False):
    """Lead through every tab and dialog; yields what is shown."""
    page = guest.page
    expect(page.locator(".example img").first).to_be_visible()
    yield "start"
    guest.ask_record()
    page.locator(".modes-menu summary").click()
    expect(page.get_by_role("radio").first).to_be_visible()
    yield "ranking"
    page.locator(".modes-menu summary").click()
    page.locator(".tools .menu summary").click()
    expect(guest.button("GeoJSON")).to_be_visible()
    yield "export"
    page.locator(".tools .menu summary").click()
    if narrow:
        guest.button("Filters").click()
    page.locator(".threshold summary").click()
    expect(page.get_by_role("slider", name="Minimum score")).to_be_visible()
    guest.searching(page.get_by_role("button", name="not: cars", exact=True).click)
    yield "filters"
    if narrow:
        guest.button("Filters").click()
    for place in (0, 1):
        guest.card(place).focus()
        page.keyboard.press("+")
    guest.searching(guest.button("Refine").click)
    guest.card(1).focus()
    page.keyboard.press("x")
    expect(page.get_by_role("group", name="Selection")).to_be_visible()
    page.mouse.move(0, 0)
    yield "results"
    guest.button("Clear selection").click()
    guest.card(2).click()
    guest.button("Similar regions").click()
    expect(guest.detail.locator("canvas.heat")).to_have_count(2)
    guest.button("Dates of this place").click()
    expect(page.get_by_text("This place was recorded once.")).to_be_visible()
    yield "detail"
    guest.button("Close details").click()
    for view in ("Grid and map", "Map"):
        guest.button(view).click()
        expect(page.locator(".map-holder canvas")).to_be_visible()
        expect(page.get_by_text("Drawing the map …")).to_have_count(0)
        yield view
    guest.button("Grid", page.get_by_role("group", name="View")).click()
    guest.button("Save as collection").click()
    expect(page.locator(".marks-name")).to_be_visible()
    for name in ("Collections", "Saved searches", "History", "Keyboard shortcuts and help"):
        guest.button(name, page.locator(".top-tools")).click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        if name == "Collections":
            expect(dialog.get_by_role("list", name="Members")).to_be_visible()
        yield name
        guest.button("Close", dialog).click()
    guest.button("Crop").click()
    expect(page.get_by_role("dialog").locator("img")).to_be_visible()
    yield "crop"
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Changes").click()
    expect(page.get_by_role("heading", name="Changes in places")).to_be_visible()
    yield "changes"
    page.get_by_role("link", name="Model").click()
    expect(page.locator("table.bars")).to_be_visible()
    expect(page.locator(".flat canvas")).to_be_visible()
    yield "model"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(visit, scheme):
    guest = visit(color_scheme=scheme)
    # Rules that do not look at colors find the same in both.
    rules = ["color-contrast"] if scheme == "dark" else []
    found = {place: violations(guest, rules) for place in walk(guest)}
    assert {place: lines for place, lines in found.items() if lines} == {}


def test_a_narrow_touch_screen_has_large_controls_and_never_scrolls_sideways(visit):
    guest = visit(width=360, height=740, has_touch=True, is_mobile=True)
    found = {}
    for place in walk(guest, narrow=True):
        found[place] = wide_parts(guest) + small_parts(guest)
        if place in ("filters", "Collections"):
            found[place] += violations(guest)
    assert {place: parts for place, parts in found.items() if parts} == {}


def test_the_theme_is_chosen_and_kept(visit):
    guest = visit(color_scheme="light")
    assert brightness(guest) > 600
    guest.button("Dark colors").click()
    expect(guest.page.locator("html[data-theme=dark]")).to_have_count(1)
    assert brightness(guest) < 150
    guest.page.reload()
    expect(guest.button("Light colors")).to_be_visible()
    assert brightness(guest) < 150


def brightness(guest):
    """Return the sum of red, green and blue of the page's ground, as it is drawn."""
    shot = guest.page.screenshot(clip={"x": 2, "y": 400, "width": 4, "height": 4})
    return sum(Image.open(io.BytesIO(shot)).convert("RGB").getpixel((1, 1)))


def test_keys_alone_lead_from_the_start_to_refined_results(guest):
    press = guest.page.keyboard.press

    def tab_to(wanted, most=80):
        for _ in range(most):
            press("Tab")
            if re.search(wanted, guest.focused()):
                return
        raise AssertionError(f"Tab does not lead to {wanted}: it is at {guest.focused()}")

    press("Tab")
    assert guest.focused() == "Skip to results"
    tab_to(r"^city_0001\.tif$")
    guest.searching(lambda: press("Enter"))
    # The focus is not lost with the button that had it.
    guest.page.wait_for_function("() => document.activeElement.classList.contains('card-image')")
    before = guest.ids()
    press("End")
    expect(guest.card(len(before) - 1)).to_be_focused()
    press("Home")
    press("+")
    guest.searching(lambda: press("r"))
    guest.page.wait_for_function("() => document.activeElement !== document.body")
    guest.card(0).focus()
    press("Enter")
    expect(guest.detail.get_by_role("heading", level=2)).to_be_focused()
    press("Escape")
    expect(guest.card(0)).to_be_focused()
    press("?")
    expect(guest.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    press("Escape")
    expect(guest.page.get_by_role("dialog")).to_have_count(0)
    press("m")
    expect(guest.page.locator(".map-holder")).to_be_visible()
    press("m")
    press("m")
    expect(guest.page.locator(".map-holder")).to_have_count(0)
    press("/")
    guest.page.keyboard.type("water")
    guest.searching(lambda: press("Enter"))
    expect(guest.chip("must water")).to_be_visible()


def test_what_happens_is_told_to_screen_readers(guest):
    answer = guest.ask_record()
    status = guest.page.locator(".results > [role=status]")
    expect(status).to_have_text(f"{len(answer['hits'])} results, mode embedding.")
    label = guest.card(0).get_attribute("aria-label")
    hit = answer["hits"][0]
    assert label.startswith(f"1: {hit['id']}; cosine {hit['score']:.3f}")
    guest.card(0).focus()
    guest.page.keyboard.press("+")
    expect(status).to_contain_text("Marked good. 1 good, 0 bad.")
    assert "marked good" in guest.card(0).get_attribute("aria-label")

"""The address is the search: reload, back, forward, links, history."""

from __future__ import annotations

import pytest
from PIL import Image
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def photo(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "quay.png"
    Image.open(images / "images/harbor/harbor_0003.tif").save(path)
    return path


def test_reload_keeps_everything(guest):
    guest.ask_record()
    guest.searching(guest.ranking("Hash").click)
    guest.searching(guest.page.get_by_role("button", name="not: cars", exact=True).click)
    guest.card(1).focus()
    guest.page.keyboard.press("+")
    guest.searching(guest.button("Refine").click)
    guest.card(2).click()
    expect(guest.detail).to_be_visible()
    ids, url = guest.ids(), guest.page.url
    guest.page.reload()
    assert guest.settled(len(ids)) == ids
    assert guest.page.url == url
    expect(guest.detail).to_be_visible()
    expect(guest.chip("exclude cars")).to_be_visible()
    expect(guest.ranking("Hash")).to_be_checked()
    expect(guest.page.get_by_label("Marks", exact=True)).to_contain_text("1 good")


def test_reload_keeps_an_uploaded_image_and_its_region(guest, photo):
    guest.searching(lambda: guest.drop(photo))
    whole = guest.ids()
    guest.button("Crop").click()
    guest.searching(guest.button("Search this region").click)
    ids = guest.ids()
    assert ids != whole
    guest.page.reload()
    assert guest.settled(len(ids)) == ids
    expect(guest.page.get_by_role("img", name="Query: quay.png")).to_be_visible()
    guest.searching(guest.page.go_back)
    assert guest.ids() == whole


def test_back_and_forward(guest):
    guest.ask_record()
    first = guest.ids()
    second = guest.searching(guest.page.get_by_role("button", name="must: grass").click)
    guest.searching(guest.page.go_back)
    assert guest.ids() == first
    expect(guest.page.locator(".chips")).to_have_count(0)
    guest.searching(guest.page.go_forward)
    assert guest.ids() == [hit["id"] for hit in second["hits"]]
    guest.page.go_back()
    guest.page.go_back()
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()


def test_a_shared_link_shows_the_same_to_others(guest, visit):
    guest.ask_record(4)
    guest.searching(guest.page.get_by_role("button", name="not: cars", exact=True).click)
    ids = guest.ids()
    other = visit("?" + guest.page.url.split("?")[1])
    assert other.settled(len(ids)) == ids


def test_a_link_without_its_image_asks_for_it(guest, visit, photo):
    guest.searching(lambda: guest.drop(photo))
    guest.searching(guest.page.get_by_role("button", name="not: cars", exact=True).click)
    ids = guest.ids()
    other = visit("?" + guest.page.url.split("?")[1])
    trouble = other.page.locator(".trouble")
    expect(trouble).to_contain_text("This search needs the query image")
    other.searching(lambda: other.drop(photo))
    assert other.ids() == ids


def test_an_address_with_nonsense_opens_the_start(visit):
    other = visit("?image=zz&crop=1,2&mode=warp&k=-3&bbox=1,2,x&from=2024-13-77&page=x&part=none")
    expect(other.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()


def test_the_link_is_copied(visit):
    guest = visit(permissions=["clipboard-read", "clipboard-write"])
    guest.ask_record()
    guest.button("Copy a link to this search").click()
    expect(guest.page.get_by_text("Link copied.")).to_be_visible()
    assert guest.page.evaluate("navigator.clipboard.readText()") == guest.page.url


def test_history_lists_searches_and_leads_back(guest, photo):
    guest.ask_record()
    first = guest.ids()
    guest.searching(lambda: guest.drop(photo))
    guest.page.keyboard.press("h")
    sheet = guest.page.get_by_role("dialog", name="History")
    expect(sheet.get_by_role("listitem")).to_have_count(2)
    expect(sheet.get_by_role("listitem").first).to_contain_text("quay.png")
    guest.searching(sheet.get_by_role("link").nth(1).click)
    assert guest.ids() == first
    expect(sheet).to_have_count(0)
    guest.button("History").click()
    guest.button("Clear history").click()
    expect(sheet).to_contain_text("Your searches are listed here")

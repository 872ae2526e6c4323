"""Thumbnails give way to the archive's own images where these show more, and only there."""

from __future__ import annotations

from playwright.sync_api import expect


def test_results_are_as_sharp_as_their_sources(guest):
    guest.ask_record()
    thumbnail, sharp = (guest.cards.first.locator(kind) for kind in ("img:not(.sharp)", ".sharp"))
    expect(sharp).to_be_visible()
    wide = "i => i.decode().then(() => i.naturalWidth)"
    assert sharp.evaluate(wide) > thumbnail.evaluate(wide)
    assert sharp.bounding_box() == thumbnail.bounding_box()


def test_without_sources_one_is_asked_for_and_thumbnails_stay(guest):
    asked = []

    def gone(route):
        asked.append(route.request.url)
        problem = {"title": "Not Found", "status": 404, "detail": "its image is not available"}
        route.fulfill(status=404, json=problem)

    guest.expected.append("Failed to load resource")
    guest.page.goto("about:blank")  # else the start page's images would be counted, too
    guest.page.route("**/chip*", gone)
    guest.open("?id=images/harbor/harbor_0001.tif&k=48")
    guest.settled(48)
    guest.card(40).scroll_into_view_if_needed()
    expect(guest.cards.nth(40).locator("img")).to_be_visible()
    guest.card(40).click()
    expect(guest.detail.locator("img")).to_have_count(2)
    expect(guest.page.locator(".sharp")).to_have_count(0)
    assert len(asked) == 1

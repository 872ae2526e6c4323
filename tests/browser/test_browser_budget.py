"""What the first load transfers."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import expect

PAGE, DATA = 80_000, 250_000
"""Bytes of the page itself, and with what the API answers."""


def test_the_first_load_is_small_and_compressed(visit):
    guest = visit("?id=images/harbor/harbor_0001.tif")
    sizes, codings = {}, {}

    def note(request):
        path = urlsplit(request.url).path
        answer = request.response()
        sizes[path] = request.sizes()["responseBodySize"] + request.sizes()["responseHeadersSize"]
        codings[path] = answer.headers.get("content-encoding")

    guest.page.on("requestfinished", note)
    guest.page.goto("about:blank")
    guest.context.clear_cookies()
    guest.context.new_cdp_session(guest.page).send("Network.clearBrowserCache")
    guest.open("?id=images/harbor/harbor_0001.tif")
    guest.settled()
    expect(guest.cards.first.locator("img").first).to_be_visible()
    page = {path: size for path, size in sizes.items() if not path.startswith("/v1/")}
    assert "/" in page
    assert sum(path.endswith(".js") for path in page) >= 1
    assert not any("map" in path.lower() for path in page), page
    assert sum(page.values()) < PAGE
    for path, coding in codings.items():
        if path.endswith((".js", ".css")):
            assert coding in ("br", "gzip"), path
    # With what the API answers, but the pictures of places.
    data = sum(size for path, size in sizes.items() if "/records/" not in path)
    print(f"page {sum(page.values())} bytes, with data {data} bytes")
    assert data < DATA

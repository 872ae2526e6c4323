"""When something is missing: the server, a token, records, the model."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import expect

import landcue
from landcue.archive.changes import delete
from made_archive import remove_archive

TOKEN = "a-token-long-enough-for-reading"
LOST = "Failed to load resource"


def test_a_server_that_is_gone_and_comes_back(visit, serve, places):
    server = serve(places)
    guest = visit(url=server.url)
    guest.ask_record()
    ids = guest.ids()
    guest.expected.append(LOST)
    server.stop()
    guest.page.get_by_role("button", name="must: grass").click()
    trouble = guest.page.locator(".trouble")
    expect(trouble).to_contain_text("The server is not responding")
    expect(trouble.get_by_role("button", name="Try again")).to_be_visible()
    server.start()
    # Nobody clicks: the page asks again by itself.
    expect(guest.cards.first).to_be_visible()
    assert set(guest.ids()) != set(ids)
    expect(guest.chip("must grass")).to_be_visible()


def test_a_token_is_asked_for_and_works(visit, serve, places, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"read {TOKEN}\n")
    file.chmod(0o600)
    server = serve(places, "--token-file", file, "--collections", tmp_path / "kept.sqlite")
    guest = visit(url=server.url)
    guest.expected.append(LOST)
    trouble = guest.page.locator(".trouble")
    expect(trouble).to_contain_text("Token required")
    guest.page.get_by_label("Token").fill("this-one-is-long-but-wrong")
    guest.button("Use token").click()
    expect(trouble).to_contain_text("Invalid token")
    guest.page.get_by_label("Token").fill(TOKEN)
    guest.button("Use token").click()
    guest.ask_record()
    for kind in ("img:not(.sharp)", "img.sharp"):
        image = guest.cards.first.locator(kind)
        expect(image).to_be_visible()
        assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    # The token is nowhere in the address, and gone with the tab.
    assert TOKEN not in guest.page.url
    assert TOKEN not in str(guest.context.storage_state())
    # It reads, and may keep nothing: the page says so and stays.
    guest.card(0).focus()
    guest.page.keyboard.press("+")
    guest.button("Save as collection").click()
    expect(guest.page.locator(".toast")).to_contain_text("feedback")
    expect(guest.cards.first).to_be_visible()


@pytest.fixture(scope="module")
def empty(images, tmp_path_factory):
    """An archive whose only record was removed."""
    root = tmp_path_factory.mktemp("empty")
    (root / "images").mkdir()
    name = "harbor_0001.tif"
    (root / "images" / name).write_bytes((images / "images/harbor" / name).read_bytes())
    landcue.index(root / "images", root / "empty")
    delete(root / "empty", [name])
    return root / "empty"


def test_an_empty_archive_says_what_to_do(visit, serve, empty, places):
    server = serve(empty, places)
    guest = visit(url=server.url)
    expect(guest.page.get_by_role("heading", name="This archive is empty")).to_be_visible()
    expect(guest.page.get_by_text("landcue index FOLDER empty")).to_be_visible()
    # The other archive of the same server is one choice away.
    guest.page.get_by_label("Archive", exact=True).last.select_option("places")
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()
    guest.ask_record()
    assert "archive=places" in guest.page.url


def test_an_archive_that_is_indexed_again_is_told(guest):
    guest.page.clock.install()
    _, reported = guest.answered(guest.open, lambda one: "/v1/archive?" in one.url)
    banner = guest.page.get_by_text("The archive was indexed again")
    expect(banner).to_have_count(0)
    guest.page.route(
        "**/v1/archive*", lambda route: route.fulfill(json={**reported, "stale": True})
    )
    guest.page.clock.fast_forward("01:00")
    expect(banner).to_be_visible()


def test_a_record_that_is_not_there(visit):
    guest = visit("?id=images/harbor/no.tif")
    guest.expected.append(LOST)
    expect(guest.page.locator(".trouble")).to_contain_text("no.tif")
    guest.button("Clear").click()
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()


def test_an_archive_that_is_deleted_or_replaced_is_announced(visit, serve, places, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(places, folder)
    guest = visit(url=serve(folder).url)
    guest.ask_record()
    guest.page.clock.install()
    guest.page.reload()
    guest.settled()
    remove_archive(folder)
    guest.page.clock.fast_forward("01:01")
    expect(guest.page.get_by_role("alert")).to_contain_text("was deleted")
    # A request during the removal may have left an empty folder.
    shutil.copytree(places, folder, dirs_exist_ok=True)
    delete(folder, [guest.ids()[0]])
    guest.expected.append(LOST)
    for _ in range(30):
        guest.page.clock.fast_forward("01:01")
        guest.page.wait_for_timeout(500)
        if guest.button("Search the new version").count():
            break
    guest.searching(guest.button("Search the new version").click)
    expect(guest.page.get_by_text("139 records")).to_be_visible()


def test_a_ranking_method_that_is_not_ready_can_be_left(guest):
    """As in the first seconds of an archive of many records."""
    problem = {"status": 503, "detail": "archive 'places' is being prepared for mode two-stage"}

    def answer(route):
        if '"two-stage"' in (route.request.post_data or ""):
            route.fulfill(status=503, headers={"Retry-After": "60"}, json=problem)
        else:
            route.continue_()

    guest.ask_record()
    guest.expected.append(LOST)
    guest.page.route("**/v1/search", answer)
    guest.page.goto(f"{guest.page.url}&mode=two-stage")
    trouble = guest.page.locator(".trouble")
    expect(trouble).to_contain_text("Not ready yet")
    expect(trouble).to_contain_text("is being prepared")
    again = trouble.get_by_role("button", name="Try again")
    expect(again).to_contain_text("in ")
    trouble.get_by_role("button", name="Cancel").click()
    expect(again).to_have_text("Try again")
    trouble.get_by_role("button", name="Use the automatic method").click()
    expect(guest.cards.first).to_be_visible()
    assert "two-stage" not in guest.page.url

"""Saved searches in the page: save one, see that new records match it, open them; the feed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import rasterio
from PIL import Image
from playwright.sync_api import expect

import landcue
from landcue.demo import write_demo_archive
from visitor import LOST, violations, wide_parts

NEW = "images/harbor/harbor_9999.tif"


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    """An archive that grows, and its images."""
    folder = tmp_path_factory.mktemp("growing")
    source = write_demo_archive(folder / "data", n=36)
    landcue.index(source, folder / "places")
    return source, folder / "places"


@pytest.fixture(scope="module")
def url(growing, serve_all, tmp_path_factory):
    kept = tmp_path_factory.mktemp("browser") / "kept.sqlite"
    return serve_all(growing[1], "--collections", kept).url


def add_record(source, archive):
    """Index once more, with a copy of a harbor below a new name."""
    shutil.copy(source / "images/harbor/harbor_0001.tif", source / NEW)
    labels = source / "labels.csv"
    labels.write_text(labels.read_text() + f"{NEW},harbor,2024-05-05T10:00:00Z,dock;water\n")
    landcue.index(source, archive)


def is_saving(request):
    return request.method == "POST" and urlsplit(request.url).path == "/v1/watches"


def saved(guest, name):
    """Return the saved searches of a name."""
    listed = guest.page.get_by_role("list", name="All saved searches").locator(":scope > li")
    return listed.filter(has=guest.button(f"Delete: {name}"))


def shot(guest, name):
    if os.environ.get("LANDCUE_SHOTS"):
        guest.page.wait_for_timeout(1000)
        guest.page.screenshot(path=f"{os.environ['LANDCUE_SHOTS']}/{name}.png")


def test_a_search_is_saved_and_new_records_are_reported_once(growing, url, visit):
    source, archive = growing
    guest = visit("?id=images/harbor/harbor_0001.tif&group=harbor", url=url)
    guest.expected.append(LOST)
    guest.settled()
    expect(guest.button("Saved searches")).to_be_visible()
    guest.page.keyboard.press("w")
    sheet = guest.page.get_by_role("dialog", name="Saved searches")
    sheet.get_by_label("Save the current search as").fill("harbors")
    sheet.get_by_label("Percentage").fill("500")
    guest.button("Save search").click()
    expect(sheet.get_by_role("alert")).to_have_text(
        "Percentile: input should be less than or equal to 100."
    )
    expect(sheet.get_by_label("Percentage")).to_have_attribute("aria-invalid", "true")
    sheet.get_by_label("New records are reported").select_option("with a cosine of at least")
    sheet.get_by_label("Minimum cosine").fill("0.98")
    shot(guest, "watch-form")
    request, _ = guest.answered(guest.button("Save search").click, is_saving)
    asked = request.post_data_json
    assert asked["search"] == {
        "id": "images/harbor/harbor_0001.tif",
        "filters": {"groups": ["harbor"]},
        "min_score": 0.98,
    }
    expect(saved(guest, "harbors")).to_have_count(1)
    expect(saved(guest, "harbors")).to_contain_text("cosine ≥ 0.980 · 0 hits")
    # The name is taken now.
    guest.button("Save search").click()
    expect(sheet.get_by_role("alert")).to_contain_text("There is a saved search 'harbors'")
    assert violations(guest) == []
    guest.button("Close").click()
    add_record(source, archive)
    # The page looks when its window gets the focus.
    guest.page.wait_for_function(
        "() => { dispatchEvent(new Event('focus')); return document.querySelector('.badge'); }",
        polling=1000,
    )
    bell = guest.button("Saved searches, 1 new")
    expect(bell.locator(".badge")).to_have_text("1")
    bell.click()
    expect(saved(guest, "harbors")).to_contain_text("1 new")
    saved(guest, "harbors").get_by_role("button", name=re.compile("^harbors")).click()
    hit = sheet.get_by_role("list", name="Hits of harbors").get_by_role("button")
    expect(hit).to_have_count(1)
    expect(hit).to_contain_text("harbor_9999.tif")
    expect(hit).to_contain_text("new")
    shot(guest, "watch-hits")
    assert violations(guest) == []
    feed = guest.page.request.get(
        guest.url + sheet.get_by_role("link", name="Atom feed").get_attribute("href")
    )
    assert feed.headers["content-type"].startswith("application/atom+xml")
    assert f"harbors: {NEW}" in feed.text()
    guest.searching(hit.click)
    assert NEW in guest.page.url
    # It was looked at: the badge is gone, also after a reload.
    guest.page.reload()
    expect(guest.button("Saved searches")).to_be_visible()
    guest.button("Saved searches").click()
    expect(saved(guest, "harbors")).to_contain_text("1 hit")
    expect(saved(guest, "harbors").locator(".badge")).to_have_count(0)
    guest.page.on("dialog", lambda dialog: dialog.accept())
    guest.button("Delete: harbors").click()
    expect(saved(guest, "harbors")).to_have_count(0)


def test_an_uploaded_image_is_saved_with_a_collection(growing, url, visit, tmp_path):
    source, _ = growing
    guest = visit(url=url)
    with rasterio.open(source / "images/harbor/harbor_0001.tif") as file:
        Image.fromarray(file.read().transpose(1, 2, 0)).save(tmp_path / "mine.png")
    guest.searching(lambda: guest.drop(tmp_path / "mine.png"))
    guest.button("Save this search").click()
    guest.page.get_by_label("Save the current search as").fill("like mine")
    request, answer = guest.answered(guest.button("Save search").click, is_saving)
    assert list(request.post_data_json["search"]) == ["images_of"]
    assert request.post_data_json["collection"] == request.post_data_json["search"]["images_of"]
    (watch,) = [one for one in answer["watches"] if one["name"] == "like mine"]
    assert watch["query"] == "like mine"
    assert watch["min_score"] > 0
    assert "collection=" in guest.page.url


def test_a_search_is_saved_in_a_collection_shown_again_and_moves_with_it(
    growing, serve, visit, tmp_path
):
    tokens = tmp_path / "tokens"
    tokens.write_text("feedback " + "f" * 20 + "\n")
    tokens.chmod(0o600)
    options = ("--collections", tmp_path / "kept.sqlite", "--token-file", tokens)
    guest = visit(url=serve(growing[1], *options).url)
    guest.expected.append(LOST)
    guest.page.evaluate("sessionStorage.setItem('landcue.token', 'f'.repeat(20))")
    asked = "?id=images/harbor/harbor_0001.tif&group=harbor&where=not+trees&datetime=2024-01-02"
    guest.open(f"{asked}/2024-12-30&mode=code&good=images/harbor/harbor_0002.tif")
    guest.settled()
    address = urlsplit(guest.page.url).query
    guest.button("Save as collection").click()
    expect(guest.page.locator(".marks-name")).to_be_visible()
    guest.button("Save this search").click()
    sheet = guest.page.get_by_role("dialog", name="Saved searches")
    sheet.get_by_label("Save the current search as").fill("harbors")
    expect(sheet.get_by_role("checkbox")).to_be_checked()
    request, answer = guest.answered(guest.button("Save search").click, is_saving)
    (watch,) = [one for one in answer["watches"] if one["name"] == "harbors"]
    assert watch["collection"]
    assert watch["collection"] == request.post_data_json["collection"]
    # Its feed needs no token.
    saved(guest, "harbors").get_by_role("button", name=re.compile("^harbors")).click()
    guest.button("New feed address").click()
    feed = sheet.get_by_label("Feed address of harbors")
    expect(feed).to_have_value(re.compile(re.escape(guest.url) + "v1/watches/feed.archive=.*key="))
    assert httpx.get(feed.input_value()).text.startswith("<?xml")
    assert httpx.get(f"{guest.url}v1/watches").status_code == 401
    shot(guest, "watch-feed")
    assert violations(guest) == []
    # Shown again from the collection: query, filters, ranking and marks.
    guest.open(f"?collection={watch['collection']}")
    guest.page.keyboard.press("c")
    inside = guest.page.get_by_role("list", name="Saved searches of the collection")
    inside.get_by_role("button", name=re.compile("^harbors")).click()
    shot(guest, "watch-collection")
    assert violations(guest) == []
    guest.searching(guest.button("Show this search").click)
    shown = parse_qs(urlsplit(guest.page.url).query)
    assert shown.pop("collection") == [watch["collection"]]
    assert shown == parse_qs(address)
    # Exported and imported with the collection.
    guest.page.keyboard.press("c")
    with guest.page.expect_download() as waited:
        guest.button("Export", guest.page.get_by_label("Open collection")).click()
    waited.value.save_as(tmp_path / "out.json")
    (kept,) = json.loads((tmp_path / "out.json").read_text())["watches"]
    assert kept["search"] == watch["search"]
    choose = guest.page.locator(".collection-import input")
    _, answer = guest.answered(
        lambda: choose.set_input_files(tmp_path / "out.json"),
        lambda one: urlsplit(one.url).path == "/v1/collections/import",
    )
    assert answer["problems"] == []
    expect(guest.page.locator(".toast")).to_contain_text("Imported the collection")
    headers = {"Authorization": f"Bearer {'f' * 20}"}
    listed = httpx.get(f"{guest.url}v1/watches", headers=headers).json()["watches"]
    both = {one["name"]: one for one in listed if "harbors" in one["name"]}
    assert list(both) == ["harbors", "harbors (2)"]
    for name in ("search", "min_score"):
        assert both["harbors (2)"][name] == both["harbors"][name]
    assert both["harbors (2)"]["collection"] == answer["collection"]["id"]


def test_a_search_that_the_page_cannot_show_whole_says_so(growing, url, visit):
    archive = landcue.open(growing[1])
    where = landcue.Filter(path="images/harbor")
    archive.watches.add("by path", archive.embed("images/harbor/harbor_0001.tif"),
                        query="images/harbor/harbor_0001.tif", where=where)  # fmt: skip
    guest = visit(url=url)
    guest.button("Saved searches").click()
    saved(guest, "by path").get_by_role("button", name=re.compile("^by path")).click()
    guest.searching(guest.button("Show this search").click)
    expect(guest.page.locator(".toast")).to_contain_text("it leaves out: path.")
    with contextlib.closing(sqlite3.connect(archive.watches.path)) as database:
        database.execute("UPDATE watches SET model = 'another'")
        database.commit()
    guest.page.reload()
    guest.button("Saved searches").click()
    expect(saved(guest, "by path")).to_contain_text(
        "It was made with another model: remove it and add it again. Its hits are kept."
    )
    assert violations(guest) == []


def test_saved_searches_fit_a_narrow_screen(url, visit):
    guest = visit("?id=images/harbor/harbor_0001.tif", url=url, width=360, height=740)
    guest.settled()
    assert wide_parts(guest) == []
    guest.button("Saved searches").click()
    guest.page.get_by_label("Save the current search as").fill("narrow")
    guest.answered(guest.button("Save search").click, is_saving)
    expect(saved(guest, "narrow")).to_have_count(1)
    shot(guest, "watch-narrow")
    assert wide_parts(guest) == []
    assert violations(guest) == []

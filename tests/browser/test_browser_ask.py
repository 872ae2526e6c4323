"""Every way to ask: drop, paste, choose, crop, a record, filters alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from visitor import LOST


@pytest.fixture(scope="module")
def photo(images, tmp_path_factory):
    """A JPEG of a harbor, as a user would bring one."""
    path = tmp_path_factory.mktemp("photos") / "my harbor.jpg"
    Image.open(images / "images/harbor/harbor_0007.tif").save(path, quality=92)
    return path


def harbors(ids):
    return sum("/harbor/" in one for one in ids)


def test_a_dropped_image_is_searched_with(guest, photo):
    answer = guest.searching(lambda: guest.drop(photo))
    assert answer["hits"][0]["id"] == "images/harbor/harbor_0007.tif"
    assert harbors(guest.ids()[:5]) >= 2
    query = guest.page.get_by_role("region", name="Query", exact=True)
    expect(query).to_contain_text("my harbor.jpg")
    expect(query.get_by_role("img", name="Query: my harbor.jpg")).to_be_visible()
    # The image stays in the browser: the address holds a key for it and nothing of it.
    assert re.search(r"\?image=[0-9a-f]{16}$", guest.page.url)
    expect(guest.page).to_have_title("my harbor.jpg – LandCue")


def test_noise_is_told_from_images_of_the_kind(guest, photo, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "noise.png")
    remark = guest.page.get_by_text("Nothing here is very similar")
    guest.searching(lambda: guest.drop(photo))
    expect(remark).to_have_count(0)
    answer = guest.searching(lambda: guest.drop(tmp_path / "noise.png"))
    assert answer["hits"][0]["percentile"] < 5
    expect(remark).to_be_visible()


def test_something_that_is_no_image_is_refused_in_words(guest, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no pixels")
    guest.drop(text)
    expect(guest.page.get_by_text("notes.txt can't be read as an image")).to_be_visible()
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()


def test_a_pasted_image_is_searched_with(visit, images):
    guest = visit(permissions=["clipboard-read", "clipboard-write"])
    expect(guest.button("Choose an image")).to_be_visible()
    url = "v1/records/images/lake/lake_0003.tif/thumbnail"
    guest.page.evaluate(
        """async (url) => {
          const bitmap = await createImageBitmap(await (await fetch(url)).blob());
          const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
          canvas.getContext("2d").drawImage(bitmap, 0, 0);
          const png = await canvas.convertToBlob({ type: "image/png" });
          await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
        }""",
        url,
    )
    answer = guest.searching(lambda: guest.page.keyboard.press("Control+V"))
    assert answer["hits"][0]["id"] == "images/lake/lake_0003.tif"


def test_a_chosen_file_is_searched_with_and_so_is_a_tiff(guest, photo, images):
    def choose(path):
        with guest.page.expect_file_chooser() as waited:
            guest.button("Choose an image").click()
        waited.value.set_files(path)

    first = guest.searching(lambda: choose(photo))
    assert first["hits"][0]["id"] == "images/harbor/harbor_0007.tif"
    guest.page.go_back()
    second = guest.searching(lambda: choose(images / "images/forest/forest_0002.tif"))
    assert second["hits"][0]["id"] == "images/forest/forest_0002.tif"
    assert second["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    # The server renders it, so that it can be seen and cropped.
    expect(guest.page.get_by_text("Raster, read by the server")).to_be_visible()
    shown = guest.page.locator(".query-image img")
    expect(shown).to_be_visible()
    red = guest.page.get_by_label("Red, green, blue")
    guest.page.get_by_text("Bands and stretch").click()
    red.fill("3, 3, 9")
    guest.expected.append(LOST)
    whole = guest.searching(guest.button("Apply").click)
    assert whole["hits"] == second["hits"]
    expect(guest.page.locator(".query-facts")).to_contain_text("band")
    expect(guest.page.get_by_text("No preview: the whole image is searched")).to_be_visible()
    red.fill("3, 2, 1")
    third = guest.searching(guest.button("Apply").click)
    assert third["hits"] != second["hits"]
    guest.button("Crop").click()
    region = guest.searching(guest.button("Search this region").click)
    assert region["hits"] != third["hits"]


def test_an_image_over_the_limit_is_scaled_down_and_it_says_so(guest, images, tmp_path):
    large = tmp_path / "large.jpg"
    harbor = Image.open(images / "images/harbor/harbor_0007.tif").convert("RGB")
    harbor.resize((9_000, 7_200)).save(large, quality=80)
    answer = guest.searching(lambda: guest.drop(large))
    assert answer["hits"][0]["id"] == "images/harbor/harbor_0007.tif"
    said = guest.page.locator(".query-facts")
    expect(said).to_contain_text("Scaled from 9000 × 7200 to 4096 × 3277 pixels")


def test_a_region_of_an_image_gives_other_results(guest, photo):
    whole = guest.searching(lambda: guest.drop(photo))
    guest.button("Crop").click()
    frame = guest.page.get_by_label("Region", exact=True)
    frame.hover()  # waits until it stands still
    box = frame.bounding_box()
    mouse = guest.page.mouse
    mouse.move(box["x"] + 3, box["y"] + 3)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.5, steps=4)
    mouse.up()
    part = guest.searching(guest.button("Search this region").click)
    assert [hit["id"] for hit in part["hits"]] != [hit["id"] for hit in whole["hits"]]
    expect(guest.page.get_by_text(re.compile(r"Region of \d+ × \d+ pixels"))).to_be_visible()
    assert re.search(r"&crop=\d+,\d+,\d+,\d+$", guest.page.url)


def test_a_record_is_cropped_by_keys(guest):
    guest.ask_record()
    guest.button("Crop").click()
    expect(guest.page.get_by_role("dialog", name="Search with a region")).to_be_visible()
    guest.page.get_by_label("Region", exact=True).focus()
    said = guest.page.locator("#crop-says")
    expect(said).to_have_text("77 × 77 pixels at 26, 26 of 128 × 128")
    guest.page.keyboard.press("ArrowRight")
    guest.page.keyboard.press("ArrowRight")
    guest.page.keyboard.press("Shift+ArrowUp")
    expect(said).to_have_text("77 × 75 pixels at 30, 26 of 128 × 128")
    guest.searching(lambda: guest.page.keyboard.press("Enter"))
    assert guest.page.url.endswith("&crop=30,26,77,75")
    expect(guest.page.get_by_role("dialog")).to_have_count(0)


def test_a_result_is_searched_by(guest):
    guest.ask_record()
    wanted = guest.ids()[2]
    guest.card(2).click()
    guest.searching(guest.button("Search with this").click)
    assert f"?id={wanted}" in guest.page.url
    assert wanted not in guest.ids()


def test_more_results_are_added(guest):
    first = guest.ask_record()
    ids = guest.ids()
    guest.button("Show more").focus()
    expect(guest.cards).to_have_count(48)
    assert guest.ids()[:24] == ids
    assert len(set(guest.ids())) == 48
    expect(guest.page.get_by_text(f"48 of {first['plan']['allowed']}")).to_be_visible()


def test_words_are_matched_to_labels_and_it_says_so(guest):
    field = guest.page.get_by_label("Search with words")
    expect(guest.page.locator("#words-say")).to_contain_text("matched to labels")
    field.fill("glacier")
    field.press("Enter")
    expect(guest.page.locator(".toast")).to_contain_text("No label matches")
    field.fill("vessels")
    answer = guest.searching(lambda: field.press("Enter"))
    assert answer["hits"]
    assert all("ships" in hit["labels"] for hit in answer["hits"])
    expect(guest.page.locator(".toast")).to_contain_text("ships (related)")
    expect(guest.chip("any of ships")).to_be_visible()

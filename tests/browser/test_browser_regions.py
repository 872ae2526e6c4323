"""Mode regions in the page: a box on each result where the query was found."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import landcue

STRIPES = np.repeat(np.where(np.arange(128) % 16 < 8, 240, 20).astype(np.uint8)[None], 128, 0)
AT = {
    "first": (0, 0, 256, 256),
    "last": (128, 128, 256, 256),
    "middle": (64, 64, 256, 256),
    "wide": (256, 0, 256, 512),  # cut off at the left and at the right in the page
}
"""Left and top of the stripes, and height and width of the image, in pixels."""
FOUND = {
    "first": [0, 0, 0.5, 0.5],
    "last": [0.5, 0.5, 1, 1],
    "middle": [0.25, 0.25, 0.75, 0.75],
}


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    """An archive of gray images with stripes in one part, and a crop of the stripes."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / "data").mkdir()
    for name, (left, top, height, width) in AT.items():
        pixels = np.full((height, width), 90, np.uint8)
        pixels[top : top + 128, left : left + 128] = STRIPES
        Image.fromarray(pixels).convert("RGB").save(folder / "data" / f"{name}.png")
    landcue.index(folder / "data", folder / "archive", options=landcue.IndexOptions(regions=3))
    Image.fromarray(STRIPES).convert("RGB").save(folder / "crop.png")
    return folder


def shown_box(image, box):
    """Return left, top, right and bottom of part of an image that covers its frame, in pixels."""
    frame = image.bounding_box()
    width, height = image.evaluate("i => [i.naturalWidth, i.naturalHeight]")
    scale = max(frame["width"] / width, frame["height"] / height)
    left, right = (frame["width"] / 2 + (box[i] - 0.5) * width * scale for i in (0, 2))
    top, bottom = (frame["height"] / 2 + (box[i] - 0.5) * height * scale for i in (1, 3))
    return [
        frame["x"] + min(max(left, 0), frame["width"]),
        frame["y"] + min(max(top, 0), frame["height"]),
        frame["x"] + min(max(right, 0), frame["width"]),
        frame["y"] + min(max(bottom, 0), frame["height"]),
    ]


def drawn_box(within):
    """Return the same of the box that is drawn."""
    drawn = within.locator(".hit-box")
    expect(drawn).to_be_visible()
    box = drawn.bounding_box()
    return [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]


def test_the_region_of_a_hit_is_outlined_on_cards_and_in_the_detail(visit, serve, striped):
    url = serve(striped / "archive", "--collections", striped / "kept.sqlite").url
    guest = visit(url=url)
    guest.searching(lambda: guest.drop(striped / "crop.png"))
    expect(guest.page.locator(".hit-box")).to_have_count(0)
    answer = guest.searching(guest.ranking("Regions").click)
    assert answer["mode"] == "regions"
    boxes = {hit["id"].removesuffix(".png"): hit["region"]["box"] for hit in answer["hits"]}
    assert boxes.keys() == AT.keys()
    assert {name: boxes[name] for name in FOUND} == FOUND
    for place, name in enumerate(boxes):
        card = guest.card(place)
        image = card.locator("img").first
        expect(image).to_be_visible()
        assert drawn_box(card) == pytest.approx(shown_box(image, boxes[name]), abs=1)
        card.click()
        frame = guest.detail.locator(".frame").filter(has=guest.page.locator(".hit-box"))
        expect(frame).to_have_count(1)
        image = frame.get_by_role("img", name=f"{name}.png", exact=True)
        expect(image).to_be_visible()
        assert drawn_box(frame) == pytest.approx(shown_box(image, boxes[name]), abs=1)
        guest.page.keyboard.press("Escape")
        expect(guest.detail).to_have_count(0)
    guest.searching(guest.ranking("Embedding").click)
    expect(guest.page.locator(".hit-box")).to_have_count(0)

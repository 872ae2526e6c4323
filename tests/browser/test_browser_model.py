"""The Model page: scores, labels, the embedding map."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect


@pytest.fixture
def model(visit):
    guest = visit("?page=model")
    expect(guest.page.get_by_role("heading", name="Model of places")).to_be_visible()
    expect(guest.page.locator(".flat canvas")).to_be_visible()
    return guest


def points(guest):
    """Return where the map's canvas is colored, ``[height, width]``."""
    shot = guest.page.locator(".flat canvas").screenshot(animations="disabled")
    colors = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return (colors.max(2) - colors.min(2)) > 60


def wait_for_points(guest):
    for _ in range(40):
        found = points(guest)
        if found.sum() > 500:
            return found
        guest.page.wait_for_timeout(250)
    raise AssertionError("the embedding map shows no points")


def test_scores_of_the_archive_are_shown(model):
    expect(model.page.locator("table.scores").first).to_be_visible()
    scores = model.page.request.get(model.url + "v1/model/scores").json()
    space = next(iter(scores["spaces"].values()))
    row = model.page.locator("table.scores").first.get_by_role("row").filter(has_text="mAP@20")
    expect(row).to_contain_text(f"{space['metrics']['mAP@20']:.3f}")
    low, high = space["intervals"]["mAP@20"]
    expect(row).to_contain_text(f"{low:.3f} to {high:.3f}")
    bars = model.page.locator("table.bars tbody tr")
    expect(bars).to_have_count(len(space["per_label"]))
    best = max(space["per_label"].values(), key=lambda one: one["mAP"] or 0)["mAP"]
    expect(bars.first).to_contain_text(f"{best:.3f}")
    rarest = min(space["per_label"].values(), key=lambda one: one["n_gallery"])["n_gallery"]
    model.button("Rarest first").click()
    expect(bars.first).to_contain_text(str(rarest))
    expect(model.page.get_by_role("heading", name="Model card")).to_be_visible()


def test_points_show_their_image_and_are_searched_by(model):
    found = wait_for_points(model)
    canvas = model.page.locator(".flat canvas")
    box = canvas.bounding_box()
    inner = found.copy()
    inner[:, -90:] = False
    y, x = np.argwhere(inner)[len(np.argwhere(inner)) // 2]
    model.page.mouse.move(box["x"] + float(x), box["y"] + float(y))
    tip = model.page.locator(".flat-tip")
    expect(tip).to_be_visible()
    expect(tip.locator("img").first).to_be_visible()
    name = tip.locator("span").last.inner_text()
    model.searching(lambda: model.page.mouse.click(box["x"] + float(x), box["y"] + float(y)))
    assert f"id={name}" in model.page.url


def test_points_are_walked_by_keys(model):
    wait_for_points(model)
    model.page.locator(".flat canvas").focus()
    model.page.keyboard.press("ArrowRight")
    tip = model.page.locator(".flat-tip")
    expect(tip).to_be_visible()
    first = tip.inner_text()
    model.page.keyboard.press("ArrowRight")
    expect(tip).not_to_have_text(first)
    name = tip.locator("span").last.inner_text()
    model.searching(lambda: model.page.keyboard.press("Enter"))
    assert f"id={name}" in model.page.url


def test_points_are_drawn_in_both_themes_and_at_every_size(model):
    light = wait_for_points(model)
    model.button("Dark colors").click()
    dark = wait_for_points(model)
    assert 0.5 < dark.sum() / light.sum() < 2
    model.page.set_viewport_size({"width": 700, "height": 900})
    canvas, frame = model.page.locator(".flat canvas"), model.page.locator(".flat-frame")
    assert abs(canvas.bounding_box()["width"] - frame.bounding_box()["width"]) < 4
    small = wait_for_points(model)
    assert small.shape[1] < light.shape[1]
    sizes = canvas.evaluate("c => [c.width / devicePixelRatio, c.clientWidth]")
    assert abs(sizes[0] - sizes[1]) < 2

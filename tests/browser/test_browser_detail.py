"""A result's details, similar regions, and files that hold the results shown."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from playwright.sync_api import expect

SAYS = re.compile("Regions like the (query|result): most similar at")


def test_details_tell_why_and_step_on(guest):
    answer = guest.ask_record()
    hit = answer["hits"][1]
    guest.card(1).click()
    heading = guest.detail.get_by_role("heading", level=2)
    expect(heading).to_contain_text(hit["id"].rsplit("/", 1)[1])
    expect(heading).to_be_focused()
    for label in hit["shared"]:
        expect(guest.detail.get_by_label("Why this result")).to_contain_text(label)
    expect(guest.detail).to_contain_text(f"cosine {hit['score']:.3f}")
    expect(guest.detail.get_by_label("Record details")).to_contain_text(hit["id"])
    guest.button("Next result").click()
    expect(heading).to_contain_text(answer["hits"][2]["id"].rsplit("/", 1)[1])
    guest.button("Previous result").click()
    guest.button("Previous result").click()
    expect(guest.button("Previous result")).to_be_disabled()
    guest.page.keyboard.press("Escape")
    expect(guest.detail).to_have_count(0)
    expect(guest.card(0)).to_be_focused()


def test_similar_regions_lie_over_both_images(guest):
    guest.ask_record()
    guest.card(0).click()
    guest.button("Similar regions").click()
    layers = guest.detail.locator("canvas.heat")
    expect(layers).to_have_count(2)
    for i in range(2):
        expect(layers.nth(i)).to_have_attribute("aria-label", SAYS)
        colors = layers.nth(i).evaluate(
            "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        )
        assert colors > 20
    guest.button("Similar regions").click()
    expect(layers).to_have_count(0)


def test_a_label_of_a_result_becomes_a_filter(guest):
    answer = guest.ask_record()
    hit = answer["hits"][0]
    guest.card(0).click()
    facts = guest.detail.get_by_label("Record details")
    found = guest.searching(facts.get_by_role("button", name=hit["group"], exact=True).click)
    assert {one["group"] for one in found["hits"]} == {hit["group"]}
    expect(guest.detail).to_be_visible()


@pytest.mark.parametrize("name", ["GeoJSON", "CSV", "GeoParquet"])
def test_exports_hold_the_results_shown(guest, tmp_path, name):
    guest.ask_record(2)
    page_size = guest.page.get_by_label("Results per page")
    guest.searching(lambda: page_size.select_option("12"))
    ids = guest.ids()
    guest.page.locator("summary", has_text="Export").click()
    with guest.page.expect_download() as waited:
        guest.button(name).click()
    path = tmp_path / waited.value.suggested_filename
    waited.value.save_as(path)
    expect(guest.page.get_by_text(f"12 rows saved as {path.name}.")).to_be_visible()
    if name == "GeoJSON":
        features = json.loads(path.read_text())["features"]
        assert [one["properties"]["id"] for one in features] == ids
        assert all(one["geometry"]["type"] == "Polygon" for one in features)
    elif name == "CSV":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        assert [row["id"] for row in rows] == ids
    else:
        from pyarrow.parquet import read_table

        table = read_table(path)
        assert table.column("id").to_pylist() == ids
        assert b"geo" in table.schema.metadata


def test_back_closes_the_details_and_leaves_the_results(guest):
    guest.ask_record()
    ids = guest.ids()
    guest.card(1).click()
    expect(guest.detail).to_be_visible()
    guest.button("Next result").click()
    expect(guest.page).to_have_url(re.compile("open="))
    guest.page.go_back()
    expect(guest.detail).to_have_count(0)
    assert guest.ids() == ids
    guest.card(1).click()
    guest.button("Grid and map").click()
    guest.button("Close details").click()
    expect(guest.detail).to_have_count(0)
    # What changed meanwhile stays, and closing left no step behind.
    expect(guest.page).to_have_url(re.compile("view=both"))
    guest.page.go_back()
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()

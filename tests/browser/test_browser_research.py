"""Two archives on one query, a lasso on the embedding map, worst queries, errors of labels."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from playwright.sync_api import expect

import landcue
from landcue.archive.changes import delete


@pytest.fixture(scope="module")
def half(places, tmp_path_factory):
    """Some of the same records in an archive of its own."""
    folder = tmp_path_factory.mktemp("browser") / "half"
    shutil.copytree(places, folder)
    delete(folder, [record for record in landcue.open(folder).search_all().ids if "city" in record])
    return folder


def test_a_query_is_answered_by_two_archives_side_by_side(visit, serve, places, half):
    guest = visit("?id=images/harbor/harbor_0001.tif", url=serve(places, half).url)
    first = guest.settled()
    request, answer = guest.answered(
        lambda: guest.page.get_by_label("Compare with the archive").select_option("half"),
        lambda one: one.url.endswith("/v1/search"),
    )
    other = [hit["id"] for hit in answer["hits"]]
    assert request.post_data_json["archive"] == "half"
    beside = guest.page.get_by_label("Results in half")
    expect(beside.locator(".card")).to_have_count(len(other))
    both = len(set(other) & set(first))
    expect(beside.get_by_role("status")).to_contain_text(f"{both} of {len(other)} are also")
    assert beside.locator(".card[data-both]").count() == both
    guest.page.reload()
    expect(beside.locator(".card")).to_have_count(len(other))


def test_a_lasso_on_the_embedding_map_makes_a_collection(visit):
    guest = visit("?page=model")
    lasso = guest.button("Lasso")
    lasso.click()
    frame = guest.page.locator(".flat-frame canvas").bounding_box()
    corners = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98))
    spots = [
        (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in corners
    ]
    guest.page.mouse.move(*spots[0])
    guest.page.mouse.down()
    for spot in (*spots[1:], spots[0]):
        guest.page.mouse.move(*spot, steps=6)
    guest.page.mouse.up()
    expect(guest.page.get_by_text("140 images selected")).to_be_visible()
    guest.button("Clear selection").click()
    guest.page.locator(".flat-frame canvas").focus()
    guest.page.keyboard.press("ArrowRight")
    guest.page.keyboard.press("x")
    expect(guest.page.get_by_text("1 image selected")).to_be_visible()
    _, made = guest.answered(
        guest.button("Save as a collection").click,
        lambda one: one.url.endswith("/v1/collections") and one.method == "POST",
    )
    assert [member["mark"] for member in made["members"]] == ["good"]
    assert made["name"] == "Selected on the embedding map (1)"
    expect(guest.page.get_by_role("dialog")).to_contain_text("city_0001.tif")


def test_worst_queries_and_errors_of_labels_are_shown(visit, places):
    guest = visit("?page=model")
    worst = guest.page.locator(".worst")
    guest.page.get_by_label("Label of the worst queries").select_option("water")
    archive = landcue.open(places)
    buttons = worst.get_by_role("button")
    expect(buttons.first).to_be_visible()
    said = [float(text) for text in buttons.locator("span.mono").all_inner_texts()]
    assert said == sorted(said)
    name = buttons.first.get_attribute("title")
    assert "water" in archive.record(name).labels
    table = guest.page.get_by_label("Predicted labels against annotations")
    row = table.get_by_role("row").filter(has=guest.page.get_by_role("rowheader", name="water"))
    truth = np.array(
        ["water" in (archive.record(id_).labels or ()) for id_ in archive.search_all().ids]
    )
    expect(row.get_by_role("cell").first).to_have_text(str(truth.sum()))
    answer = guest.searching(buttons.first.click)
    assert answer["hits"]
    assert f"id={name}" in guest.page.url

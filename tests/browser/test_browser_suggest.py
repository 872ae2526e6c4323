"""Suggestions of what to label next: from marks, from labels of a collection, and the way back."""

from __future__ import annotations

import re

from playwright.sync_api import expect

LABELED = "Label for the selection"


def mark(guest, place, name="Good"):
    id_ = guest.ids()[place]
    guest.cards.nth(place).hover()
    guest.button(f"{name}: {id_}").click()
    return id_


def suggested(guest, act):
    """Do something that asks for suggestions; returns the request and the answer."""
    request, answer = guest.answered(act, lambda one: "/v1/suggest" in one.url)
    expect(guest.page.get_by_role("heading", level=1)).to_contain_text("To label next")
    ids = [hit["id"] for hit in answer["hits"]]
    expect(guest.cards).to_have_count(len(ids))
    assert guest.ids() == ids
    return request.post_data_json, ids


def test_suggestions_follow_the_marks_and_lead_back(guest):
    guest.ask_record()
    found = guest.ids()
    good, bad = mark(guest, 1), mark(guest, 3, "Bad")
    request, first = suggested(guest, guest.button("Suggest").click)
    query, *marked = request["positives"]
    assert marked == [good]
    assert query not in found
    assert request["negatives"] == [bad]
    assert not {query, good, bad} & set(first)
    expect(guest.button("Export")).to_have_count(0)
    next_bad = mark(guest, 0, "Bad")
    request, second = suggested(guest, guest.button("Suggest").click)
    assert set(request["negatives"]) == {bad, next_bad}
    assert next_bad not in second
    guest.searching(guest.button("Back to results").click)
    assert guest.ids() == found
    suggested(guest, guest.button("Suggest").click)
    guest.searching(guest.button("Refine").click)
    expect(guest.page.get_by_role("heading", level=1)).to_contain_text("Look-alikes of")
    assert not {next_bad, bad} & set(guest.ids())


def test_suggestions_stay_within_a_place(guest):
    guest.ask_record()
    box = guest.page.get_by_label("Bounding box", exact=True)
    box.fill("13.602, 45.13, 13.608, 45.15")
    guest.searching(lambda: box.press("Enter"))
    mark(guest, 0)
    request, _ = suggested(guest, guest.button("Suggest").click)
    assert request["filters"] == {"bbox": [13.602, 45.13, 13.608, 45.15]}
    shown = guest.page.request.post(f"{guest.url}v1/suggest", data=request).json()["hits"]
    assert shown
    for hit in shown:
        west, _south, east, _north = hit["bbox"]
        assert west <= 13.608
        assert east >= 13.602


def test_suggestions_find_more_of_a_label_of_a_collection(guest):
    guest.ask_record(2)
    ids = guest.ids()
    for place, label in ((1, "marina"), (5, "other")):
        guest.cards.nth(place).hover()
        guest.button(f"Select: {ids[place]}").click()
        selection = guest.page.get_by_label("Selection", exact=True)
        selection.get_by_label(LABELED).fill(label)
        guest.button("Add label").click()
        guest.button("Clear selection").click()
        expect(guest.page.locator(".card-labels .given", has_text=label)).to_have_count(1)
    expect(guest.page).to_have_url(re.compile("collection="))
    guest.button("Collections").click()
    sheet = guest.page.get_by_role("dialog", name="Collections")
    sheet.get_by_label("Find more of").select_option("marina")
    request, shown = suggested(guest, guest.button("Suggest", within=sheet).click)
    assert request["label"] == "marina"
    assert request["collection"] in guest.page.url
    assert not {ids[1], ids[5]} & set(shown)


def test_what_cannot_be_suggested_is_said_and_the_results_stay(guest):
    guest.expected.append("Failed to load resource")
    guest.ask_record()
    found = guest.ids()
    mark(guest, 1)
    guest.page.route("**/v1/suggest", lambda route: route.abort())
    guest.button("Suggest").click()
    expect(guest.page.get_by_text("The server is not responding.")).to_be_visible()
    assert guest.ids() == found

"""Collections: marks that survive a reload, a link for others, labels of many results."""

from __future__ import annotations

import csv
import re

from PIL import Image
from playwright.sync_api import expect


def marks(guest):
    return guest.page.get_by_label("Marks", exact=True)


def mark(guest, place, name="Good"):
    id_ = guest.ids()[place]
    guest.cards.nth(place).hover()
    guest.button(f"{name}: {id_}").click()
    return id_


def saved(guest, act):
    """Do something that the server keeps; returns the collection."""
    _, made = guest.answered(act, lambda one: "/v1/collections" in one.url and one.method == "POST")
    return made


def test_unsaved_marks_survive_a_reload_and_a_filter(guest):
    guest.ask_record()
    id_ = mark(guest, 1)
    guest.page.reload()
    guest.settled()
    expect(marks(guest)).to_contain_text("1 good")
    guest.searching(lambda: guest.page.get_by_label("Results per page").select_option("48"))
    expect(guest.button(f"Remove mark: {id_}")).to_be_visible()


def test_two_people_go_on_with_one_collection(guest, visit):
    guest.ask_record()
    first = mark(guest, 1)
    bad = mark(guest, 3, "Bad")
    made = saved(guest, guest.button("Save as collection").click)
    assert {member["id"]: member["mark"] for member in made["members"]} == {
        first: "good",
        bad: "bad",
    }
    expect(guest.page).to_have_url(re.compile(f"collection={made['id']}"))

    # The marks stay pinned after Refine, and after a reload.
    guest.searching(guest.button("Refine").click)
    expect(guest.button(f"Remove mark: {first}")).to_be_visible()
    guest.page.reload()
    guest.settled()
    expect(guest.button(f"Remove mark: {first}")).to_be_visible()

    other = visit(guest.page.url.split("/", 3)[3])
    other.settled()
    expect(marks(other)).to_contain_text("1 good")
    expect(marks(other)).to_contain_text("1 bad")
    second = other.ids()[0]
    answer = saved(other, lambda: mark(other, 0))
    assert {member["id"] for member in answer["members"]} == {first, bad, second}
    # The first one sees what the other marked, without a reload; and can undo it.
    expect(marks(guest)).to_contain_text("2 good")
    saved(guest, guest.button("Undo", within=marks(guest)).click)
    expect(marks(guest)).to_contain_text("1 good")


def test_what_two_people_change_in_one_member_is_merged(guest, server):
    guest.ask_record()
    id_ = mark(guest, 1)
    made = saved(guest, guest.button("Save as collection").click)
    theirs = {"members": [{"id": id_, "mark": "good", "note": "north quay"}], "who": "Bo"}
    at = f"{server.url}v1/collections/{made['id']}"
    assert guest.page.request.post(at, data=theirs).ok
    guest.expected.append("409")
    # This page has not read the note yet.
    with guest.page.expect_response(lambda answer: answer.status == 409):
        guest.button(f"Bad: {id_}").click()
    expect(guest.page.locator(".card").nth(1)).to_have_attribute("data-mark", "bad")
    guest.button("Collections").click()
    sheet = guest.page.get_by_role("dialog", name="Collections")
    expect(sheet.get_by_label(f"Note: {id_}")).to_have_value("north quay")
    (member,) = guest.page.request.get(at).json()["members"]
    assert (member["mark"], member["note"]) == ("bad", "north quay")
    # The same value of both: the page says that the other's was replaced.
    assert guest.page.request.post(at, data={"members": [{"id": id_, "note": "b"}]}).ok
    sheet.get_by_label(f"Note: {id_}").fill("mine")
    sheet.get_by_label(f"Note: {id_}").blur()
    expect(guest.page.locator(".toast")).to_contain_text("changed the note of")


def test_a_colleague_goes_on_with_an_uploaded_image(guest, visit, images, tmp_path):
    Image.open(images / "images/harbor/harbor_0007.tif").save(tmp_path / "mine.jpg", quality=92)
    mine = guest.searching(lambda: guest.drop(tmp_path / "mine.jpg"))
    mark(guest, 1)
    made = saved(guest, guest.button("Save as collection").click)
    assert made["images"] == ["image"]
    expect(guest.page).to_have_url(re.compile(f"kept={made['id']}.*collection={made['id']}"))
    other = visit(guest.page.url.split("/", 3)[3])
    other.settled()
    assert other.ids() == [hit["id"] for hit in mine["hits"]][: len(other.ids())]
    query = other.page.get_by_role("region", name="Query", exact=True)
    image = query.get_by_role("img", name="Query: an image kept with the collection")
    expect(image).to_be_visible()
    answer = other.searching(other.button("Refine").click)
    assert answer["hits"]


def test_an_uploaded_query_comes_back_from_an_exported_collection(guest, server, images, tmp_path):
    Image.open(images / "images/harbor/harbor_0007.tif").save(tmp_path / "mine.jpg", quality=92)
    mine = guest.searching(lambda: guest.drop(tmp_path / "mine.jpg"))
    mark(guest, 1)
    saved(guest, guest.button("Save as collection").click)
    guest.button("Collections").click()
    with guest.page.expect_download() as waited:
        guest.button("Export", guest.page.get_by_label("Open collection")).click()
    waited.value.save_as(tmp_path / "out.json")
    choose = guest.page.locator(".collection-import input")
    made = saved(guest, lambda: choose.set_input_files(tmp_path / "out.json"))
    assert made["problems"] == []
    assert made["collection"]["images"] == ["image"]
    expect(guest.page).to_have_url(re.compile(f"collection={made['collection']['id']}"))
    query = guest.page.get_by_role("region", name="Query", exact=True)
    expect(
        query.get_by_role("img", name="Query: an image kept with the collection")
    ).to_be_visible()
    asked = {"images_of": made["collection"]["id"], "k": len(mine["hits"])}
    again = guest.page.request.post(f"{server.url}v1/search", data=asked).json()
    assert [hit["id"] for hit in again["hits"]] == [hit["id"] for hit in mine["hits"]]
    (tmp_path / "bad.json").write_text("{}")
    guest.expected.append("422")
    choose.set_input_files(tmp_path / "bad.json")
    expect(guest.page.locator(".toast")).to_contain_text("bad.json was not imported")


def test_labels_of_a_selection_are_exported(guest, tmp_path):
    guest.ask_record(2)
    ids = guest.ids()
    guest.cards.nth(1).hover()
    guest.button(f"Select: {ids[1]}").click()
    guest.cards.nth(4).hover()
    guest.button(f"Select: {ids[4]}").click(modifiers=["Shift"])
    selection = guest.page.get_by_label("Selection", exact=True)
    expect(selection).to_contain_text("4 selected")
    selection.get_by_label("Label for the selection").fill("marina")
    guest.button("Add label").click()
    expect(guest.page.locator(".card-labels .given")).to_have_count(4)
    guest.button("All shown").click()
    expect(selection).to_contain_text(f"{len(ids)} selected")
    saved(guest, guest.button("Good", within=selection).click)

    guest.page.keyboard.press("Escape")
    guest.button("Collections").click()
    sheet = guest.page.get_by_role("dialog", name="Collections")
    sheet.get_by_label("Name of the collection").fill("=marinas")
    saved(guest, guest.button("Rename", within=sheet).click)
    with guest.page.expect_download() as waited:
        guest.button("Export 4 labels", within=sheet).click()
    waited.value.save_as(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"]: row["labels"] for row in rows} == dict.fromkeys(ids[1:5], "marina")
    guest.button("Close collection", within=sheet).click()
    expect(guest.page).not_to_have_url(re.compile("collection="))
    sheet.get_by_label("All collections").get_by_role("button", name="=marinas").click()
    expect(marks(guest)).to_contain_text("=marinas")
    guest.button("Collections").click()
    members = sheet.get_by_label("Members", exact=True).get_by_role("listitem")
    expect(members).to_have_count(len(ids))
    expect(members.filter(has_text="good · marina")).to_have_count(4)

"""Filters as chips: set, changed, removed, and what a wrong one says."""

from __future__ import annotations

import csv
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from visitor import is_search


@pytest.fixture(scope="module")
def table(images):
    """What the archive holds: id, labels, group and time of every record."""
    with (images / "labels.csv").open() as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def labels_of(table, one):
    return set(table[one]["labels"].split(";"))


def choose(guest, how, label):
    row = guest.page.get_by_role("group", name=label, exact=True)
    if not row.count():
        guest.page.get_by_label("Find a label").fill(label)
    return row.get_by_role("button", name=f"{how}: {label}", exact=True)


def show_many(guest):
    """List as many results as there may be, so that counts tell something."""
    box = guest.page.get_by_label("Results per page")
    return guest.searching(lambda: box.select_option("192"))


def test_labels_all_any_none_as_chips(guest, table):
    guest.searching(choose(guest, "must", "grass").click)
    answer = show_many(guest)
    want = {one for one in table if "grass" in labels_of(table, one)}
    assert set(guest.ids()) == want
    assert answer["plan"]["allowed"] == len(want)
    expect(guest.chip("must grass")).to_be_visible()

    guest.searching(choose(guest, "not", "trees").click)
    want = {one for one in want if "trees" not in labels_of(table, one)}
    assert set(guest.ids()) == want
    expect(guest.chip("exclude trees")).to_be_visible()

    guest.searching(choose(guest, "any", "water").click)
    guest.searching(choose(guest, "any", "sand").click)
    want = {one for one in want if labels_of(table, one) & {"water", "sand"}}
    assert set(guest.ids()) == want
    expect(guest.chip("any of sand")).to_be_visible()

    # A chip turns into the next kind, and goes away.
    guest.searching(guest.chip("any of sand").locator(".chip-turn").click)
    expect(guest.chip("exclude sand")).to_be_visible()
    for label in ("sand", "water", "trees"):
        name = guest.chip(label).locator(".chip-drop")
        guest.searching(name.click)
    assert set(guest.ids()) == {one for one in table if "grass" in labels_of(table, one)}
    guest.button("Clear all").click()
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()


def test_a_label_is_found_by_typing(guest, table):
    guest.page.keyboard.press("/")
    find = guest.page.get_by_label("Find a label")
    expect(find).to_be_focused()
    guest.page.keyboard.type("tank")
    guest.searching(lambda: guest.page.keyboard.press("Enter"))
    assert all("tanks" in labels_of(table, one) for one in guest.ids())
    expect(guest.chip("must tanks")).to_be_visible()
    # It is none of the frequent ones, and stays in sight while it filters.
    expect(find).to_have_value("")
    pressed = guest.page.get_by_role("button", name="must: tanks", exact=True)
    expect(pressed).to_have_attribute("aria-pressed", "true")


def test_names_in_an_expression_are_completed_and_ignore_case(guest, table):
    box = guest.page.get_by_role("combobox", name="Expression")
    box.press_sequentially("not SHI")
    names = guest.page.get_by_role("listbox", name="Labels").get_by_role("option")
    expect(names).to_have_count(1)
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("not ships")
    expect(names).to_have_count(0)
    box.press_sequentially(" and WATER")
    guest.searching(lambda: box.press("Enter"))
    for one in guest.ids():
        assert "water" in labels_of(table, one)
        assert "ships" not in labels_of(table, one)


def test_the_caret_stands_behind_a_completed_name_before_one_types_on(guest):
    box = guest.page.get_by_role("combobox", name="Expression")
    box.press_sequentially(" and water")
    box.press("Home")
    box.press_sequentially("not SHI")
    expect(guest.page.get_by_role("listbox", name="Labels").get_by_role("option")).to_have_count(1)
    box.press("ArrowDown")
    state = box.evaluate(
        """async (box) => {  // no timer runs between these lines
            const enter = {key: "Enter", bubbles: true, cancelable: true};
            box.dispatchEvent(new KeyboardEvent("keydown", enter));
            for (let turn = 0; turn < 20; turn++) await Promise.resolve();
            return [box.value, box.selectionStart];
        }"""
    )
    assert state == ["not ships and water", len("not ships")]


def test_an_expression_and_what_a_wrong_one_says(guest, table):
    box = guest.page.get_by_role("combobox", name="Expression")

    def ask(text):
        box.fill(text)
        box.press("Enter")

    guest.searching(lambda: ask("(water or sand) and not ships"))
    for one in guest.ids():
        labels = labels_of(table, one)
        assert labels & {"water", "sand"}
        assert "ships" not in labels
    guest.expected.append("Failed to load resource: .* 4\\d\\d")
    for wrong, says in (("water and", "expression"), ("water and not volcano", "volcano")):
        ask(wrong)
        trouble = guest.page.locator(".trouble")
        expect(trouble).to_contain_text("Search failed")
        expect(trouble).to_contain_text(says)
        expect(box).to_have_value(wrong)
        expect(box).to_have_attribute("aria-invalid", "true")
        expect(guest.page.locator("#expression-wrong")).to_contain_text(says)
    guest.searching(lambda: ask("tanks"))
    guest.chip("tanks").locator(".chip-drop").click()
    expect(guest.page.get_by_role("heading", name="Find look-alike places")).to_be_visible()
    expect(box).to_have_value("")


def test_a_predicted_score_a_group_and_times(guest, table):
    guest.ask_record()
    group = guest.page.get_by_label("Group", exact=True)
    guest.searching(lambda: group.select_option("harbor"))
    assert {table[one]["group"] for one in guest.ids()} == {"harbor"}
    guest.searching(lambda: group.select_option("lake"))
    show_many(guest)
    assert {table[one]["group"] for one in guest.ids()} == {"harbor", "lake"}

    guest.searching(lambda: guest.page.get_by_label("From").fill("2024-03-01"))
    guest.searching(lambda: guest.page.get_by_label("Until").fill("2024-09-30"))
    want = {
        one
        for one, row in table.items()
        if row["group"] in ("harbor", "lake") and "2024-03-01" <= row["time"][:10] <= "2024-09-30"
    }
    assert set(guest.ids()) | {guest.page.url.split("id=")[1].split("&")[0]} >= want
    assert set(guest.ids()) <= want
    expect(guest.chip("2024-03-01 to 2024-09-30")).to_be_visible()

    for chip in ("harbor", "lake", "2024-03-01"):
        guest.searching(guest.chip(chip).locator(".chip-drop").click)
    score = guest.page.get_by_role("button", name="Model confidence for buildings", exact=True)
    first = guest.searching(score.click)
    slider = guest.page.get_by_label("Minimum predicted score of buildings")
    expect(slider).to_have_value("0.7")
    more = guest.searching(lambda: slider.fill("0.3"))
    assert 0 < first["plan"]["allowed"] < more["plan"]["allowed"] < len(table)


def test_an_interval_is_asked_for_and_shared_as_stac_has_it(guest, visit, table):
    guest.ask_record()
    fill = guest.page.get_by_label("From").fill
    request, _ = guest.answered(lambda: fill("2024-03-01"), is_search)
    assert request.post_data_json["filters"] == {"datetime": "2024-03-01/.."}
    fill = guest.page.get_by_label("Until").fill
    request, answer = guest.answered(lambda: fill("2024-04-30"), is_search)
    assert request.post_data_json["filters"] == {"datetime": "2024-03-01/2024-04-30"}
    guest.settled()
    assert "datetime=2024-03-01/2024-04-30" in guest.page.url
    days = [table[hit["id"]]["time"][:10] for hit in answer["hits"]]
    assert days
    assert all("2024-03-01" <= day <= "2024-04-30" for day in days)
    query = guest.page.url.split("?")[1]
    # The link, one by hand with months, and one of an older page lead to the same results.
    for days in ("datetime=2024-03/2024-04", "from=2024-03-01&until=2024-04-30"):
        other = visit("?" + query.replace("datetime=2024-03-01/2024-04-30", days))
        other.settled()
        assert other.ids() == guest.ids()
        expect(other.page.get_by_label("From")).to_have_value("2024-03-01")
        expect(other.page.get_by_label("Until")).to_have_value("2024-04-30")


def test_nothing_fits_and_the_way_back(guest, table):
    known = set().union(*(labels_of(table, one) for one in table))
    with_tanks = [labels_of(table, one) for one in table if "tanks" in labels_of(table, one)]
    never = sorted(known.difference(*with_tanks))[0]
    guest.searching(choose(guest, "must", "tanks").click)
    ids = guest.ids()
    assert len(ids) == min(24, len(with_tanks))
    choose(guest, "must", never).click()
    expect(guest.page.get_by_role("heading", name="No results")).to_be_visible()
    expect(guest.page.locator(".trouble")).to_contain_text("Remove a filter")
    guest.searching(guest.chip(never).locator(".chip-drop").click)
    assert guest.ids() == ids


def test_a_box_is_typed_and_checked(guest, places):
    box = guest.page.get_by_label("Bounding box", exact=True)
    box.fill("1, 2, 3")
    box.press("Enter")
    expect(guest.page.get_by_text("Enter four numbers in degrees")).to_be_visible()
    expect(box).to_have_attribute("aria-invalid", "true")
    box.fill("13.602, 45.1405, 13.6045, 45.1425")
    answer = guest.searching(lambda: box.press("Enter"))
    assert answer["hits"]
    for hit in answer["hits"]:
        west, south, east, north = hit["bbox"]
        assert west <= 13.6045
        assert east >= 13.602
        assert south <= 45.1425
        assert north >= 45.1405
    expect(guest.chip("box")).to_be_visible()


def test_a_minimum_percentile_is_entered_and_stays_in_the_address(guest):
    known = [hit["percentile"] for hit in guest.ask_record()["hits"]]
    least = f"{min(value for value in known if value):.1f}"
    wanted = sum(value >= float(least) - 0.05 for value in known)
    assert 0 < wanted < len(known)
    panel = guest.page.locator(".threshold")
    panel.get_by_text("Minimum score", exact=True).click()
    field = panel.get_by_label("Minimum percentile")
    field.fill("200")
    field.press("Enter")
    expect(panel.get_by_text("Enter a number above 0, at most 100.")).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill(least)
    answer = guest.searching(lambda: field.press("Enter"))
    assert [hit["percentile"] for hit in answer["hits"]] == known[:wanted]
    expect(panel.get_by_role("status")).to_contain_text(f"{wanted} of {wanted} record")
    shown = least.removesuffix(".0")
    assert parse_qs(urlsplit(guest.page.url).query)["percentile"] == [shown]
    answer = guest.searching(guest.page.reload)
    assert [hit["percentile"] for hit in answer["hits"]] == known[:wanted]
    expect(panel.get_by_label("Minimum percentile")).to_have_value(shown)


def test_a_minimum_score_is_chosen_on_a_histogram_and_all_that_pass_are_exported(guest, tmp_path):
    guest.ask_record()
    panel = guest.page.locator(".threshold")
    panel.get_by_text("Minimum score", exact=True).click()
    slider = panel.get_by_role("slider", name="Minimum score")
    lowest = slider.get_attribute("min")
    expect(panel.get_by_role("status")).to_contain_text("139 of 139 records have")
    middle = f"{(float(lowest) + 0.6) / 2:.3f}"
    answer = guest.searching(lambda: slider.fill(middle))
    least = float(parse_qs(urlsplit(guest.page.url).query)["least"][0])
    assert all(hit["score"] >= least for hit in answer["hits"])
    said = panel.get_by_role("status")
    expect(said).to_contain_text(f"{least:.3f} or more")
    expect(said).not_to_contain_text("About")
    passing = int(said.inner_text().split()[0])
    assert 24 < passing < 139
    guest.page.get_by_text("Export", exact=True).click()
    rows = guest.page.get_by_label("Rows")
    expect(rows.locator("option")).to_have_text(["24 shown", f"all {passing} that match"])
    expect(rows).to_have_value("all")
    with guest.page.expect_download() as waited:
        guest.button("CSV").click()
    waited.value.save_as(tmp_path / "rows.csv")
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == passing + 1
    expect(guest.page.locator(".toast")).to_contain_text(f"{passing} rows saved")
    guest.page.get_by_text("Export", exact=True).click()
    guest.button("Copy QGIS link").click()
    expect(guest.page.locator(".toast").last).to_contain_text("/stac")
    guest.page.reload()
    guest.settled()
    expect(said).to_contain_text(f"{passing} of 139 records have")

"""Marks, before and after, modes with their times."""

from __future__ import annotations

import re

from playwright.sync_api import expect


def change(guest):
    return guest.page.get_by_label("Before and after")


def test_marks_by_click_refine_and_the_ranking_before_is_shown(guest):
    guest.ask_record()
    before = guest.ids()
    card = guest.cards.nth(1)
    card.hover()
    guest.button(f"Good: {before[1]}").click()
    guest.cards.nth(4).hover()
    guest.button(f"Bad: {before[4]}").click()
    marks = guest.page.get_by_label("Marks", exact=True)
    expect(marks).to_contain_text("1 good")
    expect(marks).to_contain_text("1 bad")
    assert guest.ids() == before

    answer = guest.searching(guest.button("Refine").click)
    after = guest.ids()
    assert after != before
    assert before[1] not in after
    assert before[4] not in after
    assert answer["hits"][0]["id"] == after[0]
    changed = re.compile(r"(new|moved|dropped).* after refining with your marks")
    expect(change(guest)).to_contain_text(changed)
    moved = [i for i, one in enumerate(after) if one in before and before.index(one) != i]
    assert moved
    place = moved[0]
    steps = before.index(after[place]) - place
    arrow = f"{'▲' if steps > 0 else '▼'}{abs(steps)}"
    expect(guest.cards.nth(place).locator(".card-was")).to_have_attribute("data-says", arrow)

    guest.button("Show before").click()
    assert guest.ids() == before
    guest.button("Show after").click()
    assert guest.ids() == after
    assert f"good={before[1]}" in guest.page.url
    assert f"bad={before[4]}" in guest.page.url


def test_marks_by_keyboard_refine(guest):
    guest.ask_record()
    before = guest.ids()
    press = guest.page.keyboard.press
    guest.card(0).focus()
    press("ArrowRight")
    press("+")
    expect(guest.card(1)).to_be_focused()
    expect(guest.cards.nth(1)).to_have_attribute("data-mark", "good")
    press("ArrowDown")
    press("-")
    expect(guest.page.locator('.card[data-mark="bad"]')).to_have_count(1)
    press("-")
    expect(guest.page.locator('.card[data-mark="bad"]')).to_have_count(0)
    guest.searching(lambda: press("r"))
    assert before[1] not in guest.ids()
    press("b")
    expect(guest.page.get_by_label("Results before", exact=True)).to_be_visible()
    assert guest.ids() == before
    press("b")
    expect(guest.page.get_by_label("Results", exact=True)).to_be_visible()


def test_marks_are_removed(guest):
    guest.ask_record()
    before = guest.ids()
    guest.card(2).focus()
    guest.page.keyboard.press("+")
    guest.searching(guest.button("Refine").click)
    marks = guest.page.get_by_label("Marks", exact=True)
    guest.searching(guest.button("Clear", within=marks).click)
    assert guest.ids() == before
    expect(marks).to_have_count(0)


def test_modes_answer_differently_and_show_their_times(guest):
    first = guest.ask_record()
    assert first["mode"] == "embedding"
    found = {}
    for name, mode in (("Hash", "code"), ("Labels + hash", "cue"), ("Re-ranked", "two-stage")):
        button = guest.ranking(name)
        expect(button).to_contain_text("–")
        answer = guest.searching(button.click)
        assert answer["mode"] == mode
        found[mode] = guest.ids()
        expect(guest.page.locator(".modes-menu[open]")).to_have_count(0)
        expect(guest.ranking(name)).to_have_attribute("aria-checked", "true")
        expect(button).to_contain_text(shown(answer["plan"]["milliseconds"]))
        expect(guest.page.locator(".mode-plan")).to_contain_text(
            f"{shown(answer['plan']['milliseconds'])} on the server"
        )
        expect(change(guest)).to_contain_text("after changing the ranking method")
    assert found["code"] != found["cue"]
    expect(guest.cards.first).to_contain_text("0.")
    guest.ranking("Re-ranked").focus()
    guest.searching(lambda: guest.page.keyboard.press("ArrowLeft"))
    expect(guest.ranking("Labels + hash")).to_be_focused()
    assert guest.ids() == found["cue"]


def test_the_time_in_all_is_no_less_than_that_on_the_server(guest):
    guest.ask_record()
    for name in ("Hash", "Labels + hash", "Embedding (exact)"):
        button = guest.ranking(name)
        guest.searching(button.click)
        said = guest.page.locator(".mode-plan").inner_text()
        server, whole = (milliseconds(text) for text in re.findall(r"[\d.]+ m?s", said))
        assert server <= whole, said


def shown(value):
    """Return milliseconds as the page writes them."""
    if value < 10:
        return f"{value:.1f} ms"
    return f"{int(value + 0.5)} ms" if value < 1000 else f"{value / 1000:.1f} s"


def milliseconds(text):
    number, unit = text.split()
    return float(number) * (1 if unit == "ms" else 1000)

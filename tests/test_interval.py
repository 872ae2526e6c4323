"""Dates and intervals of time as text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.errors import UsageError
from landcue.interval import closed_interval, interval_text, parse_interval, with_datetime

TICK = timedelta(microseconds=1)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


NOON = utc(2024, 6, 1, 12)


@pytest.mark.parametrize(
    ("text", "first", "end"),
    [
        ("2024", utc(2024, 1, 1), utc(2025, 1, 1)),
        ("2024-02", utc(2024, 2, 1), utc(2024, 3, 1)),
        ("2023-02", utc(2023, 2, 1), utc(2023, 3, 1)),
        ("2024-12", utc(2024, 12, 1), utc(2025, 1, 1)),
        ("2024-02-29", utc(2024, 2, 29), utc(2024, 3, 1)),
        (" 2024-02-29 ", utc(2024, 2, 29), utc(2024, 3, 1)),
        ("2024/2024", utc(2024, 1, 1), utc(2025, 1, 1)),
        ("2020-06-01/2020-09-01", utc(2020, 6, 1), utc(2020, 9, 2)),
        ("2024-06-15/2024-06", utc(2024, 6, 15), utc(2024, 7, 1)),
        ("2024-06/..", utc(2024, 6, 1), None),
        ("2024-06/", utc(2024, 6, 1), None),
        ("../2024-06", None, utc(2024, 7, 1)),
        ("/2024-06", None, utc(2024, 7, 1)),
        ("0001/9998", utc(1, 1, 1), utc(9999, 1, 1)),
        ("2024-06-01T12:00:00Z", NOON, NOON + TICK),
        ("2024-06-01t12:00:00z", NOON, NOON + TICK),
        ("2024-06-01 12:00:00", NOON, NOON + TICK),
        ("2024-06-01T12:00", NOON, NOON + TICK),
        ("2024-06-01T14:00:00+02:00", NOON, NOON + TICK),
        ("2024-06-01T01:00:00-11:00", NOON, NOON + TICK),
        ("2024-06-01T12:00:00.000000Z", NOON, NOON + TICK),
        ("2024-06-01T12:00:00.000001Z", NOON + TICK, NOON + 2 * TICK),
        ("2024-06-01T12:00:00.5Z/..", NOON + timedelta(seconds=0.5), None),
        ("2024-06-01T12:00:00Z/2024-06-01T12:00:00Z", NOON, NOON + TICK),
        ("2024-06-01T12:00:00Z/2024-06-01", NOON, utc(2024, 6, 2)),
    ],
)
def test_an_interval_holds_both_ends(text, first, end):
    found = parse_interval(text)
    assert found == (first, None if end is None else end - TICK)
    assert all(time is None or time.tzinfo is UTC for time in found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "a date is missing"),
        ("/", "no interval with an end"),
        ("../..", "no interval with an end"),
        ("../", "no interval with an end"),
        ("..", "is no date"),
        ("2023/2024/2025", "no interval with an end"),
        ("2025/2024", "swap its dates"),
        ("2024-06-02/2024-06-01", "swap its dates"),
        ("2024-06-01T12:00:00.000001Z/2024-06-01T12:00:00Z", "swap its dates"),
        ("2024-06-01T00:00:00Z/2024-06-01T01:00:00+02:00", "swap its dates"),
        *((text, "is no date: write 2024, 2024-06") for text in (
            "soon", "24", "20240601", "2024-6-1", "2024-13", "2024-00", "2024-06-00", "2023-02-29",
            "2024-02-30", "0000", "10000", "-2024", "2024-W05", "٢٠٢٤", "0.5", "2024-06-01T",
            "2024-06-01T24:00:00Z", "2024-06-01T12:60:00Z", "2024-06-01T12:00:61Z",
            "2024-06-01T12:00:00.Z", "2024-06-01T12:00:00,5Z", "2024-06-01T12:00:00+25:00",
            "2024-06-01T12:00:00 Z", "2024-06-01T12Z", "soon/..", "../soon", "2024/soon",
        )),
        ("0001-01-01T00:00:00+14:00", "year must lie in"),
        ("9999-12-31T23:00:00-14:00", "year must lie in"),
    ],
)  # fmt: skip
def test_what_is_no_interval_is_refused_in_one_line(text, word):
    with pytest.raises(UsageError, match=word) as caught:
        parse_interval(text, "when")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["2024", "2024-06", "2024-06-01", "2024-06-01T12:00:00", "2024-06-01T12:00Z",
     "2024-06-01 12:00:00Z", "2024-06-01T12:00:00+0200", "2024-06-01T12:00:00Z/2024-07-01"],
)  # fmt: skip
def test_rfc_3339_has_times_with_a_zone_alone(text):
    parse_interval(text)
    with pytest.raises(UsageError, match="is no date"):
        parse_interval(text, rfc3339=True)


@pytest.mark.parametrize(
    "text", ["2024-06-01T12:00:00Z", "2024-06-01t14:00:00.000+02:00/..", "/2024-06-01T12:00:00z"]
)
def test_rfc_3339_means_the_same_as_elsewhere(text):
    assert parse_interval(text, rfc3339=True) == parse_interval(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2024-06/.. ", "2024-06/.."),
        (date(2024, 6, 1), "2024-06-01"),
        (datetime(2024, 6, 1, 12), "2024-06-01T12:00:00Z"),
        (NOON.astimezone(timezone(timedelta(hours=2))), "2024-06-01T12:00:00Z"),
        (NOON + TICK, "2024-06-01T12:00:00.000001Z"),
        ((date(2024, 6, 1), None), "2024-06-01/.."),
        ([None, "2024-06"], "../2024-06"),
        (("..", NOON), "../2024-06-01T12:00:00Z"),
    ],
)
def test_values_of_python_become_text(value, text):
    assert interval_text(value) == text


@pytest.mark.parametrize(
    "value", [2024, 0.5, (date(2024, 6, 1),), ("2023/2024", None), (1, 2), (("2024",), None), {}]
)
def test_other_values_are_refused(value):
    with pytest.raises(UsageError, match=r"datetime: .* is no date, nor a pair of two"):
        interval_text(value)


moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))
days = st.dates(date(1970, 1, 1), date(2100, 1, 1)).map(
    lambda day: datetime.combine(day, datetime.min.time())
)


@given(st.none() | moments | days, st.none() | moments | days, moments | days)
def test_after_and_before_mean_the_same_times_as_their_interval(after, before, time):
    text = closed_interval(after, before)
    if after is None and before is None:
        assert text is None
        return
    if after is not None and before is not None and after >= before:
        with pytest.raises(UsageError, match="swap its dates"):
            parse_interval(text)
        return
    first, last = parse_interval(text)
    for one in {time, after, before, *(t and t - TICK for t in (after, before))} - {None}:
        inside = (after is None or one >= after) and (before is None or one < before)
        known = one.replace(tzinfo=UTC)
        assert inside == ((first is None or known >= first) and (last is None or known <= last))


def test_no_time_is_before_the_first():
    with pytest.raises(UsageError, match="no time is before 0001-01-01"):
        closed_interval(None, datetime(1, 1, 1))


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ({"after": "2024-01-01T00:00:00+00:00", "before": None}, {"datetime": "2024-01-01/.."}),
        ({"before": "2024-01-01T00:00:00Z", "k": 1}, {"k": 1, "datetime": "../2023-12-31"}),
        (
            {"after": "2024-01-01T12:00:00+02:00", "before": "2024-02-01T00:00:00"},
            {"datetime": "2024-01-01T10:00:00Z/2024-01-31"},
        ),
        (
            {"id": "a", "filters": {"after": "2024-01-01"}},
            {"id": "a", "filters": {"datetime": "2024-01-01/.."}},
        ),
        ({"after": None, "before": None}, {}),
        ({"filters": {"datetime": "2024"}}, {"filters": {"datetime": "2024"}}),
    ],
)  # fmt: skip
def test_stored_searches_with_after_and_before_are_read(stored, read):
    assert with_datetime(stored) == read

"""Filters of time: the same records over HTTP, in STAC, in Python and on the command line."""

from __future__ import annotations

import json
import sqlite3
from datetime import date, datetime, timedelta

import pytest

from commands import error_line, landcue
from landcue.search.filters import Filter
from services import START

HOUR = timedelta(hours=1)
# Records are of midnight, one a day from 2024-01-01 to 2024-01-30.
INTERVALS = [
    ("2024-01-05T00:00:00Z", 4, 5),
    ("2024-01-05T00:00:00.000001Z", 0, 0),
    ("2024-01-05T00:00:00Z/2024-01-09T00:00:00Z", 4, 9),
    ("2024-01-05t00:00:00z/2024-01-08T23:59:59.999999z", 4, 8),
    ("2024-01-05T02:00:00+02:00/2024-01-09T00:00:00-01:00", 4, 9),
    ("2024-01-05T00:00:00.000001Z/..", 5, 30),
    ("../2024-01-09T00:00:00Z", 0, 9),
    ("/2024-01-09T00:00:00Z", 0, 9),
    ("2024-01-28T00:00:00Z/", 27, 30),
    ("2031-01-01T00:00:00Z/..", 0, 0),
]
DATES = [
    ("2024-01-05", 4, 5),
    ("2024-01-05/2024-01-09", 4, 9),
    ("2024-01-29/2024-02", 28, 30),
    ("2024-01", 0, 30),
    ("2024", 0, 30),
    ("2023/..", 0, 30),
    ("../2023", 0, 0),
    ("../2024-01-01", 0, 1),
    ("2024-01-05 00:00:00/2024-01-06T00:00", 4, 6),
]


def dated(plain, first, end):
    """Return the ids of the records of some days, counted from the first one."""
    wanted = {START + timedelta(days=n) for n in range(first, end)}
    return sorted(id_ for id_ in plain.ids() if plain.record(id_).datetime in wanted)


@pytest.mark.parametrize(("interval", "first", "end"), [*INTERVALS, *DATES])
def test_the_same_records_everywhere(client, plain, photos, interval, first, end):
    wanted = dated(plain, first, end)
    assert len(wanted) == end - first
    given = {"archive": "photos", "filters": {"datetime": interval}, "k": 100}
    found = client.post("/v1/search", json=given).json()["hits"]
    assert sorted(hit["id"] for hit in found) == wanted
    query = {"request": json.dumps(given), "format": "csv"}
    lines = client.get("/v1/export", params=query).text.splitlines()
    assert len(lines) == 1 + len(wanted)
    result = plain.search(where=Filter(datetime=interval), k=100)
    assert sorted(result.ids) == wanted
    done = landcue("search", photos, "--datetime", interval, "-k", 100, "--json")
    assert sorted(hit["id"] for hit in json.loads(done.stdout)["hits"]) == wanted
    asked = {"collections": "photos", "datetime": interval, "limit": 100}
    answer = client.get("/stac/search", params=asked)
    posted = client.post("/stac/search", json={**asked, "collections": ["photos"]})
    if (interval, first, end) in DATES:  # STAC has times alone
        assert (answer.status_code, posted.status_code) == (400, 400)
        return
    for one in (answer, posted):
        assert sorted(item["id"] for item in one.json()["features"]) == wanted


@pytest.mark.parametrize(
    ("value", "first", "end"),
    [
        (START + timedelta(days=4), 4, 5),
        (datetime(2024, 1, 5), 4, 5),
        (date(2024, 1, 5), 4, 5),
        ((date(2024, 1, 5), None), 4, 30),
        ((None, date(2024, 1, 5)), 0, 5),
        (("2024-01-05", START + timedelta(days=8)), 4, 9),
        ([START + timedelta(days=4) + HOUR, START + timedelta(days=9) - HOUR], 5, 9),
    ],
)
def test_values_of_python(plain, value, first, end):
    where = Filter(datetime=value)
    assert isinstance(where.datetime, str)
    assert where == Filter(datetime=where.datetime)
    assert sorted(plain.search(where=where, k=100).ids) == dated(plain, first, end)
    assert Filter.parse(datetime=value) == where


def test_a_record_without_a_time_is_of_no_interval(client):
    everything = {"archive": "made", "k": 1_000}
    undated = [
        hit["id"]
        for hit in client.post("/v1/search", json=everything).json()["hits"]
        if hit["datetime"] is None
    ]
    given = {**everything, "filters": {"datetime": "0001/.."}}
    found = client.post("/v1/search", json=given).json()["hits"]
    assert len(undated) == 200 - len(found)
    assert all(hit["datetime"] for hit in found)


@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/search", {"id": "port/01.png", "filters": "here"}),
        ("/v1/suggest", {"positives": ["port/01.png"], "filters": "here"}),
        ("/v1/change", {"before": "2024", "after": "2025", "filters": "here"}),
        ("/v1/watches", {"name": "a", "search": {"filters": "here"}}),
        ("/v1/search", "here"),
    ],
)
def test_after_and_before_are_answered_with_datetime(client, is_problem, name, url, body):
    text = json.dumps(body).replace('"here"', json.dumps({name: "2024-01-05"}))
    answer = client.post(url, content=text, headers={"content-type": "application/json"})
    detail = is_problem(answer, 422)
    assert '"datetime": "2024-06-01/2024-08-31" in the filters' in detail


@pytest.mark.parametrize("text", ["soon", "2024/2023", "../..", "2024-13", "2023-02-29", ""])
def test_what_is_no_interval_is_one_line_everywhere(client, is_problem, photos, text):
    rest = client.post("/v1/search", json={"filters": {"datetime": text}})
    assert is_problem(rest, 400).startswith("filters.datetime: datetime")
    if text:
        is_problem(client.get("/stac/search", params={"datetime": text}), 400)
    line = error_line(2, "search", photos, "--datetime", text)
    assert line.startswith("error: datetime")


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        (("--after", "2024-01-05"), "2024-01-05/.."),
        (("--before", "2024-01-09"), "../2024-01-08"),
        (("--after", "2024-01-05T00:00:01", "--before", "2024-01-09T00:00:01"),
         "2024-01-06/2024-01-09"),
    ],
)  # fmt: skip
def test_after_and_before_of_commands_are_short_forms(photos, given, interval):
    one = landcue("search", photos, *given, "-k", 100, "--json")
    other = landcue("search", photos, "--datetime", interval, "-k", 100, "--json")
    ids = [[hit["id"] for hit in json.loads(done.stdout)["hits"]] for done in (one, other)]
    assert ids[0] == ids[1]
    assert ids[0]


@pytest.mark.parametrize(
    "command",
    [("search",), ("map",), ("suggest",), ("watch", "add")],
    ids=" ".join,
)
def test_commands_take_one_way_to_filter_by_time(photos, tmp_path, command):
    more = {"map": ["port/01.png", tmp_path / "a.tif"], "add": ["name"]}.get(command[-1], [])
    line = error_line(2, *command, photos, *more, "--datetime", "2024", "--after", "2024-01-05")
    assert line == "error: use --datetime, or --after and --before, not both"
    line = error_line(2, *command, photos, *more, "--datetime", "soon")
    assert line.startswith("error: datetime: 'soon' is no date: write 2024")
    line = error_line(2, *command, photos, *more, "--before", "2024-01-05", "--after", "2024-01-05")
    assert "swap them" in line


def test_a_collection_that_was_stored_with_after_and_before_is_read(start, tmp_path):
    path = tmp_path / "kept.db"
    query = {"id": "port/01.png", "filters": {"path": "port/"}}
    with start(collections_file=path) as client:
        made = client.post("/v1/collections", json={"name": "a", "query": query}).json()
        old = {
            **query,
            "filters": {"after": "2024-01-05T00:00:00Z", "before": "2024-01-09T00:00:00Z"},
        }
        with sqlite3.connect(path) as database:
            database.execute("UPDATE collections SET query = ?", (json.dumps(old),))
        found = client.get(f"/v1/collections/{made['id']}").json()["query"]
        assert found == {"id": "port/01.png", "filters": {"datetime": "2024-01-05/2024-01-08"}}
        assert client.post("/v1/search", json=found).status_code == 200
        # Exported today, it can be imported; an older file is refused in one line.
        file = client.get(f"/v1/collections/{made['id']}/export").json()
        assert client.post("/v1/collections/import", json=file).status_code == 201
        answer = client.post("/v1/collections/import", json={**file, "query": old})
        assert answer.status_code == 422
        assert '"datetime": ' in answer.json()["detail"]


def test_all_years_hold_every_dated_record(client, plain):
    answer = client.post("/v1/search", json={"filters": {"datetime": "0001/9999"}, "k": 100})
    assert sorted(hit["id"] for hit in answer.json()["hits"]) == plain.ids()

"""The STAC API: read by pystac-client, and hostile parameters."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import cql2
import httpx
import pytest

import services
from landcue.archive.table import RecordTable
from landcue.search import Filter
from landcue.search.pages import Cursor

pystac_client = pytest.importorskip("pystac_client")


@pytest.fixture(scope="module")
def address(app):
    with services.running(app()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def catalog(address):
    return pystac_client.Client.open(f"{address}/stac")


def test_archives_are_collections(catalog, plain):
    assert [one.id for one in catalog.get_collections()] == ["photos", "made"]
    photos = catalog.get_collection("photos")
    west, south, east, north = photos.extent.spatial.bboxes[0]
    assert (south, north) == (-1, 1)
    assert west <= 0 < 29 <= east
    assert photos.extent.temporal.intervals[0][0].year == 2024
    items = list(photos.get_items())
    assert [item.id for item in items] == plain.ids()
    assert items[0].get_self_href().endswith("/stac/collections/photos/items/farm/00.png")


def test_answers_fit_the_schemas_of_the_standard(catalog):
    """Those that pystac ships, of STAC 1.1, to which it migrates what it reads."""
    pytest.importorskip("jsonschema")
    items = catalog.get_collection("photos").get_items()
    for answer in (catalog, *catalog.get_collections(), *itertools.islice(items, 3)):
        (schema,) = answer.validate()
        assert schema.startswith("https://schemas.stacspec.org/v1.1.0/")


def test_a_page_reads_the_table_once(address, monkeypatch):
    reads = []
    for name in ("rows", "at"):  # by ids, and by places in the table
        read = getattr(RecordTable, name)
        count = lambda *args, read=read: reads.append(1) or read(*args)  # noqa: E731
        monkeypatch.setattr(RecordTable, name, count)
    found = httpx.get(f"{address}/stac/search", params={"collections": "photos", "limit": 20})
    assert len(found.json()["features"]) == 20
    assert len(reads) == 1


def test_items_hold_what_records_hold(catalog, plain, client):
    item = catalog.get_collection("photos").get_item("port/03.png")
    record = plain.record("port/03.png")
    assert item.datetime == record.datetime
    assert item.bbox == [3, 0, 3.5, 1]
    assert item.geometry["type"] == "Polygon"
    assert item.properties["labels"] == ["water", "ship"]
    assert item.properties["predicted_labels"] == list(record.predicted)
    path = item.assets["thumbnail"].href.partition("/v1/")[2]
    assert client.get(f"/v1/{path}").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("limit", [4, 100])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_searches_by_place_time_and_id(catalog, plain, method, limit):
    def ids(**given):
        found = catalog.search(method=method, limit=limit, **given)
        return sorted(item.id for item in found.items())

    def wanted(condition):
        return sorted(id_ for id_ in plain.ids() if condition(plain.record(id_)))

    photos = ["photos"]
    assert ids(collections=photos) == plain.ids()
    assert len(ids()) == len(plain) + 200
    inside = wanted(lambda one: one.bbox.west <= 12 and 5 <= one.bbox.east <= 20)
    assert ids(collections=photos, bbox=[5, 0.2, 12, 0.8]) == inside
    ring = [[5, 0.2], [12, 0.2], [12, 0.8], [5, 0.8], [5, 0.2]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    assert ids(collections=photos, intersects=polygon) == inside
    within = wanted(lambda one: "2024-01-05" <= str(one.datetime)[:10] <= "2024-01-09")
    assert ids(collections=photos, datetime="2024-01-05/2024-01-09") == within
    some = ["port/03.png", "farm/02.png", "none"]
    assert ids(collections=photos, ids=some) == ["farm/02.png", "port/03.png"]
    assert ids(collections=photos, ids=some, bbox=[3, 0.1, 3.2, 0.2]) == ["port/03.png"]
    assert ids(collections=["none"]) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_filters_in_cql2(catalog, plain, method):
    def ids(text, **given):
        wanted = cql2.parse_text(text).to_json() if method == "POST" else text
        found = catalog.search(method=method, filter=wanted, limit=4, **given)
        return sorted(item.id for item in found.items())

    photos = ["photos"]
    ports = plain.search_all(where="water and ship").ids
    assert ids("a_contains(labels, ('water', 'ship'))", collections=photos) == sorted(ports)
    scored = plain.search_all(where=Filter(scores=(("bright", 0.5),))).ids
    assert 0 < len(scored) < len(plain)
    text = "score:bright >= 0.5"
    assert ids(text, collections=photos) == sorted(scored)
    near = ids(f"{text} and s_intersects(geometry, BBOX(5, 0.2, 12, 0.8))", collections=photos)
    assert near == sorted(
        plain.search_all(where=Filter.parse(None, scores=["bright=0.5"], bbox="5,0.2,12,0.8")).ids
    )
    # Over all archives, of which one has no such label.
    assert ids("a_overlaps(labels, ('ship'))") == sorted(plain.search_all(where="ship").ids)


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "Point", "coordinates": [5.2, 0.5]},
        {"type": "MultiPoint", "coordinates": [[5.2, 0.5], [50, 50]]},
        {"type": "LineString", "coordinates": [[5.2, -5], [5.2, 5]]},
        {"type": "MultiLineString", "coordinates": [[[5.2, -5], [5.2, 5]]]},
        {
            "type": "GeometryCollection",
            "geometries": [{"type": "Point", "coordinates": [5.2, 0.5]}],
        },
    ],
    ids=lambda shape: shape["type"],
)
def test_any_geometry_can_intersect(catalog, shape):
    for method in ("GET", "POST"):
        found = catalog.search(method=method, collections=["photos"], intersects=shape)
        assert [item.id for item in found.items()] == ["port/05.png"]


def test_a_large_limit_is_cut(client):
    found = client.get("/stac/search", params={"limit": "100000"}).json()
    assert len(found["features"]) == 230


def test_queryables_name_what_filters_take(catalog, client):
    assert catalog.conforms_to("FILTER")
    found = catalog.get_collection("photos").get_queryables()["properties"]
    assert {"labels", "score:bright", "datetime", "geometry", "platform"} <= set(found)
    (self,) = [one for one in catalog.links if one.rel.endswith("/queryables")]
    assert client.get("/stac/queryables").json()["$id"].endswith("/stac/queryables")
    assert self.href.endswith("/stac/queryables")


GDAL = """
import json, sys
import geopandas, pyogrio
at = f"OAPIF:{sys.argv[1]}/stac"
print(json.dumps([name for name, _ in pyogrio.list_layers(at)]))
for box in (None, (5.1, 0.2, 6.2, 0.8)):
    table = geopandas.read_file(at, layer="photos", engine="pyogrio", bbox=box)
    print(json.dumps([table.crs.to_epsg(), sorted(table["id"])]))
"""


def test_gdal_reads_archives_as_ogc_api_features(address, plain):
    # In another process: GDAL holds the lock of Python while it waits for an answer.
    done = subprocess.run(
        [sys.executable, "-c", GDAL, address], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    layers, everything, inside = map(json.loads, done.stdout.splitlines())
    assert layers == ["photos", "made"]
    assert everything == [4326, plain.ids()]
    assert inside == [4326, ["farm/06.png", "port/05.png"]]


@pytest.mark.parametrize(
    "given",
    [
        *({"filter": "labels ="}, {"filter": "a = 1"}, {"filter": "x" * 20_000}),
        *({"filter": "id = 'a'", "filter-lang": "cql"}, {"filter": "(" * 5_000}),
        *({"bbox": "1,2,3"}, {"bbox": "a,b,c,d"}, {"bbox": "0,9,1,-9"}, {"bbox": "0,0,1e999,1"}),
        *({"datetime": "yesterday"}, {"datetime": "2024-13-01T00:00:00Z"}, {"datetime": "a/b/c"}),
        *({"token": "x"}, {"token": "WyJwaG90b3MiLCAiYSJd"}, {"intersects": "[" * 5_000}),
        *({"intersects": '{"type": "Point", "coordinates": []}'}, {"limit": "0"}),
        *({"intersects": '{"type": "Nothing"}'}, {"intersects": "{}"}, {"limit": "-1"}),
        *({"datetime": one} for one in ("/", "../..", "/..", "2024-01-02T00:00:00.Z")),
        {"datetime": "2024-01-02T00:00:00Z/2024-01-01T00:00:00Z"},
        {"bbox": "0,0,1,1", "intersects": "{}"},
    ],
)
def test_bad_parameters_are_problems(client, given):
    answer = client.get("/stac/search", params=given)
    assert answer.status_code == 400, answer.text
    assert "\n" not in answer.json()["detail"]


def test_tokens_cannot_be_made_up(client):
    first = client.get("/stac/search", params={"limit": "3"}).json()
    (following,) = [one for one in first["links"] if one["rel"] == "next"]
    token = parse_qs(urlsplit(following["href"]).query)["token"][0]
    name, word = json.loads(base64.urlsafe_b64decode(token))
    cursor = Cursor.decode(word)

    def ask(forged, archive=name, **more):
        value = base64.urlsafe_b64encode(json.dumps([archive, forged.encode()]).encode())
        params = {"limit": "3", "token": value.decode(), **more}
        return client.get("/stac/search", params=params).status_code

    assert ask(cursor) == 200
    for changed in (
        {"mode": "ann", "lists": 1},
        {"mode": "embedding"},
        {"mark": "other"},
        {"id": "farm/00.png"},
        {"seen": cursor.seen + 1},
        {"seen": 10**9},
        {"distance": 0.5},
    ):
        assert ask(replace(cursor, **changed)) in (400, 409), changed
    assert ask(cursor, archive="none") in (400, 404)
    assert ask(cursor, bbox="5,0.2,12,0.8") == 400


def test_bad_bodies_are_problems(client, is_problem):
    deep = b'{"filter": ' + b'{"op": "not", "args": [' * 900 + b"1" + b"]}" * 900 + b"}"
    for body in (b"{", b"[]", b"[" * 100_000, b'{"limit": "x"}', b'{"filter": {}}', deep):
        assert client.post("/stac/search", content=body).status_code in (400, 422)
    half = b'{"op": "=", "args": [{"property": "id"}, "\\ud800"]}'
    for value in (b"NaN", b"-Infinity", b"1e999", b'"\\ud800"', b"[" * 990 + b"]" * 990):
        body = b'{"limit": 1, "fields": ' + value + b"}"
        assert "not valid JSON" in is_problem(client.post("/stac/search", content=body), 400)
    is_problem(client.post("/stac/search", content=b'{"filter": ' + half + b"}"), 400)
    assert "is not CQL2" in is_problem(client.get("/stac/search", params={"filter": half}), 400)
    is_problem(client.get("/stac/collections/none"), 404)
    is_problem(client.get("/stac/collections/photos/items/none"), 404)


def test_head_is_answered_as_get_without_a_body(client):
    for path in ("/v1", "/healthz", "/stac", "/v1/records/port/01.png/thumbnail"):
        full, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == full.headers["content-length"]
    answer = client.head("/v1/search")
    assert answer.status_code == 405


def test_the_list_of_archives(client, plain):
    photos, made = client.get("/v1").json()["archives"]
    known = {"records": 30, "version": plain.version, "encodes_images": True}
    assert photos == {"name": "photos", **known}
    assert (made["name"], made["records"], made["encodes_images"]) == ("made", 200, False)

"""Hostile values in every route that was added lately: no server error, and one line each."""

from __future__ import annotations

import itertools
import json
import math
import re
import xml.etree.ElementTree as ET

import pytest
from fastapi.testclient import TestClient

import services

pytestmark = pytest.mark.attack

source, photos, made, app = services.source, services.photos, services.made, services.app
ID = "farm/00.png"
RING = [[math.cos(i / 794) * 9, math.sin(i / 794) * 9] for i in range(4_989)]
CROSSED = [[i * 7_919 % 5_000 / 500, i * 104_729 % 5_000 / 500] for i in range(4_989)]
LARGE = 10**400
CONTROLS = "\0\x1b[2J\r\n]]><b>\ud800"


def polygon(ring):
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def nested(n):
    return '{"op":"not","args":[' * n + '{"op":"=","args":[1,1]}' + "]}" * n


def watch(**values):
    blank = {
        "name": "w",
        "query": "",
        "min_score": 0.5,
        "model": "m",
        "filters": {"labels": "water"},
    }
    return {**blank, **values}


def exported(**values):
    return {"id": "c", "archive": "photos", "name": "n", **values}


IMAGE = {"part": "image", "fingerprint": "m", "n_bits": 8, "embedding": "", "code": "",
         "label_scores": "", "thumbnail": ""}  # fmt: skip
POLYGONS = [RING, CROSSED, [[0, 0]] * 4_999, [[1e308, 0], [0, 1], [1, 1]], [[0, 0], [1, 1]]]
CQL2 = [
    *("(" * n + "id='a'" + ")" * n for n in (8, 50, 900)),
    *("NOT " * 400 + "id='a'", " AND ".join(["id='a'"] * 180), "id LIKE '" + "%a" * 900 + "'"),
    *("id = '" + "x" * 90_000 + "'", "'" * 999, "datetime > TIMESTAMP('99999-01-01')", CONTROLS),
    *('{"op":null,"args":null}', '{"op":"and","args":5}', '{"op":"=","args":{"a":1}}', nested(300)),
    *(nested(20), '{"op":"*","args":[1e308,1e999]}', f'{{"op":">","args":[{"9" * 6_000},1]}}'),
]
NUMBERS = [0, -1, 5e-324, 1e308, math.nan, math.inf, LARGE, "1", None, True, [1]]
TEXTS = ["", "x" * 201, CONTROLS, "=1+1", "../..", "%2f", "<script>", "\u202e"]
BODIES = {
    "/v1/search": [
        *({"filters": {"polygon": polygon(ring)}} for ring in POLYGONS),
        *({"filters": {"cql2": text}} for text in CQL2),
        *({"vector": [value] * 12, "mode": "embedding"} for value in NUMBERS),
        *({"vector": [1.0] * n} for n in (0, 1, 11, 13, 50_000)),
        *({"id": text} for text in TEXTS),
        *({"id": ID, "window": [value] * 4} for value in NUMBERS),
    ],
    "/v1/map": [
        *({"filters": {"polygon": polygon(ring)}} for ring in POLYGONS),
        *({"id": ID, "min_score": value} for value in NUMBERS),
    ],
    "/v1/changes": [
        *({"before": a, "after": b} for a, b in itertools.product(
            ["0001", "9999-12-31", "nan", "2024-02-30", "9999/0001", "/", CONTROLS, "1e9"],
            ["0001/9999", "2025", "2024-01-01T00:00:00+99:00"],
        )),
        *({"before": "2024-01-10", "after": "2024-01-11", "alpha": value} for value in NUMBERS),
        {"before": "2024", "after": "2025", "unchanged": [[ID, ID]] * 1_000},
    ],
    "/v1/suggest": [
        *({"positives": [ID], "apart": value} for value in NUMBERS),
        *({"positives": [ID], "k": value} for value in NUMBERS),
        *({"label": text} for text in TEXTS),
    ],
    "/v1/watches": [
        *({"name": text, "search": {"id": ID, "min_score": 0.5}} for text in TEXTS),
        *({"name": "n", "search": {"id": ID}, "percentile": value} for value in NUMBERS),
        *({"name": "m", "search": {"id": ID, "min_score": value}} for value in NUMBERS),
    ],
    "/v1/collections": [
        *({"name": text} for text in TEXTS),
        *({"name": "n", "members": [{"id": ID, "note": text, "labels": [text]}]} for text in TEXTS),
        *({"name": "n", "members": [{"id": ID, "revision": value}]} for value in NUMBERS),
        {"name": "n", "members": [{"id": ID, "mark": "good"}] * 1_000},
    ],
    "/v1/watches/import": [
        *({"watches": [watch(name=text, query=text, model=text)]} for text in TEXTS),
        *({"watches": [watch(min_score=value)]} for value in NUMBERS),
        *({"watches": [watch(filters={"polygon": polygon(ring)})]} for ring in POLYGONS),
        *({"watches": [watch(filters={"cql2": text})]} for text in CQL2),
        *({"watches": [watch(embedding=text)]} for text in (*TEXTS, "A" * 99_999, "AAAAfw==")),
        *({"watches": [watch(search={"images_of": text})]} for text in TEXTS),
        {"watches": [watch()] * 1_000},
    ],
    "/v1/collections/import": [
        *(exported(id=text, archive=text, name=text) for text in TEXTS),
        *(exported(members=[{"id": text, "note": text, "who": text}]) for text in TEXTS),
        *(exported(images=[{**IMAGE, "n_bits": value}]) for value in NUMBERS),
        *(exported(images=[{**IMAGE, "fingerprint": text}]) for text in TEXTS),
        *(exported(query={"vector": [value] * 12}) for value in NUMBERS),
        *(exported(query={"id": text, "images_of": text}) for text in TEXTS),
        *(exported(watches=[watch(filters={"polygon": polygon(r)})]) for r in POLYGONS),
        exported(members=[{"id": f"x{i}"} for i in range(10_000)]),
    ],
    "/v1/export?all=true": [{"id": ID, "k": value} for value in NUMBERS],
    "/stac/search": [
        *({"filter": text, "filter-lang": "cql2-text"} for text in CQL2 if text[0] != "{"),
        *({"bbox": [value] * 4} for value in NUMBERS),
        *({"limit": value} for value in NUMBERS),
        *({"intersects": polygon(ring)} for ring in POLYGONS),
    ],
}  # fmt: skip
QUERIES = [
    *(f"/v1/watches/hits?format=atom&after={value}" for value in (-1, LARGE, "nan")),
    *(f"/v1/watches/feed?key={value}" for value in ("", "%00", "x" * 101, "' or 1=1 --")),
    *(f"/stac/search?bbox={value}" for value in ("nan,0,1,1", "1e400,0,1,1", "1,2", "")),
    *(f"/stac/search?datetime={value}" for value in ("../..", "9999-99-99", "x" * 4_000)),
    *(f"/stac/collections/photos/items?limit={value}" for value in (-1, 0, LARGE, "nan")),
    *(f"/v1/collections/{value}" for value in ("%00", "x" * 5_000, "..%2f..")),
    *(f"/v1/collections/{value}/export" for value in ("%00", "x" * 5_000, "..%2f..", "'")),
    *(f"/v1/watches/export?archive={value}" for value in ("%00", "x" * 201, "..%2f..", "none")),
]
BOXES = ["nan,nan,nan,nan", "inf,0,1,1", "0,0,0,0", "180,0,-180,1", "0,10,1,5", "1e308,1,2,3", ""]


@pytest.fixture(scope="module")
def client(app, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routes")
    made = app(None, [photos], collections_file=folder / "kept.sqlite")
    with TestClient(made, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def small(line):
    """Whether a line begins with a plain word in small letters; a name comes before a colon."""
    return re.match("[a-z]+[ ,]", line) is not None


def one_line(answer):
    assert answer.status_code < 500, answer.text
    problems = answer.json().get("problems", ()) if answer.status_code == 201 else ()
    for line in problems:
        assert line.isprintable(), line
        assert len(line) <= 500, line
        assert not small(line), line
    if answer.status_code >= 400:
        detail = answer.json()["detail"]
        assert detail.isprintable(), detail
        assert len(detail) < 600, detail
        assert not small(detail), detail


@pytest.mark.parametrize("path", BODIES)
def test_hostile_bodies_are_one_line(client, path):
    for body in BODIES[path]:
        text = json.dumps(body)
        one_line(client.post(path, content=text, headers={"content-type": "application/json"}))
    for text in ("[" * 50_000, '{"name":"a","name":"b"}', "\ufeff{}", "9" * 6_000, '"\\ud800"'):
        one_line(client.post(path, content=text, headers={"content-type": "application/json"}))


def test_hostile_addresses_are_one_line(client):
    for address in QUERIES:
        one_line(client.get(address))
    for box, zoom in itertools.product(BOXES, (-1, 0, 24, 25, LARGE)):
        one_line(client.post("/v1/map", params={"bbox": box, "zoom": zoom}, json={"k": 1}))


def test_what_was_saved_is_still_xml_and_json(client):
    ET.fromstring(client.get("/v1/watches/hits?format=atom").content)
    for path in ("/v1/watches", "/v1/collections?archive=photos"):
        assert client.get(path).status_code == 200

from __future__ import annotations

import csv
import gc
import io
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from fastapi.testclient import TestClient
from PIL import Image

import landcue
import made_archive
from landcue.search import ById, Filter, Query
from landcue.server.app import create_app
from landcue.server.schemas.archives import ArchiveAnswer, LabelsAnswer, RecordAnswer
from landcue.server.schemas.searches import SearchAnswer
from landcue.types import Bounds


def expected(result):
    return [(hit.id, pytest.approx(hit.distance)) for hit in result.hits]


def found(answer):
    assert answer.status_code == 200, answer.text
    SearchAnswer.model_validate(answer.json(), extra="forbid")
    return [(hit["id"], hit["distance"]) for hit in answer.json()["hits"]]


def test_search_by_record_is_the_plain_search(client, plain):
    for mode in ("embedding", "code", "cue", "two-stage"):
        answer = client.post("/v1/search", json={"id": "port/01.png", "k": 7, "mode": mode})
        assert found(answer) == expected(plain.search(ById("port/01.png"), k=7, mode=mode))
        assert answer.json()["mode"] == mode
        assert answer.json()["archive"] == "photos"


def test_search_by_image_crop_and_examples(client, plain, send, png):
    image, other = png(seed=1), png(60, 50, seed=2)
    assert found(send(client, ("image", image), k=5)) == expected(plain.search(image, k=5))
    pixels = np.asarray(Image.open(io.BytesIO(image)))[5:25, 10:30]
    cropped = send(client, ("image", image), k=5, crop=[10, 5, 20, 20])
    assert found(cropped) == expected(plain.search(pixels, k=5))
    mix = Query((image, ById("farm/02.png"), other), (ById("port/03.png"),), "rocchio")
    answer = send(
        client,
        ("image", image),
        ("positive", other),
        id="farm/02.png",
        negatives=["port/03.png"],
        rule="rocchio",
        k=30,
    )
    assert found(answer) == expected(plain.search(mix, k=30))


def test_whole_numbers_may_be_written_with_a_point(client):
    asked = {"id": "port/01.png", "mode": "cue"}
    text = json.dumps({**asked, "k": 3.0, "label_weight": 2.0})
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/search", content=text, headers=headers)
    same = client.post("/v1/search", json={**asked, "k": 3, "label_weight": 2})
    assert len(found(answer)) == 3
    assert found(answer) == found(same)


def test_filters_and_pages(client, plain):
    filters = {"labels": "water and not field", "bbox": [0, -5, 12, 5], "datetime": "2024-01-03/.."}
    asked = {"id": "port/01.png", "filters": filters, "k": 2}
    where = Filter(
        expression="water and not field",
        bbox=Bounds(0, -5, 12, 5),
        datetime=(datetime(2024, 1, 3, tzinfo=UTC), None),
    )
    whole = plain.search(ById("port/01.png"), k=30, where=where)
    assert 3 <= len(whole.hits) < 10
    hits, cursor = [], None
    while True:
        answer = client.post("/v1/search", json={**asked, "cursor": cursor})
        hits += found(answer)
        cursor = answer.json()["cursor"]
        if cursor is None:
            break
    assert hits == expected(whole)


def test_polygon_and_place(client, plain):
    polygon = {"type": "Polygon", "coordinates": [[[1, 0], [4, 0], [4, 2], [1, 0]]]}
    answer = client.post("/v1/search", json={"filters": {"polygon": polygon}})
    where = Filter(polygon=shapely.geometry.shape(polygon))
    assert found(answer) == expected(plain.search(None, where=where))
    assert answer.json()["mode"] == "place"


def test_nothing_found_says_why(client):
    answer = client.post("/v1/search", json={"filters": {"groups": ["nowhere"]}})
    assert found(answer) == []
    assert "nowhere (0 of 30" in answer.json()["note"]


def test_several_archives(client, is_problem):
    assert client.get("/v1/archive").json()["archives"] == ["photos", "made"]
    assert client.get("/v1/archive?archive=made").json()["records"] == 200
    answer = client.post("/v1/search", json={"archive": "made", "k": 3})
    assert len(found(answer)) == 3
    assert "photo" in is_problem(client.get("/v1/labels?archive=photo"), 404)


def test_a_record_says_how_its_raster_was_read(tmp_path, start):
    values = np.linspace(100, 60_000, 3 * 40 * 40).reshape(3, 40, 40).astype(np.uint16)
    profile = {"driver": "GTiff", "width": 40, "height": 40, "count": 3, "dtype": "uint16"}
    (tmp_path / "scenes").mkdir()
    with rasterio.open(tmp_path / "scenes/a.tif", "w", photometric="RGB", **profile) as raster:
        raster.write(values)
    Image.new("RGB", (40, 40)).save(tmp_path / "scenes/b.png")
    archive = landcue.index(tmp_path / "scenes", tmp_path / "archive")
    stored = archive.record("a.tif").reading
    archive.close()
    with start(folders=[tmp_path / "archive"]) as client:
        answer = RecordAnswer.model_validate(client.get("/v1/records/a.tif").json())
        assert client.get("/v1/records/b.png").json()["reading"] is None
    assert answer.reading.bands == (1, 2, 3)
    assert np.array(answer.reading.limits).shape == (3, 2)
    assert answer.reading.rules == tuple(stored["rules"]) != ()


def test_records_thumbnails_and_chips(client, source, is_problem):
    value = client.get("/v1/records/port/01.png").json()
    RecordAnswer.model_validate(value, extra="forbid")
    assert value["labels"] == ["water", "ship"]
    assert value["bbox"] == [1, 0, 1.5, 1]
    assert shapely.geometry.shape(value["geometry"]).bounds == (1, 0, 1.5, 1)
    assert value["datetime"] == "2024-01-02T00:00:00Z"
    thumbnail = client.get("/v1/records/port/01.png/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(thumbnail.content)).size == (64, 64)
    original = np.asarray(Image.open(source[0] / "port/01.png")).astype(int)
    chip = client.get("/v1/records/port/01.png/chip")
    shown = np.asarray(Image.open(io.BytesIO(chip.content))).astype(int)
    assert shown.shape == original.shape
    assert abs(shown - original).mean() < 10
    small = client.get("/v1/records/port/01.png/chip?side=16")
    assert Image.open(io.BytesIO(small.content)).size == (16, 16)
    assert "port/29.png" in is_problem(client.get("/v1/records/port/99.png"), 404)
    is_problem(client.get("/v1/records/scene0/none.tif/thumbnail?archive=made"), 404)


def test_labels_are_counted(client, plain):
    value = client.get("/v1/labels").json()
    LabelsAnswer.model_validate(value, extra="forbid")
    counts = {one["name"]: one for one in value["labels"]}
    assert counts["ship"] == {"name": "ship", "annotated": 10, "predicted": 0, "records": 10}
    predicted = sum("bright" in hit.labels for hit in plain.search(k=30).hits)
    assert counts["bright"]["annotated"] == 0
    assert counts["bright"]["records"] == predicted


def test_archive_tells_of_its_model_and_no_path(client, photos, source):
    answer = client.get("/v1/archive")
    ArchiveAnswer.model_validate(answer.json(), extra="forbid")
    assert answer.json()["dim"] == 16
    assert answer.json()["encodes_images"]
    for path in (photos, source[0]):
        assert str(path) not in answer.text


def test_exports_hold_the_hits(client, plain):
    asked = json.dumps({"id": "port/01.png", "k": 30})
    result = plain.search(ById("port/01.png"), k=30)
    ids = [hit.id for hit in result.hits]

    answer = client.get("/v1/export", params={"request": asked})
    assert answer.headers["content-type"] == "application/geo+json"
    assert "attachment" in answer.headers["content-disposition"]
    features = answer.json()["features"]
    assert [feature["id"] for feature in features] == ids
    crossing = features[ids.index("farm/00.png")]
    assert crossing["geometry"]["type"] == "MultiPolygon"
    assert crossing["bbox"] == [179, -1, -179, 1]

    answer = client.get("/v1/export", params={"request": asked, "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == ids
    assert [float(row["distance"]) for row in rows] == [hit.distance for hit in result.hits]

    answer = client.post("/v1/search?format=geoparquet", json=json.loads(asked))
    table = pq.read_table(io.BytesIO(answer.content))
    assert table["id"].to_pylist() == ids
    assert json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]["encoding"] == "WKB"
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    hit = ids.index("port/03.png")
    assert shapes[hit].bounds == (3, 0, 3.5, 1)


def test_csv_runs_no_formula(tmp_path, start):
    facts = [
        replace(made_archive.plain_record(i), id=f"{sign}1+1", path=f"{sign}1+1", group=f"{sign}2")
        for i, sign in enumerate("=+-@")
    ]
    made_archive.make_archive(tmp_path / "made", 4, facts=facts).close()
    with start(folders=[tmp_path / "made"]) as client:
        text = client.post("/v1/export?format=csv", json={}).text
    for row in csv.DictReader(io.StringIO(text)):
        assert row["id"][:2] in ("'=", "'+", "'-", "'@")
        assert row["group"].startswith("'")
        assert row["path"].startswith("'")


def test_health_metrics_and_readiness(start, is_problem):
    with start() as client:
        assert client.get("/healthz").text == "ok\n"
        while client.get("/readyz").status_code != 200:
            pass
        client.post("/v1/search", json={"id": "port/01.png"})
        client.get("/v1/nowhere")
        text = client.get("/metrics").text
    assert 'landcue_requests_total{method="POST",route="/v1/search",status="200"} 1.0' in text
    assert 'landcue_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'landcue_archive_records{archive="made"} 200.0' in text
    assert 'landcue_request_seconds_bucket{le="+Inf",route="/v1/search"} 1.0' in text
    is_problem(start().get("/readyz"), 503)  # never started


def test_after_it_ended_all_objects_are_collected(made):
    # Extension modules such as triton's report what was not collected when the process ends.
    interval = sys.getswitchinterval()
    try:
        for alone in (False, True):
            with TestClient(create_app([made], whole_process=alone), "http://127.0.0.1") as client:
                while client.get("/readyz").status_code != 200:
                    pass
                assert (gc.get_freeze_count() > 0) == alone
                assert (sys.getswitchinterval() < interval) == alone
            assert gc.get_freeze_count() == 0
    finally:
        sys.setswitchinterval(interval)


def test_openapi_describes_every_route_and_refers_to_nothing_missing(client):
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/search",
        "/v1/export",
        "/v1/map",
        "/v1/scores",
        "/v1/picture",
        "/v1/records/{id}",
        "/v1/records/{id}/thumbnail",
        "/v1/records/{id}/chip",
        "/v1/labels",
        "/v1/archive",
        "/v1/model",
        "/v1/model/scores",
        "/v1/model/map",
        "/v1/records/{id}/regions",
        "/v1/facets",
        "/v1",
        "/v1/collections",
        "/v1/collections/import",
        "/v1/collections/{id}",
        "/v1/collections/{id}/export",
        "/v1/collections/{id}/labels",
        "/v1/collections/{id}/images/{n}",
        "/v1/collections/{id}/undo",
        "/v1/suggest",
        "/v1/change",
        "/v1/watches",
        "/v1/watches/export",
        "/v1/watches/import",
        "/v1/watches/hits",
        "/v1/watches/{name}",
        "/v1/watches/{name}/feed",
        "/v1/watches/feed",
        "/v1/change/export",
        "/v1/records/{id}/timeline",
        "/v1/raster/export",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    known = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    refs = set()

    def walk(value):
        if isinstance(value, dict):
            refs.update(v for k, v in value.items() if k == "$ref")
            value = list(value.values())
        if isinstance(value, list):
            for one in value:
                walk(one)

    walk(described)
    assert refs <= known
    assert "#/components/schemas/SearchRequest" in refs


def test_two_stage_searches_wait_for_no_preparation(client, is_problem):
    served = client.app.state.service.catalog.get("photos")
    request = {"id": next(iter(served.facets["examples"])), "k": 3, "archive": "photos"}
    exact = client.post("/v1/search", json={**request, "mode": "embedding"}).json()
    served.preparing = True  # as from 20,000 records on, until the service has built its files
    answer = client.post("/v1/search", json={**request, "mode": "two-stage"})
    assert "is being prepared for mode two-stage" in is_problem(answer, 503)
    assert answer.headers["Retry-After"] == "3"
    assert client.post("/v1/search", json=request).status_code == 200
    assert client.post("/v1/scores", json={**request, "mode": "two-stage"}).status_code == 200
    served.prepare()
    found = client.post("/v1/search", json={**request, "mode": "two-stage"}).json()
    assert [hit["id"] for hit in found["hits"]] == [hit["id"] for hit in exact["hits"]]

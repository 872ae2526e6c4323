"""The map, the score counts and the export of all records that pass, over HTTP."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

import made_archive
from landcue.search import SearchOptions
from landcue.server.schemas.searches import PlacesAnswer, ScoresAnswer

BOX = {"bbox": "0,-1,10.4,2"}


def test_map_shows_clusters_and_footprints(client, plain):
    asked = {"id": "port/01.png", "filters": {"labels": "water"}, "min_score": 0.2}
    found = plain.search_all("port/01.png", where="water", options=SearchOptions(min_score=0.2))
    single = PlacesAnswer.model_validate(
        client.post("/v1/map", params=BOX, json=asked).json(), extra="forbid"
    )
    assert (single.records, single.matched) == (30, len(found))
    scores = dict(zip(found.ids, found.scores.tolist(), strict=True))
    inside = {id_ for id_ in found.ids if plain.record(id_).bbox.west <= 10.4}
    assert {one.id: one.score for one in single.footprints} == {id_: scores[id_] for id_ in inside}
    for one in single.footprints:
        assert one.geometry["type"] == "Polygon"
        assert one.labels == plain.record(one.id).labels
    grouped = client.post("/v1/map", params={**BOX, "most": 0, "label": "ship"}, json=asked)
    clusters = PlacesAnswer.model_validate(grouped.json(), extra="forbid").clusters
    assert sum(one.count for one in clusters) == single.inside == len(inside)
    ships = sum("ship" in plain.record(id_).labels for id_ in inside)
    assert sum(one.labeled for one in clusters) == ships
    everything = client.post("/v1/map", json={}).json()
    assert (everything["matched"], everything["footprints"][0]["score"]) == (30, None)


def test_scores_say_how_many_an_export_will_hold(client, plain):
    asked = {"id": "port/01.png", "min_score": 0.5}
    counted = client.post("/v1/scores?bins=8", json=asked).json()
    ScoresAnswer.model_validate(counted, extra="forbid")
    assert (counted["records"], counted["matched"]) == (30, 29)
    assert sum(counted["counts"]) == 29
    assert len(counted["edges"]) == 9
    passing = plain.search_all("port/01.png", options=SearchOptions(min_score=0.5))
    assert 0 < counted["passing"] == len(passing) < 29
    for kind in ("csv", "geojson", "geoparquet", "json"):
        answer = client.post(f"/v1/export?all=true&format={kind}", json={**asked, "k": 1})
        assert answer.headers["x-row-count"] == str(len(passing))
    assert counted["mode"] == "embedding"


def test_the_least_percentile_ends_a_search_over_http(client, plain, send, png, is_problem):
    every = plain.search("port/01.png", k=29, mode="embedding")
    least = min(hit.percentile for hit in every if hit.percentile)
    options = SearchOptions(min_percentile=least)
    wanted = plain.search("port/01.png", k=29, mode="embedding", options=options).ids
    assert 2 < len(wanted) < 29
    asked = {"id": "port/01.png", "mode": "embedding", "k": 29, "min_percentile": least}
    answer = client.post("/v1/search", json=asked).json()
    assert tuple(hit["id"] for hit in answer["hits"]) == wanted
    assert min(hit["percentile"] for hit in answer["hits"]) >= least - 0.05
    first = client.post("/v1/search", json={**asked, "k": 2}).json()
    then = client.post("/v1/search", json={**asked, "k": 29, "cursor": first["cursor"]}).json()
    assert tuple(hit["id"] for hit in first["hits"] + then["hits"]) == wanted
    assert then["cursor"] is None
    rows = client.post("/v1/export?all=true&format=json", json={**asked, "k": 1})
    assert rows.headers["x-row-count"] == str(len(wanted))
    data = png(seed=3)
    options = SearchOptions(min_percentile=5)
    uploaded = send(client, ("image", data), mode="embedding", k=30, min_percentile=5).json()
    found = plain.search(data, k=30, mode="embedding", options=options)
    assert tuple(hit["id"] for hit in uploaded["hits"]) == found.ids
    without = is_problem(client.post("/v1/search", json={"min_percentile": 5}), 400)
    assert without.startswith("Percentiles of this search in mode list are not known")


def test_an_archive_without_percentiles_refuses_a_least_one(start, tmp_path, is_problem):
    archive = made_archive.make_archive(tmp_path / "single", 1)
    asked = {"id": archive.columns().ids[0], "min_percentile": 5, "mode": "embedding"}
    with start(folders=[tmp_path / "single"]) as client:
        refused = is_problem(client.post("/v1/search", json=asked), 400)
    assert refused.endswith("mode embedding are not known: leave the minimum percentile out")


def test_an_uploaded_image_is_counted_and_mapped(client, send, png, plain):
    data = png(seed=3)
    found = plain.search_all(data)
    answer = send(client, ("image", data), url="/v1/scores").json()
    assert answer["matched"] == len(found) == 30
    assert answer["edges"][-1] == pytest.approx(found.scores.max())
    shown = send(client, ("image", data), url="/v1/map").json()["footprints"]
    assert len(shown) == 30
    rows = send(client, ("image", data), url="/v1/export?format=csv&all=true&k=1").text
    assert len(rows.splitlines()) == 31


def test_exports_hold_the_same_in_all_formats(client, start, plain, tmp_path):
    with start(collections_file=tmp_path / "picks.db") as keeping:
        members = [{"id": "port/03.png", "mark": "good", "note": "=a"}]
        made = keeping.post("/v1/collections", json={"name": "x", "members": members}).json()
        asked = {"id": "port/01.png", "k": 3}
        given = {"all": "true", "collection": made["id"]}

        def export(kind):
            return keeping.post("/v1/export", params={**given, "format": kind}, json=asked)

        answer = export("geojson")
        assert 'filename="landcue-port-01-png.geojson"' in answer.headers["content-disposition"]
        features = answer.json()["features"]
        rows = list(csv.DictReader(io.StringIO(export("csv").text)))
        table = pq.read_table(io.BytesIO(export("geoparquet").content)).to_pylist()
        other = keeping.post("/v1/collections", json={"name": "y", "archive": "made"}).json()
        params = {"collection": other["id"], "format": "csv"}
        assert keeping.post("/v1/export", params=params, json={}).status_code == 409
    result = plain.search_all("port/01.png")
    names = [*features[0]["properties"], "geometry"]
    assert list(rows[0]) == list(table[0]) == names
    for hit, feature, row, line in zip(result, features, rows, table, strict=True):
        known = feature["properties"]
        assert known["id"] == row["id"] == line["id"] == hit.id
        assert known["path"] == row["path"] == line["path"] == hit.path
        assert known["score"] == float(row["score"]) == line["score"] == hit.score
        assert known["percentile"] == float(row["percentile"]) == line["percentile"]
        assert known["mark"] == line["mark"] == ("good" if hit.id == "port/03.png" else None)
        assert row["note"] == ("'=a" if hit.id == "port/03.png" else "")
        assert known["datetime"] == row["datetime"]
        assert line["datetime"] == hit.datetime
        predicted = {name: score for name, score in line["predicted"]}
        assert predicted == pytest.approx(known["predicted"])
        assert set(predicted) == set(plain.predicted_of(hit.id))
        assert all(0.5 <= score <= 1 for score in predicted.values())
        path = known["thumbnail"].removeprefix("http://127.0.0.1")
        assert client.get(path).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("path", "params", "body", "status"),
    [
        ("map", {"bbox": "1,2,3"}, {}, 400),
        ("map", {"bbox": "0,5,1,1"}, {}, 400),
        ("map", {"zoom": "25"}, {}, 422),
        ("map", {"zoom": "-1"}, {}, 422),
        ("map", {"most": "100000"}, {}, 422),
        ("map", {"most": "0", "label": "none"}, {}, 400),
        ("map", {}, {"rerank": "alpha-qe", "id": "port/01.png"}, 400),
        ("scores", {"bins": "0"}, {}, 422),
        ("scores", {}, {"id": "none"}, 404),
        ("export", {"collection": "none", "format": "csv"}, {}, 404),
        ("export", {"all": "true"}, {"cursor": "x"}, 400),
    ],
)
def test_bad_requests_are_refused(client, is_problem, path, params, body, status):
    is_problem(client.post(f"/v1/{path}", params=params, json=body), status)


def test_get_exports_all(client):
    asked = json.dumps({"id": "port/01.png", "k": 2})
    for every, rows in ((True, 29), (False, 2)):
        params = {"request": asked, "format": "csv", "all": every}
        assert len(client.get("/v1/export", params=params).text.splitlines()) == rows + 1


def test_pages_of_hits_do_not_wait_for_searches_of_all_records(start):
    started, finish = threading.Event(), threading.Event()

    def long():
        started.set()
        assert finish.wait(60)

    with start({"surveys_waiting": 1, "searches": 1}) as client, ThreadPoolExecutor() as others:
        surveys = client.app.state.service.surveys
        running = [others.submit(client.portal.call, surveys.run, long)]
        assert started.wait(60)
        running.append(others.submit(client.post, "/v1/scores", json={"id": "port/01.png"}))
        while surveys.jobs < 2:
            time.sleep(0.01)
        for path in ("/v1/scores", "/v1/map", "/v1/export?all=true"):
            assert client.post(path, json={"id": "port/01.png"}).status_code == 429
        assert client.post("/v1/search", json={"id": "port/01.png"}).status_code == 200
        finish.set()
        assert running[1].result(60).status_code == 200


def test_a_raster_is_rendered_as_searches_read_it(client, send, tmp_path):
    rng = np.random.default_rng(5)
    values = rng.integers(0, 4_000, (6, 20, 30), dtype=np.uint16)
    path = tmp_path / "six.tif"
    profile = {"driver": "GTiff", "width": 30, "height": 20, "count": 6, "dtype": "uint16"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    data = path.read_bytes()
    reported = send(client, ("image", data), url="/v1/picture")
    assert reported.status_code == 400
    assert "bands" in reported.json()["detail"]
    asked = "/v1/picture?bands=4,3,2&scale=fixed:0,4000"
    answer = send(client, ("image", data), url=asked)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-image-size"] == "30,20"
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    wanted = np.moveaxis(values[[3, 2, 1]], 0, -1) * (255 / 4_000)
    assert np.abs(pixels - wanted).max() <= 1
    small = send(client, ("image", data), url=asked + "&side=10").content
    assert Image.open(io.BytesIO(small)).size == (10, 7)
    assert client.post("/v1/picture", json={}).status_code == 400
    assert send(client, ("image", data), url="/v1/picture?scale=much").status_code == 400


def test_a_rendered_raster_finds_what_the_raster_finds(client, send, tmp_path):
    values = np.random.default_rng(6).integers(0, 256, (3, 24, 24), dtype=np.uint8)
    path = tmp_path / "three.tif"
    profile = {"driver": "GTiff", "width": 24, "height": 24, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    rendered = send(client, ("image", path.read_bytes()), url="/v1/picture").content
    one, other = (
        send(client, ("image", data), url="/v1/search").json()["hits"]
        for data in (path.read_bytes(), rendered)
    )
    assert one == other

"""Saved searches over HTTP, evaluated by services after an archive changed; each hit once."""

import json
import shutil
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient

import landcue
import pixel_encoder as tools
import services
from landcue.archive.ingest import ingest
from landcue.search import open_archive
from landcue.server.archives import Catalog, Served

BASE = "http://127.0.0.1"


def add_images(root, first, count):
    names = [f"{i:03}.png" for i in range(first, first + count)]
    records = tools.write_images(root / "source", names, first_seed=first)
    ingest(records, root / "area", tools.PixelEncoder(), source_root=root / "source")


def service(root, **settings):
    served = Served("area", open_archive(root / "area", model=tools.PixelEncoder))
    return TestClient(services.application(Catalog([served]), **settings), base_url=BASE)


def wait_for(check):
    end = time.monotonic() + 60
    while not (value := check()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


@pytest.fixture
def root(tmp_path):
    add_images(tmp_path, 0, 12)
    return tmp_path


def test_a_search_is_saved_listed_and_removed(root, is_problem):
    with service(root, follow_seconds=0) as client:
        assert client.get("/v1/watches").json() == {"archive": "area", "watches": []}
        search = {"id": "000.png", "min_score": 0.4}
        saved = client.post("/v1/watches", json={"name": "alike", "search": search})
        assert saved.status_code == 201, saved.text
        (one,) = saved.json()["watches"]
        assert (one["name"], one["query"], one["min_score"]) == ("alike", "000.png", 0.4)
        near = client.post("/v1/watches", json={"name": "near", "search": {"id": "000.png"}})
        wanted = landcue.open(root / "area").watches
        wanted.add("again", landcue.open(root / "area").embed("000.png"))
        least = {one.name: one.min_score for one in wanted.list()}
        assert near.json()["watches"][1]["min_score"] == least["near"] == least["again"]
        labeled = {"name": "water", "search": {"filters": {"labels": "water"}}}
        assert client.post("/v1/watches", json=labeled).status_code == 201
        for given, status, word in (
            ({"name": "alike", "search": search}, 400, "there is a saved search 'alike'"),
            ({"name": "x", "search": {}}, 400, "nothing to watch for"),
            ({"name": "x", "search": {"id": "none"}}, 404, "none"),
            ({"name": "x", "search": search, "percentile": 5}, 400, "not both"),
            ({"name": "x", "search": {"min_percentile": 5}}, 400, "send percentile beside"),
            ({"name": "x"}, 422, "search"),
        ):
            assert word in is_problem(client.post("/v1/watches", json=given), status)
        left = client.delete("/v1/watches/near").json()["watches"]
        assert [one["name"] for one in left] == ["again", "alike", "water"]
        is_problem(client.delete("/v1/watches/near"), 404)


def test_services_report_each_new_record_once(root):
    with service(root, follow_seconds=0.2) as one, service(root, follow_seconds=0.2) as two:
        search = {"id": "000.png", "min_score": -1}
        one.post("/v1/watches", json={"name": "any", "search": search})
        add_images(root, 12, 30)
        new = [f"{i:03}.png" for i in range(12, 42)]

        def found(client, after=0):
            return client.get("/v1/watches/hits", params={"after": after}).json()["hits"]

        hits = wait_for(lambda: found(one))
        assert sorted(hit["id"] for hit in hits) == new
        assert found(two) == hits
        add_images(root, 42, 1)
        wait_for(lambda: found(two, hits[-1]["number"]))
        assert [hit["id"] for hit in found(one, hits[-1]["number"])] == ["042.png"]
        assert len(found(one)) == 31
        archive = landcue.open(root / "area")
        query = archive.embed("000.png")[0]
        vectors = dict(zip(archive.columns().ids, archive.columns().embedding, strict=True))
        for hit in hits:
            assert np.isclose(hit["score"], float(vectors[hit["id"]] @ query), atol=1e-6)
        lines = one.get("/v1/watches/hits", params={"format": "jsonl", "most": 4}).text
        assert [json.loads(line)["id"] for line in lines.splitlines()] == [
            h["id"] for h in hits[:4]
        ]
        feed = ET.fromstring(one.get("/v1/watches/hits", params={"format": "atom"}).content)
        assert len(feed.findall("{http://www.w3.org/2005/Atom}entry")) == 31


def test_an_uploaded_query_is_taken_from_its_collection(root, send, tmp_path, is_problem):
    """New records are compared with the image itself, not with what else the search holds."""
    tools.write_images(tmp_path / "mine", ["query.png"], first_seed=13)
    upload = ("image", (tmp_path / "mine/query.png").read_bytes())
    with service(root, follow_seconds=0.2, collections_file=root / "kept.sqlite") as client:
        made = send(client, upload, url="/v1/collections", name="mine", query={"k": 5}).json()
        search = {"images_of": made["id"], "min_score": 0.9999}
        saved = client.post("/v1/watches", json={"name": "same", "search": search})
        assert saved.status_code == 201, saved.text
        assert saved.json()["watches"][0]["query"] == "mine"
        wrong = {"name": "other", "search": {"images_of": "none"}}
        is_problem(client.post("/v1/watches", json=wrong), 404)
        add_images(root, 12, 4)
        hits = wait_for(lambda: client.get("/v1/watches/hits").json()["hits"])
        assert [hit["id"] for hit in hits] == ["013.png"]


def test_what_was_added_while_no_service_ran_is_reported_at_its_start(root):
    archive = landcue.open(root / "area")
    archive.watches.add("any", archive.embed("000.png"), min_score=-1)
    add_images(root, 12, 2)
    with service(root, follow_seconds=0) as client:
        hits = wait_for(lambda: client.get("/v1/watches/hits").json()["hits"])
    assert [hit["id"] for hit in hits] == ["012.png", "013.png"]


def test_a_watch_of_another_model_is_logged_and_kept(root, log_lines):
    archive = landcue.open(root / "area")
    archive.watches.add("old", archive.embed("000.png"), min_score=-1)
    shutil.move(root / "area.watches.sqlite", root / "kept")
    other = tools.PixelEncoder()
    records = [replace(one) for one in tools.write_images(root / "source", ["z.png"])]
    shutil.rmtree(root / "area")
    other.fingerprint = "f" * 64
    ingest(records, root / "area", other, source_root=root / "source")
    shutil.move(root / "kept", root / "area.watches.sqlite")
    opened = Served("area", open_archive(root / "area"))
    with TestClient(services.application(Catalog([opened])), base_url=BASE) as client:
        wait_for(lambda: any("made with another model" in line for line in log_lines))
        assert len(client.get("/v1/watches").json()["watches"]) == 1

"""Saved searches over HTTP, evaluated by services after an archive changed; each hit once."""

import contextlib
import json
import shutil
import sqlite3
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

import landcue
import pixel_encoder as tools
import services
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.client import Client, ServiceError
from landcue.errors import UsageError
from landcue.search import open_archive
from landcue.server.archives import Catalog, Served
from landcue.server.settings import Tokens

BASE = "http://127.0.0.1"


def add_images(root, first, count):
    names = [f"{i:03}.png" for i in range(first, first + count)]
    records = tools.write_images(root / "source", names, first_seed=first)
    ingest(SourceImages(records, root / "source"), root / "area", tools.PixelEncoder())


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
            ({"name": "alike", "search": search}, 400, "There is a saved search 'alike'"),
            ({"name": "x", "search": {}}, 400, "Nothing to watch for"),
            ({"name": "..", "search": search}, 400, "cannot have the name"),
            ({"name": "x", "search": {"id": "none"}}, 404, "none"),
            ({"name": "x", "search": search, "percentile": 5}, 400, "not both"),
            ({"name": "x", "search": {"min_percentile": 5}}, 400, "Send percentile beside"),
            ({"name": "x"}, 422, "search"),
        ):
            assert word in is_problem(client.post("/v1/watches", json=given), status)
        left = client.delete("/v1/watches/near").json()["watches"]
        assert [one["name"] for one in left] == ["again", "alike", "water"]
        is_problem(client.delete("/v1/watches/near"), 404)


def test_saved_searches_and_the_hits_of_an_answer_are_limited(root, is_problem):
    with service(root, follow_seconds=0) as client:
        search = {"id": "000.png", "min_score": 0.4}
        assert client.post("/v1/watches", json={"name": "0", "search": search}).status_code == 201
        with contextlib.closing(sqlite3.connect(landcue.open(root / "area").watches.path)) as file:
            file.row_factory = sqlite3.Row
            row = dict(file.execute("SELECT * FROM watches").fetchone())
            words = ", ".join(f":{name}" for name in row)
            others = [{**row, "id": str(n), "name": str(n)} for n in range(1, 1_000)]
            file.executemany(f"INSERT INTO watches ({', '.join(row)}) VALUES ({words})", others)
            file.commit()
        more = client.post("/v1/watches", json={"name": "more", "search": search})
        assert "at most 1,000 saved searches" in is_problem(more, 413)
        assert len(client.get("/v1/watches").json()["watches"]) == 1_000
        is_problem(client.get("/v1/watches/hits", params={"most": 10_001}), 422)


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


def test_a_search_is_saved_in_a_collection_and_shown_again(root, is_problem):
    with service(root, follow_seconds=0, collections_file=root / "kept.sqlite") as client:
        made = client.post("/v1/collections", json={"name": "mine"}).json()
        search = {"id": "000.png", "filters": {"labels": "not water"}, "mode": "code"}
        given = {"name": "a/b", "collection": made["id"], "search": search}
        (one,) = client.post("/v1/watches", json=given).json()["watches"]
        assert (one["collection"], one["search"], one["problem"]) == (made["id"], search, None)
        assert client.post("/v1/search", json=one["search"]).status_code == 200
        client.post("/v1/watches", json={"name": "loose", "search": {"id": "001.png"}})
        listed = client.get("/v1/watches", params={"collection": made["id"]}).json()["watches"]
        assert [each["name"] for each in listed] == ["a/b"]
        assert landcue.open(root / "area").watches.list(made["id"])[0].search == search
        is_problem(client.post("/v1/watches", json={**given, "name": "x", "collection": "?"}), 404)
        # It outlives its collection.
        client.delete(f"/v1/collections/{made['id']}")
        names = [each["name"] for each in client.get("/v1/watches").json()["watches"]]
        assert names == ["a/b", "loose"]
        left = client.delete("/v1/watches/a%2Fb").json()["watches"]
        assert [each["name"] for each in left] == ["loose"]


def test_a_feed_needs_no_token_but_its_own_key(root, is_problem):
    tokens = Tokens(read=("r" * 20,), feedback=("f" * 20,))
    may, reads = ({"Authorization": f"Bearer {one * 20}"} for one in "fr")
    with service(root, follow_seconds=0.2, tokens=tokens) as client:
        for name in ("any", "other"):
            given = {"name": name, "search": {"id": "000.png", "min_score": -1}}
            is_problem(client.post("/v1/watches", json=given, headers=reads), 403)
            assert client.post("/v1/watches", json=given, headers=may).status_code == 201
        is_problem(client.post("/v1/watches/any/feed", headers=reads), 403)
        is_problem(client.post("/v1/watches/none/feed", headers=may), 404)
        path = client.post("/v1/watches/any/feed", headers=may).json()["path"]
        add_images(root, 12, 3)

        def entries(path):
            answer = client.get(f"/{path}")
            assert answer.headers["content-type"].startswith("application/atom+xml")
            return ET.fromstring(answer.content).findall("{http://www.w3.org/2005/Atom}entry")

        assert len(wait_for(lambda: entries(path))) == 3  # of one search, not of both
        key = path.partition("key=")[2]
        assert key.encode() not in b"".join(one.read_bytes() for one in root.glob("*.sqlite*"))
        is_problem(client.get("/v1/watches/hits"), 401)
        is_problem(client.get(f"/v1/watches/hits?archive=area&key={key}"), 401)
        is_problem(client.delete("/v1/watches/feed"), 401)
        for wrong in ("", key[:-1], key + "a", key.swapcase()):
            is_problem(client.get("/v1/watches/feed", params={"key": wrong}), 404)
        is_problem(client.get("/v1/watches/feed"), 422)
        for archive in (None, "nowhere"):  # who has no token learns no name and no version
            asked = {"key": "wrong"} | ({"archive": archive} if archive else {})
            answer = client.get("/v1/watches/feed", params=asked)
            assert "no saved search has this feed" in is_problem(answer, 404).lower()
            assert "X-Archive-Version" not in answer.headers
        fresh = client.post("/v1/watches/any/feed", headers=may).json()["path"]
        is_problem(client.get(f"/{path}"), 404)
        assert len(entries(fresh)) == 3
        client.delete("/v1/watches/any", headers=may)
        is_problem(client.get(f"/{fresh}"), 404)


def test_feeds_count_toward_the_rate(root, is_problem):
    served = Served("area", open_archive(root / "area"))
    limits = {"per_second": 0.2}
    app = services.application(Catalog([served]), limits, tokens=Tokens(read=("r" * 20,)))
    with TestClient(app, base_url=BASE) as client:
        asked = [client.get("/v1/watches/feed", params={"key": str(i)}) for i in range(4)]
        assert {answer.status_code for answer in asked} == {404, 429}


def test_the_client_keeps_saved_searches_of_a_collection(root):
    served = Served("area", open_archive(root / "area", model=tools.PixelEncoder))
    app = services.application(Catalog([served]), collections_file=root / "kept.sqlite")
    with services.running(app) as port:
        client = Client(f"http://127.0.0.1:{port}")
        made = client.create_collection("mine")
        client.save_watch("loose", record="001.png")
        client.save_watch("a/b ?", record="000.png", collection=made.id)
        (one,) = client.watches(made.id)
        assert (one.name, one.search["id"]) == ("a/b ?", "000.png")
        address = client.watch_feed("a/b ?")
        assert httpx.get(address).content.startswith(b"<?xml")
        assert [each.name for each in client.remove_watch("a/b ?")] == ["loose"]
        for images in ({"image": b"x"}, {"positives": [b"x"]}):  # what is left must not be saved
            with pytest.raises(UsageError, match=r"takes no images: .* images_of"):
                client.save_watch("alike", labels="a", **images)
        assert [each.name for each in client.watches()] == ["loose"]
        first = client.change_collection(made.id, [{"id": "000.png", "mark": "good"}])
        client.change_collection(made.id, [{"id": "001.png", "mark": "bad"}])
        with pytest.raises(ServiceError, match="was changed since it was read"):
            client.undo_collection(made.id, revision=first.revision)
        assert client.undo_collection(made.id, revision=first.revision + 1).revision == 1


def test_what_was_added_while_no_service_ran_is_reported_at_its_start(root):
    archive = landcue.open(root / "area")
    archive.watches.add("any", archive.embed("000.png"), min_score=-1)
    add_images(root, 12, 2)
    with service(root, follow_seconds=0) as client:
        hits = wait_for(lambda: client.get("/v1/watches/hits").json()["hits"])
    assert [hit["id"] for hit in hits] == ["012.png", "013.png"]


@pytest.mark.slow
def test_killed_services_lose_no_evaluation_and_repeat_none(root, serve):
    archive = landcue.open(root / "area")
    archive.watches.add("any", archive.embed("000.png"), min_score=-1)
    process, address, _ = serve(root / "area")
    blocker = sqlite3.connect(archive.watches.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    add_images(root, 12, 5)
    wait_for(
        lambda: len(archive) + 5 == httpx.get(f"{address}/v1").json()["archives"][0]["records"]
    )
    process.kill()
    process.wait()
    blocker.execute("COMMIT")
    assert archive.watches.hits() == []
    process, _, _ = serve(root / "area")
    wait_for(archive.watches.hits)
    add_images(root, 17, 5)
    wait_for(lambda: archive.watches.hits(5))
    process.kill()
    process.wait()
    add_images(root, 22, 5)
    _, address, _ = serve(root / "area")
    wait_for(lambda: archive.watches.hits(10))
    hits = httpx.get(f"{address}/v1/watches/hits").json()["hits"]
    assert sorted(hit["id"] for hit in hits) == [f"{i:03}.png" for i in range(12, 27)]


def test_a_watch_of_another_model_is_logged_and_kept(root, log_lines):
    archive = landcue.open(root / "area")
    archive.watches.add("old", archive.embed("000.png"), min_score=-1)
    shutil.move(root / "area.watches.sqlite", root / "kept")
    other = tools.PixelEncoder()
    records = [replace(one) for one in tools.write_images(root / "source", ["z.png"])]
    shutil.rmtree(root / "area")
    other.fingerprint = "f" * 64
    ingest(SourceImages(records, root / "source"), root / "area", other)
    shutil.move(root / "kept", root / "area.watches.sqlite")
    opened = Served("area", open_archive(root / "area"))
    with TestClient(services.application(Catalog([opened])), base_url=BASE) as client:
        wait_for(lambda: any("made with another model" in line for line in log_lines))
        (one,) = client.get("/v1/watches").json()["watches"]
        assert one["problem"] == "it was made with another model: remove it and add it again"
        assert client.get("/v1/watches/hits").json()["hits"] == []

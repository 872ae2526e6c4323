"""Vectors over HTTP and through the client: of which space they are."""

import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from fitted_archives import make_archives
from landcue.client.transport import search_content, with_query
from landcue.models.load import BUILTIN, load_model
from landcue.server.archives import Catalog, Served
from services import application

BARE = "A vector does not say of which space it is"
ID = "sand003.png"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("spaces")
    photos, *archives = make_archives(root)
    names = ("one", "other", "own")
    served = [Served(name, archive) for name, archive in zip(names, archives, strict=True)]
    app = application(Catalog(served), collections_file=root / "collections.sqlite")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client, photos, *archives


def asked(client, **request):
    return client.post("/v1/search", json={"k": 3, "mode": "embedding", **request})


def hits(answer):
    assert answer.status_code == 200, answer.text
    return [(hit["id"], round(hit["distance"], 3)) for hit in answer.json()["hits"]]


def test_a_vector_is_converted_or_refused(world, is_problem):
    client, photos, one, other, own = world
    encoder = load_model(BUILTIN).encode([photos / ID]).embedding[0].tolist()
    vectors = {archive: archive.embed(ID)[0].tolist() for archive in (one, other, own)}
    wanted = hits(client.post("/v1/search", data={"request": '{"k": 3, "mode": "embedding"}'},
                              files={"image": ("x", (photos / ID).read_bytes())}))  # fmt: skip
    assert wanted[0] == (ID, 0)
    for vector, space in (
        (vectors[one], "archive"), (vectors[one], one.manifest.fingerprint),
        (encoder, "encoder"), (encoder, own.manifest.fingerprint),
        ([1e300 * value for value in encoder], "encoder"),
    ):  # fmt: skip
        assert hits(asked(client, archive="one", vector=vector, space=space)) == wanted
    assert hits(asked(client, archive="own", vector=encoder))[0] == (ID, 0)  # nothing was fitted
    assert BARE in is_problem(asked(client, archive="one", vector=vectors[one]), 400)
    foreign = asked(client, archive="one", vector=vectors[other], space=other.manifest.fingerprint)
    assert "it cannot be converted" in is_problem(foreign, 400)
    assert asked(client, archive="one", vector=encoder, space="").status_code == 422


def test_the_client_sends_the_space_of_what_landcue_returned(world):
    client, _, one, other, own = world
    for archive, name in ((one, "one"), (own, "one"), (other, "other")):
        content = search_content({**with_query(archive.embed(ID), {}), "archive": name, "k": 3})
        assert json.loads(content.text)["space"] == archive.manifest.fingerprint
        answer = client.post("/v1/search", content=content.text,
                             headers={"Content-Type": "application/json"})  # fmt: skip
        assert hits(answer)[0] == (ID, 0)
    plain = with_query(np.array(one.embed(ID)), {"space": "archive"})
    assert plain["space"] == "archive"
    assert "space" not in with_query(np.array(one.embed(ID)), {})


def test_what_is_kept_says_its_space_by_a_fingerprint(world, is_problem):
    client, _, one, _, own = world
    vector = one.embed(ID)[0].tolist()
    query = {"archive": "one", "vector": vector}
    saved = {"name": "sand", "search": {**query, "space": "archive", "min_score": 0.9}}
    watches = client.post("/v1/watches", json=saved).json()["watches"]
    assert watches[0]["search"]["space"] == one.manifest.fingerprint
    refused = client.post("/v1/watches", json={"name": "bare", "search": {**query, "min_score": 0}})
    assert BARE in is_problem(refused, 400)
    made = client.post("/v1/collections", json={
        "archive": "one", "name": "sands", "query": {**query, "space": "archive"}})  # fmt: skip
    kept = made.json()
    assert kept["query"]["space"] == one.manifest.fingerprint
    bare = {"archive": "one", "name": "bare", "query": query}
    assert BARE in is_problem(client.post("/v1/collections", json=bare), 400)
    file = client.get(f"/v1/collections/{kept['id']}/export").json()
    again = client.post("/v1/collections/import?archive=one", json=file).json()
    here = {**again["collection"]["query"], "archive": "one"}
    assert (again["problems"], here) == ([], kept["query"])
    moved = client.post("/v1/collections/import?archive=other", json=file).json()
    left_out = "The vector of the query was left out: it is not known to be of this model"
    assert (moved["problems"], moved["collection"]["query"]) == ([left_out], {})
    own_query = {"vector": own.embed(ID)[0].tolist(), "space": "archive"}
    made = client.post("/v1/collections", json={
        "archive": "own", "name": "own", "query": {"archive": "own", **own_query}})  # fmt: skip
    file = client.get(f"/v1/collections/{made.json()['id']}/export").json()
    moved = client.post("/v1/collections/import?archive=other", json=file).json()
    assert moved["problems"] == []
    answer = asked(client, archive="other", **moved["collection"]["query"])
    assert hits(answer)[0] == (ID, 0)  # converted


def test_exported_embeddings_say_their_space(world):
    client, _, one, _, _ = world
    for kind in ("npy", "arrow"):
        answer = client.post(f"/v1/export?format={kind}", json={"archive": "one", "id": ID})
        assert answer.headers["x-model-fingerprint"] == one.manifest.fingerprint

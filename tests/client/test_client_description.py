"""The client against the OpenAPI description: every path has a method, every field a place."""

from __future__ import annotations

import inspect
import re
import urllib.request

import services
from landcue import client as module
from landcue.client import Client
from landcue.server.app import description
from landcue.server.archives import Catalog

DESCRIBED = description()
SCHEMAS = DESCRIBED["components"]["schemas"]

# What no method asks for. The page and the description itself are not described.
WITHOUT = {
    "/healthz": "a probe: `health` asks /readyz, which answers only where /healthz does",
    "/metrics": "Prometheus reads it",
    **dict.fromkeys(
        ("/v1/change", "/v1/change/export", "/v1/raster/export", "/v1/records/{id}/timeline"),
        "tests/server/test_changes.py: they need records of several dates",
    ),
}


def made(client):
    return client.create_collection("roads", [{"id": "road01.png", "mark": "good"}]).id


def kept(client):
    image = client.thumbnail("road01.png")
    return client.create_collection("like this", query={"image": image}).id


# Of several dates: tests/server/test_changes.py.
DATED = {"change", "export_change", "export_raster", "timeline"}

CALLS = {
    "archive": lambda client, folder: client.archive(),
    "archives": lambda client, folder: client.archives(),
    "close": lambda client, folder: None,  # it sends nothing
    "chip": lambda client, folder: client.chip("road01.png"),
    "change_collection": lambda client, folder: client.change_collection(
        made(client), [{"id": "road01.png", "labels": ["road"]}]
    ),
    "collection": lambda client, folder: client.collection(made(client)),
    "collection_image": lambda client, folder: client.collection_image(kept(client)),
    "collection_labels": lambda client, folder: client.collection_labels(made(client)),
    "collections": lambda client, folder: client.collections(),
    "create_collection": lambda client, folder: made(client),
    "delete_collection": lambda client, folder: client.delete_collection(made(client)),
    "export_collection": lambda client, folder: client.export_collection(
        kept(client), folder / "kept.json"
    ),
    "import_collection": lambda client, folder: client.import_collection(folder / "kept.json"),
    "suggest": lambda client, folder: client.suggest(collection=made(client)),
    "undo_collection": lambda client, folder: client.undo_collection(made(client)),
    "embedding_map": lambda client, folder: client.embedding_map(),
    "export": lambda client, folder: client.export(folder / "hits.csv", record="road01.png"),
    "facets": lambda client, folder: client.facets(),
    "health": lambda client, folder: client.health(),
    "labels": lambda client, folder: client.labels(),
    "model": lambda client, folder: client.model(),
    "pages": lambda client, folder: list(client.pages(record="road01.png", k=7)),
    "picture": lambda client, folder: client.picture(client.thumbnail("road01.png")),
    "places": lambda client, folder: client.places(record="road01.png"),
    "score_counts": lambda client, folder: client.score_counts(record="road01.png"),
    "record": lambda client, folder: client.record("road01.png"),
    "save_watch": lambda client, folder: client.save_watch("roads", record="road01.png"),
    "export_watches": lambda client, folder: client.export_watches(folder / "searches.json"),
    "import_watches": lambda client, folder: client.import_watches(folder / "searches.json"),
    "watch_feed": lambda client, folder: urllib.request.urlopen(client.watch_feed("roads")).close(),
    "regions": lambda client, folder: client.regions("road01.png", record="road03.png"),
    "scores": lambda client, folder: client.scores(),
    "search": lambda client, folder: client.search(record="road01.png"),
    "remove_watch": lambda client, folder: client.remove_watch("roads"),
    "watch_hits": lambda client, folder: client.watch_hits(),
    "watches": lambda client, folder: client.watches(),
    "thumbnail": lambda client, folder: client.thumbnail("road01.png"),
}


def test_every_path_is_asked_for_by_a_method(views, tmp_path):
    methods = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"}
    assert set(CALLS) | DATED == methods
    app = services.application(
        Catalog.open([views[1]]),
        collections_file=tmp_path / "picks",
    )
    with services.running(app) as port:
        url = f"http://127.0.0.1:{port}"
        client = Client(url)
        while client.health() != "ready":
            pass
        for call in CALLS.values():
            call(client, tmp_path)
        with urllib.request.urlopen(f"{url}/metrics") as answer:
            counted = answer.read().decode()
    asked = set(re.findall(r'route="([^"]+)",status="2\d\d"', counted))
    asked = {path.replace(":path}", "}") for path in asked}
    assert asked.isdisjoint(WITHOUT)
    assert asked | set(WITHOUT) == set(DESCRIBED["paths"])


def test_every_answer_is_exported():
    bodies = {"Filters", "SearchRequest"}
    bodies |= {"CollectionRequest", "CollectionChange", "Mark", "SuggestRequest", "ChangeRequest"}
    bodies |= {"WatchRequest", "CollectionFile", "ImageFile", "MemberFile"}
    bodies |= {"WatchesFile", "WatchFile"}
    shown_otherwise = {
        "CollectionsAnswer",
        "TimelineAnswer",
        "WatchHitsAnswer",
        "FeedAnswer",
        "WatchesAnswer",
        "ArchivesAnswer",
        "ArchiveSummary",
        "LabelsAnswer",
        "Problem",
        "FieldError",
    }
    answers = {name for name in SCHEMAS if "ValidationError" not in name}
    assert answers - bodies - shown_otherwise == set(module.__all__) - {
        *("Client", "MapPoint", "SearchArguments", "ServiceError")
    }

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from landcue.archive.archive import Archive
from landcue.archive.ingest import ingest
from landcue.serve.app import create_app
from landcue.serve.catalog import Catalog
from landcue.serve.served import Served
from landcue.serve.settings import Limits, Settings
from landcue.types import Bounds

BASE = "http://127.0.0.1"
START = datetime(2024, 1, 1, tzinfo=UTC)


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools = _load("serve_pixel_encoder", "archive/pixel_encoder.py")
made_archive = _load("serve_made_archive", "search/made_archive.py")


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Thirty images in two folders below a source root."""
    root = tmp_path_factory.mktemp("serve") / "source"
    names = [f"{'port' if i % 2 else 'farm'}/{i:02}.png" for i in range(30)]
    records = tools.write_images(root, names)
    for i, record in enumerate(records):
        labels = ("water", "ship") if i % 2 else ("field",)
        box = Bounds(i, 0, i + 0.5, 1) if i else Bounds(179, -1, -179, 1)
        records[i] = replace(
            record, labels=labels if i < 20 else None, bounds=box, time=START + timedelta(days=i)
        )
    return root, records


@pytest.fixture(scope="session")
def photos(source, tmp_path_factory):
    """An archive of real images, with the encoder that made it."""
    root, records = source
    folder = tmp_path_factory.mktemp("served") / "photos"
    ingest(records, folder, tools.PixelEncoder(), source_root=root)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """An archive of made-up records without images or a model."""
    folder = tmp_path_factory.mktemp("served2") / "made"
    made_archive.make_archive(folder, n=200).close()
    return folder


@pytest.fixture(scope="session")
def start(photos, made):
    """Return a client of a service of both archives, with the settings given."""

    def start(limits=None, folders=None, **settings):
        served = [
            Served("photos", Archive.open(folder), tools.PixelEncoder)
            if folder.name != "made"
            else Served("made", Archive.open(folder))
            for folder in folders or (photos, made)
        ]
        limits = Limits(**{"decoders": 1, "encoders": 1, **(limits or {})})
        app = create_app(Catalog(served), Settings(limits=limits, **settings))
        return TestClient(app, base_url=BASE, raise_server_exceptions=False)

    return start


@pytest.fixture(scope="module")
def client(start):
    with start() as client:
        yield client


@pytest.fixture(scope="session")
def send():
    """Post a search with files; returns the answer."""

    def send(client, *files, url="/v1/search", **request):
        parts = [(name, ("x", data, "image/png")) for name, data in files]
        return client.post(url, data={"request": json.dumps(request)}, files=parts)

    return send


@pytest.fixture(scope="session")
def png():
    """Return an image file of a size, black or of seeded noise."""

    def png(width=40, height=30, seed=None):
        pixels = np.zeros((height, width, 3), np.uint8)
        if seed is not None:
            pixels = np.random.default_rng(seed).integers(0, 255, pixels.shape).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        return out.getvalue()

    return png


@pytest.fixture(scope="session")
def is_problem():
    """Check that an answer is a problem of a status, and return its detail."""

    def is_problem(answer, status):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        value = answer.json()
        assert value["status"] == status
        assert value["title"]
        detail = value["detail"]
        assert detail
        assert "\n" not in detail
        assert "Traceback" not in answer.text
        return detail

    return is_problem


@pytest.fixture(scope="session")
def plain(photos):
    """The same archive, searched without a service."""
    from landcue.search.searcher import Searcher

    return Searcher(Archive.open(photos), tools.PixelEncoder())


@pytest.fixture(scope="session")
def call():
    """Send one request to an application by hand: ``receive`` gives the body's messages."""

    async def call(app, path, receive, headers=(), method="POST"):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], json.loads(body)

    return call


@pytest.fixture(scope="session")
def encoder():
    """The encoder that made the archive of real images."""
    return tools.PixelEncoder()

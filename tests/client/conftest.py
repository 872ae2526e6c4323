from __future__ import annotations

import contextlib
import importlib.util
import threading
from pathlib import Path

import pytest
import uvicorn

from landcue.archive.archive import Archive
from landcue.serve.app import create_app
from landcue.serve.catalog import Catalog
from landcue.serve.served import Served
from landcue.serve.settings import Limits, Settings


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_service = _load("client_service_fixtures", "serve/conftest.py")
source, photos, made = _service.source, _service.photos, _service.made
plain, encoder, png = _service.plain, _service.encoder, _service.png


@contextlib.contextmanager
def running(app):
    """Run an application on a free port of loopback; gives its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    sock = config.bind_socket()
    sock.listen(64)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        sock.close()


@pytest.fixture(scope="session")
def start(photos, made):
    """Return a context manager that serves both archives; gives the address."""

    def start(limits=None, encoder=_service.tools.PixelEncoder, **settings):
        catalog = Catalog(
            [
                Served("photos", Archive.open(photos), encoder),
                Served("made", Archive.open(made)),
            ]
        )
        limits = Limits(**{"decoders": 1, "encoders": 1, **(limits or {})})
        return running(create_app(catalog, Settings(limits=limits, **settings)))

    return start


@pytest.fixture(scope="module")
def url(start):
    with start() as url:
        yield url

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time

import pytest
from fastapi.testclient import TestClient

import services
from landcue.server.metrics import JsonLines

BASE = "http://127.0.0.1"
source, photos, made = services.source, services.photos, services.made
app, plain, encoder = services.app, services.plain, services.encoder
png, views = services.png, services.views


@pytest.fixture(scope="session")
def start(app):
    """Return a client of a service of both archives, with the settings given."""

    def start(limits=None, folders=None, **settings):
        made = app(limits, folders, **settings)
        return TestClient(made, base_url=BASE, raise_server_exceptions=False)

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
        assert not re.match("[a-z]+[ ,]", detail), f"begins with a small letter: {detail}"
        for one in value.get("errors", ()):  # it follows the name of a field
            assert not re.match("[A-Z][a-z]", one["what"]), one
        assert "Traceback" not in answer.text
        return detail

    return is_problem


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


@pytest.fixture
def log_lines():
    """The lines that services log while the test runs."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(JsonLines().format(record))

    logger, handler = logging.getLogger("landcue.server"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def serve(tmp_path):
    """Start the command; returns its process, address and log. It ends with the test."""
    processes = []

    def serve(*words):
        log = tmp_path / f"log{len(processes)}"
        command = [sys.executable, "-m", "landcue.cli.main", "serve", *map(str, words)]
        with log.open("w") as file:  # a pipe that nobody reads would stop it
            process = subprocess.Popen([*command, "--port", "0"], stderr=file)
        processes.append(process)
        while "\n" not in (said := log.read_text()):
            assert process.poll() is None, said
            time.sleep(0.05)
        line = said.partition("\n")[0]
        assert line.startswith("serving "), said
        return process, line.split()[-1], log

    yield serve
    for process in processes:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()

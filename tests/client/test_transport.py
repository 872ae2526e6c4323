from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from landcue.client import Client, ServiceError
from landcue.errors import UsageError


@contextlib.contextmanager
def answering(*answers):
    """Run another server: it gives (status, headers, body) in turn, the last one for ever."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[min(len(asked), len(answers) - 1)]
            asked.append((time.monotonic(), self.path, dict(self.headers)))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, args=(0.01,)
        )  # polls for its shutdown
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


LABELS = (200, {}, b'{"archive": "a", "labels": []}')


def fails(url, part, **options):
    with pytest.raises(ServiceError) as caught:
        Client(url, **options).labels()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_busy_service_is_asked_again_when_it_says(start):
    with start({"per_second": 1.0, "rate_seconds": 4}) as url:  # four at once
        client = Client(url)
        for _ in range(4):
            client.labels()
        error = fails(url, "429: Too many requests", retries=0)
        assert (error.status, error.request_id is None) == (429, False)
        fails(url, "429", longest_wait=0.5)
        assert client.labels()


def test_it_waits_as_long_as_it_is_told_and_gives_up_at_some_point():
    busy = (429, {"Retry-After": "1"}, b"")
    with answering(busy, LABELS) as (url, asked):
        assert Client(url).labels() == ()
        assert [path for _, path, _ in asked] == ["/v1/labels"] * 2
        assert asked[1][0] - asked[0][0] >= 1.0
    with answering((429, {"Retry-After": "0"}, b"")) as (url, asked):
        assert fails(url, "429", retries=3).status == 429
        assert len(asked) == 4
    with answering((429, {"Retry-After": "3600"}, b"")) as (url, asked):
        fails(url, "429")
        assert len(asked) == 1


def test_retry_after_may_be_a_date():
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    far = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    with answering((429, {"Retry-After": past}, b""), LABELS) as (url, asked):
        assert Client(url).labels() == ()
        assert len(asked) == 2
    with answering((429, {"Retry-After": far}, b"")) as (url, asked):
        fails(url, "429")
        assert len(asked) == 1
    # Neither a number nor a date: a second, then two, and so on.
    with answering((429, {"Retry-After": "soon"}, b"")) as (url, asked):
        fails(url, "429", longest_wait=0.5)
        assert len(asked) == 1


def test_other_failures_are_not_repeated():
    with answering((503, {"Retry-After": "0"}, b"")) as (url, asked):
        assert fails(url, "503: Service Unavailable").status == 503
        assert len(asked) == 1


def test_redirects_are_not_followed():
    with answering(LABELS) as (other, asked):
        for status in (301, 302, 303, 307, 308):
            with answering((status, {"Location": f"{other}/v1/labels"}, b"")) as (url, _):
                assert fails(url, str(status), token="t" * 24).status == status
        assert asked == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"[1]", b"{}", b'{"labels": 3}', b'{"labels": [{"name": 1}]}', b"\xff"]
)
def test_answers_of_other_servers_are_recognized(body):
    with answering((200, {}, body)) as (url, _):
        assert fails(url, "not LandCue's").status is None
    with answering((502, {}, body)) as (url, _):
        assert fails(url, "502: Bad Gateway").status == 502


def test_a_service_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        port = free.getsockname()[1]
        error = fails(f"http://127.0.0.1:{port}", "is it running there?")
    assert (error.status, error.request_id) == (None, None)


def test_a_service_that_does_not_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        fails(url, "no answer within 0.2 s", timeout=0.2)


def test_an_answer_cut_short_is_an_error():
    with answering((200, {"Content-Length": "1000"}, LABELS[2])) as (url, _):
        fails(url, "cannot be reached")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("facets", b'{"archive": "a", "datetime": ["2024-01-01"]}'),
        ("model", b'{"archive": "a", "test": 3}'),
        (
            "scores",
            b'{"archive": "a", "part": "all", "annotated": 1, "taken": 1, "about": "",'
            b' "spaces": []}',
        ),
        (
            "embedding_map",
            b'{"archive": "a", "records": 1, "shares": [1, 0], "colored_by": "group", "kinds": [],'
            b' "ids": ["a"], "x": [0], "y": [0], "kind": [0]}',
        ),
    ],
)
def test_strange_answers_of_an_archive_are_told_apart(name, body):
    with answering((200, {}, body)) as (url, _), pytest.raises(ServiceError, match="not LandCue's"):
        getattr(Client(url), name)()


def test_the_token_and_the_prefix_of_a_proxy_are_sent():
    with answering(LABELS) as (url, asked):
        Client(f"{url}/landcue/", token="secret" * 4).labels(archive="a b&c")
    _, path, headers = asked[0]
    assert path == "/landcue/v1/labels?archive=a+b%26c"
    assert headers["Authorization"] == "Bearer " + "secret" * 4
    assert headers["User-Agent"].startswith("landcue/")


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "file:///etc/passwd",
        "http://",
        "http://me:word@127.0.0.1",
        "http://127.0.0.1:port",
        "http://127.0.0.1/?a=b",
        "http://127.0.0.1/#a",
        "http://127.0.0.1/\r\nX: y",
        "",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(UsageError, match="no address of a service"):
        Client(url)


@pytest.mark.parametrize("token", ["", " ", "a\r\nX: y", "tökén"])
def test_tokens_that_are_none(token):
    with pytest.raises(UsageError, match="token") as caught:
        Client(token=token)
    assert "tökén" not in str(caught.value)

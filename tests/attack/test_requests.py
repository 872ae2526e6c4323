"""Malformed requests over the wire, and clients of workers that are killed or stopped."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import hostile
import services

pytestmark = pytest.mark.attack

views, made = services.views, services.made
REQUESTS = int(os.environ.get("LANDCUE_ATTACK_REQUESTS", "2000"))
SECONDS = float(os.environ.get("LANDCUE_ATTACK_SECONDS", "15"))
CLIENTS = 50


@pytest.fixture(scope="module")
def service(views, tmp_path_factory):
    service = hostile.Service(tmp_path_factory.mktemp("requests") / "log", views[1])
    yield service
    service.stop()


def exchange(service, data, after=b"", patience=hostile.LONG):
    """Send bytes and read until the other side closes, or is silent for some seconds."""
    answer = b""
    with socket.create_connection((service.host, service.port), timeout=hostile.LONG) as wire:
        with contextlib.suppress(ConnectionError):
            wire.sendall(data)
            wire.sendall(after)
        wire.settimeout(patience)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while block := wire.recv(65_536):
                answer += block
    return answer


def valid(service):
    """Return requests as a client sends them."""
    host = f"Host: {service.host}:{service.port}\r\nConnection: close".encode()
    search = json.dumps({"id": "field00.png", "k": 3}).encode()
    polygon = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    place = json.dumps({"filters": {"polygon": polygon, "labels": "field and not road"}}).encode()
    upload = hostile.form(hostile.picture("PNG", 20, 20), {"k": 2})
    for path in ("/healthz", "/v1/labels", "/v1/records/field00.png", "/v1/export?request={}"):
        yield b"GET " + path.encode() + b" HTTP/1.1\r\n" + host + b"\r\n\r\n"
    for body, kind in (
        *((search, b"application/json"), (place, b"application/json")),
        (upload, b"multipart/form-data; boundary=b"),
    ):
        head = b"POST /v1/search HTTP/1.1\r\n" + host + b"\r\nContent-Type: " + kind
        yield head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        yield head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


TOKENS = [
    *(
        b"\0",
        b"\r\n",
        b"\r\n\r\n",
        b" ",
        b":",
        b"%00",
        b"%2e%2e/",
        b"\xff\xfe",
        b"-1",
        b"[" * 5_000,
    ),
    *(b'{"a":' * 2_000, b"9" * 5_000, b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Origin: http://[\r\n", b"Host: [\r\n", b"\x1b[2J", b"A" * 40_000, b"null", b"1e999"),
]


def malformed(requests, rng):
    """Return a request with some bytes changed, removed or added, or cut off."""
    data = bytearray(requests[rng.integers(len(requests))])
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) + 1))
        kind = rng.integers(4)
        if kind == 0:
            data[at : at + 1] = rng.integers(0, 256, 1, np.uint8).tobytes()
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 30))]
        elif kind == 2:
            data[at:at] = TOKENS[rng.integers(len(TOKENS))]
        else:
            data = data[: max(at, 1)]
    return bytes(data)


def test_malformed_requests_get_no_server_error_and_leave_no_memory(service):
    rng, requests = np.random.default_rng(17), list(valid(service))
    assert all(b" 200 OK" in exchange(service, one).split(b"\r\n")[0] for one in requests)

    def batch(n):
        with ThreadPoolExecutor(32) as senders:
            sent = [malformed(requests, rng) for _ in range(n)]
            return list(senders.map(lambda data: exchange(service, data, patience=0.5), sent))

    batch(REQUESTS // 10)  # what grows at first: pools, caches, the allocator's arenas
    before = service.memory
    statuses = [
        int(found[1]) for one in batch(REQUESTS) if (found := re.match(rb"HTTP/1.1 (\d+)", one))
    ]
    grown = service.memory - before
    counted = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(f"{REQUESTS} requests: {counted}; memory grew by {grown / 2**20:.1f} MiB")
    assert len(statuses) > REQUESTS / 10
    assert max(statuses) < 500
    assert grown < 30 << 20
    assert service.get("/healthz") == 200
    assert "Traceback" not in service.log.read_text()


def head(service, *lines):
    host = f"Host: {service.host}:{service.port}\r\nConnection: close"
    return "\r\n".join(["POST /v1/search HTTP/1.1", host, *lines, "", ""]).encode()


def test_trailers_and_json_are_limited_and_stop_nobody(service):
    chunked = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    corner = b"[0.5,0.25],"
    with hostile.Watch(service) as watch:
        before = service.memory
        lines = exchange(
            service, head(service, *chunked) + b"2\r\n{}\r\n0\r\n", b"A: b\r\n" * 4_000_000
        )
        line = exchange(
            service, head(service, *chunked) + b"2\r\n{}\r\n0\r\nA: ", b"b" * 60_000_000
        )
        long = b'{"filters": {"polygon": {"type": "Polygon", "coordinates": [[' + corner * 1_500_000
        length = (f"Content-Length: {len(long)}", "Content-Type: application/json")
        reported = exchange(service, head(service, *length), long)
        silent = exchange(service, head(service, *chunked), b"%x\r\n" % len(long) + long)
        many = json.dumps({"polygon": {"type": "Polygon", "coordinates": [[[0, 1]] * 6_000]}})
        body = f'{{"filters": {many}}}'.encode()
        length = (f"Content-Length: {len(body)}", "Content-Type: application/json")
        corners = exchange(service, head(service, *length), body)
    print(
        f"memory at most {(watch.most - before) / 2**20:.0f} MiB more, health at worst "
        f"{1e3 * max(watch.seconds):.0f} ms"
    )
    assert not lines.startswith(b"HTTP/1.1 5")
    assert not line.startswith(b"HTTP/1.1 5")
    assert reported.startswith(b"HTTP/1.1 413")
    assert silent.startswith(b"HTTP/1.1 413")
    assert b"5,000 corners" in corners
    assert watch.most - before < 50 << 20
    assert not watch.failed


class Client(threading.Thread):
    """Searches and reads again and again, and compares with what one worker answered."""

    def __init__(self, service, known, stop, seed):
        super().__init__(daemon=True)
        self.service, self.known, self.stop = service, known, stop
        self.rng = np.random.default_rng(seed)
        self.right, self.wrong, self.lost, self.port = 0, [], [], None

    def run(self):
        connection = None
        while not self.stop.is_set():
            path, request, answer = self.known[self.rng.integers(len(self.known))]
            try:
                if connection is None:
                    connection = self.service.connect()
                    connection.connect()
                    self.port = connection.sock.getsockname()[1]
                got = ask(connection, path, request)
            except (OSError, http.client.HTTPException):
                self.lost.append(self.port)
                connection.close()
                connection = None
                continue
            self.right += got == answer
            if got != answer:
                self.wrong.append((path, got))
        if connection:
            connection.close()


def ask(connection, path, request):
    if request is None:
        connection.request("GET", path)
    elif isinstance(request, bytes):
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        connection.request("POST", path, request, kind)
    else:
        connection.request("POST", path, json.dumps(request), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    value = answer.read()
    if path == "/v1/search":
        found = json.loads(value)
        return answer.status, [(hit["id"], round(hit["distance"], 5)) for hit in found["hits"]]
    return answer.status, value


def clients_of(process):
    """Return the ports of the clients that a process has accepted."""
    found = process.net_connections("tcp")
    return {one.raddr.port for one in found if one.raddr}


def test_a_killed_and_a_stopped_worker_cost_their_connections_only(made, views, tmp_path):
    words = ("--workers", 3, "--max-upload-mb", 1)
    service = hostile.Service(tmp_path / "log", made, views[1], *words)
    upload = hostile.form(hostile.picture("PNG", 40, 40), {"archive": views[1].name, "k": 4})
    with contextlib.closing(service.connect()) as one:
        ids = json.loads(ask(one, "/v1/facets", None)[1])["examples"]
        searches = [{"id": id_, "k": 7, "mode": mode} for id_ in ids for mode in ("auto", "code")]
        asked = [("/v1/search", request) for request in searches]
        asked += [("/v1/search", {"filters": {"labels": "water"}, "k": 9}), ("/v1/labels", None)]
        asked += [(f"/v1/records/{ids[0]}", None), ("/v1/records/none", None)]
        asked += [("/v1/search", upload)]
        known = [(path, request, ask(one, path, request)) for path, request in asked[:-1]]
        known.append((*asked[-1], ask(one, *asked[-1])))
    stop = threading.Event()
    clients = [Client(service, known, stop, seed) for seed in range(CLIENTS)]
    workers = functools.partial(services.workers_of, service.process.pid)
    excused = set()
    try:
        for client in clients:
            client.start()
        time.sleep(SECONDS / 4)
        stopped, killed = workers()[:2]
        for worker in (stopped, killed):
            worker.send_signal(signal.SIGSTOP)  # now no further connection is accepted by it
            excused |= clients_of(worker)
        killed.kill()
        right = [client.right for client in clients]
        time.sleep(SECONDS)
        others = [
            (client, before)
            for client, before in zip(clients, right, strict=True)
            if client.port not in excused
        ]
        assert others
        assert all(client.right > before for client, before in others)
        hostile.until(lambda: len({one.pid for one in workers()} - {stopped.pid}) >= 3)
        hostile.until(lambda: all(client.port not in excused for client in clients))
    finally:
        stop.set()
        for client in clients:
            client.join(hostile.LONG)
        service.stop()
    lost = [port for client in clients for port in client.lost]
    print(f"{sum(client.right for client in clients)} right answers, {len(lost)} connections lost")
    assert [wrong for client in clients for wrong in client.wrong] == []
    assert set(lost) <= excused

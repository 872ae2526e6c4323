"""What strangers send over real connections: slow, endless, cut off, smuggled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

import services
from landcue.server.run import connection

LANDCUE = [sys.executable, "-m", "landcue.cli.main"]


@pytest.fixture(scope="module")
def wire(app):
    """Give the address of a service of some limits in this process, and itself; each runs once."""
    with contextlib.ExitStack() as stack:
        running = {}

        def wire(limits=None, **options):
            asked = json.dumps([limits, options])
            if asked not in running:
                running[asked] = started(limits, options)
            return running[asked]

        def started(limits, options):
            made = app(limits)
            handler = functools.partial(connection, **options)
            port = stack.enter_context(services.running(made, http=handler))
            while not made.state.service.ready:  # warming up is a job, too
                time.sleep(0.01)
            return ("127.0.0.1", port), made.state.service

        yield wire


def connect(address):
    connection = socket.create_connection(address, timeout=120)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_all(connection):
    answer = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65_536):
            answer += data
    return answer


def exchange(address, data):
    """Send bytes, read until the other side closes."""
    with connect(address) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return read_all(connection)


def head(address, *lines, path="/v1/search", method="POST"):
    host = f"Host: {address[0]}:{address[1]}"
    return "\r\n".join([f"{method} {path} HTTP/1.1", host, *lines, "", ""]).encode()


def alive(address):
    answer = exchange(address, head(address, "Connection: close", path="/healthz", method="GET"))
    return answer.startswith(b"HTTP/1.1 200")


def dribble(connection, data, every=0.05):
    """Send byte by byte until the other side answers or closes; return what it sent."""
    for i in range(100_000):
        try:
            connection.sendall(data[i % len(data)].to_bytes())
        except ConnectionError:
            break
        connection.settimeout(every)
        try:
            first = connection.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        connection.settimeout(120)
        return first + read_all(connection) if first else b""
    return b""


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("path", ["/v1/search", "/v1/collections"])
def test_a_body_that_dribbles_is_given_up(wire, kind, path):
    address, service = wire({"body_seconds": 0.5})
    with connect(address) as connection:
        kinds = (f"Content-Type: {kind}", "Content-Length: 100000")
        connection.sendall(head(address, *kinds, path=path))
        begin = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        answer = dribble(connection, begin + b" " * 10_000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert service.searches.jobs == service.encoders.jobs == 0
    assert alive(address)


def test_a_head_that_dribbles_is_given_up(wire):
    address, _ = wire(head_seconds=0.5)
    with connect(address) as connection:
        assert not dribble(connection, b"GET /healthz HTTP/1.1\r\nA: b\r\nB: " + b"c" * 10_000)
    with connect(address) as connection:
        answer = dribble(connection, b"\r\n")  # before the first line
        assert not answer or answer.startswith(b"HTTP/1.1 400")
    with connect(address) as connection:
        assert read_all(connection) == b""  # nothing at all
    with connect(address) as connection:  # in a later request of one connection
        connection.sendall(head(address, path="/healthz", method="GET"))
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert not dribble(connection, b"GET /healthz HTTP/1.1\r\nA: b\r\nB: " + b"c" * 10_000)
    assert alive(address)


def test_a_request_under_way_outlives_the_time_for_heads(wire):
    address, _ = wire(head_seconds=0.2)
    body = b'{"k": 1}'
    with connect(address) as connection:
        kinds = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        connection.sendall(head(address, *kinds, "Connection: close"))
        time.sleep(0.6)
        connection.sendall(body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_its_answer_is_given_up():
    block, sent, ended = b"x" * (1 << 18), [], threading.Event()

    async def endless(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()  # the request; the next message is its end
        listening = asyncio.create_task(receive())
        while not listening.done():
            await send({"type": "http.response.body", "body": block, "more_body": True})
            sent.append(len(block))
        assert listening.result()["type"] == "http.disconnect"
        ended.set()

    handler = functools.partial(connection, read_seconds=0.5)
    with (
        services.running(endless, http=handler, lifespan="off") as port,
        connect(("127.0.0.1", port)) as deaf,
    ):
        deaf.sendall(head(("127.0.0.1", port), method="GET"))
        assert ended.wait(60)
        assert sum(sent) < 64 << 20  # what fits into buffers on the way


def test_an_endless_head_is_cut(wire):
    address, _ = wire()
    for line in (b"A: b\r\n", b"A" * 1_000, b"A: " + b"b" * 1_000 + b"\r\n"):
        with connect(address) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\n")
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 1 << 30:
                    connection.sendall(line * 100)
                    sent += len(line) * 100
        assert sent < 64 << 20  # what fits into buffers on the way
    assert alive(address)


def test_too_many_connections_are_closed(wire):
    address, _ = wire(connections=40)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(address)) for _ in range(100)]
        for connection in idle[60:]:
            assert read_all(connection) == b""
        idle[0].sendall(head(address, "Connection: close", path="/healthz", method="GET"))
        assert read_all(idle[0]).startswith(b"HTTP/1.1 200")


SMUGGLED = {
    "two lengths": "Content-Length: 2\r\nContent-Length: 3",
    "length and chunks": "Content-Length: 2\r\nTransfer-Encoding: chunked",
    "odd coding": "Transfer-Encoding: chunked, identity",
    "negative length": "Content-Length: -1",
    "length of letters": "Content-Length: 0x10",
    "length of lengths": "Content-Length: 1, 2",
    "huge length": "Content-Length: " + "9" * 40,
    "space before colon": "Content-Length : 2",
    "NUL in a header": "A: b\0c",
    "no name": ": b",
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED)
def test_smuggled_requests_are_refused(wire, lines):
    address, _ = wire()
    data = head(address, "Content-Type: application/json", lines)
    answer = exchange(address, data + b"0\r\n\r\nGET /v1/labels HTTP/1.1\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert not answer or re.match(rb"HTTP/1\.1 4(00|13)", answer), answer
    assert b"Traceback" not in answer
    assert alive(address)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1_000,
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=lambda data: repr(data)[:25],
)
def test_nonsense_is_refused_and_the_service_lives(wire, data):
    address, _ = wire(head_seconds=1)  # after which a connection without a request is closed
    answer = exchange(address, data)
    assert not answer or re.match(rb"HTTP/1\.[01] 4\d\d", answer), answer
    assert b"Traceback" not in answer
    assert alive(address)


def test_a_body_longer_or_shorter_than_told(wire):
    address, service = wire({"body_seconds": 0.5})
    kind, body = "Content-Type: application/json", b'{"k": 1}'
    longer = head(address, kind, f"Content-Length: {len(body)}") + body + b"xxxx\r\n\r\n"
    answer = exchange(address, longer)
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"HTTP/1.1 200") <= 1
    assert exchange(address, head(address, kind, "Content-Length: 9") + body).startswith(
        b"HTTP/1.1 408"
    )
    with connect(address) as connection:  # leaves in the middle
        connection.sendall(head(address, kind, "Content-Length: 1000") + body)
    assert alive(address)
    assert service.searches.jobs == 0


def resident(process):
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))


def ready(url):
    """Return the address of a service once it is ready."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    address = host, int(port)
    ask = head(address, "Connection: close", path="/readyz", method="GET")
    while not exchange(address, ask).startswith(b"HTTP/1.1 200"):
        time.sleep(0.1)
    return address


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_ten_gigabytes_are_cut_at_the_cap(serve, made, kind):
    """In chunks, so that no length is reported; what was sent is counted here."""
    process, url, _ = serve(made, "--max-upload-mb", 1)
    address = ready(url)
    block = b"x" * (1 << 20)
    chunked = b"%x\r\n" % len(block) + block + b"\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    before = resident(process)
    for _ in range(5):
        with connect(address) as connection:
            connection.sendall(
                head(address, f"Content-Type: {kind}", "Transfer-Encoding: chunked")
                + b"%x\r\n" % len(part) + part + b"\r\n"
            )  # fmt: skip
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 10 << 30:
                    connection.sendall(chunked)
                    sent += len(block)
            answer = read_all(connection)
        assert sent < 64 << 20  # the cap, and what fits into buffers on the way
        assert not answer or answer.startswith(b"HTTP/1.1 413")
    reported = head(address, f"Content-Type: {kind}", f"Content-Length: {10 << 30}")
    assert exchange(address, reported).startswith(b"HTTP/1.1 413")
    assert resident(process) - before < 40
    assert alive(address)


@pytest.mark.slow
def test_an_index_command_beside_the_service(serve, source, tmp_path):
    """Records are added, changed and removed by another process while searches go on."""
    root, archive = tmp_path / "source", tmp_path / "places"
    shutil.copytree(source[0], root)
    shutil.rmtree(root / "farm")
    index = [*LANDCUE, "index", str(root), str(archive)]
    subprocess.run(index, check=True, capture_output=True)
    address = ready(serve(archive)[1])
    body = json.dumps({"id": "port/01.png", "k": 50}).encode()
    versions = {}

    def ask():
        kinds = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        answer = exchange(address, head(address, *kinds, "Connection: close") + body)
        first, _, text = answer.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200"), answer
        version = re.search(rb"x-archive-version: (\d+)", first)[1]
        value = json.loads(text)
        found = [value["hits"], value["plan"]["records"]]
        assert versions.setdefault(version, found) == found  # an answer is of one version
        return found[1]

    assert ask() == 15
    for step in range(2):
        if step == 0:
            shutil.copytree(source[0] / "farm", root / "farm")
        else:
            (root / "port/03.png").unlink()
            shutil.copy(root / "farm/00.png", root / "port/01.png")
        writer = subprocess.Popen(index, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while writer.poll() is None:
            ask()
        assert writer.returncode == 0
        seen = len(versions)
        while ask() < 29 or len(versions) == seen == step + 1:
            time.sleep(0.1)
    assert len(versions) >= 3

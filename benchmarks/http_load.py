"""Clients on loopback that each send their next request when the last answer is whole.

One thread serves all of them with plain sockets: it costs a few microseconds per request, so that
what is measured is the service.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What came back.

    Attributes:
        milliseconds: From the first byte sent to the last received, of each good answer.
        errors: Other answers and broken connections, by what was wrong.
        seconds: From the first request to the last answer.
    """

    milliseconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def at(self, percent: float) -> float:
        """Return a percentile in milliseconds."""
        return float(np.percentile(self.milliseconds, percent)) if self.milliseconds else np.nan

    def failed(self, what: str) -> None:
        """Count an error."""
        self.errors[what] = self.errors.get(what, 0) + 1


@dataclass
class _Client:
    socket: socket.socket
    answer: bytearray = field(default_factory=bytearray)
    whole: int = 0  # bytes of the answer; 0 until its head is there
    began: float = 0.0


def load(
    address: tuple[str, int],
    request: Callable[[int], bytes],
    *,
    clients: int,
    seconds: float,
    most: int | None = None,
) -> Load:
    """Send ``request(0)``, ``request(1)``, … until the time or ``most`` requests are over."""
    found = Load()
    poll = select.epoll()
    open_: dict[int, _Client] = {}
    sent = 0
    started = time.perf_counter()
    until = started + seconds

    def ask(client: _Client) -> None:
        nonlocal sent
        data = request(sent)
        sent += 1
        client.answer.clear()
        client.whole, client.began = 0, time.perf_counter()
        client.socket.sendall(data)

    def leave(client: _Client) -> None:
        poll.unregister(client.socket)
        del open_[client.socket.fileno()]
        client.socket.close()

    for _ in range(clients):
        client = _Client(socket.create_connection(address, timeout=30))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    for client in list(open_.values()):
        ask(client)
    while open_:
        events = poll.poll(30)
        if not events:
            found.failed("no answer in 30 s")
            break
        for number, _ in events:
            client = open_[number]
            data = client.socket.recv(1 << 18)
            if not data:
                found.failed("connection closed")
                leave(client)
                continue
            client.answer += data
            if not _is_whole(client):
                continue
            now = time.perf_counter()
            status = bytes(client.answer[9:12])
            if status == b"200":
                found.milliseconds.append((now - client.began) * 1e3)
            else:
                found.failed(status.decode())
            if now >= until or (most is not None and sent >= most):
                leave(client)
            else:
                ask(client)
    for client in list(open_.values()):
        leave(client)
    poll.close()
    found.seconds = time.perf_counter() - started
    return found


def post(address: tuple[str, int], path: str, kind: str, body: bytes) -> bytes:
    """Return a request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def children(process: int) -> list[int]:
    """Return the processes that a process started and that run now."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it just ended
            number, _, rest = path.read_text().partition(" ")
            if int(rest.rpartition(")")[2].split()[1]) == process:
                found.append(int(number))
    return found


def cpu_seconds(process: int) -> float:
    """Return the time that a process computed so far, in user and system mode."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_mb(process: int) -> float:
    """Return the private memory of a process in MB: files that it maps come and go."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _is_whole(client: _Client) -> bool:
    if not client.whole:
        head = client.answer.find(b"\r\n\r\n")
        if head < 0:
            return False
        length = _LENGTH.search(client.answer, 0, head + 2)
        client.whole = head + 4 + (int(length[1]) if length else 0)
    return len(client.answer) >= client.whole

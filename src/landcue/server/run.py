"""Run the service with uvicorn, in this process or in several workers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from landcue.errors import LandcueError, UsageError
from landcue.files import core_count
from landcue.server.page import NOT_BUILT, Page
from landcue.server.settings import STARTUP_FAILURE, Settings, check_host

SHUTDOWN_SECONDS = 20
BACKLOG = 2048
HEAD_BYTES = 32 << 10
"""Maximum bytes of the request line and headers."""
HEAD_SECONDS = 10.0
"""Until the head of a request has arrived: slow clients would hold connections for nothing."""
READ_SECONDS = 60.0
"""Until a client has read what waits to be sent to it, some hundred kilobytes."""
CONNECTIONS = 2_000
"""Of a worker; fewer where it may open fewer files."""

_OTHER_FILES = 200


def serve(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    opened: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way get some seconds to end.

    >>> serve(Settings(archives=["archives/photos"]), port=8000)               # doctest: +SKIP

    Args:
        settings: Archives and settings of the service.
        host: Address to listen on.
        port: 0 for a free one.
        workers: Processes that serve; each has its own models and limits.
        opened: Called with the page's address once that can be opened.

    Raises:
        UsageError: The host is open to others and there is no token, or it, the port or the
            file of collections cannot be used.
        LandcueError: An archive cannot be opened, or a worker cannot start.
    """
    check_host(host, settings.tokens)
    host = host.strip("[]")
    with contextlib.ExitStack() as stack:
        if workers > 1:
            app: Any = "landcue.server.app:create"
            names = _check(settings)
        else:
            from landcue.server.app import create_app
            from landcue.server.metrics import start_logging

            start_logging(settings.quiet)
            app = create_app(settings.archives, settings, whole_process=True)
            names = app.state.service.catalog.names
        sock = stack.enter_context(listen(host, port))
        address = f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
        print(f"serving {', '.join(names)} on {address}", file=sys.stderr)
        if not Page.load().built:
            print(NOT_BUILT, end="", file=sys.stderr)
        sys.stderr.flush()
        if opened is not None:
            opened(address)
        config = uvicorn.Config(app, factory=workers > 1, workers=workers, **OPTIONS)
        if workers > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="landcue-metrics-"))
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", folder)
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, core_count() // workers)))
            settings.export()
            supervisor = Multiprocess(config, sockets=[sock])
            supervisor.run()
            if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
                raise LandcueError("a worker could not start: see its message above")
        else:
            # Uvicorn raises the signal that stopped it again at exit; this is not a failure.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, _ignore)
            uvicorn.Server(config).run(sockets=[sock])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket to which clients may connect at once; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol's number asyncio switches off Nagle's delay on connections.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        what, fix = (
            (f"--host {host}", "use an address of this machine")
            if elsewhere
            else (f"--port {port} on {host}", "choose another, or --port 0 for a free one")
        )
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{what}: cannot be used ({reason}); {fix}") from None
    sock.set_inheritable(True)
    return sock


def connection(
    head_seconds: float = HEAD_SECONDS,
    read_seconds: float = READ_SECONDS,
    connections: int = CONNECTIONS,
    **given: Any,
) -> H11Protocol:
    """Return uvicorn's handler of one connection, which is closed when its client is too slow.

    Args:
        head_seconds: Until the head of a request, the first or a later one, has arrived.
        read_seconds: Until the client has read what waits to be sent.
        connections: Further ones are closed at once.
        **given: Uvicorn's arguments of its handlers.
    """
    protocol = H11Protocol(**given)
    loop = asyncio.get_running_loop()
    most, since = min(connections, _open_files() - _OTHER_FILES), loop.time()
    paused: float | None = None

    def pause() -> None:
        nonlocal paused
        paused = loop.time()
        H11Protocol.pause_writing(protocol)

    def resume() -> None:
        nonlocal paused
        paused = None
        H11Protocol.resume_writing(protocol)

    protocol.pause_writing, protocol.resume_writing = pause, resume  # called by the transport

    def look() -> None:
        nonlocal since
        if len(protocol.connections) > max(32, most):
            protocol.transport.close()
            return
        if paused is not None and loop.time() - paused >= read_seconds:
            protocol.transport.abort()  # closing would wait until all was sent
            return
        cycle: Any = protocol.cycle  # none before the first request
        if cycle is not None and not cycle.response_complete:
            since = loop.time()
        elif loop.time() - since >= head_seconds:
            protocol.transport.close()
        if not protocol.transport.is_closing():
            loop.call_later(min(head_seconds, read_seconds) / 4, look)

    loop.call_later(0, loop.call_soon, look)  # after the connection was made
    return protocol


OPTIONS: dict[str, Any] = {
    "http": connection,
    "h11_max_incomplete_event_size": HEAD_BYTES,
    "backlog": BACKLOG,
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "ws": "none",
    "timeout_keep_alive": 15,
    "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
}
"""For :class:`uvicorn.Config`."""


def _open_files() -> int:
    """Return how many files this process may open."""
    if sys.platform == "win32":
        return CONNECTIONS + _OTHER_FILES
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _check(settings: Settings) -> list[str]:
    """Open what the workers will serve, so that a mistake is one line; return the names."""
    from landcue.server.archives import Catalog
    from landcue.server.collections import Collections

    catalog = Catalog.open(settings.archives, settings.model)
    Collections(settings.collections_file, settings.limits.collections_bytes).check()
    catalog.close()
    return catalog.names


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal."""

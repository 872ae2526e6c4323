"""Run the application with uvicorn: quiet about itself, and gone only when requests are done."""

from __future__ import annotations

import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from landcue.errors import UsageError
from landcue.serve.app import create_app
from landcue.serve.catalog import Catalog
from landcue.serve.logs import GatheringHandler
from landcue.serve.observe import JsonLines
from landcue.serve.page import NOT_BUILT, Page
from landcue.serve.protocol import Protocol
from landcue.serve.settings import Settings, check_host

SHUTDOWN_SECONDS = 20
BACKLOG = 2048


def run(
    catalog: Catalog,
    settings: Settings,
    host: str,
    port: int,
    opened: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way get some seconds to end.

    Args:
        catalog: What to serve.
        settings: How.
        host: Address to listen on.
        port: 0 takes a free one.
        opened: Called with the page's address once that can be opened.
        quiet: Log what goes wrong, and not every request.

    Raises:
        UsageError: The host is open to others and there is no token, or it, the port or the
            feedback file cannot be used.
    """
    check_host(host, settings.tokens)
    handler = GatheringHandler()
    handler.setFormatter(JsonLines())
    for name in ("landcue.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        every = name == "landcue.serve" and not quiet
        logger.setLevel(logging.INFO if every else logging.WARNING)
    page = Page.load()
    app = create_app(catalog, settings, page)
    app.state.service.when_ready = _settle
    app.state.service.feedback.check()
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = uvicorn.Server(config)
    sock = listen(config.host, port)
    bound: int = sock.getsockname()[1]
    shown = f"[{config.host}]" if ":" in config.host else config.host
    address = f"http://{shown}:{bound}"
    print(f"serving {', '.join(catalog.names)} on {address}", file=sys.stderr)
    if not page.built:
        print(NOT_BUILT, end="", file=sys.stderr)
    sys.stderr.flush()
    if opened is not None:
        opened(address)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn closes on these and raises them again at its end; that is no failure.
        signal.signal(number, _ignore)
    try:
        server.run(sockets=[sock])
    finally:
        sock.close()
        handler.flush()
        gc.unfreeze()  # else torch's libraries complain at exit of what was never let go of


def listen(host: str, port: int) -> socket.socket:
    """Return a socket to which clients may connect at once.

    Raises:
        UsageError: The host or the port cannot be used.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        what, mend = (
            (f"--host {host}", "give an address of this machine")
            if elsewhere
            else (f"--port {port} on {host}", "choose another, or --port 0 for a free one")
        )
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{what}: cannot be used ({reason}); {mend}") from None
    # Without this the body of an answer waits 40 ms for the client to confirm its head: asyncio
    # sets it only on sockets made with the protocol's number. Accepted ones take it over.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.listen(BACKLOG)
    return sock


def _settle() -> None:
    """Tune the interpreter for many short requests beside threads that compute.

    What is loaded by now stays, so the collector need not look through it again and again; and a
    thread that searches gives way to the one that answers after half a millisecond, not five.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.0005)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal."""

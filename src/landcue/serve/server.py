"""Run the application with uvicorn: quiet about itself, and gone only when requests are done."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from landcue.errors import UsageError
from landcue.serve.app import create_app
from landcue.serve.catalog import Catalog
from landcue.serve.observe import JsonLines
from landcue.serve.settings import Settings, check_host

SHUTDOWN_SECONDS = 20


def run(catalog: Catalog, settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests under way get some seconds to end.

    Raises:
        UsageError: The host is open to others and there is no token, or the port cannot be used.
    """
    check_host(host, settings.tokens)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("landcue.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "landcue.serve" else logging.WARNING)
    config = uvicorn.Config(
        create_app(catalog, settings),
        host=host.strip("[]"),
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = uvicorn.Server(config)
    try:
        sock = config.bind_socket()
    except SystemExit:
        raise UsageError(f"--port {port}: cannot be used on {host}; choose another") from None
    # Without this the body of an answer waits 40 ms for the client to confirm its head: asyncio
    # sets it only on sockets made with the protocol's number. Accepted ones take it over.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.listen(config.backlog)  # who reads the line below may connect at once
    bound: int = sock.getsockname()[1]
    shown = f"[{config.host}]" if ":" in config.host else config.host
    print(f"serving {', '.join(catalog.names)} on http://{shown}:{bound}", file=sys.stderr)
    sys.stderr.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn closes on these and raises them again at its end; that is no failure.
        signal.signal(number, _ignore)
    try:
        server.run(sockets=[sock])
    finally:
        sock.close()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal."""

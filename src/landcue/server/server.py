"""Run the application with uvicorn: quiet about itself, and gone only when requests are done."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from landcue.server.app import create_app
from landcue.server.catalog import Catalog
from landcue.server.listening import BACKLOG, address_of, listen
from landcue.server.logs import start_logging
from landcue.server.page import NOT_BUILT, Page
from landcue.server.protocol import Protocol
from landcue.server.service import Service
from landcue.server.settings import Settings, check_host

SHUTDOWN_SECONDS = 20


def run(
    catalog: Catalog,
    settings: Settings,
    host: str,
    port: int,
    opened: Callable[[str], None] | None = None,
    quiet: bool = False,
) -> None:
    """Serve in this process until SIGINT or SIGTERM; requests under way get some seconds to end.

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
    handler = start_logging(quiet)
    config, service = configure(catalog, settings, host)
    service.when_ready = settle
    sock = listen(config.host, port)
    address = address_of(config.host, sock)
    announce(catalog.names, address, service.page.built)
    if opened is not None:
        opened(address)
    ignore_signals()
    try:
        uvicorn.Server(config).run(sockets=[sock])
    finally:
        sock.close()
        handler.flush()
        gc.unfreeze()  # else torch's libraries complain at exit of what was never let go of


def configure(catalog: Catalog, settings: Settings, host: str) -> tuple[uvicorn.Config, Service]:
    """Return how to run the application, and what its routes share.

    Raises:
        UsageError: The feedback file cannot be used.
    """
    app = create_app(catalog, settings, Page.load())
    service: Service = app.state.service
    service.feedback.check()
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        http=Protocol,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return config, service


def announce(names: Sequence[str], address: str, built: bool) -> None:
    """Tell that the service can be asked."""
    print(f"serving {', '.join(names)} on {address}", file=sys.stderr)
    if not built:
        print(NOT_BUILT, end="", file=sys.stderr)
    sys.stderr.flush()


def ignore_signals() -> None:
    """Let uvicorn close on signals, which raises them again at its end: that is no failure."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)


def settle() -> None:
    """Tune the interpreter for many short requests beside threads that compute.

    What is loaded by now stays, so the collector need not look through it again and again, nor
    after every few requests at what they left; and a thread that searches gives way to the one that
    answers after half a millisecond, not five.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    sys.setswitchinterval(0.0005)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal."""

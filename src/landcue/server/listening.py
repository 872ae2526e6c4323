"""Sockets that clients connect to."""

from __future__ import annotations

import errno
import socket

from landcue.errors import UsageError

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a socket to which clients may connect at once; port 0 takes a free one.

    Raises:
        UsageError: The host or the port cannot be used.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Without this the body of an answer waits 40 ms for the client to confirm its head: asyncio
    # sets it only on sockets made with the protocol's number. Accepted ones take it over.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
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
    return sock


def address_of(host: str, sock: socket.socket) -> str:
    """Return the address of the page that a socket leads to."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sock.getsockname()[1]}"

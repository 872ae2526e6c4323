"""Ports for servers that are told theirs before they start, or keep it when they start again."""

from __future__ import annotations

import random
import socket

# Below the ports that Linux, macOS and Windows give to outgoing connections: one that is free now
# is not taken by a client of another test before the server listens.
_OWN = range(10_000, 32_000)


def free_port() -> int:
    """Return a port of loopback that nobody uses; processes that choose at once choose others."""
    choose = random.SystemRandom()
    while True:
        port = choose.choice(_OWN)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

"""HTTP as uvicorn speaks it, with limits on what comes before a body: its size and its time."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 32 << 10
"""Of the request line and the headers together; what comes in one piece may be some more."""

HEAD_SECONDS = 10.0
"""Until the head is there: else clients that dribble would hold connections for nothing."""

_KEPT_BYTES = 4 << 10
_MOST_CONNECTIONS = 2_000
_OTHER_FILES = 200


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, ended: Callable[[], None] | None = None, **kwargs: Any) -> None:
        """Take what uvicorn gives, and whom to tell when the connection has ended."""
        super().__init__(*args, **kwargs)
        self._ended = ended
        self._head_bytes = 0
        self._in_body = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many already."""
        super().connection_made(transport)
        joined: Any = _Joined(transport, self.loop)
        self.transport = joined
        if len(self.connections) > _most_connections():
            transport.close()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)
        if self._ended is not None:
            self._ended()

    def data_received(self, data: bytes) -> None:
        """Read on; give up where a head takes too many bytes or too long."""
        super().data_received(data)
        cycle: Any = self.cycle  # none before the first head
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
            return
        self._wait()
        self._head_bytes += 0 if self._in_body else len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request head is too large.")

    def on_headers_complete(self) -> None:
        """Note that a body begins."""
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that a head begins."""
        self._in_body = False
        super().on_message_complete()

    def _wait(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


class _Joined:
    """A transport that sends the head of an answer and the first of its body in one packet.

    To send twice costs the service and the client a wake-up more than a short search takes.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._kept = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send what is kept and this, or keep this until the loop comes by."""
        if self._kept:
            kept, self._kept = self._kept, b""
            self._transport.write(kept + data)
        elif len(data) > _KEPT_BYTES:
            self._transport.write(data)
        else:
            self._kept = data
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """Send what is kept, and close."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._kept:
            kept, self._kept = self._kept, b""
            self._transport.write(kept)


def _most_connections() -> int:
    """Leave room for other files: without any the service could not even refuse."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(32, min(_MOST_CONNECTIONS, files - _OTHER_FILES))

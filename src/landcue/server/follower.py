"""A server that is handed its connections by the process that started it, and ends with that."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from multiprocessing.connection import Connection
from typing import Any

import uvicorn

from landcue.server.shared import Shared


class Follower(uvicorn.Server):
    """Serves connections that come through a door."""

    def __init__(
        self, config: uvicorn.Config, parent: Connection, door: socket.socket, shared: Shared
    ) -> None:
        """Take the door, and where to count the connections that have ended."""
        super().__init__(config)
        self._parent, self._door = parent, door
        self._ended, self._number = shared.ended(), shared.number
        self._connecting: set[asyncio.Task[Any]] = set()
        self._protocol: Any = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and to listen to the parent."""
        await super().startup([])
        self._protocol = functools.partial(
            self.config.http_protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            ended=self._count,
        )
        self._door.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._door.fileno(), self._take)
        loop.add_reader(self._parent.fileno(), self._hear)
        with contextlib.suppress(OSError):
            self._parent.send("serving")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take the connections that were handed over, and finish what came."""
        loop = asyncio.get_running_loop()
        self._take()
        loop.remove_reader(self._door.fileno())
        loop.remove_reader(self._parent.fileno())
        self._door.close()
        if self._connecting:
            await asyncio.wait(self._connecting)
        await super().shutdown()

    def _take(self) -> None:
        """Serve the connections that were handed over."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # there are no more, or the parent is gone
            while True:
                data, handles, _, _ = socket.recv_fds(self._door, 1, 1)
                if not data:
                    loop.remove_reader(self._door.fileno())
                    return
                for handle in handles:
                    connection = socket.socket(fileno=handle)
                    connection.setblocking(False)
                    made = loop.connect_accepted_socket(self._protocol, connection)
                    task = loop.create_task(made)
                    self._connecting.add(task)
                    task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._connecting.discard(task)
        if task.cancelled() or task.exception() is not None:  # it was gone before it was here
            self._count()

    def _count(self) -> None:
        self._ended[self._number] += 1

    def _hear(self) -> None:
        """End with the parent, which has nothing more to say."""
        try:
            self._parent.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._parent.fileno())
            self.should_exit = True

"""A server that takes orders from the process that started it, and ends when that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from multiprocessing.connection import Connection
from typing import Any

import uvicorn

from landcue.serve.listening import BACKLOG


class Follower(uvicorn.Server):
    """Takes what comes to one socket, and to those of processes that are gone."""

    def __init__(
        self, config: uvicorn.Config, parent: Connection, sockets: list[socket.socket]
    ) -> None:
        """Take the sockets of all processes."""
        super().__init__(config)
        self._parent, self._sockets = parent, sockets
        self._covered: dict[int, asyncio.Server] = {}
        self._protocol: Any = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and to listen to the parent."""
        await super().startup(sockets)
        self._protocol = functools.partial(
            self.config.http_protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        asyncio.get_running_loop().add_reader(self._parent.fileno(), self._hear)
        self._orders: asyncio.Queue[Any] = asyncio.Queue()
        self._following = asyncio.create_task(self._follow())
        with contextlib.suppress(OSError):
            self._parent.send("serving")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and finish what came."""
        asyncio.get_running_loop().remove_reader(self._parent.fileno())
        self._following.cancel()
        for sock in self._sockets:
            sock.close()
        await super().shutdown(sockets)

    def _hear(self) -> None:
        try:
            self._orders.put_nowait(self._parent.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._parent.fileno())
            self.should_exit = True

    async def _follow(self) -> None:
        while True:
            order = await self._orders.get()
            if order.begin:
                sock = self._sockets[order.number].dup()
                loop = asyncio.get_running_loop()
                server = await loop.create_server(self._protocol, sock=sock, backlog=BACKLOG)
                self._covered[order.number] = server
                self.servers.append(server)
            elif order.number in self._covered:
                server = self._covered.pop(order.number)
                self.servers.remove(server)
                server.close()

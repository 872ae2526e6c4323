"""A route for what is asked most: nothing stands between the request and its function."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send


class LeanRoute(APIRoute):
    """Hands a request whose address has no query straight to the route's function.

    FastAPI looks for parameters and opens contexts for what may depend on them, which takes longer
    than a search of a million codes. Any parameter beside the request must have a default.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["query_string"] or scope["method"] not in self.methods:
            await super().handle(scope, receive, send)
            return
        answer = await self.endpoint(Request(scope, receive, send))
        await answer(scope, receive, send)

"""The REST service: search, records and exports of archives over HTTP, with limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcue.server.app import create_app
    from landcue.server.settings import Limits, Settings, Tokens

__all__ = ["Limits", "Settings", "Tokens", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":
        from landcue.server import app

        return app.create_app
    if name in __all__:
        from landcue.server import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The REST service: search, records and exports of archives over HTTP, with limits.

Its collections and saved searches are files that programs can open, export and import, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.server.app import create_app
    from landcue.server.collections import Collections
    from landcue.server.run import serve
    from landcue.server.schemas.collections import CollectionFile, read_collection
    from landcue.server.schemas.watches import WatchesFile, read_watches
    from landcue.server.settings import Limits, Settings, Tokens
    from landcue.server.transfer import (
        export_collection,
        export_watches,
        import_collection,
        import_watches,
    )

__all__ = [
    "CollectionFile",
    "Collections",
    "Limits",
    "Settings",
    "Tokens",
    "WatchesFile",
    "create_app",
    "export_collection",
    "export_watches",
    "import_collection",
    "import_watches",
    "read_collection",
    "read_watches",
    "serve",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.server.app": ("create_app",),
        "landcue.server.collections": ("Collections",),
        "landcue.server.run": ("serve",),
        "landcue.server.schemas.collections": ("CollectionFile", "read_collection"),
        "landcue.server.schemas.watches": ("WatchesFile", "read_watches"),
        "landcue.server.settings": ("Limits", "Settings", "Tokens"),
        "landcue.server.transfer": (
            "export_collection",
            "export_watches",
            "import_collection",
            "import_watches",
        ),
    },
)

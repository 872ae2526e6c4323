"""Archives in a Milvus collection: push, compare and search where one machine is too small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.milvus.link import Address
    from landcue.milvus.manifest import describe_collection
    from landcue.milvus.push import DiffReport, PushReport

__all__ = ["Address", "DiffReport", "PushReport", "describe_collection"]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.milvus.link": ("Address",),
        "landcue.milvus.manifest": ("describe_collection",),
        "landcue.milvus.push": ("DiffReport", "PushReport"),
    },
)

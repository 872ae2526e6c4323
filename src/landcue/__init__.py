"""LandCue finds look-alike places in an Earth-observation archive."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcue.archive.indexing import IndexOptions, index

__version__ = "0.1.0"

__all__ = ["IndexOptions", "__version__", "index"]

_MODULES = {"IndexOptions": "landcue.archive.indexing", "index": "landcue.archive.indexing"}
"""Where each public name is defined: it is imported when it is used first."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)

"""LandCue finds look-alike places in an Earth-observation archive.

>>> import landcue
>>> archive = landcue.open(folder)
>>> archive.search("a.png", k=2, where="water and not ships").ids
('b.png',)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.archive.indexing import IndexOptions, index
    from landcue.audit.run import audit
    from landcue.errors import (
        ArchiveError,
        CollectionError,
        DataError,
        EmptyArchiveError,
        LandcueError,
        ModelError,
        ServiceError,
        StoreError,
        UsageError,
    )
    from landcue.evaluation import evaluate
    from landcue.models.load import load_model
    from landcue.report.evaluation import Evaluation
    from landcue.search.archive import Archive, open, search
    from landcue.search.filters import Filter
    from landcue.search.plan import SearchOptions
    from landcue.search.query import Query
    from landcue.search.result import Result
    from landcue.training.adapt import Adaptation, adapt
    from landcue.training.config import TrainingConfig
    from landcue.training.heads import AdaptOptions
    from landcue.training.loop import Run, train
    from landcue.types import Bounds, Encoder, Encoding, Hit, Record

__version__ = "0.1.0"

__all__ = [
    "AdaptOptions",
    "Adaptation",
    "Archive",
    "ArchiveError",
    "Bounds",
    "CollectionError",
    "DataError",
    "EmptyArchiveError",
    "Encoder",
    "Encoding",
    "Evaluation",
    "Filter",
    "Hit",
    "IndexOptions",
    "LandcueError",
    "ModelError",
    "Query",
    "Record",
    "Result",
    "Run",
    "SearchOptions",
    "ServiceError",
    "StoreError",
    "TrainingConfig",
    "UsageError",
    "__version__",
    "adapt",
    "audit",
    "evaluate",
    "index",
    "load_model",
    "open",
    "search",
    "train",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.archive.indexing": ("IndexOptions", "index"),
        "landcue.audit": ("audit",),
        "landcue.errors": (
            "ArchiveError",
            "CollectionError",
            "DataError",
            "EmptyArchiveError",
            "LandcueError",
            "ModelError",
            "ServiceError",
            "StoreError",
            "UsageError",
        ),
        "landcue.evaluation": ("evaluate",),
        "landcue.models.load": ("load_model",),
        "landcue.report.evaluation": ("Evaluation",),
        "landcue.search": ("search",),
        "landcue.search.archive": ("Archive", "open"),
        "landcue.search.filters": ("Filter",),
        "landcue.search.plan": ("SearchOptions",),
        "landcue.search.query": ("Query",),
        "landcue.search.result": ("Result",),
        "landcue.training.adapt": ("Adaptation", "adapt"),
        "landcue.training.config": ("TrainingConfig",),
        "landcue.training.heads": ("AdaptOptions",),
        "landcue.training.loop": ("Run", "train"),
        "landcue.types": ("Bounds", "Encoder", "Encoding", "Hit", "Record"),
    },
)


def __dir__() -> list[str]:
    return __all__

"""LandCue finds look-alike places in an Earth-observation archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.archive.indexing import IndexOptions, index
    from landcue.audit.run import audit
    from landcue.evaluation import evaluate
    from landcue.report.evaluation import Evaluation
    from landcue.training.config import TrainingConfig
    from landcue.training.loop import Run, train

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "IndexOptions",
    "Run",
    "TrainingConfig",
    "__version__",
    "audit",
    "evaluate",
    "index",
    "train",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "IndexOptions": "landcue.archive.indexing",
        "Run": "landcue.training.loop",
        "TrainingConfig": "landcue.training.config",
        "Evaluation": "landcue.report.evaluation",
        "audit": "landcue.audit",
        "evaluate": "landcue.evaluation",
        "index": "landcue.archive.indexing",
        "train": "landcue.training.loop",
    },
)

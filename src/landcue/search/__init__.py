"""Search archives: by record, image, chip, vector, place or label, in any of six modes.

The package is also its main function: ``landcue.search(archive, query)``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from landcue.lazy import CallablePackage, lazy_exports

if TYPE_CHECKING:
    from landcue.search.archive import Archive, open_archive, search
    from landcue.search.changes import Change, ChangeFacts, Changes
    from landcue.search.feed import WatchHit, write_feed, write_json_lines
    from landcue.search.feedback import FeedbackReport, simulate_feedback
    from landcue.search.filters import Filter
    from landcue.search.plan import MODES, Plan, SearchOptions
    from landcue.search.query import ById, Query, Text
    from landcue.search.raster import ScoreMap
    from landcue.search.result import Result
    from landcue.search.scene import Chip
    from landcue.search.watch import Watch, Watches, WatchReport

__all__ = [
    "MODES",
    "Archive",
    "ById",
    "Change",
    "ChangeFacts",
    "Changes",
    "Chip",
    "FeedbackReport",
    "Filter",
    "Plan",
    "Query",
    "Result",
    "ScoreMap",
    "SearchOptions",
    "Text",
    "Watch",
    "WatchHit",
    "WatchReport",
    "Watches",
    "open_archive",
    "search",
    "simulate_feedback",
    "write_feed",
    "write_json_lines",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.search.archive": ("Archive", "open_archive", "search"),
        "landcue.search.changes": ("Change", "ChangeFacts", "Changes"),
        "landcue.search.feed": ("WatchHit", "write_feed", "write_json_lines"),
        "landcue.search.feedback": ("FeedbackReport", "simulate_feedback"),
        "landcue.search.filters": ("Filter",),
        "landcue.search.plan": ("MODES", "Plan", "SearchOptions"),
        "landcue.search.query": ("ById", "Query", "Text"),
        "landcue.search.raster": ("ScoreMap",),
        "landcue.search.result": ("Result",),
        "landcue.search.scene": ("Chip",),
        "landcue.search.watch": ("Watch", "WatchReport", "Watches"),
    },
)

sys.modules[__name__].__class__ = CallablePackage

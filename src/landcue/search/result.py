"""What a search gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from landcue.search.hits import Hits
from landcue.search.pages import Cursor
from landcue.search.plan import Plan


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The nearest records, nearest first; equal distances in the order of their ids.

    Attributes:
        query: What was asked for: an id, or what the caller calls its image.
        mode: ``embedding``, ``two-stage`` and ``ann``: distance is 1 - cosine, score the cosine.
            ``code``: distance is the number of differing bits, score the share of equal bits.
            ``cue``: distance is the differing hash bits plus the label weight times the differing
            label bits, score 1 less its share of the greatest. ``place``: distance is that
            from the middle of the box in kilometers, score 1 less its share of half the way
            around the Earth. ``list``: records in the order of ids, distance 0.
        hits: At most k.
        labels: Labels of the query: annotated or predicted.
        end: Where this page ended; ``None`` on the last one.
        note: Why there is no hit, if there is none.
        plan: How the search went; it does not count when results are compared.
    """

    query: str
    mode: str
    hits: Hits | tuple[()]
    labels: tuple[str, ...] = ()
    end: Cursor | None = None
    note: str | None = None
    plan: Plan | None = field(default=None, compare=False)

    @property
    def cursor(self) -> str | None:
        """Gives the next page; ``None`` on the last one."""
        return None if self.end is None else self.end.encode()

    def to_json(self, *, explain: bool = False) -> dict[str, Any]:
        """Return plain values; ``explain`` adds the plan, which tells times."""
        hits = self.hits.to_json() if self.hits else []
        if self.mode in ("code", "cue"):
            for hit in hits:
                hit["distance"] = int(hit["distance"])
        value: dict[str, Any] = {
            "query": self.query,
            "mode": self.mode,
            "hits": hits,
            "labels": list(self.labels),
            "cursor": self.cursor,
            "note": self.note,
        }
        if explain and self.plan is not None:
            value["plan"] = self.plan.to_json()
        return value

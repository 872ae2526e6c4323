"""What an ingest did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from landcue.types import Problem


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of one ingest.

    Attributes:
        added: New records.
        updated: Records encoded again because their file changed.
        refreshed: Records whose labels or other metadata changed, but not their pixels.
        unchanged: Records left alone.
        vanished: Records of the archive whose source is gone, pruned ones included.
        pruned: Of these, how many were removed.
        skipped: What could not be indexed, and why.
        records: Records in the archive now.
        seconds: Spent reading and encoding.
        images_per_second: Encoded images over ``seconds``; 0 when none was encoded.
    """

    added: int
    updated: int
    refreshed: int
    unchanged: int
    vanished: int
    pruned: int
    skipped: tuple[Problem, ...]
    records: int
    seconds: float
    images_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values; ``skipped`` becomes a list of ``{"where":…, "what":…}``."""
        return asdict(self) | {"skipped": [asdict(problem) for problem in self.skipped]}

    def summary(self) -> str:
        """Return one line for people; counts of zero are left out."""
        counts = {
            "added": self.added,
            "updated": self.updated,
            "refreshed": self.refreshed,
            "unchanged": self.unchanged,
            "vanished but kept": self.vanished - self.pruned,
            "pruned": self.pruned,
            "skipped": len(self.skipped),
        }
        parts = [f"{n:,} {name}" for name, n in counts.items() if n]
        speed = f"; {self.images_per_second:.0f} images/s" if self.images_per_second else ""
        return f"{self.records:,} records ({', '.join(parts)}){speed}"

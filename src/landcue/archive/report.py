"""What an ingest did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from landcue.archive.chips import EmptyChip
from landcue.types import Problem


class Tally:
    """Counts while an ingest runs.

    Attributes:
        added: New records.
        updated: Records encoded again.
        refreshed: Records with new metadata only.
        empty: Chips with too little data.
        emptied: Ids of those that the archive holds an older row of.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.added = self.updated = self.refreshed = self.empty = 0
        self.emptied: list[str] = []
        self._problems: dict[str, tuple[Problem, int]] = {}
        self.note(problems)

    def note(self, items: Iterable[object]) -> None:
        """Note problems and empty chips among what was read."""
        for item in items:
            if isinstance(item, Problem):
                first, count = self._problems.get(item.where, (item, 0))
                self._problems[item.where] = first, count + 1
            elif isinstance(item, EmptyChip):
                self.empty += 1
                if item.stored:
                    self.emptied.append(item.id)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was skipped; many chips of one scene are one problem."""
        return tuple(
            problem
            if count == 1
            else Problem(problem.where, f"{problem.what} (and {count - 1} more of its chips)")
            for problem, count in self._problems.values()
        )

    def nothing(self, n: int) -> str:
        """Return why an ingest of n records has nothing to write."""
        if self.empty:
            which = f"all {n}" if self.empty == n else f"{self.empty} of {n}"
            return (
                f"{which} chips hold too little data; raise --nodata, or check the nodata value "
                "of the files"
            )
        first = f" (first: {self.problems[0]})" if self._problems else ""
        return f"no readable image among {n} records{first}"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of one ingest.

    Attributes:
        added: New records.
        updated: Records encoded again because their file changed.
        refreshed: Records whose labels or other metadata changed, but not their pixels.
        unchanged: Records left alone.
        vanished: Records of the archive whose source is gone, or whose chip has too little data
            now, pruned ones included.
        pruned: Of these, how many were removed.
        empty: Chips left out because they have too little data.
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
    empty: int
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
            "chips without data": self.empty,
            "skipped": len(self.skipped),
        }
        parts = [f"{n:,} {name}" for name, n in counts.items() if n]
        speed = f"; {self.images_per_second:.0f} images/s" if self.images_per_second else ""
        return f"{self.records:,} records ({', '.join(parts)}){speed}"

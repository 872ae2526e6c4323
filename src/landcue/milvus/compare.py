"""What differs between an archive and a collection, one range of ids at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from landcue.milvus.link import Link
from landcue.milvus.pushed import between
from landcue.milvus.rows import Part
from landcue.milvus.tiling import Range


@dataclass(frozen=True, slots=True)
class Differences:
    """How a collection differs from an archive in one range.

    Attributes:
        missing: Positions in the part of records that the collection lacks.
        different: Positions of records that it holds with other values.
        extra: Ids that only the collection has.
    """

    missing: tuple[int, ...]
    different: tuple[int, ...]
    extra: tuple[str, ...]

    @property
    def none(self) -> bool:
        """Whether they are the same."""
        return not (self.missing or self.different or self.extra)


def stamps_there(link: Link, name: str, where: Range) -> dict[str, str]:
    """Return the stamps of a collection's records in a range, by id."""
    pages = link.pages(name, between(where.start, where.high), ["stamp"])
    return {row["id"]: row["stamp"] for page in pages for row in page}


def compare(part: Part, there: Mapping[str, str]) -> Differences:
    """Compare the records of a part with what a collection holds in its range."""
    missing: list[int] = []
    different: list[int] = []
    for position, (id_, stamp) in enumerate(zip(part.ids, part.stamps, strict=True)):
        found = there.get(id_)
        if found is None:
            missing.append(position)
        elif found != stamp:
            different.append(position)
    ours = set(part.ids)
    extra = tuple(id_ for id_ in there if id_ not in ours)
    return Differences(tuple(missing), tuple(different), extra)

"""Models of saved searches."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from landcue.server.schemas.base import AnswerModel, Name, RequestModel
from landcue.server.schemas.searches import SearchRequest


class WatchRequest(RequestModel):
    """A search to save: new records that match it are reported once."""

    name: Name
    search: SearchRequest = Field(
        description="Its records, text and filters; hits have a cosine of at least `min_score`."
    )
    percentile: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Without `min_score`: a hit is closer than this percentage of the distances "
        "between the archive's records and their nearest neighbors.",
    )
    collection: Name | None = Field(
        None, description="Id of a collection that it belongs to; if that is deleted, it stays."
    )


class Watch(AnswerModel):
    """A saved search."""

    name: str
    query: str = Field(description="Description of the query; empty for a filter alone.")
    min_score: float = Field(description="Least cosine of a hit.")
    created: datetime
    hits: int = Field(description="Number of hits so far.")
    collection: str | None = Field(description="Id of the collection that it belongs to.")
    search: dict[str, Any] | None = Field(
        description="The search itself, to run it again; `null` where it is not known."
    )
    problem: str | None = Field(
        description="Why it is not evaluated any more; it keeps its hits and its place."
    )


class WatchesAnswer(AnswerModel):
    """The saved searches of an archive, by name."""

    archive: str
    watches: tuple[Watch, ...]


class FeedAnswer(AnswerModel):
    """An address of a saved search's feed, which needs no token."""

    archive: str
    name: str
    path: str = Field(
        description="Path and query below the service's address; whoever has it can read the hits. "
        "It is shown once, and a new one replaces it."
    )


class WatchHit(AnswerModel):
    """A new record that a saved search found."""

    number: int = Field(description="Grows with every hit of an archive.")
    watch: str
    id: str
    score: float | None = Field(description="Cosine to the query; `null` for a filter alone.")
    time: datetime = Field(description="When it was found, UTC.")
    version: int = Field(description="Version of the archive.")


class WatchHitsAnswer(AnswerModel):
    """Hits in the order in which they were found."""

    archive: str
    hits: tuple[WatchHit, ...]

"""Models of saved searches."""

from __future__ import annotations

from datetime import datetime

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


class Watch(AnswerModel):
    """A saved search."""

    name: str
    query: str = Field(description="Description of the query; empty for a filter alone.")
    min_score: float = Field(description="Least cosine of a hit.")
    created: datetime
    hits: int = Field(description="Number of hits so far.")


class WatchesAnswer(AnswerModel):
    """The saved searches of an archive, by name."""

    archive: str
    watches: tuple[Watch, ...]


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

"""Models of saved searches."""

from __future__ import annotations

import json
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from landcue.errors import DataError, refusal
from landcue.server.schemas.base import AnswerModel, Name, RequestModel
from landcue.server.schemas.searches import Filters, SearchRequest

M = TypeVar("M", bound=BaseModel)

MAX_WATCHES = 1_000
"""Of an archive, through the service."""

Vector = Annotated[str, Field(max_length=100_000)]
"""Bytes in base64."""


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


class WatchFile(RequestModel):
    """An exported saved search, with its query."""

    name: Name
    query: str = Field("", max_length=200_000, description="Description of the query.")
    min_score: float = Field(ge=-1, le=1, description="Least cosine of a hit.")
    model: Name = Field(description="Fingerprint of the model that encoded the query.")
    embedding: Vector | None = Field(
        None,
        description="Of the query: float32, little-endian, of length 1; base64. `null` for a "
        "filter alone.",
    )
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    search: SearchRequest | None = Field(None, description="The search, to show it again.")


class WatchesFile(RequestModel):
    """Exported saved searches."""

    watches: list[WatchFile] = Field(max_length=MAX_WATCHES)


class WatchesImportAnswer(AnswerModel):
    """How many saved searches were imported, and why others were not."""

    archive: str
    imported: int
    problems: tuple[str, ...] = Field(description="One line for each that was left out.")


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


def read_watches(path: str | PathLike[str]) -> WatchesFile:
    """Read exported saved searches, also those of an exported collection.

    Raises:
        DataError: The file cannot be read, or holds something else.

    >>> read_watches("watches.json").watches                                   # doctest: +SKIP
    """
    return read_file(WatchesFile, path, "watches")


def read_file(model: type[M], path: str | PathLike[str], only: str | None = None) -> M:
    """Read an exported file.

    Args:
        model: What it holds.
        path: The file.
        only: The only field to read of it.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    try:
        value = json.loads(Path(path).read_bytes())
        return model.model_validate_json(json.dumps({only: value[only]} if only else value))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {at}: {refusal(first['msg'])}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        what = "saved searches" if only else "collection"
        raise DataError(f"{path} holds no {what}: export it again") from None

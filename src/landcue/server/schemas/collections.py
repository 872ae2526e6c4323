"""Collections of marked records."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from landcue.server.schemas.base import AnswerModel, Id, Name, RequestModel, Whole, check_whole
from landcue.server.schemas.searches import MAX_EXAMPLES, MAX_K, Filters, SearchRequest


class Mark(RequestModel):
    """What is said of one record in a collection; one with nothing said is removed."""

    id: Id
    mark: Literal["good", "bad"] | None = None
    note: str | None = Field(None, max_length=2_000)
    labels: list[Annotated[str, Field(pattern=r"^[^;|\s][^;|]{0,199}$")]] = Field(
        [], max_length=100
    )
    revision: Annotated[int, Field(ge=0), BeforeValidator(check_whole)] | None = Field(
        None,
        description="`revision` of the member when it was read, or 0 if there was none: a member "
        "that was changed since is not overwritten (409).",
    )


class CollectionRequest(RequestModel):
    """A new collection of records."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "marinas", "members": [{"id": "harbor/harbor11.tif", "mark": "good"}]}
            ]
        }
    )

    archive: Name | None = Field(None, description="Name of the archive; the first by default.")
    name: Name
    query: SearchRequest | None = Field(None, description="The search that it belongs to.")
    members: list[Mark] = Field([], max_length=1_000)
    who: Name | None = Field(None, description="Who marked them.")


class CollectionChange(RequestModel):
    """A change of a collection."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"members": [{"id": "a.tif", "labels": ["marina"]}]}]}
    )

    name: Name | None = Field(None, description="New name.")
    old_name: Name | None = Field(
        None, description="Name when it was read: a collection renamed since keeps its name (409)."
    )
    query: SearchRequest | None = None
    members: list[Mark] = Field([], max_length=1_000)
    merge: Name | None = Field(None, description="Id of a collection whose members are added.")
    who: Name | None = Field(None, description="Who marked them.")


class SuggestRequest(RequestModel):
    """What is marked so far, of which to suggest the records to mark next."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"positives": ["harbor/harbor11.tif"], "negatives": ["beach/beach02.tif"], "k": 12}
            ]
        }
    )

    archive: Name | None = Field(None, description="Name of the archive; the first by default.")
    collection: Name | None = Field(
        None, description="Id of a collection, whose marks and labels count."
    )
    positives: list[Id] = Field(
        [], max_length=MAX_EXAMPLES, description="Ids marked as relevant, besides."
    )
    negatives: list[Id] = Field(
        [], max_length=MAX_EXAMPLES, description="Ids marked as not relevant, besides."
    )
    label: Name | None = Field(
        None,
        description="Label to find more of, by the labels of the collection; without a collection "
        "and marks, by the annotated labels of the archive.",
    )
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    k: Whole = Field(20, ge=1, le=MAX_K, description="Number of suggestions.")
    apart: float = Field(0, ge=0, le=20_000, description="Least distance of two in kilometers.")
    seed: Whole = Field(0, ge=0, le=1_000_000)


class Member(AnswerModel):
    """One record of a collection."""

    id: str
    mark: Literal["good", "bad"] | None
    note: str | None
    labels: tuple[str, ...]
    who: str | None
    time: datetime = Field(description="When it was marked, UTC.")
    revision: int = Field(description="Increases with every change of the member.")


class CollectionAnswer(AnswerModel):
    """A collection with its members, in the order of their ids."""

    id: str
    archive: str
    name: str
    query: dict[str, Any] | None = Field(description="The search that it belongs to.")
    images: tuple[Literal["image", "positive", "negative"], ...] = Field(
        (), description="Uploaded images of that search, which are kept as embeddings."
    )
    created: datetime
    updated: datetime
    revision: int = Field(description="Number of changes of members that can be undone.")
    members: tuple[Member, ...]


class CollectionSummary(AnswerModel):
    """A collection without its members."""

    id: str
    archive: str
    name: str
    created: datetime
    updated: datetime
    revision: int
    members: int = Field(description="Number of members.")


class CollectionsAnswer(AnswerModel):
    """The collections of an archive, the last changed first."""

    archive: str
    collections: tuple[CollectionSummary, ...]

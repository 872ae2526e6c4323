"""Collections of marked records."""

from __future__ import annotations

from datetime import datetime
from os import PathLike
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from landcue.server.schemas.base import AnswerModel, Id, Name, RequestModel, Whole, check_whole
from landcue.server.schemas.searches import MAX_EXAMPLES, MAX_K, Filters, SearchRequest
from landcue.server.schemas.watches import MAX_WATCHES, Vector, WatchFile, read_file

MAX_MEMBERS = 10_000

# White space of every dialect of regular expressions: \s alone means other characters in Python,
# Rust and JavaScript.
_LABEL = r"^[^;|\s\x1c-\x1f\x85\ufeff][^;|]{0,199}$"
_Labels = Annotated[list[Annotated[str, Field(pattern=_LABEL)]], Field(max_length=100)]


class Mark(RequestModel):
    """What is said of one record in a collection; one with nothing said is removed."""

    id: Id
    mark: Literal["good", "bad"] | None = None
    note: str | None = Field(None, max_length=2_000)
    labels: _Labels = Field([])
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


class ImageFile(RequestModel):
    """An uploaded image of a query in an exported collection, as a model encoded it."""

    part: Literal["image", "positive", "negative"]
    fingerprint: Name = Field(description="Of the model.")
    n_bits: Whole = Field(ge=0, le=65_536, description="Bits of the code.")
    embedding: Vector = Field(description="float32, little-endian, of length 1; base64.")
    code: Vector = Field(description="Bytes, base64.")
    label_scores: Vector = Field(description="float32, little-endian, in 0..1; base64.")
    thumbnail: str = Field(max_length=100_000, description="A JPEG, base64.")


class MemberFile(RequestModel):
    """One record of an exported collection."""

    id: Id
    mark: Literal["good", "bad"] | None = None
    note: str | None = Field(None, max_length=2_000)
    labels: _Labels = Field([])
    who: Name | None = None


class CollectionFile(RequestModel):
    """An exported collection: its members, query with images, and saved searches."""

    id: Name = Field(description="Its id where it was exported; an import gets a new one.")
    archive: Name = Field(description="Name of the archive where it was exported.")
    model: Name | None = Field(
        None, description="Fingerprint of that archive's model, which `vector` of the query is of."
    )
    name: Name
    query: SearchRequest | None = None
    images: list[ImageFile] = Field([], max_length=100)
    watches: list[WatchFile] = Field([], max_length=MAX_WATCHES)
    members: list[MemberFile] = Field([], max_length=MAX_MEMBERS)


def read_collection(path: str | PathLike[str]) -> CollectionFile:
    """Read an exported collection.

    Raises:
        DataError: The file cannot be read, or holds something else.

    >>> read_collection("marinas.json").members                                # doctest: +SKIP
    """
    return read_file(CollectionFile, path)


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


class ImportAnswer(AnswerModel):
    """An imported collection, and what was left out of it."""

    collection: CollectionAnswer
    problems: tuple[str, ...] = Field(description="One line for each thing that was left out.")

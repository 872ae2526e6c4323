"""What answers about a model hold: its making, its scores, a flat map, similar regions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class TestScores(BaseModel):
    """Scores on images that were not trained on, as the model's maker measured them."""

    about: str
    spaces: dict[str, dict[str, float]] = Field(description="Metrics by space; `chance` is one.")


class ModelAnswer(BaseModel):
    """How a model is built and was made; empty where its archive does not keep it."""

    archive: str
    fingerprint: str
    settings: dict[str, str | int | float | bool] = Field(description="Backbone, sizes, space.")
    training: dict[str, str | int | float | bool] = Field(description="Data, split, seed, loss.")
    training_images: int | None
    training_labels: dict[str, int] = Field(description="Training images by label.")
    validation: dict[str, float] = Field(description="Metrics on the part it was chosen on.")
    test: TestScores | None
    regions: bool = Field(description="Whether similar regions can be asked for.")


class OwnScoresAnswer(BaseModel):
    """How well annotated records of an archive find each other; `null` stands for undefined."""

    archive: str
    part: str = Field(description="`test`: not trained on; `all`: may include training images.")
    annotated: int = Field(description="Annotated records of the part.")
    taken: int = Field(description="Of these, drawn at random; each searches all others.")
    about: str
    spaces: dict[str, dict[str, Any]] = Field(
        description="By space: protocol, rules, counts, metrics, chance, 95 % intervals, per label."
    )


class MapAnswer(BaseModel):
    """A sample of an archive, laid out by two principal components; lists are parallel."""

    archive: str
    records: int
    shares: list[float] = Field(description="Of the variance, by component.")
    colored_by: str
    kinds: list[str] = Field(description="Names of what points are colored by, frequent first.")
    ids: list[str]
    x: list[float]
    y: list[float]
    kind: list[int] = Field(description="Positions in `kinds`.")


class RegionGrid(BaseModel):
    """Values by location, rows from the top, columns from the left, over the whole image."""

    parts: list[list[float]] = Field(
        description="What each location adds to the similarity, which is their mean for models of "
        "average pooling and linear layers."
    )
    cosines: list[list[float]] = Field(description="Cosine of each location by itself, -1..1.")


class RegionsAnswer(BaseModel):
    """Where a record and a query are alike: an aid to explain a hit, not a segmentation."""

    archive: str
    id: str
    similarity: float = Field(description="Cosine of record and query, -1..1.")
    record: RegionGrid
    query: RegionGrid | None = Field(description="The same for the query, where it is one image.")

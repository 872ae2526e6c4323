"""Models of change between dates, and of one place over time."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from landcue.server.schemas.base import AnswerModel, Box, Id, Name, RequestModel, Whole
from landcue.server.schemas.searches import Filters

_When = Annotated[str, Field(max_length=60)]
_Names = Annotated[list[Name], Field(max_length=100)]
_Pair = Annotated[list[Id], Field(min_length=2, max_length=2)]
_Labels = Annotated[str, Field(max_length=2_000)]


class ChangeRequest(RequestModel):
    """A comparison of two dates."""

    archive: Name | None = Field(None, description="Name of the archive; the first by default.")
    other: Name | None = Field(
        None, description="Name of the archive of the later date, if it is another one."
    )
    before: _When = Field(
        description="A year, month or day: the latest record of a place before it is compared; or "
        "an interval of two, `2012/2013`."
    )
    after: _When = Field(description="Likewise: the earliest record from it on.")
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    labels_before: _Labels | None = Field(None, description="Labels of the earlier record.")
    labels_after: _Labels | None = Field(None, description="Labels of the later record.")
    gained: _Names = Field([], description="Labels that the later record must have gained.")
    lost: _Names = Field([], description="Labels that it must have lost.")
    by: Name | None = Field(
        None,
        description="Rank by how much the predicted score of this label rose or fell, joined with "
        "how unusual the difference is.",
    )
    unchanged: _When | Annotated[list[_Pair], Field(max_length=1_000)] | None = Field(
        None,
        description="Two dates `2010/2012` between which most places did not change, or pairs of "
        "ids; by default all pairs are calibrated on each other.",
    )
    scoring: Literal["auto", "both", "trained", "measured"] = "auto"
    alpha: float = Field(0.05, gt=0, le=1, description="False alarm rate; 1 returns all pairs.")
    min_overlap: float = Field(0.5, gt=0, le=1)
    k: Whole = Field(100, ge=1, le=1_000, description="Most pairs in a JSON answer.")


class ChangedPair(AnswerModel):
    """Two records of one place."""

    before: str
    after: str
    before_datetime: dt.datetime
    after_datetime: dt.datetime
    p: float = Field(description="Conformal p-value.")
    z: float = Field(description="Robust standard deviations from the median of the group.")
    distance: float = Field(description="1 - cosine of the embeddings.")
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    labels_before: tuple[str, ...]
    labels_after: tuple[str, ...]
    group: str = Field(description="The pairs that it was calibrated on.")
    overlap: float = Field(description="Intersection over union of the footprints.")
    rise: float | None = Field(description="By how much the score of the label `by` rose.")
    bbox: Box | None


class ChangeAnswer(AnswerModel):
    """The unusual pairs, the most unusual first."""

    archive: str
    other: str
    pairs: int = Field(description="Number of pairs that were compared.")
    calibration: int = Field(description="Number of pairs that p-values rest on.")
    unchanged: bool = Field(description="Whether those were given as unchanged.")
    alpha: float
    flagged: int = Field(description="Number of pairs with a p-value of at most `alpha`.")
    matched: int = Field(description="Number of those that match the filters of labels.")
    notes: tuple[str, ...]
    changes: tuple[ChangedPair, ...]


class Moment(AnswerModel):
    """One record of a place."""

    id: str
    datetime: dt.datetime
    labels: tuple[str, ...]
    distance: float | None = Field(description="1 - cosine to the record before it in time.")
    sensor: str | None


class TimelineAnswer(AnswerModel):
    """The records of one place, the earliest first."""

    archive: str
    moments: tuple[Moment, ...]

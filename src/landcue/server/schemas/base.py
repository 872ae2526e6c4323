"""What the models of requests and answers are made of; the client uses them too.

Pydantic alone is imported here. A request with any other field is refused; an answer may gain
fields in a later version.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


def fixed(n: int, items: dict[str, Any]) -> WithJsonSchema:
    """Describe a tuple of n equal items without ``prefixItems``, which few tools read."""
    return WithJsonSchema({"type": "array", "items": items, "minItems": n, "maxItems": n})


NUMBER: dict[str, Any] = {"type": "number"}

Pair = Annotated[tuple[float, float], fixed(2, NUMBER)]
"""Two numbers."""

Box = Annotated[tuple[float, float, float, float], fixed(4, NUMBER)]
"""West, south, east, north in degrees; west > east crosses the antimeridian."""

PixelWindow = Annotated[tuple[int, int, int, int], fixed(4, {"type": "integer"})]
"""Column, row, width, height in pixels of a scene."""

Times = Annotated[tuple[datetime, datetime], fixed(2, {"type": "string", "format": "date-time"})]
"""The first and the last."""

Id = Annotated[str, Field(min_length=1, max_length=1_024)]

Name = Annotated[str, Field(min_length=1, max_length=200)]


def check_whole(value: Any) -> Any:
    """Take 20.0 for 20: JSON has one kind of number, and clients write integers either way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(check_whole)]


class RequestModel(BaseModel):
    """A request, or a part of one."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class AnswerModel(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True)


class FieldError(AnswerModel):
    """Why a field of a request was refused."""

    at: str
    what: str


class Problem(AnswerModel):
    """An error as problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] | None = None

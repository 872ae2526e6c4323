"""Dates and intervals of time as text: STAC's ``datetime``, also with years, months and days."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from landcue.errors import UsageError

When = str | date | datetime
"""A year, month, day or time: ``2013``, ``2013-06``, ``2013-06-30``, ``2013-06-30T12:00:00Z``."""

Interval = When | Sequence[When | None]
"""One of them, an interval of two as text, ``2013/2014-06`` or ``2013/..``, or a pair of them."""

HOW = "write 2024, 2024-06, 2024-06-30, 2024-06-30T12:00:00Z, or two with a slash, 2024-06-01/.."
NOT_AFTER = (
    "there is no 'after' or 'before' here: write \"datetime\": \"2024-06-01/2024-08-31\" in the "
    'filters, or "2024-06-01/.."'
)
"""Why filters with fields of a comparison of two dates are refused."""

_TICK = timedelta(microseconds=1)
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_CLOCK = r"(?:[01]\d|2[0-3]):\d\d"
_TIME = re.compile(
    rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_RFC3339 = re.compile(rf"\d{{4}}-\d\d-\d\dT{_CLOCK}:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII)


def interval_text(given: Interval) -> str:
    """Return a date, or an interval of two, as text.

    >>> interval_text((date(2024, 6, 1), None))
    '2024-06-01/..'
    >>> interval_text(datetime(2024, 6, 1, 12))
    '2024-06-01T12:00:00Z'

    Raises:
        UsageError: It is neither.
    """
    if isinstance(given, list | tuple):
        pair = cast("Sequence[When | None]", given)
        if len(pair) == 2 and not any(isinstance(end, str) and "/" in end for end in pair):
            return "/".join(".." if end is None else interval_text(end) for end in pair)
    elif isinstance(given, datetime):
        return in_utc(given).isoformat().replace("+00:00", "Z")
    elif isinstance(given, date):
        return given.isoformat()
    elif isinstance(given, str):
        return given.strip()
    raise UsageError(f"datetime: {str(given)[:60]!r} is no date, nor a pair of two: {HOW}")


def parse_interval(
    text: str, name: str = "datetime", how: str = HOW, *, rfc3339: bool = False
) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last microsecond of an interval, both included, in UTC.

    A year, month or day lasts until its end, also as the end of an interval. An open end is ``..``
    or nothing, and ``None`` here.

    >>> first, last = parse_interval("2024-02/..")
    >>> first.isoformat(), last
    ('2024-02-01T00:00:00+00:00', None)
    >>> parse_interval("2024-02")[1].isoformat()
    '2024-02-29T23:59:59.999999+00:00'

    Args:
        text: A date, or two with a slash between them.
        name: Of the argument, for messages.
        how: How to write it, for messages.
        rfc3339: Take only times as RFC 3339 has them, with a time zone, as the STAC API does.

    Raises:
        UsageError: It is no interval, both ends are open, or it ends before it starts.
    """
    parts = text.split("/")
    if len(parts) == 1:
        return parse_date(text, name, how, rfc3339=rfc3339)
    if len(parts) > 2 or not any(part.strip(" .") for part in parts):
        raise UsageError(f"{name}: {text[:60]!r} is no interval with an end: {how}")
    first, last = (
        (None, None) if part.strip() in ("", "..") else parse_date(part, name, how, rfc3339=rfc3339)
        for part in parts
    )
    if first[0] is not None and last[1] is not None and first[0] > last[1]:
        raise UsageError(f"{name}: {text[:80]} ends before it starts; swap its dates")
    return first[0], last[1]


def parse_date(
    when: When | None, name: str, how: str = HOW, *, rfc3339: bool = False
) -> tuple[datetime, datetime]:
    """Return the first and the last microsecond of a year, month, day or time, in UTC.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(when, str | date) or when == "":
        raise UsageError(f"{name}: a date is missing: {how}")
    text = interval_text(when)
    try:
        found = None if rfc3339 else _DATE.fullmatch(text)
        if found is not None:
            year, month, day = found.groups()
            first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
            month = int(month or 12)
            day = int(day or calendar.monthrange(first.year, month)[1])
            return first, datetime.combine(date(first.year, month, day), time.max, UTC)
        if not (_RFC3339 if rfc3339 else _TIME).fullmatch(text.upper()):
            raise ValueError
        instant = in_utc(datetime.fromisoformat(text.upper()))
        return instant, instant
    except ValueError:
        raise UsageError(f"{name}: {text[:60]!r} is no date: {how}") from None


def closed_interval(after: datetime | None, before: datetime | None) -> str | None:
    """Return times from ``after`` on that are earlier than ``before`` as an interval, as text.

    >>> closed_interval(datetime(2024, 6, 1), datetime(2024, 9, 1))
    '2024-06-01/2024-08-31'
    """
    if after is None and before is None:
        return None
    first = None if after is None else in_utc(after)
    if first is not None and first.time() == time.min:
        first = first.date()
    last = None if before is None else in_utc(before)
    if last is not None:
        if last <= datetime.min.replace(tzinfo=UTC):
            raise UsageError(f"no time is before {before}")
        last -= _TICK
        if last.time() == time.max:
            last = last.date()
    return interval_text((first, last))


def with_datetime(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored search, or its filters, with ``datetime`` for ``after`` and ``before``.

    Searches were stored with these two before there was ``datetime``.
    """
    known = dict(search)
    if isinstance(known.get("filters"), Mapping):
        known["filters"] = with_datetime(known["filters"])
    ends = [known.pop(name, None) for name in ("after", "before")]
    if any(ends):
        known["datetime"] = closed_interval(
            *(None if end is None else datetime.fromisoformat(end) for end in ends)
        )
    return known


def in_utc(when: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken as UTC.

    Raises:
        UsageError: In UTC its year is not in 1..9999.
    """
    try:
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{when}: the year must lie in 1..9999, in UTC") from None

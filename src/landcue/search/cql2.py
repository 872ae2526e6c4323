"""Filters in CQL2, the filter language of OGC and STAC, as text or JSON.

``and``, ``or`` and ``not`` of conditions on these properties:

* ``labels``: ``a_contains(labels, ('water', 'ship'))``: all of them; ``a_overlaps``: any of them.
  They are the annotated labels, or the predicted ones of a record that is not annotated;
* ``score:NAME``: the predicted score of a label, ``"score:ship" >= 0.7``;
* ``datetime``: ``datetime >= TIMESTAMP('2024-06-01T00:00:00Z')``, ``between``, ``t_after``,
  ``t_before``, ``t_during`` and ``t_intersects`` with an interval;
* ``geometry``: ``s_intersects(geometry, POLYGON((...)))`` or ``BBOX(w, s, e, n)``;
* ``id``, ``platform``, ``group``, ``part``, ``source``: ``=``, ``<>``, ``in``; ``path LIKE 'a/%'``.

A record without a time fits no condition on it, nor its negation; one without a platform, group or
part fits ``<>``.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import orjson

from landcue.errors import UsageError, did_you_mean
from landcue.interval import in_utc
from landcue.search.place import read_polygon
from landcue.types import Bounds

if TYPE_CHECKING:
    from landcue.search.filters import Terms

T = TypeVar("T")

COLUMNS = {"platform": "sensor", "group": "group", "part": "part", "source": "source"}
"""Properties of text, and the columns that hold them."""

PROPERTIES = ("labels", "score:NAME", "datetime", "geometry", "id", "path", *COLUMNS)

_SCORE = "score:"
_LONGEST = 10_000
_DEEPEST = 50
_MOST_GEOMETRIES = 10
"""Each is compared with the footprints of all records."""
_LONGEST_TEXT = 2_000
_MOST_BRACKETS = 8
"""Nested in text: the time of the parser grows exponentially with brackets that are not closed."""
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "t_after": "<=", "t_before": ">="}
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
_LARGEST = sys.float_info.max
_TIMES = {"t_after": ">", "t_before": "<"}


@functools.lru_cache(maxsize=64)
def parse(text: str) -> Any:
    """Parse CQL2 text, or CQL2 as JSON text, into the values of its JSON.

    >>> parse("a_contains(labels, ('ship')) and score:water < 0.5")["op"]
    'and'
    """
    if len(text) > _LONGEST:
        raise UsageError(f"the filter has {len(text):,} characters: at most {_LONGEST:,}")
    as_json = text.lstrip().startswith("{")
    if not as_json and (len(text) > _LONGEST_TEXT or _brackets(text) > _MOST_BRACKETS):
        raise UsageError(
            f"the filter has more than {_LONGEST_TEXT:,} characters, or more than {_MOST_BRACKETS} "
            "nested brackets: simplify it, or write it as JSON"
        )
    try:
        if as_json:
            value = orjson.loads(text)
        else:
            import cql2

            value = cql2.parse_text(text).to_json()
    except Exception as error:  # cql2 has error types of its own
        what = " ".join(str(error).split())[:200]
        raise UsageError(f"filter {text[:60]!r} is not CQL2: {what}") from None
    if text.lower().count("coordinates" if as_json else "s_intersects") > _MOST_GEOMETRIES:
        raise UsageError(f"the filter has more than {_MOST_GEOMETRIES} geometries: simplify it")
    if _depth(value) > _DEEPEST:
        raise UsageError(f"the filter is nested deeper than {_DEEPEST} levels: simplify it")
    return value


def _brackets(text: str) -> int:
    """Return how deep brackets are nested outside of quotes."""
    depth, deepest, quote = 0, 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "()":
            depth += 1 if letter == "(" else -1
            deepest = max(deepest, depth)
    return deepest


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        one, depth = stack.pop()
        deepest = max(deepest, depth)
        inner = one.get("args") if isinstance(one, dict) else None
        parts = inner if isinstance(inner, list) else ()
        stack += [(part, depth + 1) for part in parts if isinstance(part, dict)]
        if len(stack) > _LONGEST:
            return _DEEPEST + 1
    return deepest


def evaluate(node: Any, terms: Terms[T], *, negated: bool = False) -> T:
    """Build the conditions of a parsed filter, or of its negation.

    Raises:
        UsageError: An unknown property or operator, or a value that does not fit.
    """
    op, args = _call(node)
    if op in ("and", "or"):
        parts = [evaluate(part, terms, negated=negated) for part in args]
        flip = (op == "or") == negated
        return terms.joined("and" if flip else "or", parts)
    if op == "not" and len(args) == 1:
        return evaluate(args[0], terms, negated=not negated)
    if op in _SWAPPED and len(args) == 2 and _name(args[0]) is None:  # 0.7 <= score
        op, args = _SWAPPED[op], args[::-1]
    name = _name(args[0]) if args else None
    if name is None:
        raise UsageError(f"filter: {op} needs a property and a value: {_shown(node)}")
    if op == "between" and len(args) == 3:
        low = {"op": ">=", "args": args[:2]}
        high = {"op": "<=", "args": [args[0], args[2]]}
        return evaluate({"op": "and", "args": [low, high]}, terms, negated=negated)
    if len(args) != 2:
        raise UsageError(f"filter: {op} of {name} cannot be used here: {_shown(node)}")
    value = args[1]
    if name == "datetime":
        return _time(op, value, terms, negated, node)
    found = _condition(name, op, value, terms, node)
    return terms.negated(found) if negated else found


def _call(node: Any) -> tuple[str, list[Any]]:
    op, args = _part(node, "op"), _part(node, "args")
    if isinstance(op, str) and isinstance(args, list) and args:
        return op.lower(), cast("list[Any]", args)
    raise UsageError(f"filter: {_shown(node)} is no condition")


def _part(value: Any, name: str) -> Any:
    """Return a member of a JSON object; ``None`` if it is none, or has no such member."""
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _name(value: Any) -> str | None:
    name = _part(value, "property")
    return name if isinstance(name, str) else None


def _shown(node: Any) -> str:
    return json.dumps(node, default=str)[:120]


def _condition(name: str, op: str, value: Any, terms: Terms[T], node: Any) -> T:
    if name == "labels" and op in ("a_contains", "a_overlaps"):
        parts = [terms.label(label) for label in _texts(value, node)]
        return terms.joined("and" if op == "a_contains" else "or", parts)
    if name.startswith(_SCORE) and op in ("<", "<=", ">", ">="):
        return _score(name.removeprefix(_SCORE), op, value, terms, node)
    if name == "geometry" and op == "s_intersects" and isinstance(value, dict):
        box = _part(value, "bbox")
        if isinstance(box, list) and len(cast("list[Any]", box)) == 4:
            return terms.touching(Bounds(*(_number(edge, node) for edge in cast("list[Any]", box))))
        return terms.inside(read_polygon(json.dumps(value)))
    if name == "path" and op == "like" and isinstance(value, str):
        prefix = value.removesuffix("%")
        if not value.endswith("%") or set(prefix) & set("%_\\"):
            raise UsageError(f"filter: path LIKE {value[:60]!r}: only a prefix, as 'north/%'")
        return terms.below(prefix)
    if (name == "id" or name in COLUMNS) and op in ("=", "<>", "in"):
        texts = _texts(value if op == "in" else [value], node)
        found = terms.with_ids(texts) if name == "id" else terms.among(COLUMNS[name], texts)
        return terms.negated(found) if op == "<>" else found
    known = name in PROPERTIES or name.startswith(_SCORE)
    if not known:
        near = did_you_mean(name, PROPERTIES)
        raise UsageError(f"filter: there is no property {name!r}{near}; {', '.join(PROPERTIES)}")
    raise UsageError(f"filter: {op} of {name} is not supported: {_shown(node)}")


def _score(label: str, op: str, value: Any, terms: Terms[T], node: Any) -> T:
    """Scores are kept in single precision, and compared in it."""
    least = np.float32(_number(value, node))
    if op in (">", "<="):
        least = np.nextafter(least, np.float32(2))
    if least > 1:  # no score is
        some = terms.score(label, 0.0)
        found = terms.joined("and", [some, terms.negated(some)])
    else:
        found = terms.score(label, max(0.0, float(least)))
    return found if op in (">", ">=") else terms.negated(found)


def _time(op: str, value: Any, terms: Terms[T], negated: bool, node: Any) -> T:
    if op in ("=", "t_equals", "t_during", "t_intersects"):
        interval = _part(value, "interval")
        ends: Any = [value, value] if interval is None else interval
        if (
            not isinstance(ends, list)
            or len(cast("list[Any]", ends)) != 2
            or (interval is None and op == "t_during")
        ):
            raise UsageError(f"filter: {op} needs an interval: {_shown(node)}")
        first, last = (None if end == ".." else _instant(end, node) for end in ends)
        if first is not None and last is not None and first > last:
            raise UsageError(f"filter: the interval ends before it begins: {_shown(node)}")
        parts: list[T] = []
        if first is not None:
            parts.append(terms.before(_since(first)) if negated else terms.after(_since(first)))
        if last is not None:
            end = _since(last) + 1
            parts.append(terms.after(end) if negated else terms.before(end))
        if not parts:
            raise UsageError(f"filter: the interval has no end: {_shown(node)}")
        return terms.joined("or" if negated else "and", parts)
    if op == "<>":
        equal = {"op": "=", "args": [{"property": "datetime"}, value]}
        return evaluate(equal, terms, negated=not negated)
    if op not in _NEGATED:
        raise UsageError(f"filter: {op} of datetime is not supported: {_shown(node)}")
    sign = _NEGATED[op] if negated else _TIMES.get(op, op)
    bound = _since(_instant(value, node)) + (sign in (">", "<="))
    return terms.after(bound) if sign in (">", ">=") else terms.before(bound)


def _instant(value: Any, node: Any) -> datetime:
    if isinstance(value, dict):
        value = _part(value, "timestamp") or _part(value, "date")
    try:
        return in_utc(datetime.fromisoformat(value))
    except (TypeError, ValueError, UsageError):
        raise UsageError(f"filter: {_shown(node)} holds no ISO 8601 time") from None


def _since(time: datetime) -> np.datetime64:
    return np.datetime64(time.replace(tzinfo=None), "us")


def _texts(value: Any, node: Any) -> Sequence[str]:
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str) for one in values):
        raise UsageError(f"filter: needs text: {_shown(node)}")
    return values


def _number(value: Any, node: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise UsageError(f"filter: needs a number: {_shown(node)}")
    return float(value)

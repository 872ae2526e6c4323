"""Label tables: CSV with a ``path`` column, and one 0/1 column per label or one ``labels`` list."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from landcue.data.places import box_of
from landcue.errors import DataError, UsageError
from landcue.interval import in_utc
from landcue.types import Bounds, Problem

_SIDES = ("west", "south", "east", "north")
_META = ("path", "id", "group", "datetime", "time", "sensor", *_SIDES, "labels")
_ZERO = {"", "0", "0.0"}
_ONE = {"1", "1.0"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of a label table; ``line`` is its line number in the file.

    ``labels`` is ``None`` in a table without label columns.
    """

    line: int
    path: str
    id: str | None
    group: str | None
    datetime: dt.datetime | None
    labels: tuple[str, ...] | None
    sensor: str | None = None
    bbox: Bounds | None = None


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A whole table; label names in column order, or sorted for a ``labels`` list."""

    label_names: tuple[str, ...]
    rows: tuple[LabelRow, ...]


def quote_cell(text: str) -> str:
    """Return text for a CSV cell that a spreadsheet does not run as a formula.

    >>> quote_cell("=1+1.png"), unquote_cell(quote_cell("=1+1.png")), quote_cell("a.png")
    ("'=1+1.png", '=1+1.png', 'a.png')
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def unquote_cell(text: str) -> str:
    """Return what :func:`quote_cell` was called with."""
    quoted = text.startswith("'") and text.lstrip("'").startswith(_FORMULA)
    return text[1:] if quoted else text


def read_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, stripped cells, without quotes of formulas) of every non-blank line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [unquote_cell(cell.strip()) for cell in cells]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a UTF-8 table ({error})") from None


def parse_flag(cell: str, where: str) -> bool:
    """Read one 0/1 cell, blank meaning 0."""
    if cell in _ZERO:
        return False
    if cell in _ONE:
        return True
    raise DataError(f"{where}: {cell!r} is not 0, 1 or blank")


def parse_time(text: str, where: str) -> dt.datetime | None:
    """Read an ISO 8601 time (UTC when it names no zone); blank means unknown."""
    if not text:
        return None
    try:
        return in_utc(dt.datetime.fromisoformat(text))
    except ValueError:
        raise DataError(f"{where}: {text!r} is not an ISO 8601 time (2024-06-01T10:00Z)") from None
    except UsageError as error:
        raise DataError(f"{where}: {error}") from None


def _bounds(row: dict[str, str], where: str, problems: list[Problem] | None) -> Bounds | None:
    sides = [row.get(side, "") for side in _SIDES]
    if not any(sides):
        return None
    try:
        return box_of(sides)
    except DataError as error:
        if problems is None:
            raise DataError(f"{where}: {error}") from None
        problems.append(Problem(where, f"{error}; indexed without a place"))
        return None


def read_label_table(
    path: Path, *, unlabeled: bool = False, problems: list[Problem] | None = None
) -> LabelTable:
    """Read ``path,labels`` (joined by ``;`` or ``|``) or ``path,label1,label2…`` (0/1 cells).

    Columns are separated by commas, semicolons or tabs. Optional columns, in upper or lower case:
    ``id``, ``group``, ``datetime`` or ``time`` (ISO 8601), ``sensor``, and a footprint in degrees
    as ``west``, ``south``, ``east``, ``north``. Beside a ``labels`` column, and where hardly a
    cell is 0 or 1, other columns are no labels.

    Args:
        unlabeled: Allow a table without label columns.
        problems: Takes what is wrong with single rows, which are then left out, with places, which
            are then left out of their rows, and the columns that are ignored. Without it these are
            errors.
    """
    delimiter = _delimiter(path)
    lines = read_rows(path, delimiter)
    _, names = next(lines, (0, []))
    header = [name.lower() if name.lower() in _META else name for name in names]
    if "path" not in header:
        raise DataError(f"{path} has no 'path' column; its first line must be like path,labels")
    if len(set(header)) != len(header):
        raise DataError(f"{path} has two columns of one name: {', '.join(header)}")
    table = list(lines)
    flags, ignored = _label_columns(header, [cells for _, cells in table], problems is not None)
    if ignored and problems is not None:
        problems.append(Problem(str(path), f"ignored: columns {', '.join(ignored)}"))
    labeled = "labels" in header or bool(flags)
    if not labeled and not unlabeled:
        raise DataError(f"{path} has no label column; need 'labels' or one 0/1 column per label")
    if "labels" in header and flags:
        raise DataError(f"{path} has 'labels' and also {', '.join(flags)}; keep one of the two")
    rows: list[LabelRow] = []
    seen: dict[str, int] = {}
    for line, cells in table:
        where = f"{path} line {line}"
        try:
            rows.append(_row(where, line, header, cells, flags, labeled, seen, problems))
        except DataError as error:
            if problems is None:
                raise
            problems.append(Problem(where, str(error).removeprefix(f"{where}: ")))
    names = flags or sorted({name for row in rows for name in row.labels or ()})
    return LabelTable(tuple(names), tuple(rows))


def _delimiter(path: Path) -> str:
    """Return the separator that makes ``path`` a column of the first line."""
    for delimiter in ",;\t":
        _, header = next(read_rows(path, delimiter), (0, []))
        if "path" in [name.lower() for name in header]:
            return delimiter
    return ","


def _label_columns(
    header: list[str], table: list[list[str]], lenient: bool
) -> tuple[list[str], list[str]]:
    """Return the columns that are labels, and those that are ignored."""
    others = [name for name in header if name not in _META]
    if not lenient:
        return others, []
    if "labels" in header:
        return [], others
    flags: list[str] = []
    for name in others:
        at = header.index(name)
        cells = [cells[at] for cells in table if at < len(cells) and cells[at]]
        if not cells or 2 * sum(cell in _ZERO | _ONE for cell in cells) > len(cells):
            flags.append(name)
    return flags, [name for name in others if name not in flags]


def _row(
    where: str,
    line: int,
    header: list[str],
    cells: list[str],
    flags: list[str],
    labeled: bool,
    seen: dict[str, int],
    problems: list[Problem] | None,
) -> LabelRow:
    if len(cells) != len(header):
        raise DataError(f"{where}: {len(cells)} cells, the header has {len(header)}")
    row = dict(zip(header, cells, strict=True))
    if not row["path"]:
        raise DataError(f"{where}: no path")
    if (first := seen.get(row["path"])) is not None:
        raise DataError(f"{where}: {row['path']!r} stands in line {first} too; remove one")
    labels: tuple[str, ...] | None = None
    if flags:
        labels = tuple(n for n in flags if parse_flag(row[n], f"{where}, column {n}"))
    elif labeled:
        names = (name.strip() for name in re.split(r"[;|]", row.get("labels", "")))
        labels = tuple(dict.fromkeys(name for name in names if name))
    made = LabelRow(
        line=line,
        path=row["path"],
        id=row.get("id") or None,
        group=row.get("group") or None,
        datetime=parse_time(row.get("datetime") or row.get("time", ""), where),
        labels=labels,
        sensor=row.get("sensor") or None,
        bbox=_bounds(row, where, problems),
    )
    seen[made.path] = line
    return made

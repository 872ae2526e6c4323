"""Label sheets as datasets publish them: a name, then one 0/1 cell per label."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landcue.data.label_table import parse_flag, read_rows
from landcue.errors import DataError


@dataclass(frozen=True, slots=True)
class Sheet:
    """A label sheet.

    Attributes:
        path: The file.
        label_names: Labels in column order.
        rows: Labels of each row, by the name in its first cell.
    """

    path: Path
    label_names: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]


def read_sheet(path: Path, label_names: Sequence[str]) -> Sheet:
    """Read a sheet whose header names exactly ``label_names``, in any order.

    Tabs separate the cells of a ``.txt`` file, commas those of a ``.csv`` file; ``.xlsx`` files
    need the extra ``landcue[formats]``. Blank cells mean 0. ``baresoil``, ``bare soil`` and
    ``bare-soil`` are one label, spelled as in ``label_names``. A blank name in the header is the
    label that stands at its place in ``label_names``, if no other column is called so.

    Raises:
        DataError: Unreadable file, other label names, a cell that is not 0 or 1, a row of another
            length, or two rows of one name; the message names file and line.
    """
    lines = _excel_rows(path) if path.suffix.lower() == ".xlsx" else _text_rows(path)
    _, header = next(lines, (0, [""]))
    header = [header[0], *_fill_blanks(header[1:], label_names)]
    spelling = {plain(name): name for name in label_names}
    found = {plain(name): name for name in header[1:]}
    if set(found) != set(spelling) or len(found) != len(header) - 1:
        wrong = sorted({(found | spelling)[key] for key in found.keys() ^ spelling.keys()})
        what = f"these differ: {', '.join(wrong)}" if wrong else "one stands there twice"
        raise DataError(f"{path}: the header must name the {len(label_names)} labels; {what}")
    names = tuple(spelling[plain(name)] for name in header[1:])
    rows: dict[str, tuple[str, ...]] = {}
    for line, cells in lines:
        where = f"{path} line {line}"
        if cells[0] in rows:
            raise DataError(f"{where}: a second row for {cells[0]!r}; remove one")
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {len(cells)} cells, the header has {len(header)}; is the file cut off?"
            )
        flags = zip(names, cells[1:], strict=True)
        rows[cells[0]] = tuple(n for n, cell in flags if parse_flag(cell, f"{where}, {n}"))
    return Sheet(path, names, rows)


def read_mat(
    path: Path, variable: str, label_names: Sequence[str], row_names: Sequence[str]
) -> Sheet:
    """Read a MATLAB matrix ``[labels, images]`` of 0 and 1; needs ``landcue[formats]``.

    The file names neither labels nor images: both come in the published order.

    Raises:
        DataError: Unreadable file, no such variable, another shape, or another value.
    """
    scipy_io = require("scipy.io", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: dict[str, Any] = scipy_io.loadmat(path)
    except Exception as error:  # scipy raises almost anything on broken bytes
        raise DataError(f"{path} is no readable MATLAB file ({error})") from None
    matrix = content.get(variable)
    shape = (len(label_names), len(row_names))
    if matrix is None or tuple(matrix.shape) != shape:
        raise DataError(f"{path} holds no variable {variable!r} of shape {shape[0]} x {shape[1]}")
    if not ((matrix == 0) | (matrix == 1)).all():
        raise DataError(f"{path}: {variable!r} holds values other than 0 and 1")
    rows = {
        name: tuple(label for label, on in zip(label_names, column, strict=True) if on)
        for name, column in zip(row_names, matrix.T.tolist(), strict=True)
    }
    return Sheet(path, tuple(label_names), rows)


def plain(name: str) -> str:
    """Return a label name without case, spaces, hyphens and underscores."""
    return "".join(letter for letter in name.lower() if letter not in " -_")


def require(module: str, path: Path) -> Any:
    """Import a module of the extra ``formats``.

    Raises:
        DataError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise DataError(
            f"{path} needs {package}; install it with: pip install 'landcue[formats]'"
        ) from None


def _fill_blanks(header: list[str], label_names: Sequence[str]) -> list[str]:
    taken = {plain(name) for name in header}
    return [
        label_names[place]
        if not name and place < len(label_names) and plain(label_names[place]) not in taken
        else name
        for place, name in enumerate(header)
    ]


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    return read_rows(path, delimiter="\t" if path.suffix.lower() == ".txt" else ",")


def _excel_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    openpyxl = require("openpyxl", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book: Any = openpyxl.load_workbook(path, read_only=True, data_only=True)
            table: list[tuple[Any, ...]] = list(book.worksheets[0].iter_rows(values_only=True))
            book.close()
    except Exception as error:  # openpyxl raises almost anything on broken bytes
        raise DataError(f"{path} is no readable Excel file ({error})") from None
    for line, values in enumerate(table, start=1):
        cells = ["" if value is None else str(value).strip() for value in values]
        if any(cells):
            yield line, cells

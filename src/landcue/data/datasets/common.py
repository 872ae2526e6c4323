"""What data set readers share: published facts, class folders, label tables, label maps."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landcue.data.images import is_image_path
from landcue.data.label_table import parse_flag, read_rows
from landcue.data.raster import without_warnings
from landcue.errors import DataError
from landcue.types import Problem


@dataclass(frozen=True, slots=True)
class Facts:
    """The published facts of one dataset.

    Attributes:
        title: Its name in papers.
        images: Number of images.
        labels: Label names as published, in the published order.
        citation: Paper to cite.
        homepage: Where its authors describe it.
        layout: Paths of images and labels below the root folder.
        classes: Images per scene class (or other group); empty when it has none.
        parts: Images per part of the published split; empty when the layout holds none.
        positives: Images per label, where published.
        size: Width and height in pixels; ``None`` when it varies.
        odd_sizes: Number of images with another size.
        unlabeled: Ids of the images that carry no label.
        pixel_size: Ground size of a pixel.
        defects: Known defects and traps, one sentence each.
        multi_label: Whether an image may carry several labels.
    """

    title: str
    images: int
    labels: tuple[str, ...]
    citation: str
    homepage: str
    layout: str
    classes: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    parts: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    positives: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    size: tuple[int, int] | None = None
    odd_sizes: int = 0
    unlabeled: tuple[str, ...] = ()
    pixel_size: str = ""
    defects: tuple[str, ...] = ()
    multi_label: bool = True


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
    """
    scipy_io = require("scipy.io", path)
    try:
        with without_warnings:
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
    """Import a module of the extra ``formats``."""
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
        with without_warnings:
            book: Any = openpyxl.load_workbook(path, read_only=True, data_only=True)
            table: list[tuple[Any, ...]] = list(book.worksheets[0].iter_rows(values_only=True))
            book.close()
    except Exception as error:  # openpyxl raises almost anything on broken bytes
        raise DataError(f"{path} is no readable Excel file ({error})") from None
    for line, values in enumerate(table, start=1):
        cells = ["" if value is None else str(value).strip() for value in values]
        if any(cells):
            yield line, cells


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders directly inside, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def image_files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Yield the image files directly inside, sorted; other visible files become problems."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if is_image_path(path):
            yield path
        else:
            problems.append(Problem(str(path), "not an image file"))

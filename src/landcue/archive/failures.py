"""Failures of the table's library, in one line that says what is safe and what to do."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Generator
from pathlib import Path

import pyarrow as pa

from landcue.errors import ArchiveError

TABLE_FOLDER = "records.lance"


@contextlib.contextmanager
def reading(folder: Path) -> Generator[None]:
    """Turn a failure to read the table into an :class:`ArchiveError`."""
    try:
        yield
    except BaseException as error:
        if not _from_library(error):
            raise
        raise ArchiveError(
            f"{folder / TABLE_FOLDER} cannot be read ({_short(error)}); run 'landcue archive "
            "repair', restore it from a copy, or index the images again into a new folder"
        ) from None


@contextlib.contextmanager
def writing(folder: Path, safe: int | None) -> Generator[None]:
    """Turn a failure to write the table into an :class:`ArchiveError` that says what is safe."""
    try:
        yield
    except BaseException as error:
        if not _from_library(error):
            raise
        kept = "the records committed so far" if safe is None else f"{safe} records"
        full = f"os error {errno.ENOSPC}" in str(error) or f"os error {errno.EDQUOT}" in str(error)
        why, fix = ("no space left", "free space") if full else (_short(error), "mend that")
        raise ArchiveError(
            f"cannot write {folder}: {why}; {kept} are safe, {fix} and run the same command again"
        ) from None


def _from_library(error: BaseException) -> bool:
    """Tell the failures LanceDB and Arrow report from our mistakes and from interrupts."""
    # A panic on broken bytes arrives as a class that neither library exports.
    panicked = type(error).__name__ in {"RustPanic", "PanicException"}
    return panicked or isinstance(error, RuntimeError | OSError | ValueError | pa.ArrowException)


def _short(error: BaseException) -> str:
    """Return the first line of a message, without the library's own source positions."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    line = re.sub(r",?\s*/\S+\.rs:\d+:\d+.*$", "", line)
    return line if len(line) <= 300 else line[:299] + "…"

"""Read each row that can be read of a table with broken bytes, in a process of its own.

Broken bytes can make native code ask for absurd amounts of memory, or crash. So a child process
reads; it says beforehand which rows it is about to read, and when it dies the parent starts another
that takes these in smaller pieces, down to one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landcue.archive.manifest import Manifest, manifest_text, parse_manifest
from landcue.archive.schema import first_of_each, only, row_faults
from landcue.archive.table import RecordTable, reading
from landcue.errors import ArchiveError, LandcueError
from landcue.types import Problem

ROWS_AT_ONCE = 4096


@dataclass(slots=True)
class Salvaged:
    """What is left of a table.

    Attributes:
        kept: Rows without a fault.
        faults: What is wrong with others; ``where`` is the id.
        lost: Positions of rows whose id cannot be read either.
    """

    kept: int = 0
    faults: list[Problem] = field(default_factory=lambda: list[Problem]())
    lost: list[int] = field(default_factory=lambda: list[int]())

    @property
    def problems(self) -> list[Problem]:
        """The faults, then the lost rows, neighbors as one."""
        ends: list[list[int]] = []
        for row in self.lost:
            if ends and ends[-1][1] == row - 1:
                ends[-1][1] = row
            else:
                ends.append([row, row])
        names = [f"row {a}" if a == b else f"rows {a} to {b}" for a, b in ends]
        return [*self.faults, *(Problem(name, "cannot be read") for name in names)]

    @property
    def dropped(self) -> list[str]:
        """Ids of rows with a fault."""
        return [problem.where for problem in self.faults]


def salvage(folder: Path, manifest: Manifest, out: Path | None = None) -> Salvaged:
    """Read all rows of the table in ``folder``, and copy the good ones into a new one.

    Args:
        folder: Holds the table.
        manifest: What it should be.
        out: A new folder for the copy; without it rows are only checked.

    Raises:
        ArchiveError: Nothing can be read, or the copy cannot be written.
    """
    found = Salvaged()
    start, careful, n = 0, 0, ROWS_AT_ONCE
    while True:
        ended, at = _run_child(folder, manifest, out, (start, careful, n), found)
        if ended:
            return found
        start, n = at
        if n == 1:
            found.lost.append(start)
            start, n = start + 1, ROWS_AT_ONCE
        else:
            careful, n = start + n, _smaller(n)


def _run_child(
    folder: Path,
    manifest: Manifest,
    out: Path | None,
    place: tuple[int, int, int],
    found: Salvaged,
) -> tuple[bool, tuple[int, int]]:
    """Return whether all was read, and else the first row and the number it died of."""
    order = {
        "folder": str(folder),
        "manifest": manifest_text(manifest),
        "out": None if out is None else str(out),
        "place": place,
    }
    done = subprocess.run(
        [sys.executable, "-m", "landcue.archive.salvage"],
        input=json.dumps(order),
        capture_output=True,
        encoding="utf-8",
    )
    at: tuple[int, int] | None = None
    for line in done.stdout.splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # cut off when it died
            said: dict[str, Any] = json.loads(line)
            if "error" in said:
                raise ArchiveError(said["error"])
            if "at" in said:
                at = (said["at"], said["n"])
            elif "kept" in said:
                found.kept += said["kept"]
            elif "id" in said:
                found.faults.append(Problem(said["id"], said["what"]))
            elif "row" in said:
                found.lost.append(said["row"])
            elif "end" in said:
                return True, (0, 0)
    if at is None:
        raise ArchiveError(f"{folder} cannot be read: the process that reads it died")
    return False, at


def _main() -> None:
    order = json.loads(sys.stdin.read())
    folder, out = Path(order["folder"]), order["out"]
    manifest = parse_manifest(order["manifest"], folder)
    start, careful, n = order["place"]
    try:
        table = RecordTable.open(folder, pinned=True)
        if table is None:
            raise ArchiveError(f"{folder} holds no table")
        if not table.schema.equals(manifest.schema):
            raise ArchiveError(f"{folder} holds a table of other columns or sizes")
        copy = None if out is None else _copy(Path(out), manifest)
        seen = set(copy.read(["id"])["id"].to_pylist()) if copy is not None else set[str]()
        total = table.count()
        while start < total:
            size = min(n if start < careful else ROWS_AT_ONCE, total - start)
            _read(table, manifest, copy, seen, start, size)
            start += size
        _say(end=True)
    except LandcueError as error:
        _say(error=str(error))


def _copy(out: Path, manifest: Manifest) -> RecordTable:
    copy = RecordTable.open(out, pinned=False)
    return RecordTable.create(out, manifest.schema) if copy is None else copy


def _read(
    table: RecordTable,
    manifest: Manifest,
    copy: RecordTable | None,
    seen: set[str],
    start: int,
    n: int,
) -> None:
    _say(at=start, n=n)
    try:
        with reading(table.folder):
            batch = table.slice(start, n)
            batch.validate(full=True)
            if len(batch) != n:
                raise ArchiveError("rows are missing")
            faults = row_faults(batch, manifest.label_names)
            ids = batch["id"].to_pylist()
    except ArchiveError:
        if n == 1:
            _say_unreadable(table, start)
            return
        for first in range(start, start + n, _smaller(n)):
            _read(table, manifest, copy, seen, first, min(_smaller(n), start + n - first))
        return
    fresh = first_of_each(ids, seen)
    wanted = [new and not what for new, what in zip(fresh, faults, strict=True)]
    if copy is not None and any(wanted):
        copy.add(only(batch, wanted))
    for id_, what, new in zip(ids, faults, fresh, strict=True):
        if what or not new:
            _say(id=str(id_), what=what or "is stored twice")
    _say(kept=sum(wanted))


def _say_unreadable(table: RecordTable, start: int) -> None:
    try:
        id_ = table.slice(start, 1, ["id"])["id"][0].as_py()
        _say(id=str(id_), what="cannot be read")
    except (ArchiveError, IndexError, UnicodeDecodeError):
        _say(row=start)


def _smaller(n: int) -> int:
    return max(1, n // 16)


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    _main()

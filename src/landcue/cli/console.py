"""Options that commands share, and output: tables on stdout, messages on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TextIO

import typer

from landcue.data.names import printable
from landcue.errors import UsageError, counted
from landcue.interval import closed_interval

Dim = Annotated[
    int | None,
    typer.Option(min=1, help="Length of an embedding of a third-party model (default 128)."),
]
Fit = Annotated[
    bool,
    typer.Option(
        help="Fit embeddings and codes to the archive's images, without labels; with --no-fit they "
        "are the model's own."
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Images per model call.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Number of threads that read images.")]
Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
Box = Annotated[str | None, typer.Option(help="Only records in this box, in degrees.")]
Polygon = Annotated[
    str | None,
    typer.Option(help="Only records in a polygon: GeoJSON or WKT, as text or as a file."),
]
Sources = Annotated[
    list[str] | None, typer.Option("--source", help="Only records of this source; repeatable.")
]
Ids = Annotated[
    str | None,
    typer.Option(
        help="Only these records: ids separated by commas, a file with one id per line, "
        "or - for stdin."
    ),
]
Sensors = Annotated[list[str] | None, typer.Option(help="Only records of this sensor; repeatable.")]
_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Datetime = Annotated[
    str | None,
    typer.Option(
        metavar="INTERVAL",
        help="Only records of this time (UTC): 2024, 2024-06, 2024-06-30, 2024-06-01/2024-08-31 "
        "or 2024-06-01/.. for an open end.",
    ),
]
After = Annotated[
    datetime | None,
    typer.Option(formats=_DATES, help="Short for --datetime TIME/.., from this time on."),
]
Before = Annotated[
    datetime | None,
    typer.Option(formats=_DATES, help="Short for --datetime ../TIME, without this time."),
]


def interval_option(
    interval: str | None, after: datetime | None, before: datetime | None
) -> str | None:
    """Return the interval of ``--datetime``, or of ``--after`` and ``--before``.

    Raises:
        UsageError: Both are given, or ``--after`` is not earlier than ``--before``.
    """
    if interval is not None and (after is not None or before is not None):
        raise UsageError("use --datetime, or --after and --before, not both")
    if after is not None and before is not None and after >= before:
        raise UsageError(f"no time is after {after} and before {before}: swap them")
    return closed_interval(after, before) if interval is None else interval


class Reporter:
    """Messages and one progress bar at a time on stderr; the bar is silent without a terminal."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None
        self._stage: str | None = None
        self._started = 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def message(self, message: str) -> None:
        """Print one line, above the progress bar if one runs."""
        message = printable(message)
        if self._progress is None:
            print(message, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(message, markup=False, highlight=False)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show the progress of a stage; a new stage replaces the bar."""
        if not sys.stderr.isatty():
            return
        if stage != self._stage:
            self._stop()
            self._start(stage, total)
        seconds = time.monotonic() - self._started
        rate = f"{done / seconds:,.0f}/s" if seconds > 1 else ""
        self._progress.update(self._task, completed=done, total=total, rate=rate)
        if done >= total:
            self._stop()

    def _start(self, stage: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(stage, total=total, rate="")
        self._started = time.monotonic()
        self._stage = stage

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._stage = None, None


def print_json(value: object) -> None:
    """Print one JSON document on stdout; what a terminal would carry out is escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    print(text if text.isprintable() else json.dumps(value, allow_nan=False))


def styled(text: str, **style: Any) -> str:
    """Return text in a style on terminals, unless ``NO_COLOR`` is set; plain where it is piped."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not style or not sys.stdout.isatty() else typer.style(text, **style)


def print_parts(*parts: str | tuple[str, dict[str, Any]]) -> None:
    """Print one line of parts, each with an optional style; names in them are escaped."""
    pairs = [part if isinstance(part, tuple) else (part, dict[str, Any]()) for part in parts]
    print("".join(styled(printable(text), **style) for text, style in pairs), flush=True)


def print_line(text: object, file: TextIO | None = None) -> None:
    """Print one line, on stdout by default: names in it are escaped where they would break it."""
    print(printable(str(text)), file=file, flush=True)


def print_text(text: str) -> None:
    """Print several lines on stdout; all but their ends is escaped as by :func:`print_line`."""
    print("\n".join(map(printable, text.split("\n"))), flush=True)


def run_saved_searches(archive: Path) -> None:
    """Evaluate the saved searches of an archive; print on stderr what they found, and problems."""
    from landcue.search.watch import run_saved

    found = run_saved(archive)
    if found.hits:
        print_line(f"saved searches: {counted(len(found.hits), 'new hit')}", file=sys.stderr)
    for problem in found.problems:
        print_line(f"warning: {problem}", file=sys.stderr)

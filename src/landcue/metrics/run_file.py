"""Runs and qrels in TREC's text formats.

    python -m landcue.metrics.run_file RUN QRELS

A run has a line ``query Q0 item rank score tag`` per result, a qrels a line
``query 0 item gain`` per judged item; fields are separated by white space.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from pathlib import Path

from landcue.errors import DataError, LandcueError
from landcue.metrics.protocol import RUNS
from landcue.metrics.report import to_text
from landcue.metrics.runs import evaluate_run

_RUN = "query Q0 item rank score tag"
_QRELS = "query 0 item gain"


def read_run(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Read the results of each query; ranks must rise and scores fall, line by line.

    Raises:
        DataError: The file is missing, or a line is broken or out of order; names the line.
    """
    run: dict[str, list[tuple[str, float]]] = {}
    ranks: dict[str, float] = {}
    for where, (query, _, item, rank, score, _) in _lines(path, _RUN):
        results = run.setdefault(query, [])
        value, place = _number(score, "score", where), _number(rank, "rank", where)
        if results and (value > results[-1][1] or place <= ranks[query]):
            raise DataError(
                f"{where}: rank {rank} and score {score} after rank {ranks[query]:g} and score "
                f"{results[-1][1]:g}; sort the results of query {query!r} by falling score"
            )
        results.append((item, value))
        ranks[query] = place
    return run


def read_qrels(path: Path) -> dict[str, dict[str, float]]:
    """Read the gains of each query.

    Raises:
        DataError: The file is missing, a line is broken, a gain negative, or an item judged
            twice; names the line.
    """
    qrels: dict[str, dict[str, float]] = {}
    for where, (query, _, item, gain) in _lines(path, _QRELS):
        gains = qrels.setdefault(query, {})
        if item in gains:
            raise DataError(f"{where}: item {item!r} is judged twice for {query!r}; remove one")
        gains[item] = _number(gain, "gain", where)
        if gains[item] < 0:
            raise DataError(f"{where}: gain {gain} is negative; give 0 for what is not relevant")
    return qrels


def _lines(path: Path, fields: str) -> Generator[tuple[str, list[str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; give a text file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}); give a text file") from None
    n = len(fields.split())
    for number, line in enumerate(text.splitlines(), start=1):
        found = line.split()
        if found and len(found) != n:
            raise DataError(f"{path} line {number}: {len(found)} fields; give {n}: {fields}")
        if found:
            yield f"{path} line {number}", found


def _number(text: str, what: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value:
        raise DataError(f"{where}: {what} {text!r} is not a number; give one")
    return value


def main() -> int:
    """Print all metrics of a run file."""
    parser = argparse.ArgumentParser(description="Evaluate a TREC run file.")
    parser.add_argument("run", type=Path, help=_RUN)
    parser.add_argument("qrels", type=Path, help=_QRELS)
    parser.add_argument("--gallery", type=int, help="items that could be found, for chance")
    parser.add_argument("--ragged", action="store_true", help="allow lists of any length")
    parser.add_argument("--protocol", default=RUNS)
    options = parser.parse_args()
    try:
        scores = evaluate_run(
            read_run(options.run),
            read_qrels(options.qrels),
            n_gallery=options.gallery,
            ragged=options.ragged,
            protocol=options.protocol,
            resamples=1000,
            band=True,
        )
    except LandcueError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(to_text(scores), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

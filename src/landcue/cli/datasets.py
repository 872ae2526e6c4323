"""``landcue datasets``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landcue.cli.console import Json, Reporter, print_json, print_line

if TYPE_CHECKING:
    from landcue.data import DatasetReport
    from landcue.data.datasets.common import Facts

datasets_app = typer.Typer(
    name="datasets", help="List data sets and check local copies.", no_args_is_help=True
)

_SHOWN = 20


@datasets_app.command("list")
def list_datasets(
    json_: Json = False,
) -> None:
    """List the supported data sets, with their facts and citations."""
    from landcue.data.datasets import DATASETS, FACTS

    if json_:
        print_json({name: _facts(FACTS.get(name)) for name in DATASETS})
        return
    for name in DATASETS:
        facts = FACTS.get(name)
        if facts is None:
            print_line(f"{name}: any folder or label table of your own")
            continue
        kind = "labels" if facts.multi_label else "classes, one per image"
        groups = f", {len(facts.classes)} groups" if facts.multi_label and facts.classes else ""
        kinds = f"{len(facts.labels)} {kind}{groups}"
        print_line(f"{name}: {facts.title}, {facts.images:,} images, {kinds}")
        print_line(f"    {facts.citation}")


@datasets_app.command()
def check(
    name: Annotated[
        str, typer.Argument(help="Name of the data set, or `folder` for your own images.")
    ],
    root: Annotated[Path, typer.Argument(help="Folder of the images.")],
    json_: Json = False,
) -> None:
    """Count the images and labels of a copy, and report problems.

    The status is 1 if something is missing or wrong.
    """
    from landcue.data.datasets import FACTS, check_dataset

    with Reporter() as reporter:
        report = check_dataset(name, root, lambda i, n: reporter.progress("checking", i, n))
    facts = FACTS.get(name)
    if json_:
        print_json(_as_json(name, report, facts))
    else:
        _print(report, facts)
    if not report.complete:
        raise typer.Exit(1)


def _facts(facts: Facts | None) -> dict[str, object]:
    if facts is None:
        return {"title": "any folder or label table of your own"}
    return {k: v for k, v in asdict(facts).items() if k not in ("odd_sizes", "unlabeled")}


def _as_json(name: str, report: DatasetReport, facts: Facts | None) -> dict[str, object]:
    return {
        "dataset": name,
        "complete": report.complete,
        "images": report.images,
        "published": None if facts is None else facts.images,
        "labels": dict(report.positives),
        "groups": dict(report.groups),
        "parts": dict(report.parts),
        "sizes": dict(report.sizes),
        "without_label": len(report.unlabeled),
        "missing": report.missing,
        "wrong": report.wrong,
        "problems": [str(problem) for problem in report.problems],
        "known_defects": [] if facts is None else facts.defects,
    }


def _print(report: DatasetReport, facts: Facts | None) -> None:
    of = f" of {facts.images:,}" if facts else ""
    n_labels = sum(report.positives.values())
    mean = f", {n_labels / report.images:.3f} per image" if report.images else ""
    print_line(f"{report.images:,}{of} images, {len(report.label_names)} labels{mean}")
    print_line(f"{len(report.groups)} groups, {len(report.unlabeled)} images without a label")
    if report.parts:
        print_line("parts: " + ", ".join(f"{name} {n:,}" for name, n in report.parts.items()))
    if report.sizes:
        shown = [f"{size} ({n:,})" for size, n in list(report.sizes.items())[:5]]
        more = f" and {len(report.sizes) - 5} more" if len(report.sizes) > 5 else ""
        print_line("sizes: " + ", ".join(shown) + more)
    for label, count in report.positives.items():
        print_line(f"  {label:<24} {count:,}")
    _lines("missing", report.missing)
    _lines("wrong", report.wrong)
    _lines("problem", [str(problem) for problem in report.problems])
    _lines("known", facts.defects if facts else ())
    if facts:
        print_line("complete, as published" if report.complete else "not complete")


def _lines(kind: str, lines: tuple[str, ...] | list[str]) -> None:
    for line in lines[:_SHOWN]:
        print_line(f"{kind}: {line}")
    if len(lines) > _SHOWN:
        print_line(f"{kind}: and {len(lines) - _SHOWN:,} more (--json lists all)")

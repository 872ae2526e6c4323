"""``landcue datasets``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import print_json

datasets_app = typer.Typer(name="datasets", help="Look at datasets.", no_args_is_help=True)


@datasets_app.command("list")
def list_datasets(
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the datasets that can be trained on."""
    from landcue.data.datasets import DATASETS

    known = {name: (read.__doc__ or "").splitlines()[0] for name, read in DATASETS.items()}
    if json_:
        print_json(known)
        return
    for name, about in known.items():
        print(f"{name:<12} {about}")


@datasets_app.command()
def check(
    name: Annotated[str, typer.Argument(help="A dataset's name; folder for your own.")],
    root: Annotated[Path, typer.Argument(help="Folder of the images.")],
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Count the images and labels of a copy, and name what is wrong with it."""
    from landcue.data.datasets import read_dataset

    images = read_dataset(name, root)
    labels = Counter(label for record in images.records for label in record.labels or ())
    groups = Counter(record.group or "-" for record in images.records)
    unlabelled = sum(not record.labels for record in images.records)
    problems = [str(problem) for problem in images.problems]
    if json_:
        print_json(
            {
                "images": len(images),
                "labels": {label: labels[label] for label in images.label_names},
                "groups": dict(sorted(groups.items())),
                "without_label": unlabelled,
                "problems": problems,
            }
        )
        return
    mean = sum(labels.values()) / len(images)
    print(f"{len(images)} images, {len(images.label_names)} labels, {mean:.3f} per image")
    print(f"{len(groups)} groups, {unlabelled} images without a label, {len(problems)} problems")
    for label in images.label_names:
        print(f"  {label:<20} {labels[label]}")
    for problem in problems:
        print(f"problem: {problem}")

"""``landcue train``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json, print_line
from landcue.errors import UsageError


def train(
    out: Annotated[Path, typer.Option(help="Run folder to write, or to resume.")],
    config: Annotated[
        Path | None, typer.Argument(help="YAML configuration file; options override it.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name from `landcue datasets list`, or `folder` for your own images."),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split: per-class-70-10-20-seed42 (default), files-80-20, published."),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="Loss: marc (default), supcon, mulsupcon, msc, dhcl …")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone: mobilenetv2_folded, or any timm name (resnet18).")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Initial weights: a file, hub (default), package, or none.")
    ] = None,
    frozen: Annotated[
        bool,
        typer.Option("--frozen", help="Train only the heads, on features that are computed once."),
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Training epochs (default 12).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step (default 96).")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Width and height of the input in pixels (default 160).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed (default 0).")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Set any key of the configuration; repeatable.",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an encoder; run the same command again to resume."""
    flags: dict[str, object] = {
        "data.dataset": dataset,
        "data.root": None if data_root is None else str(data_root),
        "data.split": split,
        "loss.name": loss,
        "model.backbone": backbone,
        "model.init": init,
        "model.frozen": True if frozen else None,
        "optimizer.epochs": epochs,
        "optimizer.batch_size": batch_size,
        "model.image_size": image_size,
        "seed": seed,
    }
    from landcue.training.config import make_config, override, read_values
    from landcue.training.loop import train as run_training

    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    values = override(read_values(config) if config else {}, [*given, *(set_ or [])])
    data = values.get("data")
    if data is None or (isinstance(data, dict) and not data.get("root")):
        raise UsageError("no images: add --data-root FOLDER (and a --dataset, such as ucmerced)")
    with Reporter() as reporter:
        summary = run_training(
            make_config(values), out, message=reporter.message, progress=reporter.progress
        )
    if os.environ.get("RANK", "0") != "0":
        return  # one of several processes: the first one prints
    if json_:
        print_json(
            {
                "run": str(summary.folder),
                "fingerprint": summary.fingerprint,
                "best_epoch": summary.best_epoch,
                "resumed_from": summary.resumed_from,
                "skipped": summary.skipped,
                "scores": summary.scores,
            }
        )
        return
    model = summary.fingerprint[:12]
    print_line(f"{summary.folder}: epoch {summary.best_epoch} kept, model {model}")
    for name, value in summary.scores.items():
        print_line(f"  {name:<13} {value:.4f}  (validation part)")

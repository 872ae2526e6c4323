"""``landcue index``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landcue.cli.console import Reporter, print_json

if TYPE_CHECKING:
    from landcue.data.imageset import ImageSet
    from landcue.models.checkpoint import Checkpoint


def index(
    source: Annotated[Path, typer.Argument(help="Folder of images, or a label table (.csv).")],
    archive: Annotated[Path, typer.Argument(help="Archive folder to make, or to update.")],
    model: Annotated[
        str | None,
        typer.Option(help="Run folder, or builtin (default); an existing archive keeps its own."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table for a folder.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per model call.")] = 64,
    prune: Annotated[bool, typer.Option(help="Drop records whose file is gone.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Put images into an archive; only new and changed ones are encoded."""
    from landcue.archive.archive import own_model
    from landcue.archive.ingest import ingest
    from landcue.data.datasets import detect_source
    from landcue.models.builtin import BUILTIN, find_model
    from landcue.models.checkpoint import load_checkpoint

    images = detect_source(source, labels)
    own = own_model(archive) if model is None else None
    folder = own or find_model(model or BUILTIN)
    checkpoint = load_checkpoint(folder)
    with Reporter() as reporter:
        if checkpoint.unfinished:
            reporter.say(
                f"warning: the training of {folder} has not ended; an archive keeps its model, "
                "so index into a new folder once it has"
            )
        for problem in images.problems:
            reporter.say(f"skipped {problem}")
        report = ingest(
            with_parts(images, checkpoint).records,
            archive,
            checkpoint.encoder,
            source_root=images.root,
            model_folder=folder,
            batch_size=batch,
            prune=prune,
            overlap=checkpoint.encoder.device.type != "cpu",
            progress=lambda done, total: reporter.tick("indexing", done, total),
        )
        for problem in report.skipped:
            reporter.say(f"skipped {problem}")
    if json_:
        print_json({"archive": str(archive), **report.to_json()})
    else:
        print(f"{archive}: {report.summary()}")


def with_parts(images: ImageSet, checkpoint: Checkpoint) -> ImageSet:
    """Mark each record as ``train``, ``val`` or ``test`` when these are the model's own images."""
    from landcue.data.splits import apply_split, data_id

    split = checkpoint.provenance.get("split")
    known = checkpoint.provenance.get("data_id")
    if not isinstance(split, str) or any(record.labels is None for record in images.records):
        return images
    divided = apply_split(images, split)
    return divided if data_id(divided) == known else images

"""``landcue adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json, print_line


def adapt(
    source: Annotated[
        Path,
        typer.Argument(
            help="Images with labels: an archive (folder, s3:// or milvus://), a folder of scene "
            "classes, or a label table."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the adapted model to write.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Frozen encoder: builtin, a run folder, timm:NAME, onnx:FILE … By default that "
            "of the archive, or builtin."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Label table (CSV) for the images of a folder.")
    ] = None,
    marks: Annotated[
        Path | None,
        typer.Option(
            help="Learn from marks instead: the file of `serve --collections`, an exported "
            "collection (.json), or a table of labels or marks (.csv)."
        ),
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Name or id of the collection, if the file holds several.")
    ] = None,
    loss: Annotated[
        str, typer.Option(help="Loss for the embedding and the code: marc, supcon …")
    ] = "marc",
    dim: Annotated[int, typer.Option(min=1, help="Length of the embedding.")] = 128,
    bits: Annotated[
        int, typer.Option(min=0, help="Length of the code in bits; 0 for no code.")
    ] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs on the features.")] = 40,
    folds: Annotated[int, typer.Option(min=2, help="Number of cross-validation folds.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder in which features are cached for the next run.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train heads on a frozen encoder's features; keep them if they help."""
    from landcue.training import LossSection
    from landcue.training.adapt import adapt as run_adaptation
    from landcue.training.heads import AdaptOptions

    options = AdaptOptions(
        dim=dim,
        n_bits=bits,
        loss=LossSection.model_validate({"name": loss}),
        epochs=epochs,
        folds=folds,
        seed=seed,
    )
    with Reporter() as reporter:
        made = run_adaptation(
            source, out, model=model, labels=labels, marks=marks, collection=collection,
            options=options, cache=cache,
            message=reporter.message, progress=reporter.progress,
        )  # fmt: skip
    if json_:
        print_json(
            {
                "model": str(made.folder) if made.folder else None,
                "kept": made.kept,
                "images": made.n_images,
                "labels": list(made.label_names),
                "scores": made.scores,
                "gain": list(made.gain),
                "skipped": len(made.problems),
                "seconds": list(made.seconds),
            }
        )
        return
    print_line(f"nDCG@100 on images left out ({len(made.gain)} folds, {made.n_images} images):")
    for name, value in made.scores.items():
        print_line(f"  {name:<14} {value:.4f}")
    gain = sum(made.gain) / len(made.gain)
    folds_shown = ", ".join(f"{value:+.4f}" for value in made.gain)
    print_line(f"gain {gain:+.4f} (by fold {folds_shown})")
    if made.folder is None:
        print_line("no model was written: the gain is not more than its standard error")
    else:
        print_line(f"{made.folder}: use it with landcue index SOURCE ARCHIVE --model {made.folder}")

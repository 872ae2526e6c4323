"""``landcue demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json

if TYPE_CHECKING:
    from landcue.search import Result
    from landcue.training.config import TrainingConfig

_QUERY = "images/harbor/harbor_0007.tif"


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything is written.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=140, help="How many synthetic images.")] = 600,
    epochs: Annotated[int, typer.Option(min=1, help="How long to train.")] = 20,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            help="Show the page at the end, until Ctrl-C. By default on a terminal only.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Of the page. By default 8000, or a free one."),
    ] = None,
) -> None:
    """Render an archive, train on it, index it, evaluate it, search it and show it in a browser.

    The encoder that comes with LandCue, which never saw such images, is measured beside.
    """
    from landcue.archive.indexing import with_parts
    from landcue.archive.ingest import ingest
    from landcue.cli.showing import is_interactive, show
    from landcue.data.sources import open_source
    from landcue.demo import write_demo_archive
    from landcue.evaluation import evaluate
    from landcue.models import load_model
    from landcue.models.load import BUILTIN
    from landcue.search import open_archive
    from landcue.training.loop import train

    data, run, archive, grid = (folder / name for name in ("data", "run", "archive", "hits.png"))
    other = folder / "archive-builtin"
    with Reporter() as reporter:
        reporter.say(f"1/5 rendering {images} synthetic geo-referenced images into {data}")
        write_demo_archive(data, n=images, progress=lambda i, n: reporter.tick("rendering", i, n))
        reporter.say(f"2/5 training a small encoder into {run}")
        train(_config(data, epochs), run, message=reporter.say, progress=reporter.tick)
        reporter.say(f"3/5 indexing into {archive}, and with the built-in encoder into {other}")
        trained, builtin_encoder = load_model(run), load_model(BUILTIN)
        source = with_parts(open_source(data), trained.provenance)
        for target, encoder in ((archive, trained), (other, builtin_encoder)):
            report = ingest(
                source.records,
                target,
                encoder,
                source_root=source.root,
                model_folder=encoder.path,
                progress=lambda i, n: reporter.tick("indexing", i, n),
            )
            reporter.say(f"    {target.name}: {report.summary()}")
        reporter.say("4/5 evaluating on the test part, which was not trained on")
        own = evaluate(archive, message=reporter.say)
        about, spaces = own.about, own.scores
        builtin = evaluate(other, message=reporter.say).scores
        spaces |= {f"{name} (built-in)": found for name, found in builtin.items()}
        reporter.say("5/5 searching for a harbor")
        result = open_archive(archive).search(_QUERY, k=12)
        result.grid(grid)
    scores = {name: _main_scores(found) for name, found in spaces.items()}
    if json_:
        print_json({"folder": str(folder), "about": about, "scores": scores,
                    "search": result.to_json(), "grid": str(grid)})  # fmt: skip
    else:
        _print(scores, result, archive, grid)
    if serve or (serve is None and not json_ and is_interactive()):
        show((archive, other), port, folder / "feedback.jsonl")


def _print(scores: dict[str, dict[str, float]], result: Result, archive: Path, grid: Path) -> None:
    print(f"\n{'':22}" + "".join(f"{name:>12}" for name in next(iter(scores.values()))))
    for name, values in scores.items():
        print(f"{name:22}" + "".join(f"{value:12.3f}" for value in values.values()))
    print(f"\nnearest to {_QUERY}:")
    for rank, hit in enumerate(result[:5], start=1):
        print(f"{rank:>3}  {hit.distance:.4f}  {hit.id:<36} {', '.join(hit.labels)}")
    print(f"\nlook at {grid}; then try")
    print(f"  landcue search {archive} {_QUERY} --labels ships --grid ships.png")
    print(f"  landcue evaluate {archive}")
    print(f"  landcue serve {archive}")


def _config(data: Path, epochs: int) -> TrainingConfig:
    from landcue.training.config import make_config

    return make_config(
        {
            "data": {"dataset": "folder", "root": str(data.resolve())},
            "model": {"backbone": "resnet10t", "init": "none", "image_size": 96},
            "optimizer": {"epochs": epochs, "batch_size": 60, "lr": 1e-3},
        }
    )


def _main_scores(found: Any) -> dict[str, float]:
    names = ("nDCG@100", "mAP", "mAP@20", "WAP@100")
    return {name: found.metrics[name] for name in names} | {"chance nDCG": found.chance["nDCG@100"]}

"""The demo: everything once, on a synthetic archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landcue.demo.archive import write_demo_archive

if TYPE_CHECKING:
    from landcue.search import Result

QUERY = "images/harbor/harbor_0007.tif"
"""Id of the image that is searched for."""
_METRICS = ("nDCG@100", "mAP", "mAP@20", "WAP@100")

Message = Callable[[str], None]
"""Called with one line per step."""
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo made and measured.

    Attributes:
        folder: Holds all of it.
        archive: Made with the encoder trained by the demo.
        builtin_archive: Made with the built-in encoder, which never saw such images.
        grid: Picture of the query and its hits.
        about: Provenance of the scores.
        scores: By space, some metrics and the chance level of nDCG@100.
        result: The hits of :data:`QUERY`.
    """

    folder: Path
    archive: Path
    builtin_archive: Path
    grid: Path
    about: dict[str, Any]
    scores: dict[str, dict[str, float]]
    result: Result

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "folder": str(self.folder),
            "about": self.about,
            "scores": self.scores,
            "search": self.result.to_json(),
            "grid": str(self.grid),
        }

    def to_text(self) -> str:
        """Return the scores, the first hits and what to try next."""
        lines = [f"{'':22}" + "".join(f"{name:>12}" for name in next(iter(self.scores.values())))]
        for name, values in self.scores.items():
            lines.append(f"{name:22}" + "".join(f"{value:12.3f}" for value in values.values()))
        lines += ["", f"nearest to {QUERY}:"]
        for rank, hit in enumerate(self.result[:5], start=1):
            lines.append(f"{rank:>3}  {hit.distance:.4f}  {hit.id:<36} {', '.join(hit.labels)}")
        lines += [
            "",
            f"look at {self.grid}; then try",
            f"  landcue search {self.archive} {QUERY} --labels ships --grid ships.png",
            f"  landcue evaluate {self.archive}",
            f"  landcue serve {self.archive}",
        ]
        return "\n".join(lines)


def run_demo(
    folder: str | Path,
    *,
    images: int = 600,
    epochs: int = 20,
    message: Message | None = None,
    progress: Progress | None = None,
) -> DemoReport:
    """Render a synthetic archive, train on it, index it, evaluate it and search it.

    The encoder that comes with LandCue, which never saw such images, is measured beside. A demo
    that was interrupted continues.

    Args:
        folder: Where everything is written.
        images: Number of rendered images, at least 140.
        epochs: Training epochs.
        message: Called with one line per step.
        progress: Called with (stage, done, total).

    Raises:
        LandcueError: The folder holds something else, or cannot be written.

    >>> print(run_demo("demo").to_text())  # doctest: +SKIP
    """
    from landcue.archive.indexing import with_parts
    from landcue.archive.ingest import ingest
    from landcue.archive.plan import SourceImages
    from landcue.data.sources import open_source
    from landcue.evaluation import evaluate
    from landcue.models import load_model
    from landcue.models.load import BUILTIN
    from landcue.search import open_archive
    from landcue.training.config import make_config
    from landcue.training.loop import train

    folder = Path(folder)
    notify, tick = message or _ignore, progress or _ignore
    data, run, archive, grid = (folder / name for name in ("data", "run", "archive", "hits.png"))
    other = folder / "archive-builtin"
    notify(f"1/5 rendering {images} synthetic georeferenced images into {data}")
    write_demo_archive(data, n=images, progress=lambda i, n: tick("rendering", i, n))
    notify(f"2/5 training a small encoder into {run}")
    config = make_config(
        {
            "data": {"dataset": "folder", "root": str(data.resolve())},
            "model": {"backbone": "resnet10t", "init": "none", "image_size": 96},
            "optimizer": {"epochs": epochs, "batch_size": 60, "lr": 1e-3},
        }
    )
    train(config, run, message=notify, progress=tick)
    notify(f"3/5 indexing into {archive}, and with the built-in encoder into {other}")
    trained = load_model(run)
    source = with_parts(open_source(data), trained.provenance)
    for target, encoder in ((archive, trained), (other, load_model(BUILTIN))):
        report = ingest(
            SourceImages(source.records, source.root),
            target,
            encoder,
            model_folder=encoder.path,
            progress=lambda i, n: tick("indexing", i, n),
        )
        notify(f"    {target.name}: {report.summary()}")
    notify("4/5 evaluating on the test part, which was not trained on")
    own, builtin = evaluate(archive, message=notify), evaluate(other, message=notify)
    spaces = own.scores | {f"{name} (built-in)": found for name, found in builtin.scores.items()}
    notify("5/5 searching for a harbor")
    result = open_archive(archive).search(QUERY, k=12)
    result.grid(grid)
    scores = {
        name: {metric: found.metrics[metric] for metric in _METRICS}
        | {"chance nDCG": found.chance["nDCG@100"]}
        for name, found in spaces.items()
    }
    return DemoReport(folder, archive, other, grid, own.about, scores, result)


def _ignore(*_: object) -> None:
    """Show nothing."""

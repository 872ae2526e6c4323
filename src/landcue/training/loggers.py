"""Where a run's numbers go: CSV, TensorBoard, Weights & Biases."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from landcue.errors import UsageError
from landcue.files import write_atomic
from landcue.training.config import TrainingConfig

History = list[dict[str, float]]
"""One row per finished epoch; ``epoch`` counts from 1."""


def check_loggers(config: TrainingConfig) -> None:
    """Check that the chosen loggers are installed."""
    for name, extra in (("tensorboard", "train"), ("wandb", "wandb")):
        if name in config.loggers and importlib.util.find_spec(name) is None:
            chosen = ", ".join(other for other in config.loggers if other != name)
            raise UsageError(
                f"logger {name!r} is not installed: pip install 'landcue[{extra}]', or leave it "
                f"out with --set 'loggers=[{chosen}]'"
            )


class Loggers:
    """Hands the history to every chosen logger after each epoch."""

    def __init__(self, config: TrainingConfig, out: Path) -> None:
        self._config, self._out = config, out
        self._sinks: list[Callable[[History], None]] = []

    def epoch(self, history: History) -> None:
        """Log the newest row; ``history`` is the whole run, also the part before a resume."""
        if not self._sinks:  # opened late: what they write belongs to a run with an epoch
            self._sinks = [_SINKS[name](self._config, self._out) for name in self._config.loggers]
        for sink in self._sinks:
            sink(history)


def write_csv(file: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the whole history; columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomic(file, text.getvalue())


def _csv(_: TrainingConfig, out: Path) -> Callable[[History], None]:
    return lambda history: write_csv(out / "metrics.csv", history)


def _tensorboard(_: TrainingConfig, out: Path) -> Callable[[History], None]:
    from torch.utils.tensorboard.writer import SummaryWriter

    writer: SummaryWriter | None = None

    def log(history: History) -> None:
        nonlocal writer
        epoch = int(history[-1]["epoch"])
        if writer is None:  # what an interrupted epoch wrote is dropped
            writer = SummaryWriter(str(out / "tensorboard"), purge_step=epoch)
        for name, value in history[-1].items():
            if name != "epoch":
                writer.add_scalar(name, value, epoch)
        writer.flush()

    return log


def _wandb(config: TrainingConfig, out: Path) -> Callable[[History], None]:
    import wandb  # pyright: ignore[reportMissingImports]

    run: Any = wandb.init(
        project="landcue", name=out.name, id=out.name, resume="allow", dir=str(out),
        config=config.model_dump(mode="json"),
    )  # fmt: skip

    def log(history: History) -> None:
        run.log(history[-1], step=int(history[-1]["epoch"]))

    return log


_SINKS: dict[str, Callable[[TrainingConfig, Path], Callable[[History], None]]] = {
    "csv": _csv,
    "tensorboard": _tensorboard,
    "wandb": _wandb,
}

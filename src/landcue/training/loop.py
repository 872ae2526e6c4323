"""The training loop, in one process or several: exact resume, model choice on validation only."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landcue.data.datasets import dataset_warnings, load_dataset
from landcue.data.imageset import ImageSet, label_matrix, labelled_by_group
from landcue.data.splits import apply_split, data_id
from landcue.errors import DataError, ModelError, UsageError
from landcue.files import exclusive
from landcue.losses.statistics import LabelStatistics
from landcue.models.backbones import (
    create_backbone,
    freeze_first_layers,
    load_backbone_weights,
)
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.training.allocator import keep_freed_memory
from landcue.training.augment import augment
from landcue.training.config import TrainConfig, read_config, save_config
from landcue.training.distributed import Team
from landcue.training.loggers import Loggers
from landcue.training.objective import Objective, check_losses, unused_heads
from landcue.training.pixels import Pixels, load_pixels
from landcue.training.samplers import create_sampler, epoch_seed
from landcue.training.schedule import create_optimizer, lr_factor, set_lr
from landcue.training.shares import Shares
from landcue.training.state import Progress, load_state, save_state
from landcue.training.validation import validation_scores

Tick = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and the total."""
Say = Callable[[str], None]


def no_tick(_stage: str, _done: int, _total: int) -> None:
    """Show nothing."""


def _silent(_line: str) -> None:
    pass


_MARGIN = 1.15  # training pixels are kept this much larger than a crop's side


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run is: its folder, the epoch that was kept and its validation scores."""

    folder: Path
    fingerprint: str
    best_epoch: int
    scores: dict[str, float]
    skipped: int
    resumed_from: int


def train(
    config: TrainConfig, out: Path, *, say: Say = lambda _: None, tick: Tick = no_tick
) -> RunSummary:
    """Train an encoder into the run folder ``out``, or resume the run that was cut off there.

    The folder holds the best model so far (by ``choose_by`` on the validation part; the last one
    when the split has none), ``config.yaml``, ``metrics.csv`` and ``tensorboard/``. Running the
    same command again after a crash goes on after the last finished epoch and ends, on the same
    machine and device, with the same weights as an undisturbed run.

    Started by ``torchrun`` it is one process of several, each of which calls this with the same
    arguments; all of them must see the images and ``out``. The first one validates and writes.

    Raises:
        UsageError: ``out`` holds another run or other files, a bad option, or processes that
            differ in settings or cannot share a batch.
        DataError: No usable or no labelled image.
        ModelError: Broken weights, a locked folder, a diverged loss, or a lost process.
    """
    check_losses(config)
    team = Team.of_environment()
    batch = config.optimizer.batch_size
    Shares(batch, batch, team.rank, team.size)  # can they share it at all?
    if not team.is_first:
        say, tick = _silent, no_tick
    with team.connected(), contextlib.ExitStack() as held:
        settings = config.model_dump(mode="json")
        team.agree("the configuration", settings, "start all processes with the same command")
        team.first(lambda: held.enter_context(exclusive(out, ModelError, "training in")))
        finished = team.first(_claim, config, out)
        if finished is not None:
            say(f"{out} is already trained; nothing to do")
            return finished
        return team.each(_Run, config, out, team, say, tick).run()


def read_split(config: TrainConfig) -> ImageSet:
    """Read the configured dataset, leave unannotated images out, and apply the split.

    With ``data.target: group`` the group of an image is its only label.

    Raises:
        DataError: Missing data, or no annotated image.
    """
    images = load_dataset(config.data.dataset, Path(config.data.root))
    if config.data.target == "group":
        images = labelled_by_group(images)
    labelled = [record for record in images.records if record.labels is not None]
    if not labelled or not images.label_names:
        raise DataError(
            f"{config.data.root} has no labels; put images into class folders or add labels.csv"
        )
    return apply_split(images.subset(labelled), config.data.split)


def _claim(config: TrainConfig, out: Path) -> RunSummary | None:
    """Make ``out`` ours; return the summary when the very run is finished there."""
    file = out / "config.yaml"
    if not file.exists():
        for leftover in out.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        others = sorted(path.name for path in out.iterdir() if path.name != ".lock")
        if others:
            raise UsageError(f"{out} is not empty ({others[0]} …); choose a new --out folder")
        save_config(config, file)
        return None
    old, new = read_config(file).model_dump(), config.model_dump()
    differing = [key for key in new if old[key] != new[key]]
    if differing:
        raise UsageError(
            f"{out} holds a run with other settings ({', '.join(differing)}); "
            "choose another --out folder or delete it"
        )
    if (out / "state.safetensors").exists() or not (out / "config.json").exists():
        return None
    made = load_checkpoint(out)
    note = made.provenance.get("training", {})
    if not note.get("finished"):
        return None
    return RunSummary(
        out, made.encoder.fingerprint, int(note["best_epoch"]), made.provenance["scores"], 0,
        int(note["epochs"]),
    )  # fmt: skip


class _Run:
    def __init__(self, config: TrainConfig, out: Path, team: Team, say: Say, tick: Tick) -> None:
        self.config, self.out, self.team, self.say, self.tick = config, out, team, say, tick
        self.device = team.device
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.seed)
        self.images = read_split(config)
        for line in dataset_warnings(config.data.dataset, self.images):
            say(f"warning: {line}")
        size = config.model.image_size
        self.train = self._pixels("train", round(size * _MARGIN))
        has_val = any(record.part == "val" for record in self.images.records)
        self.val = self._pixels("val", size) if has_val else None
        if self.val is None:
            say(f"split {config.data.split} has no validation part: the last epoch is kept")
        labels = label_matrix([r.labels for r in self.train.records], self.images.label_names)
        self.labels = torch.from_numpy(labels).to(self.device)
        self.statistics = LabelStatistics.from_labels(torch.from_numpy(labels))
        self.model = self._model()
        self.frozen = freeze_first_layers(self.model.backbone, config.model.freeze_layers)
        dim, n_bits = config.model.dim, config.model.n_bits
        self.objective = Objective(config.loss, self.statistics, dim, n_bits).to(self.device)
        self.optimizer = create_optimizer(self.model, config.optimizer, self.objective.parameters())
        n = len(self.train.records)
        self.batch = min(config.optimizer.batch_size, n)
        groups = [record.group for record in self.train.records]
        shares = Shares(n, self.batch, team.rank, team.size)
        self.sampler = create_sampler(
            config.sampler, shares, config.seed, labels, groups, self.images.label_names
        )
        self.steps = len(self.sampler)
        self.state = out / "state.safetensors"
        self.progress = load_state(
            self.state, self.model, self.objective, self.optimizer
        ) or Progress(0, None, [])
        self.loggers = Loggers(config, out) if team.is_first else None

    def run(self) -> RunSummary:
        team, resumed = self.team, self.progress.epoch
        readable = [record.id for record in self.train.records]
        seen = {"dataset and split": data_id(self.images), "readable images": readable}
        team.agree("the data", seen, "give all processes the same files")
        team.agree("the epoch to resume", resumed, "put the run folder where all nodes see it")
        if resumed:
            self.say(f"resuming after epoch {resumed}")
        # What is called in training; validation and checkpoints use the model itself.
        self.trained = team.wrap(
            self.model, self.objective, unused_heads(self.model, self.objective)
        )
        for epoch in range(resumed, self.config.optimizer.epochs):
            row = self._epoch(epoch)
            self.progress = team.first(self._close, row)
        return team.first(self._finish, resumed)

    def _close(self, row: dict[str, float]) -> Progress:
        """Validate after an epoch, keep the model if it is the best, and save the state."""
        config, old = self.config, self.progress
        scores = self._validate()
        row |= {f"val/{name}": value for name, value in scores.items()}
        score = scores[config.choose_by] if scores else None
        history = [*old.history, row]
        better = score is None or old.best is None or score > old.best
        if better:
            self._save(history, scores, finished=False)
        progress = Progress(old.epoch + 1, score if better else old.best, history)
        save_state(self.state, self.model, self.objective, self.optimizer, progress)
        if self.loggers:
            self.loggers.epoch(history)
        shown = f", {config.choose_by} {score:.4f} on val" if score is not None else ""
        self.say(f"epoch {progress.epoch}: loss {row['loss']:.4f}{shown}"
                 f", {row['images_per_second']:.0f} images/s")  # fmt: skip
        return progress

    def _pixels(self, part: str, size: int) -> Pixels:
        records = self.images.part(part).records
        pixels = load_pixels(
            records,
            size,
            lambda i, n: self.tick(f"decoding {part}", i, n),
            bands=self.config.data.bands,
        )
        for problem in pixels.problems:
            self.say(f"skipped {problem.what}")
        return pixels

    def _model(self) -> NeuralEncoder:
        options = self.config.model
        backbone = create_backbone(
            options.backbone,
            hub_weights=options.init == "hub",
            image_size=options.image_size,
            in_chans=self.config.data.in_chans,
        )
        if options.init not in ("hub", "none"):
            load_backbone_weights(backbone, Path(options.init))
        config = build_config(
            options.backbone,
            dim=options.dim,
            projection=options.projection,
            n_bits=options.n_bits,
            label_names=self.images.label_names if options.label_head else (),
            retrieval=options.retrieval,
            image_size=options.image_size,
            pooling=options.pooling,
            in_chans=self.config.data.in_chans,
            average_views=options.average_views,
            exclusive_labels=self.config.data.target == "group"
            or self.config.loss.classification == "softmax",
        )
        model = NeuralEncoder(config, backbone)
        return model.to(self.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _epoch(self, epoch: int) -> dict[str, float]:
        config = self.config
        # Everything random in an epoch follows from (seed, epoch): a resume needs no other state.
        seed = epoch_seed(config.seed, epoch)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + self.team.rank)  # of dropout, where a backbone has it
        # Once the batches came from this draw: without it, older runs would see other views.
        torch.randperm(len(self.train.records), generator=generator)
        warmup = round(config.optimizer.warmup_epochs * self.steps)
        total = config.optimizer.epochs * self.steps
        self.model.train()
        for layer in self.frozen:
            layer.eval()
        sums: dict[str, Tensor] = {}
        factor = 0.0
        start = time.perf_counter()
        for step, rows in enumerate(self.sampler.batches(epoch)):
            factor = lr_factor(epoch * self.steps + step, warmup, total)
            set_lr(self.optimizer, factor)
            for name, value in self._step(rows, generator).items():
                sums[name] = sums[name] + value if name in sums else value
            self.tick(f"epoch {epoch + 1}/{config.optimizer.epochs}", step + 1, self.steps)
        seconds = time.perf_counter() - start
        means = {name: float(value) / self.steps for name, value in sums.items()}
        if not math.isfinite(means["loss"]):
            raise ModelError(
                f"the loss became {means['loss']} in epoch {epoch + 1}; lower optimizer.lr "
                f"(the {epoch} epochs before are kept in {self.out})"
            )
        speed = self.steps * self.batch / seconds
        return {
            "epoch": epoch + 1,
            **means,
            "lr": config.optimizer.lr * factor,
            "seconds": round(seconds, 3),
            "images_per_second": round(speed, 2),
        }

    def _step(self, rows: np.ndarray[Any, Any], generator: torch.Generator) -> dict[str, Tensor]:
        pixels = torch.from_numpy(self.train.pixels[rows]).to(self.device)
        views = augment(
            pixels, self.config.model.image_size, self.config.augment, generator,
            rank=self.team.rank, world_size=self.team.size,
        )  # fmt: skip
        bf16 = self.config.optimizer.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            out = self.trained(self.model.normalize(views))
        loss, terms = self.objective(out, self.labels[torch.from_numpy(rows)])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), **{f"loss/{k}": v for k, v in terms.items()}}

    def _validate(self) -> dict[str, float]:
        if self.val is None:
            return {}
        scores = validation_scores(self.model, self.val, self.images.label_names)
        if self.config.choose_by not in scores:
            known = ", ".join(sorted(scores))
            raise UsageError(f"choose_by: no metric {self.config.choose_by!r} (known: {known})")
        return scores

    def _save(
        self, history: list[dict[str, float]], scores: dict[str, float], *, finished: bool
    ) -> str:
        config = self.config
        provenance = {
            "dataset": config.data.dataset,
            "data_id": data_id(self.images),
            "split": config.data.split,
            "seed": config.seed,
            "loss": f"{config.loss.name} {config.loss.options or ''}".strip(),
            "label_statistics": self.statistics.to_json(),
            "scores": scores,
            "training": {
                "epochs": config.optimizer.epochs,
                "best_epoch": int(history[-1]["epoch"]),
                "n_train": len(self.train.records),
                "n_skipped": len(self.train.problems),
                "finished": finished,
            },
        }
        return save_checkpoint(self.out, self.model, provenance)

    def _finish(self, resumed: int) -> RunSummary:
        made = load_checkpoint(self.out)
        note = made.provenance["training"] | {"finished": True}
        mark = save_checkpoint(self.out, made.encoder, made.provenance | {"training": note})
        skipped = len(self.train.problems) + (len(self.val.problems) if self.val else 0)
        scores = made.provenance["scores"]
        self.state.unlink()
        return RunSummary(self.out, mark, int(note["best_epoch"]), scores, skipped, resumed)

"""The training loop: exact resume, model choice on the validation part only."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landcue.data.datasets import dataset_warnings, read_dataset
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
from landcue.training.loggers import Loggers
from landcue.training.objective import Objective, check_losses
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

    Raises:
        UsageError: ``out`` holds another run or other files, or a bad option.
        DataError: No usable or no labelled image.
        ModelError: Broken weights, a locked folder, or a diverged loss.
    """
    check_losses(config)
    with exclusive(out, ModelError, "training in"):
        finished = _claim(config, out)
        if finished is not None:
            say(f"{out} is already trained; nothing to do")
            return finished
        return _Run(config, out, say, tick).run()


def read_split(config: TrainConfig) -> ImageSet:
    """Read the configured dataset, leave unannotated images out, and apply the split.

    With ``data.target: group`` the group of an image is its only label.

    Raises:
        DataError: Missing data, or no annotated image.
    """
    images = read_dataset(config.data.dataset, Path(config.data.root))
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
    def __init__(self, config: TrainConfig, out: Path, say: Say, tick: Tick) -> None:
        self.config, self.out, self.say, self.tick = config, out, say, tick
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
        self.statistics = LabelStatistics.of(torch.from_numpy(labels))
        self.model = self._model()
        self.frozen = freeze_first_layers(self.model.backbone, config.model.freeze_layers)
        dim, n_bits = config.model.dim, config.model.n_bits
        self.objective = Objective(config.loss, self.statistics, dim, n_bits).to(self.device)
        self.optimizer = create_optimizer(self.model, config.optimizer, self.objective.parameters())
        n = len(self.train.records)
        self.batch = min(config.optimizer.batch_size, n)
        groups = [record.group for record in self.train.records]
        self.sampler = create_sampler(
            config.sampler, Shares(n, self.batch), config.seed, labels, groups,
            self.images.label_names,
        )  # fmt: skip
        self.steps = len(self.sampler)
        self.loggers = Loggers(config, out)

    def run(self) -> RunSummary:
        config, state = self.config, self.out / "state.safetensors"
        progress = load_state(state, self.model, self.objective, self.optimizer) or Progress(
            0, None, []
        )
        resumed = progress.epoch
        if resumed:
            self.say(f"resuming after epoch {resumed}")
        for epoch in range(resumed, config.optimizer.epochs):
            row = self._epoch(epoch)
            scores = self._validate()
            row |= {f"val/{name}": value for name, value in scores.items()}
            score = scores[config.choose_by] if scores else None
            history = [*progress.history, row]
            better = score is None or progress.best is None or score > progress.best
            best = score if better else progress.best
            if better:
                self._save(history, scores, finished=False)
            progress = Progress(epoch + 1, best, history)
            save_state(state, self.model, self.objective, self.optimizer, progress)
            self.loggers.epoch(history)
            shown = f", {config.choose_by} {score:.4f} on val" if score is not None else ""
            self.say(f"epoch {epoch + 1}: loss {row['loss']:.4f}{shown}"
                     f", {row['images_per_second']:.0f} images/s")  # fmt: skip
        summary = self._finish(resumed)
        state.unlink()
        return summary

    def _pixels(self, part: str, size: int) -> Pixels:
        records = self.images.part(part).records
        pixels = load_pixels(records, size, lambda i, n: self.tick(f"decoding {part}", i, n))
        for problem in pixels.problems:
            self.say(f"skipped {problem.what}")
        return pixels

    def _model(self) -> NeuralEncoder:
        options = self.config.model
        backbone = create_backbone(
            options.backbone, hub_weights=options.init == "hub", image_size=options.image_size
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
        torch.manual_seed(seed)
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
        views = augment(pixels, self.config.model.image_size, self.config.augment, generator)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            out = self.model(self.model.normalize(views))
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
        return RunSummary(self.out, mark, int(note["best_epoch"]), scores, skipped, resumed)

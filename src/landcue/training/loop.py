"""The training loop, in one process or several: exact resume, model choice on validation only."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landcue.data.datasets import dataset_warnings
from landcue.data.splits import data_id
from landcue.errors import LandcueError, ModelError, UsageError
from landcue.files import exclusive
from landcue.losses.statistics import LabelStatistics
from landcue.models.backbones import (
    PACKAGE,
    create_backbone,
    freeze_depthwise,
    freeze_first_layers,
    load_backbone_weights,
    package_weights,
    takes_any_size,
)
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config, has_bf16
from landcue.training.augment import create_transform
from landcue.training.averages import update_average
from landcue.training.config import TrainingConfig, as_config, save_config
from landcue.training.distributed import Team
from landcue.training.evaluation import (
    VALIDATION_METRICS,
    calibrate_labels,
    outputs_of,
    validation_scores,
)
from landcue.training.images import (
    EpochBatches,
    ImageDataset,
    Message,
    Progress,
    create_loader,
    create_sampler,
    ignore,
    read_split,
)
from landcue.training.loggers import Loggers, check_loggers
from landcue.training.objective import Objective, check_losses, describe_losses, unused_heads
from landcue.training.samplers import Shares, epoch_seed
from landcue.training.state import (
    TrainingState,
    create_optimizer,
    keep_freed_memory,
    load_state,
    lr_factor,
    save_state,
    set_lr,
)

_MARGIN = 1.15  # training pixels are kept this much larger than a crop's side


@dataclass(frozen=True, slots=True)
class Run:
    """What a finished run is: its folder, the epoch that was kept and its validation scores."""

    folder: Path
    fingerprint: str
    best_epoch: int
    scores: dict[str, float]
    skipped: int
    resumed_from: int


def train(
    config: TrainingConfig | Mapping[str, Any] | str | Path,
    out: Path | str,
    *,
    progress: Progress | None = None,
    message: Message | None = None,
) -> Run:
    """Train an encoder into the run folder ``out``, or resume the run that was cut off there.

    Everything is checked, and every image decoded once, before anything is written; ``out`` holds
    a run as soon as its first epoch has ended. It then holds the best model so far (by
    ``choose_by`` on the validation part; the last one when the split has none), ``config.yaml``,
    ``metrics.csv`` and ``tensorboard/``. The same call after a crash goes on after the last
    finished epoch and ends, on the same machine and device, with the same weights as an
    undisturbed run.

    Started by ``torchrun`` it is one process of several, each of which calls this with the same
    arguments; all of them must see the images and ``out``. The first one validates and writes.
    A script that calls this must guard its start with ``if __name__ == "__main__":``, since
    ``loader.workers`` are spawned.

    Args:
        config: A configuration, its values as nested dictionaries, or a YAML file.
        out: The run folder.
        progress: Called with a stage's name, what is done and the total.
        message: Called with a line after each epoch, and with warnings.

    Raises:
        UsageError: ``out`` holds another run or other files, a bad option, or processes that
            differ in settings or cannot share a batch.
        DataError: No usable or no labeled image.
        ModelError: Broken weights, a locked folder, a diverged loss, or a lost process.

    Example:
        >>> train({"data": {"root": "photos"}, "seed": 1}, "runs/one").scores  # doctest: +SKIP
        {'nDCG@100': 0.81, 'mAP': 0.93, 'WAP@100': 2.4, 'mAP@20': 0.95}
    """
    config, out = as_config(config), Path(out)
    check_losses(config)
    _check_choice(config)
    check_loggers(config)
    create_transform(config.augment, config.model.image_size, config.data.in_chans)
    backbone = config.model.backbone
    if config.augment.size and not takes_any_size(backbone):
        raise UsageError(f"augment.size: {backbone} takes images of one size only; leave it out")
    team = Team.from_environment()
    batch = config.optimizer.batch_size
    Shares(batch, batch, team.rank, team.size)  # can they share it at all?
    if not team.is_first:
        progress = message = None
    message, progress = message or ignore, progress or ignore
    with team.connected(), contextlib.ExitStack() as held:
        settings = config.model_dump(mode="json")
        team.agree("the configuration", settings, "start all processes with the same command")
        finished = team.first(_find_run, config, out)
        if finished is not None:
            message(f"{out} is already trained; nothing to do")
            return finished
        name = team.first(lambda: uuid.uuid4().hex)
        training = team.each(_Training, config, out, team, name, message, progress)
        team.each(training.prepare, team.gather(training.failed))
        team.first(lambda: held.enter_context(exclusive(out, ModelError, "training in")))
        team.first(_find_run, config, out)  # again, now that no other process can write there
        return training.run()


def _find_run(config: TrainingConfig, out: Path) -> Run | None:
    """Return the finished run with these settings in ``out``, if there is one; write nothing."""
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        reason = "no permission" if parent.is_dir() else f"{parent} is a file"
        raise ModelError(f"cannot write {out}: {reason}; choose another folder")
    if not out.exists():
        return None
    file = out / "config.yaml"
    trained = (out / "config.json").exists() or (out / "state.safetensors").exists()
    if not file.exists():
        others = sorted(
            path.name for path in out.iterdir()
            if path.name != ".lock" and not (path.name[0] == "." and path.suffix == ".tmp")
        )  # fmt: skip
        if others:
            raise UsageError(f"{out} is not empty ({others[0]} …); choose a new --out folder")
        return None
    old, new = as_config(file).model_dump(), config.model_dump()
    differing = [key for key in new if old[key] != new[key] and key != "loader"]
    if differing and trained:
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
    return Run(
        out, made.encoder.fingerprint, int(note["best_epoch"]), made.provenance["scores"], 0,
        int(note["epochs"]),
    )  # fmt: skip


def _check_choice(config: TrainingConfig) -> None:
    known = list(VALIDATION_METRICS)
    if config.model.n_bits:
        known += [f"code/{name}" for name in VALIDATION_METRICS]
    if config.choose_by not in known:
        raise UsageError(f"choose_by: no metric {config.choose_by!r} (known: {', '.join(known)})")


def create_model(config: TrainingConfig, label_names: Sequence[str]) -> NeuralEncoder:
    """Make the untrained encoder of a configuration, on the CPU."""
    options = config.model
    backbone = create_backbone(
        options.backbone,
        hub_weights=options.init == "hub",
        image_size=options.image_size,
        in_chans=config.data.in_chans,
    )
    if options.init not in ("hub", "none"):
        carried = options.init == PACKAGE
        file = package_weights(options.backbone) if carried else Path(options.init)
        load_backbone_weights(backbone, file)
    made = build_config(
        options.backbone,
        dim=options.dim,
        projection=options.projection,
        n_bits=options.n_bits,
        label_names=tuple(label_names) if options.label_head else (),
        retrieval=options.retrieval,
        image_size=options.image_size,
        pooling=options.pooling,
        in_chans=config.data.in_chans,
        average_views=options.average_views,
        exclusive_labels=config.data.target == "group" or config.loss.classification == "softmax",
    )
    model = NeuralEncoder(made, backbone)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


class _Training:
    """A run in one process: all that can fail before the first step happens before ``run``."""

    def __init__(
        self,
        config: TrainingConfig,
        out: Path,
        team: Team,
        cache_name: str,
        message: Message,
        progress: Progress,
    ) -> None:
        """Read the split and decode this process's share of its images."""
        self.config, self.out, self.team = config, out, team
        self.message, self.show = message, progress
        self.device = team.device
        if self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.seed)
        self.images = read_split(config)
        self.data = data_id(self.images)
        for line in dataset_warnings(config.data.dataset, self.images):
            message(f"warning: {line}")
        size = config.model.image_size
        has_val = any(record.part == "val" for record in self.images.records)
        view = config.augment.size or size
        self.train = self._open("train", round(view * _MARGIN), cache_name)
        self.val = self._open("val", size, cache_name) if has_val else None
        self.parts = {"train": self.train} | ({"val": self.val} if self.val else {})
        self.failed = {
            part: images.check(
                range(team.rank, len(images), team.size),
                lambda i, n, part=part: progress(f"decoding {part}", i, n),
            )
            for part, images in self.parts.items()
        }

    def prepare(self, failed: list[dict[str, list[tuple[int, str]]]]) -> None:
        """Make all that an epoch needs, without the images that any process failed to decode."""
        config, team, message = self.config, self.team, self.message
        size = config.model.image_size
        for part, images in self.parts.items():
            images.drop(sorted(pair for found in failed for pair in found[part]))
            for problem in images.problems:
                message(f"skipped {problem.what}")
        self.train.transform = create_transform(config.augment, size, config.data.in_chans)
        if self.val is None:
            message(f"split {config.data.split} has no validation part: the last epoch is kept")
        labels = self.train.labels
        self.statistics = LabelStatistics.from_labels(torch.from_numpy(labels))
        self.model = create_model(config, self.images.label_names).to(self.device)
        ema = config.optimizer.ema
        # What is validated and saved.
        self.kept = copy.deepcopy(self.model).requires_grad_(False) if ema else self.model
        self.frozen = freeze_first_layers(self.model.backbone, config.model.freeze_layers)
        if config.model.freeze_depthwise:
            freeze_depthwise(self.model.backbone)
        self.features = self._frozen_features() if config.model.frozen else None
        dim, n_bits = config.model.dim, config.model.n_bits
        self.objective = Objective(config.loss, self.statistics, dim, n_bits).to(self.device)
        self.optimizer = create_optimizer(self.model, config.optimizer, self.objective.parameters())
        n = len(self.train)
        self.batch = min(config.optimizer.batch_size, n)
        groups = [record.group for record in self.train.records]
        shares = Shares(n, self.batch, team.rank, team.size)
        losses = (config.loss.name, config.loss.hash_name)
        sampler, note = create_sampler(
            config.sampler, shares, config.seed, labels, groups, self.images.label_names, losses
        )
        if note:
            message(note)
        self.batches = EpochBatches(sampler, config.seed, n)
        self.loader = create_loader(self.train, self.batches, config.loader, self.device, team.size)
        self.steps = len(sampler)
        self.state = self.out / "state.safetensors"

    def run(self) -> Run:
        """Train the epochs that are left."""
        team = self.team
        self.loggers = Loggers(self.config, self.out) if team.is_first else None
        self.progress = team.each(self._resume)
        resumed = self.progress.epoch
        readable = [record.id for record in self.train.records]
        seen = {"dataset and split": self.data, "readable images": readable}
        team.agree("the data", seen, "use the same files in all processes")
        team.agree("the epoch to resume", resumed, "put the run folder where all nodes see it")
        if resumed:
            self.message(f"resuming after epoch {resumed}")
        # What is called in training; validation and checkpoints use the model itself.
        self.trained = team.wrap(
            self.model, self.objective, unused_heads(self.model, self.objective)
        )
        for epoch in range(resumed, self.config.optimizer.epochs):
            row = self._epoch(epoch)
            self.progress = team.first(self._close, row)
        return team.first(self._finish, resumed)

    def _resume(self) -> TrainingState:
        """Load the state of a training that was cut off; refuse one of other images."""
        state = load_state(self.state, self.model, self.objective, self.optimizer, self._averaged())
        if state is None:
            return TrainingState(0, None, [], self.data)
        if state.data not in ("", self.data):
            raise UsageError(
                f"the training in {self.out} began with other images, labels or parts than "
                f"{self.config.data.root} holds now: restore them, or choose another --out folder"
            )
        return state

    def _close(self, row: dict[str, float]) -> TrainingState:
        """Validate after an epoch, keep the model if it is the best, and save the state."""
        config, old = self.config, self.progress
        save_config(config, self.out / "config.yaml")
        scores = self._validate()
        row |= {f"val/{name}": value for name, value in scores.items()}
        score = scores[config.choose_by] if scores else None
        history = [*old.history, row]
        better = score is None or old.best is None or score > old.best
        if better:
            self._save(history, scores, finished=False)
        best = score if better else old.best
        progress = TrainingState(old.epoch + 1, best, history, self.data)
        average = self._averaged()
        save_state(self.state, self.model, self.objective, self.optimizer, progress, average)
        if self.loggers:
            self.loggers.epoch(history)
        shown = f", {config.choose_by} {score:.4f} on val" if score is not None else ""
        self.message(f"epoch {progress.epoch}: loss {row['loss']:.4f}{shown}"
                 f", {row['images_per_second']:.0f} images/s")  # fmt: skip
        return progress

    def _open(self, part: str, size: int, cache_name: str) -> ImageDataset:
        return ImageDataset(
            self.images.part(part).records,
            self.images.label_names,
            size,
            self.config.data.bands,
            cache_bytes=self.config.loader.cache_bytes,
            cache_name=f"{part}-{cache_name}",
        )

    def _epoch(self, epoch: int) -> dict[str, float]:
        config = self.config
        # Everything random in an epoch follows from (seed, epoch): a resume needs no other state.
        seed = epoch_seed(config.seed, epoch)
        torch.manual_seed(seed + self.team.rank)  # of dropout, where a backbone has it
        self.batches.epoch = epoch
        warmup = round(config.optimizer.warmup_epochs * self.steps)
        total = config.optimizer.epochs * self.steps
        self.model.train()
        for layer in self.frozen:
            layer.eval()
        sums: dict[str, Tensor] = {}
        factor = 0.0
        start = time.perf_counter()
        for step, (views, labels) in enumerate(self._loaded()):
            factor = lr_factor(epoch * self.steps + step, warmup, total)
            set_lr(self.optimizer, factor)
            for name, value in self._step(views, labels).items():
                sums[name] = sums[name] + value if name in sums else value
            self.show(f"epoch {epoch + 1}/{config.optimizer.epochs}", step + 1, self.steps)
        seconds = time.perf_counter() - start
        means = {name: float(value) / self.steps for name, value in sums.items()}
        if not math.isfinite(means["loss"]):
            kept = f" (the {epoch} epochs before are kept in {self.out})" if epoch else ""
            raise ModelError(
                f"the loss became {means['loss']} in epoch {epoch + 1}; lower optimizer.lr{kept}"
            )
        speed = self.steps * self.batch / seconds
        return {
            "epoch": epoch + 1,
            **means,
            "lr": config.optimizer.lr * factor,
            "seconds": round(seconds, 3),
            "images_per_second": round(speed, 2),
        }

    def _frozen_features(self) -> Tensor:
        """Freeze the backbone and return the pooled features of all training images, ``[n, F]``."""
        if self.team.size > 1:
            raise UsageError("model.frozen trains in one process: start it without torchrun")
        backbone, images = self.model.backbone, self.train
        backbone.requires_grad_(False)
        self.frozen = list(backbone.modules())
        images.transform = None
        plain = ImageDataset(
            images.records, images.label_names, self.config.model.image_size, images.bands
        )
        made = outputs_of(self.model, plain, partial(self.show, "computing features"))
        return torch.cat([out.features for out in made]).clone()

    def _loaded(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.features is not None:
            labels = torch.from_numpy(self.train.labels).to(self.device)
            for batch in self.batches:
                rows = [row for row, _ in batch]
                yield self.features[rows], labels[rows]
            return
        try:
            yield from self.loader
        except LandcueError as error:  # a worker's error comes with its traceback
            line = str(error).strip().splitlines()[-1]
            raise type(error)(line.partition("Error: ")[2] or line) from None

    def _step(self, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
        labels = labels.to(self.device, non_blocking=True)
        if self.features is not None:
            out = self.model.heads(views)
        else:
            views = views.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            bf16 = self.config.optimizer.precision == "bf16" and has_bf16(self.device)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
                out = self.trained(self.model.normalize(views))
        loss, terms = self.objective(out, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.kept is not self.model:
            update_average(self.kept, self.model, self.config.optimizer.ema)
        return {"loss": loss.detach(), **{f"loss/{k}": v for k, v in terms.items()}}

    def _validate(self) -> dict[str, float]:
        if self.val is None:
            return {}
        return validation_scores(self.kept, self.val)

    def _averaged(self) -> NeuralEncoder | None:
        return None if self.kept is self.model else self.kept

    def _save(
        self, history: list[dict[str, float]], scores: dict[str, float], *, finished: bool
    ) -> str:
        config = self.config
        provenance = {
            "dataset": config.data.dataset,
            "data_id": self.data,
            "split": config.data.split,
            "seed": config.seed,
            "loss": describe_losses(config),
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
        return save_checkpoint(self.out, self.kept, provenance)

    def _finish(self, resumed: int) -> Run:
        made = load_checkpoint(self.out)
        note = made.provenance["training"] | {"finished": True}
        about = made.provenance | {"training": note}
        if self.val is not None and self.config.model.label_head and self.objective.learns_labels:
            about["calibration"] = {"part": "val"} | calibrate_labels(made.encoder, self.val)
        mark = save_checkpoint(self.out, made.encoder, about)
        skipped = len(self.train.problems) + (len(self.val.problems) if self.val is not None else 0)
        scores = made.provenance["scores"]
        self.state.unlink()
        return Run(self.out, mark, int(note["best_epoch"]), scores, skipped, resumed)

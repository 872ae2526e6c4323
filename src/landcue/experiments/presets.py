"""Experiments of published papers, as far as their settings are known, with every assumption."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from landcue.data.datasets import FACTS
from landcue.data.datasets.check import shortfall
from landcue.errors import DataError, UsageError, did_you_mean
from landcue.experiments.runner import cells
from landcue.experiments.spec import Spec, Values, check_spec, filled, merged
from landcue.models.encoder import has_bf16
from landcue.training.config import TrainingConfig, override
from landcue.training.images import read_split
from landcue.training.loop import create_model

_RIVALS: Values = {
    "supcon-any": {"loss": {"name": "supcon"}},
    "supcon-all": {"loss": {"name": "supcon", "options": {"positives": "all"}}},
    "mulsupcon": {"loss": {"name": "mulsupcon"}},
    "multisupcon": {"loss": {"name": "multisupcon"}},
    "similarity-dissimilarity": {"loss": {"name": "similarity_dissimilarity"}},
    "msc": {"loss": {"name": "msc"}},
}
_MARC_METRICS = (
    "nDCG@100", "WAP@100", "nDCG@100(jaccard)", "WAP@100(jaccard)", "mAP", "mAP@20", "recall@10",
    "recall@100", "own-label AP of rare labels",
)  # fmt: skip
_MARC_ASSUMED = (
    "losses: MARC's equations were not accessible; it is LandCue's reconstruction with all parts "
    "on, and the rivals have their own papers' definitions",
    "projection: one hidden layer, 128 dimensions; the public text names a projection head only",
    "image size: 224 px; the public text allows 224 to 256",
    "schedule: AdamW, 100 epochs, batch 128, cosine; the public text gives none",
    "choice: the best epoch on the validation part where the split has one, else the last one",
    "temperature: 0.1 for every loss",
)
_DHCL_ASSUMED = (
    "weights: the authors' BN-Inception is Caffe's, converted by you to safetensors (--init)",
    "schedule: batch 90, AdamW 1e-4 and weight decay 1e-4 as in the authors' code; a cosine over "
    "60 epochs in place of their steps of 0.5 every 10 epochs, and one epoch of warm-up",
    "batch normalization: the authors freeze it; here it learns",
    "loss: the sign of the positive term is corrected, and the Circle constants are standard",
    "mAP@20 is the true average precision in expectation over ties; the authors' formula is none "
    "and gives random codes 40 points, so that its numbers cannot be compared",
    "gallery: the other test images (leave-one-out); set gallery: train for the other reading",
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long an experiment will take on this machine.

    Attributes:
        hours: Training of all models; encoding and measuring add a few percent.
        trainings: Number of models.
        images_per_second: Measured for one step of the first model.
        device: Where it was measured.
    """

    hours: float
    trainings: int
    images_per_second: float
    device: str


def _marc(dataset: str, split: str, split_reason: str) -> Values:
    has_validation = split != "published"
    rank = ["embedding", "features"] if has_validation else ["embedding"]
    methods = {"marc": {}} | _RIVALS
    return {
        "seeds": [1, 2, 3],
        "protocol": "ml-papers-v1",
        "metrics": _MARC_METRICS,
        "base": {
            "data": {"dataset": dataset, "split": split},
            "model": {"backbone": "resnet18", "init": "hub", "image_size": 224, "n_bits": 0,
                      "dim": 128, "projection": "mlp"},
            "optimizer": {"epochs": 100, "batch_size": 128},
            "loggers": ["csv"],
        },
        "methods": {name: {"rank": rank, "config": config} for name, config in methods.items()},
        "assumptions": (*_MARC_ASSUMED, f"split: {split}: {split_reason}"),
    }  # fmt: skip


def _dhcl(dataset: str, split: str, protocol: str) -> Values:
    dhcl = {"loss": {"name": "dhcl", "embedding": 0.0, "classification": "softmax"}}
    return {
        "seeds": [1, 2, 3],
        "bits": [16, 32, 48, 64],
        "protocol": protocol,
        "metrics": ["mAP@20", "mAP", "P@20"],
        "compare": [["dhcl-cue", "dhcl-code"]],
        "base": {
            "data": {"dataset": dataset, "split": split, "target": "group"},
            "model": {"backbone": "bn_inception", "init": "bn_inception.safetensors",
                      "image_size": 224, "pooling": "avgmax"},
            "optimizer": {"epochs": 60, "batch_size": 90, "lr": 1e-4, "head_lr": 1e-4,
                          "weight_decay": 1e-4},
            "sampler": {"name": "shuffle"},
            "loggers": ["csv"],
        },
        "methods": {
            "dhcl-code": {"rank": ["code"], "config": dhcl},
            "dhcl-cue": {"train": "dhcl-code", "rank": ["cue"]},
            "dhcl-label": {"train": "dhcl-code", "rank": ["label"]},
        },
        "assumptions": _DHCL_ASSUMED,
    }  # fmt: skip


_SHUFFLED = "per-class-70-10-20-seed{seed}"
_OURS = "the authors' division is not public; three random ones, each with its training seed"
PRESETS: dict[str, Values] = {
    "marc-dlrsd": _marc("dlrsd", _SHUFFLED, _OURS),
    "marc-ml-aid": _marc("ml_aid", "published", "2,400 / 600, which has no validation part"),
    "marc-whdld": _marc("whdld", _SHUFFLED, _OURS),
    "dhcl-ucmd": _dhcl("ucmerced", "files-80-20", "ucmd-dhcl-v1"),
    "dhcl-aid": _dhcl("aid", "files-50-50", "aid-dhcl-v1"),
}
"""Specifications by name, without the places of images and weights."""


def read_preset(
    name: str,
    data_root: str | Path,
    *,
    init: str | Path | None = None,
    settings: Iterable[str] = (),
    seeds: Iterable[int] = (),
    partial: bool = False,
) -> Spec:
    """Return the specification of a paper's experiment on a copy of its data.

    Args:
        name: A key of :data:`PRESETS`.
        data_root: Folder of the images.
        init: Weight file of the backbones, in place of the preset's.
        settings: ``section.key=value`` over the training settings.
        seeds: In place of the preset's.
        partial: Whether a copy that lacks published images is accepted.

    Raises:
        UsageError: No such preset, or a bad setting.
        DataError: No images, or not all that are published.

    >>> read_preset("marc-dlrsd", "DATA/DLRSD").seeds  # doctest: +SKIP
    (1, 2, 3)
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}{did_you_mean(name, PRESETS)}")
    values, settings = dict(PRESETS[name]), tuple(settings)
    places: Values = {"data": {"root": str(Path(data_root).expanduser().resolve())}}
    if init is not None:
        known = str(init) in ("hub", "none")
        path = str(init) if known else str(Path(init).expanduser().resolve())
        places["model"] = {"init": path}
    values["base"] = override(merged(values["base"], places), settings)
    if chosen := tuple(seeds):
        values["seeds"] = chosen
    spec = check_spec(Path(f"preset {name}"), {"name": name, **values})
    _check_settings(spec, settings)
    cell = cells(spec)[0]
    config = spec.training(cell.method, cell.seed, cell.bits)
    images = read_split(config)
    missing = shortfall(images, FACTS[config.data.dataset])
    if missing and not partial:
        raise DataError(
            f"preset {name}: {data_root} is not whole: {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; download the rest, or "
            "accept what is there with --partial"
        )
    return spec


def _check_settings(spec: Spec, settings: Iterable[str]) -> None:
    """Refuse a setting that is in force for no method, since all have one of their own."""
    for assignment in settings:
        path = tuple(assignment.partition("=")[0].strip().split("."))
        for place, wanted in _leaves(_value_at(spec.base, path), path):
            if not any(
                _value_at(spec.settings(cell.method, cell.seed, cell.bits), place)
                == filled(wanted, cell.seed)
                for cell in cells(spec)
            ):
                key = ".".join(map(str, place))
                raise UsageError(
                    f"--set {assignment!r}: all methods of preset {spec.name} have a value of "
                    f"their own for {key}; write an experiment of your own for others"
                )


def _leaves(value: object, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Yield the values in nested dictionaries with their paths."""
    if isinstance(value, dict):
        for key, item in cast(Values, value).items():
            yield from _leaves(item, (*path, key))
    else:
        yield path, value


def _value_at(values: Values, path: Iterable[Any]) -> object:
    held: Any = values
    for key in path:
        held = held.get(key) if isinstance(held, dict) else None
    return held


def estimate_hours(spec: Spec, steps: int = 2) -> Estimate:
    """Time training steps of an experiment's first model on random images.

    Args:
        spec: The experiment; its images are counted, not decoded.
        steps: Steps that are timed, after one that is not.

    Raises:
        UsageError, DataError, ModelError: As the training would.

    >>> estimate_hours(read_preset("marc-dlrsd", "DATA/DLRSD"))                # doctest: +SKIP
    """
    planned = cells(spec)
    configs = [spec.training(cell.method, cell.seed, cell.bits) for cell in planned]
    first = configs[0]
    images = read_split(first)
    n_train = len(images.part("train").records)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = create_model(first, images.label_names).to(device).train()
    n = min(first.optimizer.batch_size, n_train, 32)
    size, bands = first.augment.size or first.model.image_size, first.data.in_chans
    x = torch.zeros(n, bands, size, size, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    seconds = [_step(model, x, first) for _ in range(steps + 1)][1:]
    rate = n * steps / sum(seconds)
    work = sum(config.optimizer.epochs for config in configs) * n_train
    return Estimate(work / rate / 3600, len(planned), rate, device)


def _step(model: torch.nn.Module, x: torch.Tensor, config: TrainingConfig) -> float:
    start = time.perf_counter()
    half = config.optimizer.precision == "bf16" and has_bf16(x.device)
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=half):
        out: Any = model(x)
    sum((part.float().square().sum() for part in out), x.new_zeros(())).backward()
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start

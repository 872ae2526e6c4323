"""Optimizer, learning-rate schedule and the resumable state of a run."""

from __future__ import annotations

import ctypes
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from landcue.errors import ModelError, first_line
from landcue.files import write_atomic
from landcue.models.encoder import NeuralEncoder
from landcue.training.config import OptimizerSection

PROXY_RATE = 100
"""How much faster than the backbone the proxies of a loss learn, as in Proxy-Anchor and DHCL."""


def lr_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the factor of the base rate at a step: linear warm-up, then a cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def create_optimizer(
    model: NeuralEncoder,
    options: OptimizerSection,
    loss_parameters: Iterable[nn.Parameter] = (),
) -> torch.optim.AdamW:
    """Make AdamW with one rate for the backbone and one for the heads.

    Biases and normalization weights are not decayed. ``loss_parameters``, the proxies of a loss,
    learn at ``proxy_lr``, by default 100 times as fast as the backbone, undecayed since only their
    direction counts. Each group keeps its base rate under ``base_lr``.
    """
    groups: list[dict[str, object]] = []
    backbone = {id(parameter) for parameter in model.backbone.parameters()}
    for is_backbone, lr in ((True, options.lr), (False, options.head_lr)):
        members = [
            p for p in model.parameters() if p.requires_grad and (id(p) in backbone) == is_backbone
        ]
        for decayed in (True, False):
            chosen: list[nn.Parameter] = [p for p in members if (p.ndim > 1) == decayed]
            if chosen:
                decay = options.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": lr, "base_lr": lr, "weight_decay": decay})
    if learned := list(loss_parameters):
        lr = options.proxy_lr or options.lr * PROXY_RATE
        groups.append({"params": learned, "lr": lr, "base_lr": lr, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to ``factor`` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


@dataclass(frozen=True, slots=True)
class TrainingState:
    """How far a run has come.

    Attributes:
        epoch: Number of finished epochs.
        best: Best validation score so far; ``None`` without validation.
        history: One row per finished epoch, as in ``metrics.csv``.
        data: What :func:`landcue.data.splits.data_id` returned for the images; empty if unknown.
    """

    epoch: int
    best: float | None
    history: list[dict[str, float]]
    data: str = ""


def save_state(
    file: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: TrainingState,
    averaged: nn.Module | None = None,
) -> None:
    """Write everything that a resume needs into one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for part, module in (("model", model), ("objective", objective), ("average", averaged)):
        for key, value in module.state_dict().items() if module is not None else ():
            tensors[f"{part}.{key}"] = value.detach().cpu().contiguous()
    state = cast("dict[int, dict[str, Tensor]]", optimizer.state_dict()["state"])
    for index, entries in state.items():
        for key, value in entries.items():
            tensors[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous()
    write_atomic(file, save(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def load_state(
    file: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None = None,
) -> TrainingState | None:
    """Load what :func:`save_state` wrote; ``None`` when there is no such file."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            note = cast("dict[str, Any]", json.loads(opened.metadata()["progress"]))
        parts = [("model.", model), ("objective.", objective)]
        for part, module in [*parts, ("average.", averaged)] if averaged is not None else parts:
            module.load_state_dict(
                {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
            )
        entries: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                entries.setdefault(int(index), {})[key] = tensor
        whole = optimizer.state_dict()
        optimizer.load_state_dict({"state": entries, "param_groups": whole["param_groups"]})
        return TrainingState(**note)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{file} cannot be resumed ({first_line(error)}); delete it to start over"
        ) from None


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory instead of returning it to the system.

    glibc maps every block above 32 MiB anew and returns it when it is freed. Activations of a
    batch are such blocks: each step then pays a page fault per 4 KiB, which took more than half of
    the time of a MobileNetV2 step. The process stays as large as its largest step.

    Returns:
        Whether the C library took the setting; other libraries and systems are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])

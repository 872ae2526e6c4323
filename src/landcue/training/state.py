"""The resumable state of a run: one file, replaced atomically after every epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from landcue.errors import ModelError
from landcue.files import write_atomic


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        epoch: Number of finished epochs.
        best: Best validation score so far; ``None`` without validation.
        history: One row per finished epoch, as in ``metrics.csv``.
    """

    epoch: int
    best: float | None
    history: list[dict[str, float]]


def save_state(
    file: Path,
    model: nn.Module,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write model, objective, optimizer and progress into one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for part, module in (("model", model), ("objective", objective)):
        for key, value in module.state_dict().items():
            tensors[f"{part}.{key}"] = value.detach().cpu().contiguous()
    state = cast(dict[int, dict[str, Tensor]], optimizer.state_dict()["state"])
    for index, entries in state.items():
        for key, value in entries.items():
            tensors[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous()
    note = {"epoch": progress.epoch, "best": progress.best, "history": progress.history}
    write_atomic(file, save(tensors, metadata={"progress": json.dumps(note)}))


def load_state(
    file: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Load what :func:`save_state` wrote; ``None`` when there is no such file.

    Raises:
        ModelError: The file is broken or belongs to another model.
    """
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            note = cast(dict[str, Any], json.loads(opened.metadata()["progress"]))
        for part, module in (("model.", model), ("objective.", objective)):
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
        return Progress(int(note["epoch"]), note["best"], note["history"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{file} cannot be resumed ({line}); delete it to start over") from None

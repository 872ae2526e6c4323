"""``timm:NAME[@FILE]``: pooled features of the models of timm, with their own preprocessing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from torch import nn

from landcue.errors import UsageError, did_you_mean
from landcue.models.pretrained.encoder import fetching
from landcue.models.pretrained.preprocessing import Preprocessing
from landcue.models.pretrained.torch_tower import WEIGHTS, TorchTower, fill, read_weights


def open_tower(name: str, device: str, threads: int | None = None) -> TorchTower:
    """Open a model of timm with its pretrained weights, or those of a safetensors file."""
    model, _, file = name.partition("@")
    _check_name(model)
    if file:
        module = _create(model)
        fill(module, read_weights(Path(file)), file, _classifier(module))
    else:
        module = _fetch(model)
    return _tower(module, model, _preprocessing(module, model), device)


def list_names() -> list[str]:
    """Return the names of weights that timm knows."""
    return list(timm.list_pretrained())


def restore_tower(
    settings: dict[str, Any], folder: Path, device: str, threads: int | None = None
) -> TorchTower:
    """Read what :meth:`.torch_tower.TorchTower.save` wrote."""
    name = str(settings["name"])
    _check_name(name)
    module = _create(name)
    fill(module, read_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    return _tower(module, name, Preprocessing.from_json(settings["preprocessing"]), device)


def _tower(module: nn.Module, name: str, preprocessing: Preprocessing, device: str) -> TorchTower:
    return TorchTower(module, module, preprocessing, {"kind": "timm", "name": name}, device)


def _check_name(name: str) -> None:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise UsageError(
            f"timm has no model {architecture!r}{did_you_mean(architecture, timm.list_models(), 5)}"
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if "." in name and name not in tags:
        raise UsageError(f"timm has no weights {name!r}{did_you_mean(name, tags, 5)}")


def _create(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, num_classes=0, **options)


def _fetch(name: str) -> nn.Module:
    instead = f"where there is a network, save them and use timm:{name}@FILE.safetensors"
    with fetching(f"timm:{name}", instead):
        return _create(name, pretrained=True)


def _classifier(module: Any) -> tuple[str, ...]:
    """Return the prefixes of the classifier's weights, which a file may hold."""
    named = module.pretrained_cfg.get("classifier") or ()
    names = (named,) if isinstance(named, str) else named
    return tuple(f"{name}." for name in names)


def _preprocessing(module: Any, name: str) -> Preprocessing:
    config: dict[str, Any] = resolve_model_data_config(module)
    bands, height, width = config["input_size"]
    if height != width or bands != 3:
        raise UsageError(
            f"timm:{name} takes images of {width} x {height} pixels and {bands} bands: only square "
            "images of 3 bands can be used"
        )
    mode = config["crop_mode"]
    return Preprocessing(
        size=int(height),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        resize="squash" if mode == "squash" else "longest" if mode == "border" else "shortest",
        scale_size=math.floor(height / config["crop_pct"]),
        interpolation=str(config["interpolation"]),
        fill=tuple(round(255 * value) for value in config["mean"]) if mode == "border" else (),
    )

"""``open_clip:NAME@TAG``, ``NAME@FILE`` or a folder: image and text towers of open_clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from torch import Tensor

from landcue.errors import LandcueError, ModelError, UsageError, did_you_mean, first_line
from landcue.models.pretrained.encoder import fetching, quiet
from landcue.models.pretrained.preprocessing import Preprocessing
from landcue.models.pretrained.torch_tower import WEIGHTS, TorchTower, fill, read_weights

_CONFIG = "open_clip_config.json"
_OWN_WEIGHTS = "open_clip_model.safetensors"


class OpenClipTower(TorchTower):
    """A model of open_clip; its folder is one that open_clip reads as ``local-dir:``, too."""

    def __init__(self, model: Any, tokenizer: Any, name: str, config: Any, device: str) -> None:
        """Take a model, its tokenizer and its configuration."""

        def text(texts: Sequence[str], where: torch.device) -> Tensor:
            return model.encode_text(tokenizer(list(texts)).to(where))

        self._tokenizer, self._config = tokenizer, config
        preprocessing = _preprocessing(model, name)
        settings = {"kind": "open_clip", "name": name}
        super().__init__(
            model, model.encode_image, preprocessing, settings, device,
            text=text, identity={"kind": "open_clip", "model_cfg": config},
        )  # fmt: skip

    def save(self, folder: Path) -> dict[str, Any]:
        """Write weights, configuration and tokenizer; return the settings."""
        model: Any = self.module
        value = {"model_cfg": self._config, "preprocess_cfg": model.visual.preprocess_cfg}
        (folder / _CONFIG).write_text(json.dumps(value, indent=2), encoding="utf-8")
        own = getattr(self._tokenizer, "tokenizer", None)  # of transformers
        if own is not None:
            own.save_pretrained(folder)
        return super().save(folder)


def open_tower(name: str, device: str, threads: int | None = None) -> OpenClipTower:
    """Open a model by name and tag, by name and safetensors file, or from a folder."""
    model, _, origin = name.partition("@")
    if not origin and (Path(model) / _CONFIG).is_file():
        return _from_folder(Path(model), Path(model).name, _OWN_WEIGHTS, device)
    known = open_clip.list_models()
    if model not in known:
        raise UsageError(f"open_clip has no model {model!r}{did_you_mean(model, known, 5)}")
    config = deepcopy(open_clip.get_model_config(model))
    tags = open_clip.list_pretrained_tags_by_model(model)
    if origin in tags:
        made = _fetch(model, origin)
    elif origin.lower().endswith(".safetensors") or Path(origin).is_file():
        tensors = read_weights(Path(origin))
        made = _create(model)
        fill(made, tensors, origin)
    else:
        what = f"no weights {origin!r} of {model}" if origin else f"several weights of {model}"
        raise UsageError(
            f"open_clip has {what}: use open_clip:{model}@TAG or a .safetensors file"
            f"{did_you_mean(origin, tags)}"
        )
    with fetching(f"open_clip:{model}", _INSTEAD):
        tokenizer = open_clip.get_tokenizer(model)
    return OpenClipTower(made, tokenizer, model, config, device)


_INSTEAD = (
    "where there is a network, save the model with open_clip and use open_clip:FOLDER with its "
    f"{_CONFIG} and {_OWN_WEIGHTS}"
)


def list_names() -> list[str]:
    """Return ``NAME@TAG`` of weights that open_clip knows."""
    return [f"{name}@{tag}" for name, tag in open_clip.list_pretrained()]


def restore_tower(
    settings: dict[str, Any], folder: Path, device: str, threads: int | None = None
) -> OpenClipTower:
    """Read what :meth:`OpenClipTower.save` wrote."""
    return _from_folder(folder, str(settings["name"]), WEIGHTS, device)


def _from_folder(folder: Path, name: str, weights: str, device: str) -> OpenClipTower:
    tensors = read_weights(folder / weights)
    where = f"local-dir:{folder}"
    try:
        value = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        config = cast("dict[str, Any]", value["model_cfg"])
        made = _create(where)
        tokenizer = open_clip.get_tokenizer(where)
    except LandcueError:
        raise
    except Exception as error:  # open_clip raises many kinds
        raise ModelError(f"{folder} is no model of open_clip ({first_line(error)[:200]})") from None
    fill(made, tensors, str(folder / weights))
    return OpenClipTower(made, tokenizer, name, config, device)


def _create(name: str) -> Any:
    with quiet():
        return open_clip.create_model(
            name, load_weights=False, pretrained_image=False, pretrained_text=False
        )


def _fetch(name: str, tag: str) -> Any:
    wanted = bool((open_clip.get_pretrained_cfg(name, tag) or {}).get("quick_gelu"))
    has = bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))
    if wanted != has:
        other = f"{name}-quickgelu" if wanted else name.removesuffix("-quickgelu")
        raise UsageError(
            f"open_clip:{name}@{tag}: these weights were trained with another activation; use "
            f"open_clip:{other}@{tag}"
        )
    with fetching(f"open_clip:{name}@{tag}", _INSTEAD):
        return open_clip.create_model(name, pretrained=tag)


def _preprocessing(model: Any, name: str) -> Preprocessing:
    config: dict[str, Any] = model.visual.preprocess_cfg
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UsageError(f"open_clip:{name} takes images of {width} x {height}: only squares work")
    return Preprocessing(
        size=int(height),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        resize=config["resize_mode"],
        interpolation=config["interpolation"],
        fill=(int(config["fill_color"]),) * 3 if config["resize_mode"] == "longest" else (),
    )

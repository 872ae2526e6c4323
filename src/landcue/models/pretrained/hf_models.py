"""``hf:FOLDER`` or ``hf:REPO``: vision models, and image and text towers, of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from landcue.errors import ModelError, UsageError, first_line
from landcue.models.pretrained.encoder import fetching
from landcue.models.pretrained.preprocessing import Preprocessing
from landcue.models.pretrained.torch_tower import WEIGHTS, TorchTower, fill, read_weights

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_UNIMPORTANT = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_WARP_FROM = 384
"""Side in pixels from which processors with ``crop_pct`` do not crop."""


class HfTower(TorchTower):
    """A model of transformers, with its configuration, image processor and tokenizer."""

    def __init__(
        self,
        model: Any,
        preprocessing: Preprocessing,
        tokenizer: Any,
        settings: dict[str, Any],
        device: str,
    ) -> None:
        """Take a model and what prepares its inputs."""
        both = hasattr(model, "get_image_features")
        longest = _longest_text(model.config)

        def image(x: Tensor) -> Any:
            return _pooled(model.get_image_features(x) if both else model(pixel_values=x))

        def text(texts: Sequence[str], where: torch.device) -> Any:
            siglip = str(model.config.model_type).startswith("siglip")
            tokens = tokenizer(
                list(texts),
                padding="max_length" if siglip else True,
                max_length=longest,
                truncation=True,
                return_tensors="pt",
            ).to(where)
            return _pooled(model.get_text_features(**tokens))

        self._tokenizer = tokenizer
        super().__init__(
            model, image, preprocessing, settings, device,
            text=text if tokenizer else None,
            identity={
                "kind": "hf", "pooling": settings["pooling_layer"], "config": settings["config"],
            },
        )  # fmt: skip

    def save(self, folder: Path) -> dict[str, Any]:
        """Write weights, configuration and tokenizer; return the settings."""
        model: Any = self.module
        model.config.save_pretrained(folder)
        if self._tokenizer is not None:
            self._tokenizer.save_pretrained(folder)
        return super().save(folder)


def open_tower(name: str, device: str, threads: int | None = None) -> HfTower:
    """Open a folder that ``save_pretrained`` wrote, or a repository of the hub."""
    local = Path(name).is_dir()
    if not local and not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name):
        raise ModelError(f"hf:{name}: there is no such folder, and no repository has such a name")
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    pooling = True
    message = ("where there is a network, save it with save_pretrained and use hf:FOLDER",)
    if local:
        parts = "save model, image processor and tokenizer with save_pretrained, as safetensors"
        message = (parts, "it cannot be read")
    with fetching(f"hf:{name}", *message):
        model, missing = _load(name, options)
        if missing and all(key.startswith("pooler.") for key in missing):
            pooling = False  # else it would be random
            model, missing = _load(name, {**options, "add_pooling_layer": False})
        processor = AutoImageProcessor.from_pretrained(name, **options)
        tokenizer = None
        if hasattr(model, "get_image_features"):
            tokenizer = AutoTokenizer.from_pretrained(name, **options)
    if missing:
        raise ModelError(
            f"hf:{name} lacks {len(missing)} tensors, such as {missing[0]}: its weights are not of "
            "this model"
        )
    settings = {
        "kind": "hf",
        "name": Path(name).name if local else name,
        "pooling_layer": pooling,
        # As this version of transformers has it: a later one may add settings of its own.
        "config": {k: v for k, v in _config(model).items() if k not in _UNIMPORTANT},
    }
    return HfTower(model, _preprocessing(processor, name), tokenizer, settings, device)


def restore_tower(
    settings: dict[str, Any], folder: Path, device: str, threads: int | None = None
) -> HfTower:
    """Read what :meth:`HfTower.save` wrote."""
    tensors = read_weights(folder / WEIGHTS)
    try:
        config = AutoConfig.for_model(**settings["config"])
        options = {} if settings["pooling_layer"] else {"add_pooling_layer": False}
        model = AutoModel.from_config(config, **options)
        tokenizer = None
        if hasattr(model, "get_image_features"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} is broken ({first_line(error)[:200]})") from None
    fill(model, tensors, str(folder / WEIGHTS))
    kept = {key: settings[key] for key in ("kind", "name", "pooling_layer", "config")}
    preprocessing = Preprocessing.from_json(settings["preprocessing"])
    return HfTower(model, preprocessing, tokenizer, kept, device)


def _load(name: str, options: dict[str, Any]) -> tuple[Any, list[str]]:
    model, info = AutoModel.from_pretrained(
        name, output_loading_info=True, use_safetensors=True, dtype=torch.float32, **options
    )
    return model, sorted(info["missing_keys"])


def _config(model: Any) -> dict[str, Any]:
    """Return the configuration as JSON values, with texts as keys."""
    return json.loads(model.config.to_json_string(use_diff=False))


def _longest_text(config: Any) -> int | None:
    found = getattr(config, "text_config", None)
    return getattr(found, "max_position_embeddings", None)


def _pooled(out: Any) -> Any:
    """Return one vector per image or text of what a model returned."""
    if isinstance(out, Tensor):
        return out
    found = getattr(out, "pooler_output", None)
    if found is None:
        found = out.last_hidden_state
        return found[:, 0] if found.ndim == 3 else found.mean(dim=(2, 3))
    return found.flatten(1)


def _preprocessing(processor: Any, name: str) -> Preprocessing:
    value: dict[str, Any] = processor.to_dict()
    size, crop = value.get("size") or {}, value.get("crop_size") or {}
    cropped = bool(value.get("do_center_crop")) and bool(crop)
    edge, share = size.get("shortest_edge"), value.get("crop_pct")
    rescaled = value.get("do_rescale") and abs(value.get("rescale_factor", 0) * 255 - 1) < 1e-6
    squash = size.get("height") is not None and size.get("height") == size.get("width")
    square = not cropped or crop.get("height") == crop.get("width")
    if edge is not None and share and not cropped:
        side, scaled = int(edge), int(edge / share) if edge < _WARP_FROM else int(edge)
        squash = edge >= _WARP_FROM
    elif (squash or (edge is not None and cropped)) and square:
        scaled = int(size["height"] if edge is None else edge)
        side = int(crop["height"]) if cropped else scaled
    else:
        side = scaled = 0
    if not side or not value.get("do_resize", True) or not rescaled:
        raise UsageError(
            f"hf:{name}: its {type(processor).__name__} resizes or scales in a way that is not "
            "known; export the model and use onnx:FILE"
        )
    normal = value.get("do_normalize", True)
    return Preprocessing(
        size=side,
        mean=tuple(float(v) for v in value["image_mean"]) if normal else (0.0,) * 3,
        std=tuple(float(v) for v in value["image_std"]) if normal else (1.0,) * 3,
        resize="squash" if squash else "shortest",
        scale_size=scaled,
        interpolation=_FILTERS.get(int(value.get("resample", 2)), "bilinear"),
        floor_center=True,
    )

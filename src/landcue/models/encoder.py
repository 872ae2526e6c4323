"""The encoder: one backbone, up to three heads, pixels in and :class:`Encoding` out."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.codes.packing import pack_bits
from landcue.errors import UsageError
from landcue.models.backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ChannelOrder,
    create_backbone,
    normalization,
)
from landcue.models.pooling import Pooling, set_pooling
from landcue.models.resize import AT_ONCE, resize_square, to_batch
from landcue.types import ByteArray, Encoding, Images

Projection = Literal["mlp", "linear"]
Space = Literal["embedding", "features"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that is needed to build an encoder again.

    Attributes:
        backbone: Name of the backbone.
        dim: Length d of the projection.
        projection: ``linear``, or ``mlp`` (one hidden layer as wide as the features).
        n_bits: Bits K of the hash head; 0 for none.
        label_names: Names of the label head's C outputs; empty for none.
        retrieval: Which space is searched: the projection (``embedding``) or the backbone's
            pooled ``features``.
        image_size: Side in pixels that images are resized to.
        mean: Subtracted from values in 0..1, in the order of the channels that the backbone sees.
        std: Divides them afterwards.
        pooling: How the last feature map becomes features: global average, or global average plus
            global maximum.
        channel_order: Order of the channels that the backbone was made for.
        exclusive_labels: Whether every image has exactly one label (scene classes): label scores
            are then a soft-max and not one sigmoid each.
        in_chans: Bands of an image.
        average_views: An image is encoded as the mean of so many views, for so many times the
            work: 1, itself; 4, with its flips; 8, with its flips and quarter turns. Training
            steps see one view.
        label_temperatures: Divide the label head's C logits, so that probabilities say how often
            a label occurs; empty for logits as they are.
    """

    backbone: str
    dim: int = 128
    projection: Projection = "mlp"
    n_bits: int = 64
    label_names: tuple[str, ...] = ()
    retrieval: Space = "embedding"
    image_size: int = 160
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pooling: Pooling = "avg"
    channel_order: ChannelOrder = "rgb"
    exclusive_labels: bool = False
    in_chans: int = 3
    average_views: int = 1
    label_temperatures: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise UsageError(f"dim must be at least 1, not {self.dim}")
        if not 0 <= self.n_bits <= 4096:
            raise UsageError(f"n_bits must lie in 0..4096, not {self.n_bits}")
        if not 32 <= self.image_size <= 1024:
            raise UsageError(f"image size must lie in 32..1024 pixels, not {self.image_size}")
        if not 1 <= self.in_chans <= 256:
            raise UsageError(f"in_chans must lie in 1..256, not {self.in_chans}")
        if self.average_views not in (1, 4, 8):
            raise UsageError(f"average_views must be 1, 4 or 8, not {self.average_views}")
        temperatures = self.label_temperatures
        if temperatures and len(temperatures) != len(self.label_names):
            raise UsageError(
                f"{len(temperatures)} label temperatures for {len(self.label_names)} labels; use "
                "one of each, or none"
            )
        if not all(math.isfinite(t) and t > 0 for t in temperatures):
            raise UsageError("a label temperature must be a finite number above 0")
        if not len(self.mean) == len(self.std) == self.in_chans:
            raise UsageError(
                f"mean and std have {len(self.mean)} and {len(self.std)} values, in_chans is "
                f"{self.in_chans}; use one of each per band"
            )


class Outputs(NamedTuple):
    """What one forward pass gives.

    Attributes:
        features: ``[n, F]``, pooled backbone features.
        embedding: ``[n, d]``, unit norm.
        hash: ``[n, K]`` in (-1, 1); its sign is the code; ``[n, 0]`` without the head.
        logits: ``[n, C]``; ``[n, 0]`` without the head.
    """

    features: Tensor
    embedding: Tensor
    hash: Tensor
    logits: Tensor


class NeuralEncoder(nn.Module):
    """Backbone with embedding, hash and label heads; implements :class:`landcue.types.Encoder`.

    Attributes:
        config: Its settings.
        fingerprint: SHA-256 (hex) over settings and weights, as they were saved.
        path: The run folder that it was loaded from.
        provenance: Whatever its training wrote.
    """

    def __init__(self, config: ModelConfig, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.fingerprint = "untrained"
        self.path = Path()
        self.provenance: dict[str, Any] = {}
        if backbone is None:
            backbone = create_backbone(
                config.backbone, image_size=config.image_size, in_chans=config.in_chans
            )
        set_pooling(backbone, config.pooling, config.backbone)
        self.backbone = backbone
        # timm: some backbones end in a wider layer than their last feature map.
        width = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        features = int(cast(int, width))
        self.n_features = features
        self.projection = _projection(config.projection, features, config.dim)
        # torch's own small initial weights: with Kaiming fan-out, as DHCL has it, tanh is saturated
        # from the first step and the head hardly learns (docs/results/contest.md).
        self.hash = _head(features, config.n_bits)
        self.label = _head(features, len(config.label_names))
        mean, std = torch.tensor(config.mean), torch.tensor(config.std)
        self.register_buffer("_mean", mean.view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("_std", std.view(1, -1, 1, 1) * 255, persistent=False)

    @property
    def dim(self) -> int:
        """Length of a retrieval embedding."""
        return self.config.dim if self.config.retrieval == "embedding" else self.n_features

    @property
    def n_bits(self) -> int:
        """Bits of a hash code."""
        return self.config.n_bits

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the label scores."""
        return self.config.label_names

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared image."""
        return self.config.image_size

    @property
    def in_chans(self) -> int:
        """Bands of an image."""
        return self.config.in_chans

    @property
    def unfinished(self) -> bool:
        """Whether this is the best epoch so far of a training that has not ended."""
        return self.provenance.get("training", {}).get("finished") is False

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU's cores."""
        return self.device.type == "cpu"

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn band values 0..255 ``[n, C, h, w]`` into what the backbone was made for."""
        if self.config.channel_order == "bgr":
            pixels = pixels.flip(1)
        return (pixels.float() - cast(Tensor, self._mean)) / cast(Tensor, self._std)

    def forward(self, x: Tensor) -> Outputs:
        """Run normalized images ``[n, C, h, w]`` through backbone and heads.

        Outside of training, what the heads give before normalization and tanh is the mean over
        ``average_views`` views.
        """
        features, projected, hashed, logits = self._heads(x)
        if self.config.average_views > 1 and not self.training:
            others = [self._heads(view) for view in _other_views(x, self.config.average_views)]
            views = zip((features, projected, hashed, logits), *others, strict=True)
            features, projected, hashed, logits = (torch.stack(seen).mean(0) for seen in views)
        return Outputs(features, F.normalize(projected, dim=1), torch.tanh(hashed), logits)

    def heads(self, features: Tensor) -> Outputs:
        """Run the heads alone on pooled features ``[n, F]``, float32."""
        z, hashed = self.projection(features), self.hash(features)
        return Outputs(features, F.normalize(z, dim=1), torch.tanh(hashed), self.label(features))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features and, from them, projection, hash values and logits of one view."""
        features = self.backbone(x)
        # Heads are tiny; float32 keeps near-duplicates apart that bf16 would merge.
        with torch.autocast(x.device.type, enabled=False):
            features = features.float()
            return features, self.projection(features), self.hash(features), self.label(features)

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize one decoded image, uint8 ``[h, w, C]``, to ``[s, s, C]``."""
        return resize_square(image, self.config.image_size)

    def outputs(self, pixels: Sequence[ByteArray] | ByteArray) -> Outputs:
        """Run prepared uint8 images ``[n, s, s, C]`` in inference mode.

        Raises:
            UsageError: The images are not uint8 ``[n, s, s, C]`` of the model's size and bands.
        """
        batch = np.ascontiguousarray(np.stack(list(pixels)) if len(pixels) else np.empty(0))
        size, bands = self.config.image_size, self.config.in_chans
        if batch.shape[1:] != (size, size, bands) or batch.dtype != np.uint8:
            raise UsageError(
                f"need uint8 images [n, {size}, {size}, {bands}], got {batch.dtype} "
                f"{list(batch.shape)}"
            )
        self.eval()
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16(self.device))
        with torch.inference_mode(), half:
            # NHWC memory seen as NCHW is exactly channels_last: no copy.
            x = torch.from_numpy(batch).permute(0, 3, 1, 2)
            parts = [self(self.normalize(some.to(self.device))) for some in x.split(AT_ONCE)]
            if len(parts) == 1:
                return parts[0]
            return Outputs(*(torch.cat(some) for some in zip(*parts, strict=True)))

    def encode(self, images: Images) -> Encoding:
        """Encode image files, Pillow images or uint8 arrays ``[h, w, C]`` of any sizes.

        Raises:
            UsageError: No image, or one of another type or number of bands.
            DataError: A file cannot be read.
        """
        out = self.outputs(to_batch(images, self.image_size, self.in_chans))
        space = out.embedding
        if self.config.retrieval == "features":
            space = F.normalize(out.features, dim=1)
        return Encoding(
            embedding=space.cpu().numpy().astype(np.float32, copy=False),
            code=pack_bits(out.hash.cpu().numpy() > 0),
            n_bits=self.n_bits,
            label_scores=self.label_scores(out.logits).cpu().numpy().astype(np.float32, copy=False),
            model=self.fingerprint,
        )

    def label_scores(self, logits: Tensor) -> Tensor:
        """Turn logits ``[n, C]`` into scores in 0..1."""
        if self.config.label_temperatures:
            logits = logits / logits.new_tensor(self.config.label_temperatures)
        if self.config.exclusive_labels:
            return torch.softmax(logits, dim=1)
        return torch.sigmoid(logits)


def _other_views(x: Tensor, n_views: int) -> list[Tensor]:
    """Return the flips of images ``[n, C, s, s]``; for 8 views also their transposes, the turns."""
    flips = [x.flip(3), x.flip(2), x.flip((2, 3))]
    return flips if n_views == 4 else [*flips, *(view.transpose(2, 3) for view in (x, *flips))]


class _Absent(nn.Module):
    """A head that is left out: ``[n, F]`` to ``[n, 0]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :0]


def _head(features: int, outputs: int) -> nn.Module:
    return nn.Linear(features, outputs) if outputs else _Absent()


def _projection(kind: Projection, features: int, dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(features, dim)
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim))


def build_config(backbone: str, *, in_chans: int = 3, **options: object) -> ModelConfig:
    """Make a :class:`ModelConfig` with the backbone's own normalization and channel order.

    >>> build_config("resnet18").backbone
    'resnet18'
    """
    made_for = normalization(backbone, in_chans)._asdict()
    return ModelConfig(backbone=backbone, in_chans=in_chans, **made_for, **options)  # pyright: ignore[reportArgumentType]


def has_bf16(device: torch.device) -> bool:
    """Whether models compute in bfloat16 on a device: GPUs, and CPUs with instructions for it.

    Other CPUs, such as those with AVX2 only, emulate it, and convolutions then take more than ten
    times as long as in float32.

    Example:
        >>> has_bf16(torch.device("cuda"))
        True
    """
    return device.type != "cpu" or _cpu_has_bf16()


@functools.cache
def _cpu_has_bf16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # pyright: ignore
    except (AttributeError, RuntimeError):  # torch built without oneDNN
        return False

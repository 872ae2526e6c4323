"""MobileNetV2 and EfficientNet-Lite0 beside each other, both without batch normalization."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from landcue.models.mobilenetv2 import MobileNetV2Folded
from landcue.models.pooling import GlobalPool


class JoinedBackbone(nn.Module):
    """MobileNetV2 (folded) and EfficientNet-Lite0, each channel times a number of its own.

    Input ``[n, 3, h, w]`` with values in -1..1; output ``[n, 2560]``, the pooled last feature maps:
    1,280 values of each. Both see the image at the same size and both strides are 32.
    """

    num_features = 2560

    def __init__(self) -> None:
        super().__init__()
        import timm

        self.first = MobileNetV2Folded()
        self.second = fold_batch_norm(timm.create_model("tf_efficientnet_lite0", num_classes=0))
        self.scale = nn.Parameter(torch.ones(self.num_features, 1, 1), requires_grad=False)
        self.global_pool = GlobalPool()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return both last feature maps, ``[n, 2560, h / 32, w / 32]``."""
        second = cast(Any, self.second)
        maps = self.first.forward_features(x), second.forward_features(x)
        return torch.cat(maps, dim=1) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Return pooled features, ``[n, 2560]``."""
        return self.global_pool(self.forward_features(x))


def fold_batch_norm(backbone: nn.Module) -> nn.Module:
    """Fold each batch normalization of a timm backbone into the convolution before it, in place.

    timm's normalization layers also hold the activation, which stays.
    """
    from timm.layers.norm_act import BatchNormAct2d

    backbone.eval()
    for parent in list(backbone.modules()):
        before: str | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, BatchNormAct2d):
                if before is None:  # pragma: no cover - fixed by the architecture
                    raise TypeError(f"{name} follows no convolution")
                conv: Any = getattr(parent, before)
                normalization: Any = child
                folded = fuse_conv_bn_eval(conv, normalization)
                setattr(parent, before, folded)
                setattr(parent, name, normalization.act)
                before = None
            elif isinstance(child, nn.Conv2d):
                before = name
    return backbone

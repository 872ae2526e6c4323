"""BN-Inception: the batch-normalized Inception that deep metric learning compares itself on."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.models.pooling import GlobalPool

# name, inputs, outputs, kernel, stride
_STEM = (
    ("conv1_7x7_s2", 3, 64, 7, 2),
    ("conv2_3x3_reduce", 64, 64, 1, 1),
    ("conv2_3x3", 64, 192, 3, 1),
)
# name, then outputs: 1x1, 3x3 (reduce, out), double 3x3 (reduce, out), projection of the pool.
# The blocks without 1x1 and projection halve the map.
_BLOCKS = (
    ("3a", 64, (64, 64), (64, 96), 32),
    ("3b", 64, (64, 96), (64, 96), 64),
    ("3c", 0, (128, 160), (64, 96), 0),
    ("4a", 224, (64, 96), (96, 128), 128),
    ("4b", 192, (96, 128), (96, 128), 128),
    ("4c", 160, (128, 160), (128, 160), 128),
    ("4d", 96, (128, 192), (160, 192), 128),
    ("4e", 0, (128, 192), (192, 256), 0),
    ("5a", 352, (192, 320), (160, 224), 128),
    ("5b", 352, (192, 320), (192, 224), 128),
)


class BNInception(nn.Module):
    """BN-Inception (Ioffe & Szegedy, ICML 2015) as in its Caffe model, without the classifier.

    Input ``[n, 3, h, w]``: blue, green, red in 0..255 minus (104, 117, 128); output ``[n, 1024]``.
    Tensor names are those of the public weight files, such as ``inception_3a_1x1.weight`` and
    ``inception_3a_1x1_bn.weight``.
    """

    num_features = 1024

    def __init__(self) -> None:
        super().__init__()
        for name, inputs, outputs, kernel, stride in _STEM:
            self._add(name, inputs, outputs, kernel, stride)
        channels = _STEM[-1][2]
        for name, one, three, double, projection in _BLOCKS:
            prefix, stride = f"inception_{name}_", 1 if one else 2
            if one:
                self._add(f"{prefix}1x1", channels, one, 1)
            self._add(f"{prefix}3x3_reduce", channels, three[0], 1)
            self._add(f"{prefix}3x3", *three, 3, stride)
            self._add(f"{prefix}double_3x3_reduce", channels, double[0], 1)
            self._add(f"{prefix}double_3x3_1", *double, 3)
            self._add(f"{prefix}double_3x3_2", double[1], double[1], 3, stride)
            if one:
                self._add(f"{prefix}pool_proj", channels, projection, 1)
            channels = one + three[1] + double[1] + (projection if one else channels)
        self.global_pool = GlobalPool()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, ``[n, 1024, ~h / 32, ~w / 32]``."""
        x = _halve(self._unit("conv1_7x7_s2", x))
        x = _halve(self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x)))
        for name, one, *_ in _BLOCKS:
            x = self._block(f"inception_{name}_", x, halves=not one)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return pooled features, ``[n, 1024]``."""
        return self.global_pool(self.forward_features(x))

    def _add(self, name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        nn.init.zeros_(cast(nn.Parameter, conv.bias))
        self.add_module(name, conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def _unit(self, name: str, x: Tensor) -> Tensor:
        conv, norm = getattr(self, name), getattr(self, f"{name}_bn")
        return F.relu(norm(conv(x)), inplace=True)

    def _block(self, prefix: str, x: Tensor, *, halves: bool) -> Tensor:
        three = self._unit(f"{prefix}3x3", self._unit(f"{prefix}3x3_reduce", x))
        double = self._unit(f"{prefix}double_3x3_1", self._unit(f"{prefix}double_3x3_reduce", x))
        double = self._unit(f"{prefix}double_3x3_2", double)
        if halves:
            # Of an odd side the convolutions keep one value more than the pool of the Caffe model,
            # which takes even sides only. Values are not negative, so zeros change no maximum.
            rest = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
            return torch.cat([three, double, _halve(rest)], dim=1)
        last = prefix == "inception_5b_"
        pooled = F.max_pool2d(x, 3, 1, 1) if last else F.avg_pool2d(x, 3, 1, 1)
        one, projected = self._unit(f"{prefix}1x1", x), self._unit(f"{prefix}pool_proj", pooled)
        return torch.cat([one, three, double, projected], dim=1)


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, ceil_mode=True)

"""MobileNetV2 without batch normalization, alone and beside EfficientNet-Lite0."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from landcue.models.pooling import GlobalPool

# expansion, output channels, repeats, stride of the first block
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": an odd rest goes to the bottom and right."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``[n, c, h, w]`` to ``[n, c', ceil(h / stride), ceil(w / stride)]``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return self._convolve(input, 1, kernel // 2)
        if self.groups > 1 and input.device.type == "cpu" and torch.is_grad_enabled():
            # On CPUs the gradient of a strided depthwise convolution is several times slower than
            # that of a dense one whose every second value is dropped. The values are the same.
            top, left = (1 - side % 2 for side in input.shape[2:])
            dense = self._convolve(input, 1, kernel // 2)[:, :, top::stride, left::stride]
            return dense.contiguous(memory_format=torch.channels_last)
        pad: list[int] = []
        for side in (input.shape[3], input.shape[2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pad += [total // 2, total - total // 2]
        return self._convolve(F.pad(input, pad), stride, 0)

    def _convolve(self, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, stride, padding, groups=self.groups)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> SameConv2d:
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=True)


class _Block(nn.Module):
    """Expand (1x1), depthwise (3x3), project (1x1, linear), with a residual where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        convs = [_conv(inputs, hidden, 1)] if expansion > 1 else []
        convs += [_conv(hidden, hidden, 3, stride, groups=hidden), _conv(hidden, outputs, 1)]
        self.conv = nn.ModuleList(convs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, inputs, h, w]`` to ``[n, outputs, h / stride, w / stride]``."""
        y = x
        for conv in self.conv[:-1]:
            y = F.relu6(conv(y), inplace=True)
        y = self.conv[-1](y)
        return x + y if self.residual else y


class MobileNetV2Folded(nn.Module):
    """MobileNetV2 1.0 (Sandler et al., CVPR 2018) without batch-norm layers.

    Input ``[n, 3, h, w]`` with values in -1..1; output ``[n, 1280]``, the pooled last
    feature map. Tensor names follow the folded ImageNet weights:
    ``features.N.conv.M.weight``.
    """

    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ModuleList([_conv(3, 32, 3, 2)])]
        channels = 32
        for expansion, outputs, repeats, stride in _BLOCKS:
            for index in range(repeats):
                layers.append(_Block(channels, outputs, expansion, stride if index == 0 else 1))
                channels = outputs
        layers.append(nn.ModuleList([_conv(channels, self.num_features, 1)]))
        self.features = nn.ModuleList(layers)
        self.global_pool = GlobalPool()
        for module in self.modules():
            if isinstance(module, SameConv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias) if module.bias is not None else None

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, ``[n, 1280, h / 32, w / 32]``."""
        x = F.relu6(self._stem(0)(x), inplace=True)
        for block in self.features[1:-1]:
            x = block(x)
        return F.relu6(self._stem(-1)(x), inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return pooled features, ``[n, 1280]``."""
        return self.global_pool(self.forward_features(x))

    def _stem(self, index: int) -> nn.Module:
        layer = self.features[index]
        if not isinstance(layer, nn.ModuleList):  # pragma: no cover - fixed by the constructor
            raise TypeError("first and last layers are lists of one convolution")
        return layer[0]


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
        second = cast("Any", self.second)
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

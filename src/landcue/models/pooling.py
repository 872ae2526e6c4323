"""Global pooling: from the last feature map to one feature vector."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from torch import Tensor, nn

from landcue.errors import UsageError

Pooling = Literal["avg", "avgmax"]


class GlobalPool(nn.Module):
    """Global average, or the sum of global average and global maximum where ``kind`` is ``avgmax``.

    Args:
        dim: The two spatial dimensions of the feature map.
        flatten: Whether they are dropped or kept with length 1.
    """

    def __init__(self, dim: tuple[int, int] = (2, 3), *, flatten: bool = True) -> None:
        super().__init__()
        self.kind: Pooling = "avg"
        self.dim, self.flatten = dim, flatten

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, c, h, w]`` to ``[n, c]``, or ``[n, c, 1, 1]``."""
        mean = x.mean(self.dim, keepdim=not self.flatten)
        if self.kind == "avg":
            return mean
        return mean + x.amax(self.dim, keepdim=not self.flatten)


def set_pooling(backbone: nn.Module, kind: Pooling, name: str) -> None:
    """Choose how a backbone pools its last feature map; layers after the pooling stay.

    timm's own ``avgmax`` is half of the sum and its ``catavgmax`` a concatenation, so that a
    timm backbone gets a :class:`GlobalPool` in the place of its average.
    """
    if kind not in get_args(Pooling):
        raise UsageError(f"pooling must be one of {', '.join(get_args(Pooling))}, not {kind!r}")
    pools = [module for module in backbone.modules() if isinstance(module, GlobalPool)]
    if not pools and kind != "avg":
        pools = [_replace_average(backbone, name)]
    for pool in pools:
        pool.kind = kind


def _replace_average(backbone: nn.Module, name: str) -> GlobalPool:
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d

    averages: list[Any] = [
        module
        for module in backbone.modules()
        if isinstance(module, SelectAdaptivePool2d) and module.pool_type in ("avg", "fast")
    ]
    if len(averages) != 1:
        raise UsageError(
            f"backbone {name} averages no feature map; pooling 'avgmax' needs a convolutional "
            "backbone such as bn_inception or resnet50, or use pooling 'avg'"
        )
    old = averages[0].pool
    # timm pools maps of shape [n, h, w, c] with a module that knows its dimensions.
    dim = cast(tuple[int, int], getattr(old, "dim", (2, 3)))
    pool = GlobalPool(dim=dim, flatten=bool(getattr(old, "flatten", False)))
    averages[0].pool = pool
    return pool

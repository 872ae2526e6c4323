"""Whether a device computes in bfloat16 as fast as it should."""

from __future__ import annotations

import functools

import torch


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

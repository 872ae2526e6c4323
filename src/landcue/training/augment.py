"""Augmentation for nadir views, on whole batches: flips, turns, scale and color."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.training.config import AugmentSection


def augment(
    pixels: Tensor,
    size: int,
    options: AugmentSection,
    generator: torch.Generator,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Tensor:
    """Draw one random view of every image.

    One affine grid does crop, flip and turn together; past an edge the image is mirrored.
    Brightness, contrast and saturation are drawn per image.

    Args:
        pixels: uint8 ``[n, s, s, C]``, on the training device.
        size: Side of the result in pixels.
        options: What may vary, and by how much.
        generator: A CPU generator; equal seeds give equal views on every device.
        rank: This process. It draws for the batch of all processes and takes every
            ``world_size``-th draw, as it does of the images: an image's view does not depend on
            the number of processes.
        world_size: Number of processes.

    Returns:
        Values 0..255 as float ``[n, C, size, size]`` in channels_last memory.
    """
    n, side = pixels.shape[0], pixels.shape[1]
    device = pixels.device

    def uniform(low: float, high: float) -> Tensor:
        values = torch.rand(n * world_size, generator=generator)[rank::world_size]
        return (low + (high - low) * values).to(device)

    def below(stop: int) -> Tensor:
        values = torch.randint(0, stop, (n * world_size,), generator=generator)
        return values[rank::world_size].to(device)

    scale = uniform(options.min_area, 1.0).sqrt()
    shift = torch.stack([uniform(-1, 1), uniform(-1, 1)], dim=1) * (1 - scale)[:, None]
    turns, mirror = below(4), below(2)
    angle = turns * (math.pi / 2) if options.turns else torch.zeros(n, device=device)
    flip = 1.0 - 2.0 * mirror if options.flips else torch.ones(n, device=device)
    cos, sin = torch.cos(angle).round(), torch.sin(angle).round()
    if options.rotation:
        by = math.radians(options.rotation)
        angle = angle + uniform(-by, by)
        cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * flip * scale, -sin * scale, shift[:, 0]], dim=1),
            torch.stack([sin * flip * scale, cos * scale, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    x = pixels.permute(0, 3, 1, 2).float()
    if side != size or options.min_area < 1 or options.turns or options.flips or options.rotation:
        grid = F.affine_grid(theta, [n, x.shape[1], size, size], align_corners=False)
        x = F.grid_sample(x, grid, "bilinear", "reflection", align_corners=False)
    if options.color > 0:
        x = _color(x, *(uniform(1 - options.color, 1 + options.color) for _ in range(3)))
    return x.contiguous(memory_format=torch.channels_last)


def _color(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    bands = x.shape[1]
    shares = [0.299, 0.587, 0.114] if bands == 3 else [1 / bands] * bands
    weights = torch.tensor(shares, device=x.device).view(1, bands, 1, 1)
    gray = (x * weights).sum(1, keepdim=True)
    x = gray + saturation.view(-1, 1, 1, 1) * (x - gray)
    mean = gray.mean((2, 3), keepdim=True)
    x = mean + contrast.view(-1, 1, 1, 1) * (x - mean)
    return (x * brightness.view(-1, 1, 1, 1)).clamp_(0, 255)

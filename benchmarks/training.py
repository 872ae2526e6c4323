"""Seconds per training epoch: LandCue's step against the same step in eager float32.

    python benchmarks/training.py [--images 1470] [--size 160] [--batch 96] [--backbone NAME]

Images are random: only speed is measured. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import torch

from landcue.losses.statistics import LabelStatistics
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.training.augment import create_transform
from landcue.training.config import AugmentSection, LossSection, OptimizerSection
from landcue.training.objective import Objective
from landcue.training.state import create_optimizer

LABELS = tuple(f"label{i}" for i in range(17))


def seconds_per_step(args: argparse.Namespace, *, fast: bool) -> float:
    """Time steps with (fast) or without bf16 and channels_last; the best of five."""
    torch.manual_seed(0)
    config = build_config(args.backbone, label_names=LABELS, image_size=args.size)
    model = NeuralEncoder(config).train()
    if fast:
        model = model.to(memory_format=torch.channels_last)
    labels = (torch.rand(args.batch, 17) < 0.2).long()
    statistics = LabelStatistics.from_labels(labels)
    objective = Objective(LossSection(name="supcon"), statistics, config.dim, config.n_bits)
    optimizer = create_optimizer(model, OptimizerSection(), objective.parameters())
    side = round(args.size * 1.15)
    pixels = torch.randint(0, 256, (args.batch, 3, side, side), dtype=torch.uint8)
    transform = create_transform(AugmentSection(), args.size)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        views = torch.stack([transform(image) for image in pixels])
        if fast:
            views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
            out = model(model.normalize(views))
        loss, _ = objective(out, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Print images/s, seconds per epoch and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1470)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--backbone", default="mobilenetv2_folded")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    steps = args.images // args.batch
    fast, plain = (seconds_per_step(args, fast=fast) for fast in (True, False))
    for name, step in (("bf16 channels_last", fast), ("float32 eager", plain)):
        print(f"{name:<20} {args.batch / step:7.1f} images/s   {steps * step:6.1f} s per epoch")
    print(f"ratio {plain / fast:.2f}x")


if __name__ == "__main__":
    main()

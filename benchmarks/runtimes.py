"""Images per second of one encoder in torch and ONNX Runtime, float32 and int8.

Run it on an idle machine. The weights are random, which does not change the speed: what int8 loses
is measured by ``landcue export MODEL OUT.onnx --int8 --calibrate SOURCE``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from landcue.models.checkpoint import Checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.export import export_onnx
from landcue.models.onnx import OnnxEncoder
from landcue.types import Record


def main() -> None:
    """Print images per second and ratios to plain torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(
        f"{platform.machine()}, {cores} cores, torch {torch.__version__}, {args.backbone}, "
        f"{args.image_size} px, batches of {args.batch}, load {os.getloadavg()[0]:.1f}"
    )

    torch.manual_seed(0)
    config = build_config(args.backbone, image_size=args.image_size, label_names=("a",))
    encoder = NeuralEncoder(config).eval()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.batch, args.image_size, args.image_size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        runs = contestants(encoder, images, Path(folder))
        seconds = dict.fromkeys(runs, float("inf"))
        for _ in range(args.rounds):
            for name, run in runs.items():
                run()  # what ran before must not decide what lies in cache
                start = time.perf_counter()
                run()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    base = seconds["torch float32 eager"]
    for name, value in seconds.items():
        print(f"{name:<22} {args.batch / value:8.1f} images/s {base / value:6.2f}x")


def contestants(
    encoder: NeuralEncoder, images: Any, folder: Path
) -> dict[str, Callable[[], object]]:
    """Return what encodes the images in each runtime."""
    records = []
    for i, image in enumerate(images):
        file = folder / f"{i}.png"
        Image.fromarray(image).save(file)
        records.append(Record(str(i), file))
    made = Checkpoint(encoder, {})
    opened = {}
    for precision in ("float32", "int8"):
        out = folder / f"{precision}.onnx"
        export_onnx(made, out, int8=precision == "int8", records=records, message=lambda _: None)
        opened[precision] = OnnxEncoder(out)
    tensor = torch.from_numpy(images)

    def eager() -> object:
        with torch.inference_mode():
            return encoder(encoder.normalize(tensor.permute(0, 3, 1, 2).contiguous()))

    return {
        "torch float32 eager": eager,
        "torch bfloat16 (ours)": lambda: encoder.encode(images),
        "ONNX float32": lambda: opened["float32"].encode(images),
        "ONNX int8": lambda: opened["int8"].encode(images),
    }


if __name__ == "__main__":
    main()

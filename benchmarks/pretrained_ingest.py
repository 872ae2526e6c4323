"""Time of ``landcue index`` with a model of timm beside a bare loop of the same model.

    python benchmarks/pretrained_ingest.py SOURCE [--model resnet18] [--images 2000] [--rounds 3]

SOURCE is a folder of images. The bare loop reads each file with Pillow, applies timm's own
transform and runs the model in batches of 64, in one thread beside torch's own. Indexing also
fits principal components, codes and their recall, makes thumbnails and commits. Weights are random:
they do not change the time. The rounds alternate; the ratios of the medians are printed, of seconds
and of the CPU seconds of all threads, which depend less on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from landcue.archive.indexing import index_source
from landcue.files import core_count

BATCH = 64


def bare_loop(files: list[Path], model: torch.nn.Module) -> None:
    """Read, transform and run the model."""
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        for first in range(0, len(files), BATCH):
            images = [Image.open(file).convert("RGB") for file in files[first : first + BATCH]]
            batch = torch.stack([transform(image) for image in images])
            model(batch.contiguous(memory_format=torch.channels_last))


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a call, and the CPU seconds of all threads."""
    started, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    """Print seconds of each round and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = (p for p in sorted(options.source.rglob("*")) if p.suffix in {".jpg", ".png", ".webp"})
    print(f"{platform.processor() or platform.machine()}, {core_count()} cores, torch "
          f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        files = [
            Path(shutil.copy(path, folder / "photos" / f"{i:05}{path.suffix}"))
            for i, path in enumerate(itertools.islice(found, options.images))
        ]
        model = timm.create_model(options.model, num_classes=0).eval()
        save_file(model.state_dict(), folder / "weights.safetensors")
        model = model.to(memory_format=torch.channels_last)
        uri = f"timm:{options.model}@{folder / 'weights.safetensors'}"
        bare_loop(files[:BATCH], model)
        bare: list[tuple[float, float]] = []
        index: list[tuple[float, float]] = []
        for number in range(options.rounds):
            bare.append(timed(partial(bare_loop, files, model)))
            archive = folder / f"archive{number}"
            index.append(timed(partial(index_source, folder / "photos", archive, model=uri)))
            for name, (seconds, used) in (("bare loop", bare[-1]), ("landcue index", index[-1])):
                print(f"{name:<14} {seconds:6.1f} s {used:6.1f} CPU seconds", flush=True)
    ratios = [
        statistics.median(i) / statistics.median(b)
        for i, b in zip(zip(*index, strict=True), zip(*bare, strict=True), strict=True)
    ]
    print(
        f"{len(files)} images, {options.model}: landcue index takes {ratios[0]:.2f} times the "
        f"seconds of the bare loop and {ratios[1]:.2f} times its CPU seconds"
    )


if __name__ == "__main__":
    main()

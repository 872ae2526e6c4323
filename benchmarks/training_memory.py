"""Memory of a training by the number of its images: flat, since none is kept decoded.

    python benchmarks/training_memory.py [--images 10000 30000 60000] [--size 160] [--steps 40]

Makes small JPEGs in a temporary folder and trains on so many of them, each time in a new process:
all images are decoded once, an epoch of augmented batches is loaded by worker processes, and the
first steps of it train a model. Prints the resident memory of the training process, of its workers
(private to each), and what all decoded images would take.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import simplejpeg


def make_images(folder: Path, n: int) -> None:
    """Write n JPEGs of 64 x 64 pixels in folders of 1,000, each of a class of its own."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (256, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(image)) for image in coarse]
    for i in range(n):
        name = folder / f"c{i // 1000:02}" / f"{i:06}.jpg"
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(jpegs[i % len(jpegs)])


def measure(args: argparse.Namespace, folder: Path, n: int) -> None:
    """Train on the first n images and print one line."""
    import torch

    from landcue.data.sources import open_source
    from landcue.losses import SupCon
    from landcue.models.encoder import NeuralEncoder, build_config
    from landcue.training.augment import create_transform
    from landcue.training.config import AugmentSection, LoaderSection
    from landcue.training.images import EpochBatches, ImageDataset, create_loader
    from landcue.training.samplers import Shares, Shuffle

    source = open_source(folder)
    records, names = source.records[:n], source.label_names
    del source
    gc.collect()
    loaded = psutil.Process().memory_info().rss
    side = round(1.15 * args.size)
    section = LoaderSection(workers=2, cache_bytes=args.cache_bytes)
    images = ImageDataset(records, names, side, cache_bytes=args.cache_bytes)
    images.drop_unreadable()
    images.transform = create_transform(AugmentSection(), args.size)
    batches = EpochBatches(Shuffle(Shares(n, 96), 0), 0, n)
    loader = create_loader(images, batches, section, torch.device("cpu"))
    model = NeuralEncoder(build_config("resnet10t", image_size=args.size)).train()
    optimizer, loss = torch.optim.AdamW(model.parameters()), SupCon()
    start = time.perf_counter()
    for step, (views, labels) in enumerate(loader):
        if step < args.steps:
            optimizer.zero_grad()
            loss(model(model.normalize(views)).embedding, labels).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    own = psutil.Process().memory_info().rss / 2**20
    workers = [p.memory_full_info().uss / 2**20 for p in psutil.Process().children()]
    workers = [size for size in workers if size > 50]  # without the tracker of resources
    print(
        f"{n:>8,} {loaded / 2**20:>12,.0f} {own:>10,.0f} {max(workers):>12,.0f} "
        f"{n * side * side * 3 / 2**20:>12,.0f} {images.cache.capacity / n:>9.0%} {seconds:>8.0f}",
        flush=True,
    )


def main() -> None:
    """Measure each number of images in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 30_000, 60_000])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--cache-bytes", type=int, default=2 * 2**30)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        measure(args, args.folder, args.images[0])
        return
    print("in MiB:")
    print("  images   after list   training   per worker   if decoded    cached  seconds")
    with tempfile.TemporaryDirectory() as name:
        make_images(Path(name), max(args.images))
        for n in args.images:
            own = [__file__, "--folder", name, "--images", str(n), "--size", str(args.size)]
            own += ["--steps", str(args.steps), "--cache-bytes", str(args.cache_bytes)]
            subprocess.run([sys.executable, *own], check=True)


if __name__ == "__main__":
    main()

"""Indexing throughput against the model alone, on the same images in one run.

    python benchmarks/indexing.py [SOURCE] [--images 1000] [--rounds 3]

SOURCE is a folder of images; without one, 256-pixel synthetic images are written as JPEG. The model
alone encodes the same images, decoded before the clock starts; indexing reads, hashes, decodes,
makes thumbnails, encodes and commits.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from landcue.archive.ingest import ingest
from landcue.data.images import read_image
from landcue.data.imageset import ImageSet
from landcue.data.sources import open_source
from landcue.data.synthetic import THEMES, render_chip
from landcue.models.encoder import NeuralEncoder, build_config

MODELS = (("mobilenetv2_folded", 160), ("resnet18", 224))
BATCH = 64


def write_images(folder: Path, n: int) -> None:
    """Write n synthetic JPEGs of 256 pixels, from 50 different scenes."""
    themes = sorted(THEMES)
    for i in range(50):
        pixels, _ = render_chip(i, themes[i % len(themes)], 256)
        for copy in range(i, n, 50):
            Image.fromarray(pixels).save(folder / f"{copy:05}.jpg", quality=92 - copy // 50 % 5)


def measure(images: ImageSet, name: str, size: int, rounds: int) -> None:
    """Print the best of some rounds of both, interleaved."""
    labels = tuple(f"label{i}" for i in range(17))
    encoder = NeuralEncoder(build_config(name, label_names=labels, image_size=size))
    encoder = encoder.to(memory_format=torch.channels_last).eval()
    prepared = [encoder.prepare(read_image(record.path)) for record in images.records]
    encoder.encode(prepared[:BATCH])
    alone, indexed = 0.0, 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        for first in range(0, len(prepared), BATCH):
            encoder.encode(prepared[first : first + BATCH])
        alone = max(alone, len(prepared) / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as folder:
            report = ingest(images.records, Path(folder) / "a", encoder, source_root=images.root)
        indexed = max(indexed, report.images_per_second)
    print(
        f"{name:<20} {size} px   model alone {alone:7.1f} images/s   "
        f"indexing {indexed:7.1f} images/s   {100 * indexed / alone:5.1f} %"
    )


def main() -> None:
    """Print both throughputs and their ratio for two models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        source = args.source
        if source is None:
            source = Path(folder)
            write_images(source, args.images)
        images = open_source(source)
        images = images.subset(images.records[: args.images])
        for name, size in MODELS:
            measure(images, name, size, args.rounds)


if __name__ == "__main__":
    main()

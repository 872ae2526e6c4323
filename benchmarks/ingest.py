"""Ingest throughput against the model alone on the same images, and memory over many chips.

    python benchmarks/ingest.py [SOURCE] [--images 1000] [--rounds 3]
    python benchmarks/ingest.py [SOURCE] --builtin [--images 1000] [--rounds 3]
    python benchmarks/ingest.py --scenes 4 [--rounds 3]
    python benchmarks/ingest.py --memory 100000

SOURCE is a folder of images; without one, 256-pixel synthetic images are written as JPEG. With
``--scenes`` the images are chips of that many 12-band 16-bit scenes of 2,048 pixels. The model
alone encodes the same images, decoded before the clock starts; indexing reads, hashes, decodes,
makes thumbnails, encodes and commits. Each model runs in torch and, exported to int8, in ONNX
Runtime. With ``--builtin`` it is ``landcue index`` with the built-in encoder, its fit included, and
CPU seconds of all threads, which depend less on what else the machine does.

With ``--memory`` chips of 32 pixels go through a tiny encoder, and the resident memory of the
process is printed as the ingest proceeds, and its growth from a tenth of the way to the end.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from landcue.archive.encoding import EncodingOptions
from landcue.archive.indexing import index_source
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.codes.packing import pack_bits
from landcue.data.images import read_image
from landcue.data.imageset import ImageSet
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length, Scale, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.models.load import load_model
from landcue.types import ByteArray, Encoder, Encoding

MODELS = (("mobilenetv2_folded", 160), ("resnet18", 224))
BATCH = 64


class TinyEncoder:
    """Means over image parts, projected: next to no work, so that ingest is what is seen."""

    dim, n_bits, label_names = 32, 64, ()
    fingerprint = hashlib.sha256(b"tiny").hexdigest()

    def __init__(self) -> None:
        self._weights = np.random.default_rng(0).normal(size=(48, self.dim + self.n_bits))

    def prepare(self, image: ByteArray) -> ByteArray:
        """Take every pixel that makes 32 x 32 of them."""
        rows, cols = (np.arange(32) * side // 32 for side in image.shape[:2])
        return image[np.ix_(rows, cols)]

    def encode(self, pixels: list[ByteArray]) -> Encoding:
        """Encode a batch."""
        x = np.stack(pixels).reshape(len(pixels), 4, 8, 4, 8, 3).mean((2, 4)) / 255 - 0.5
        y = x.reshape(len(pixels), -1) @ self._weights
        embedding = y[:, : self.dim] / np.linalg.norm(y[:, : self.dim], axis=1, keepdims=True)
        bits = pack_bits(y[:, self.dim :] > 0)
        scores = np.empty((len(pixels), 0), np.float32)
        return Encoding(embedding.astype(np.float32), bits, self.n_bits, scores)


def write_images(folder: Path, n: int) -> None:
    """Write n synthetic JPEGs of 256 pixels, from 50 different scenes."""
    from landcue.demo import THEMES, render_chip

    themes = sorted(THEMES)
    for i in range(50):
        pixels, _ = render_chip(i, themes[i % len(themes)], 256)
        for copy in range(i, n, 50):
            Image.fromarray(pixels).save(folder / f"{copy:05}.jpg", quality=92 - copy // 50 % 5)


def write_scenes(folder: Path, n: int, side: int, bands: int) -> None:
    """Write n tiled 16-bit scenes."""
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(0)
    for i in range(n):
        values = rng.integers(200, 3000, (bands, side // 8, side // 8)).repeat(8, 1).repeat(8, 2)
        with rasterio.open(
            folder / f"scene{i:03}.tif", "w", driver="GTiff", width=side, height=side, count=bands,
            dtype="uint16", crs="EPSG:32633", transform=from_origin(5e5, 5e6 + i * 1e4, 10, 10),
            tiled=True, blockxsize=256, blockysize=256, compress="deflate",
        ) as scene:  # fmt: skip
            scene.write((values + rng.integers(0, 40, values.shape)).astype(np.uint16))


def decode(images: ImageSet, encoder: Encoder, options: SceneOptions | None) -> list[ByteArray]:
    """Read all images as an ingest does."""
    if options is None:
        return [encoder.prepare(read_image(record.path)) for record in images.records]
    prepared: list[ByteArray] = []
    reader: SceneReader | None = None
    limits = None
    for record in images.records:
        if reader is None or reader.path != record.path:
            reader = SceneReader(record.path, options)
            limits = reader.rendering()
        chip = None if record.window is None else reader.chip(record.window, limits)
        if chip is not None:
            prepared.append(encoder.prepare(chip))
    return prepared


def runtimes(name: str, size: int, images: ImageSet, folder: Path) -> dict[str, Encoder]:
    """Return the model, with random weights, in torch and as int8 in ONNX Runtime.

    Chips calibrate nothing: they run in torch alone.
    """
    import torch

    from landcue.models.checkpoint import Checkpoint
    from landcue.models.encoder import NeuralEncoder, build_config
    from landcue.models.export import export_onnx
    from landcue.models.onnx import OnnxEncoder

    labels = tuple(f"label{i}" for i in range(17))
    encoder = NeuralEncoder(build_config(name, label_names=labels, image_size=size)).eval()
    found: dict[str, Encoder] = {}
    if whole := [record for record in images.records if record.window is None]:
        out = folder / f"{name}.onnx"
        export_onnx(
            Checkpoint(encoder, {}), out, int8=True, records=whole[:64], message=lambda _: None
        )
        found["int8"] = OnnxEncoder(out)
    return {"torch": encoder.to(memory_format=torch.channels_last), **found}


def measure(
    images: ImageSet, label: str, encoder: Encoder, rounds: int, options: SceneOptions | None
) -> None:
    """Print the best of some rounds of both, interleaved."""
    prepared = decode(images, encoder, options)
    encoder.encode(prepared[:BATCH])
    alone, indexed = 0.0, 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        for first in range(0, len(prepared), BATCH):
            encoder.encode(prepared[first : first + BATCH])
        alone = max(alone, len(prepared) / (time.perf_counter() - start))
        with tempfile.TemporaryDirectory() as folder:
            report = ingest(
                SourceImages(images.records, images.root, options), Path(folder) / "a", encoder
            )
        indexed = max(indexed, report.images_per_second)
    print(
        f"{label:<32} model alone {alone:7.1f} images/s   "
        f"indexing {indexed:7.1f} images/s   {100 * indexed / alone:5.1f} %"
    )


def measure_builtin(images: ImageSet, rounds: int) -> None:
    """Print the CPU seconds of both, medians of some rounds, interleaved."""
    encoder = load_model("builtin")
    prepared = decode(images, encoder, None)
    encoder.encode(prepared[:BATCH])
    alone: list[float] = []
    indexed: list[float] = []
    for _ in range(rounds):
        start = time.process_time()
        for first in range(0, len(prepared), BATCH):
            encoder.encode(prepared[first : first + BATCH])
        alone.append(time.process_time() - start)
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            index_source(images.root, Path(folder) / "a")
            indexed.append(time.process_time() - start)
    each = [1000 * statistics.median(values) / len(prepared) for values in (alone, indexed)]
    print(
        f"{len(prepared):,} images, built-in encoder, ms of CPU an image: model alone "
        f"{each[0]:.1f}, indexing {each[1]:.1f}; {100 * each[0] / each[1]:.0f} % is the model"
    )


def resident() -> float:
    """Return this process's resident memory in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_memory(n_chips: int) -> None:
    """Print resident memory while n chips are indexed."""
    options = SceneOptions(Length(32, meters=False), bands=(3, 2, 1), side=32)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "scenes").mkdir()
        write_scenes(folder / "scenes", max(1, round(n_chips / 64**2)), 2048, 3)
        print(f"before listing   {resident():7.0f} MiB")
        images = cut_scenes(open_source(folder / "scenes"), options)
        total = len(images)
        print(f"{total:7,} listed   {resident():7.0f} MiB")
        seen: list[tuple[int, float]] = []

        def progress(done: int, _: int) -> None:
            if done >= total * (len(seen) + 1) / 10:
                seen.append((done, resident()))
                print(f"{done:7,} chips    {seen[-1][1]:7.0f} MiB")

        report = ingest(
            SourceImages(images.records, images.root, options),
            folder / "a",
            TinyEncoder(),
            options=EncodingOptions(batch_size=256, commit_every=4096),
            progress=progress,
        )
        print(report.summary())
    growth = max(memory for _, memory in seen) - seen[0][1]
    print(f"growth from {seen[0][0]:,} to {total:,} chips: {growth:.0f} MiB")


def main() -> None:
    """Print both throughputs and their ratio for two models, or memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--builtin", action="store_true", help="landcue index, whole SOURCE")
    parser.add_argument("--scenes", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if args.memory:
        measure_memory(args.memory)
        return
    with tempfile.TemporaryDirectory() as folder:
        source, options = args.source, None
        if args.scenes:
            source = Path(folder)
            write_scenes(source, args.scenes, 2048, 12)
        elif source is None:
            source = Path(folder)
            write_images(source, args.images)
        if args.builtin:
            measure_builtin(open_source(source), args.rounds)
            return
        for name, size in MODELS:
            images = open_source(source)
            if args.scenes:
                chip, scale = Length(256, meters=False), Scale.parse("percentile:2,98")
                options = SceneOptions(chip, bands=(4, 3, 2), scale=scale, side=size)
                images = cut_scenes(images, options)
            images = images.subset(images.records[: args.images])
            with tempfile.TemporaryDirectory() as models:
                for runtime, encoder in runtimes(name, size, images, Path(models)).items():
                    measure(images, f"{name} {size} px {runtime}", encoder, args.rounds, options)


if __name__ == "__main__":
    main()

"""A small, real encoder (pixel statistics, projected by a seeded matrix) and images for it."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
from PIL import Image

from landcue.codes.packing import pack_bits
from landcue.types import Encoding, Record


class PixelEncoder:
    """Embeds means, deviations and gradients; equal pixels give equal output in any batch."""

    def __init__(self, seed=0, dim=16, n_bits=20, label_names=("dark", "bright", "striped")):
        self.dim, self.n_bits, self.label_names = dim, n_bits, tuple(label_names)
        width = dim + n_bits + len(self.label_names)
        self._projection = np.random.default_rng(seed).normal(size=(12, width))
        facts = f"{seed} {dim} {n_bits} {label_names}"
        self.fingerprint = hashlib.sha256(facts.encode()).hexdigest()
        self.encoded = 0

    def prepare(self, image):
        return np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))

    def encode(self, pixels):
        self.encoded += len(pixels)
        outputs = np.stack([self._one(image) for image in pixels])
        embedding = outputs[:, : self.dim]
        embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
        bits = outputs[:, self.dim : self.dim + self.n_bits] > 0
        scores = 1 / (1 + np.exp(-outputs[:, self.dim + self.n_bits :]))
        return Encoding(
            embedding.astype(np.float32), pack_bits(bits), self.n_bits, scores.astype(np.float32)
        )

    def _one(self, image):
        x = image.astype(np.float64) / 255 - 0.4
        down, right = np.abs(np.diff(x, axis=0)), np.abs(np.diff(x, axis=1))
        parts = [x.mean((0, 1)), x.std((0, 1)), down.mean((0, 1)), right.mean((0, 1))]
        return np.concatenate(parts) @ self._projection


class BlindEncoder(PixelEncoder):
    """Gives NaN for images that are all black."""

    def encode(self, pixels):
        encoding = super().encode(pixels)
        encoding.embedding[[not image.any() for image in pixels]] = np.nan
        return encoding


def write_image(path, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.integers(40, 200, 3), rng.integers(5, 40), (64, 64, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path)


def write_images(root, names, first_seed=0):
    """Write noise images and return their records, labels by turns."""
    records = []
    for i, name in enumerate(names):
        write_image(root / name, first_seed + i)
        labels = (None, (), ("water",), ("trees", "water"))[i % 4]
        records.append(Record(name, root / name, labels=labels))
    return records


def stored_images(root, names):
    """Return the records of :func:`write_images` again."""
    return [
        Record(name, root / name, labels=(None, (), ("water",), ("trees", "water"))[i % 4])
        for i, name in enumerate(names)
    ]


def first_state(root):
    """Write a source of 24 images and return its records."""
    return write_images(root, [f"{i:02}.png" for i in range(24)])


def change_source(root):
    """Change 9 of these images, touch 2 and write 20 more; see :func:`second_state`."""
    for i in range(9):
        write_image(root / f"{i:02}.png", 1000 + i)
        os.utime(root / f"{i:02}.png", ns=(1, 1))
    for i in (9, 10):
        os.utime(root / f"{i:02}.png", ns=(2, 2))
    write_images(root, [f"new-{i:02}.png" for i in range(20)], first_seed=2000)


def second_state(root):
    """Return the records after the change: 3 are gone, 4 have other labels."""
    names = sorted(path.name for path in root.iterdir())[3:]
    return [
        Record(name, root / name, labels=("other",) if i in (12, 13, 14, 15) else ("water",))
        for i, name in enumerate(names)
    ]


def write_model(folder, encoder):
    """Write a folder that looks like a checkpoint, with training state that is not one."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"fingerprint": encoder.fingerprint}))
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "state.safetensors").write_bytes(b"optimizer" * 1000)
    return folder


def contents(archive):
    """All rows of an archive, by id, as plain values."""
    batches = archive.batches(archive.manifest.schema.names)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["id"])


def write_table(file, n, dim=6):
    """Write a table of embeddings as others make them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim)
    pq.write_table(pa.table({"id": [f"r{i:03}" for i in range(n)], "embedding": embedding}), file)

"""Archives of made-up records, written without images: many duplicates, gaps and ties."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import shapely

from landcue.archive.archive import ArchiveFolder
from landcue.archive.layout import create_table
from landcue.archive.manifest import write_manifest
from landcue.archive.schema import Metadata, encoded_rows
from landcue.archive.sources import Source
from landcue.codes.packing import pack_bits
from landcue.data.places import normalize
from landcue.types import Bounds, Encoding, Window

START = datetime(2024, 1, 1, tzinfo=UTC)
NAMES = ("bare soil", "grass", "ships", "trees", "water")


def remove_archive(folder):
    """Remove an archive at once: a service that reads it may be writing derived files into it."""
    removed = folder.with_name(f"{folder.name}.removed")
    folder.rename(removed)
    shutil.rmtree(removed)


class Sizes:
    """All that making an archive asks of an encoder."""

    def __init__(self, dim=12, n_bits=20, label_names=NAMES):
        self.dim, self.n_bits, self.label_names = dim, n_bits, tuple(label_names)
        self.fingerprint = hashlib.sha256(f"{dim} {n_bits} {label_names}".encode()).hexdigest()

    def prepare(self, image):
        return image

    def encode(self, pixels):
        return random_encoding(int(np.sum(pixels)), len(pixels), self)


def random_encoding(seed, n, sizes, distinct=None):
    """Unit vectors, codes and scores of a few ``distinct`` kinds, so that distances tie."""
    rng = np.random.default_rng(seed)
    m = n if distinct is None else distinct
    which = np.arange(n) if distinct is None else rng.integers(0, m, n)
    embedding = rng.normal(size=(m, sizes.dim))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    bits = rng.random((m, sizes.n_bits)) < 0.5
    scores = rng.random((m, len(sizes.label_names)))
    return Encoding(
        embedding.astype(np.float32)[which],
        pack_bits(bits)[which],
        sizes.n_bits,
        scores.astype(np.float32)[which],
    )


def make_archive(
    folder,
    n=300,
    seed=0,
    sizes=None,
    distinct=120,
    metadata=True,
    facts=None,
    encoding=None,
    reading=lambda row: None,
):
    """Write an archive of ``n`` records, in no order, over two commits."""
    sizes = sizes or Sizes()
    rng = np.random.default_rng(seed)
    facts = facts or [one_record(i, rng) if metadata else plain_record(i) for i in range(n)]
    encoding = encoding or random_encoding(seed, n, sizes, distinct)
    folder.mkdir(parents=True, exist_ok=True)
    manifest, table = create_table(folder, sizes, {"made": Source.at(folder)}, None, {})
    order = rng.permutation(n)
    for part in np.array_split(order, 2):
        chosen = Encoding(
            encoding.embedding[part], encoding.code[part], sizes.n_bits, encoding.label_scores[part]
        )
        rows = [facts[i] for i in part]
        texts, thumbnails = ["x"] * len(part), [b""] * len(part)
        readings, names = [reading(row) for row in rows], sizes.label_names
        made = encoded_rows(rows, texts, thumbnails, chosen, names, manifest.schema, readings)
        table.add(made)
    from dataclasses import replace

    write_manifest(folder, replace(manifest, records=n))
    return ArchiveFolder.open(folder)


def plain_record(i):
    name = f"{i:07}.tif"
    nothing = dict.fromkeys(
        ("labels", "bbox", "datetime", "group", "part", "window", "sensor", "geometry")
    )
    return Metadata(id=name, path=name, size=1, mtime_ns=1, source="made", **nothing)


def one_record(i, rng):
    """Some records lack labels, a footprint, a time or a sensor."""
    group = f"scene{rng.integers(0, 5)}"
    bounds = footprint = None
    if rng.random() < 0.8:
        west = float(rng.integers(-180, 180))
        south = float(rng.integers(-80, 80))
        width = float(rng.integers(1, 6))
        east = west + width if west + width <= 180 else west + width - 360
        bounds = Bounds(west, south, east, south + 2)
        if rng.random() < 0.5:  # a diamond inside the bounds
            middle = west + width / 2
            middle = middle - 360 if middle > 180 else middle
            corners = [(west, south + 1), (middle, south + 2), (east, south + 1), (middle, south)]
            footprint = normalize(shapely.Polygon(corners)).geometry
    labels = None
    if rng.random() < 0.7:
        labels = tuple(name for name in NAMES if rng.random() < 0.4)
    return Metadata(
        id=f"{group}/{i:04}.tif",
        path=f"{group}.tif" if rng.random() < 0.5 else f"other/{group}.tif",
        labels=labels,
        bbox=bounds,
        datetime=START + timedelta(days=int(rng.integers(0, 50))) if rng.random() < 0.8 else None,
        group=group,
        part=(None, "train", "val", "test")[rng.integers(0, 4)],
        window=Window(int(rng.integers(0, 9)), 0, 5, 5) if rng.random() < 0.5 else None,
        sensor=(None, "S2A", "S2B")[rng.integers(0, 3)],
        geometry=footprint,
        size=1,
        mtime_ns=1,
        source="made",
    )

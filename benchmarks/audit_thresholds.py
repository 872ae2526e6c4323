"""What the audit's thresholds are chosen by: altered copies against different pictures.

    python benchmarks/audit_thresholds.py DATA [--images 500] [--model builtin] [--split S]

DATA holds ``uc_merced``; ``--split`` takes a part of it, with ``--part`` (``val``), that the model
was not trained on. Prints, for each way to alter a copy, how far hash, gray values and
embedding move, and how near different pictures come to each other.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from landcue.audit.images import gray, hashes
from landcue.audit.pairs import Limits
from landcue.codes.hamming import hamming_distances
from landcue.data.datasets import load_dataset
from landcue.data.images import read_image
from landcue.data.splits import apply_split
from landcue.models.load import load_model


def jpeg(image, quality):
    """Return the image as a JPEG of this quality gives it back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def noise(image):
    """Add Gaussian noise of 8 gray values."""
    values = image + np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def enhance(kind, image, factor):
    """Change brightness or contrast."""
    return np.asarray(kind(Image.fromarray(image)).enhance(factor))


ALTERED = {
    "JPEG, quality 90": lambda i: jpeg(i, 90),
    "JPEG, quality 50": lambda i: jpeg(i, 50),
    "brightness x 0.8": lambda i: enhance(ImageEnhance.Brightness, i, 0.8),
    "brightness x 1.2": lambda i: enhance(ImageEnhance.Brightness, i, 1.2),
    "contrast x 1.3": lambda i: enhance(ImageEnhance.Contrast, i, 1.3),
    "noise": noise,
    "160 x 160 pixels": lambda i: np.asarray(Image.fromarray(i).resize((160, 160))),
    "1 pixel cut off": lambda i: i[1:, 1:],
    "2 pixels cut off": lambda i: i[2:, 2:],
    "8 pixels cut off": lambda i: i[8:, 8:],
}  # fmt: skip


def standard(grays):
    """Return gray pictures as vectors whose products are correlations."""
    rows = grays.reshape(len(grays), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--split")
    parser.add_argument("--part", default="val")
    options = parser.parse_args()
    encoder = load_model(options.model)
    limits = Limits()

    def embed(images):
        blocks = [images[i : i + 64] for i in range(0, len(images), 64)]
        found = [encoder.encode([encoder.prepare(i) for i in block]).embedding for block in blocks]
        return np.concatenate(found)

    found = load_dataset("ucmerced", options.data / "uc_merced")
    records = found.records
    if options.split:
        divided = apply_split(found, options.split)
        records = [record for record in divided.records if record.part == options.part]
    images = [read_image(record.path) for record in records]
    grays = np.stack([gray(image) for image in images])
    codes, vectors, embeddings = hashes(grays), standard(grays), embed(images)
    sample = np.random.default_rng(0).permutation(len(images))[: options.images]

    print(
        "| copy | bits: 95 %, most | found by hash | cosine: median, least 1 % | found by cosine |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, alter in ALTERED.items():
        copies = [np.ascontiguousarray(alter(images[i])) for i in sample]
        small = np.stack([gray(copy) for copy in copies])
        bits = np.bitwise_count(codes[sample, 0] ^ hashes(small)[:, 0]).sum(axis=1)
        r = (vectors[sample] * standard(small)).sum(axis=1)
        cosine = (embeddings[sample] * embed(copies)).sum(axis=1)
        by_hash = np.mean((bits <= limits.max_distance) & (r >= limits.min_correlation))
        low, middle = np.percentile(cosine, (1, 50))
        print(
            f"| {name} | {np.percentile(bits, 95):.0f}, {bits.max()} | {by_hash:.1%} | "
            f"{middle:.4f}, {low:.4f} | {np.mean(cosine >= limits.min_cosine):.1%} |"
        )
    upper = np.triu_indices(len(images), 1)
    forms = np.stack([hamming_distances(codes[:, i], codes[:, 0])[upper] for i in range(8)])
    turned, upright = forms[1:].min(axis=0), forms[0]
    print("\nNearest different pictures, bits (identical pixels left out):")
    print("upright", np.sort(upright[upright > 0])[:8], "turned", np.sort(turned)[:8])
    cosines = (embeddings @ embeddings.T)[upper]
    for threshold in (0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 0.999):
        print(f"pairs with a cosine of at least {threshold}: {(cosines >= threshold).sum():,}")


if __name__ == "__main__":
    main()

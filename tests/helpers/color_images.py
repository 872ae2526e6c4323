"""Tiny images whose labels are their colors, so that a tiny model learns them."""

from __future__ import annotations

import numpy as np
from PIL import Image

LABELS = ("blue", "green", "red")


def write_color_images(root, n, side):
    """Write ``n`` images in two groups and ``labels.csv`` into a folder, and return it."""
    rng = np.random.default_rng(0)
    lines = ["path,group,labels"]
    for i in range(n):
        has = rng.random(3) < 0.5
        has[i % 3] = True
        pixels = rng.integers(0, 60, (side, side, 3))
        for channel, on in zip((2, 1, 0), has, strict=True):
            pixels[..., channel] += 150 * on
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i:02}.png")
        named = ";".join(name for name, on in zip(LABELS, has, strict=True) if on)
        lines.append(f"{i:02}.png,g{i % 2},{named}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root

"""How often a search says that nothing is very similar, for queries of several kinds.

    python benchmarks/unlike_queries.py ARCHIVE [FOLDER...] [--n 40] [--mode embedding code cue]

The archive needs a model. Its own records are queries too: they are its own kind, so for 2.5 % of
them the remark is expected, and of images of its kind that it does not hold, of which FOLDER
may be one, 5 %. The other kinds are made from a seed: noise, smooth noise, single colors, color
gradients, pages of text, and parts of the two photographs that scikit-learn holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

import landcue

SIDE = 256
Pixels = NDArray[np.uint8]


def noise(rng: np.random.Generator) -> Pixels:
    """Return independent values."""
    return rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def smooth_noise(rng: np.random.Generator) -> Pixels:
    """Return noise of 16 x 16 cells, enlarged."""
    small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def single_color(rng: np.random.Generator) -> Pixels:
    """Return one color."""
    return np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (SIDE, SIDE, 3)).copy()


def gradient(rng: np.random.Generator) -> Pixels:
    """Return a horizontal ramp from black to a color."""
    ramp = np.linspace(0, 1, SIDE)[None, :, None]
    return np.broadcast_to(255 * ramp * rng.random(3), (SIDE, SIDE, 3)).astype(np.uint8)


def text(rng: np.random.Generator) -> Pixels:
    """Return lines of random letters."""
    page = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(page)
    for y in range(2, SIDE, 12):
        draw.text((4, y), "".join(map(chr, rng.integers(97, 123, 40))), fill="black")
    return np.asarray(page)


def photograph(rng: np.random.Generator) -> Pixels:
    """Return a square part of a temple or of a flower, half as high as the photograph or more."""
    whole = load_sample_images().images[rng.integers(2)]
    side = int(rng.integers(len(whole) // 2, len(whole) + 1))
    y, x = (int(rng.integers(length - side + 1)) for length in whole.shape[:2])
    return np.ascontiguousarray(whole[y : y + side, x : x + side])


KINDS = (noise, smooth_noise, single_color, gradient, text, photograph)


def queries(kind: str, n: int, ids: list[str]) -> Iterator[Pixels | Path | str]:
    """Yield ``n`` queries of a kind, or of a folder."""
    rng = np.random.default_rng(0)
    if Path(kind).is_dir():
        files = sorted(path for path in Path(kind).rglob("*") if path.is_file())
        yield from rng.permutation(np.array(files, object))[:n]
        return
    if kind == "own records":
        yield from rng.choice(ids, min(n, len(ids)), replace=False).tolist()
        return
    make = next(one for one in KINDS if one.__name__ == kind)
    for _ in range(n):
        yield make(rng)


def main() -> None:
    """Print the share of queries with the remark, by kind and mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("folder", nargs="*", default=[], help="of images, as further queries")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--mode", nargs="+", default=["embedding", "code", "cue"])
    args = parser.parse_args()
    with landcue.open(args.archive) as archive:
        ids = archive.ids()
        print(f"{'kind':<14}" + "".join(f"{mode:>12}" for mode in args.mode))
        for kind in ("own records", *args.folder, *(one.__name__ for one in KINDS)):
            remarks: list[list[bool]] = []
            n = args.n if kind in [one.__name__ for one in KINDS] else 10 * args.n
            for query in queries(kind, n, ids):
                found = [archive.search(query, k=10, mode=mode) for mode in args.mode]
                remarks.append([one.remark is not None for one in found])
            shares = "".join(f"{share:>11.0f}%" for share in 100 * np.mean(remarks, axis=0))
            print(f"{Path(kind).name:<14}{shares}", flush=True)


if __name__ == "__main__":
    main()

"""How often a search says that nothing is very similar, for queries of several kinds.

    python benchmarks/unlike_queries.py ARCHIVE [FOLDER...] [--n 40] [--mode embedding code cue]

The archive needs a model. Its own records are queries too: for 2.5 % of them the remark is
expected, and for up to 5 % of images of its kind that it does not hold, of which FOLDER may be one.
Those are also scrambled, by pixels and by 64 blocks. The other kinds are made from a seed (noise,
smooth noise, single colors, gradients, pages of text), or are parts of pictures that installed
packages hold: scikit-learn's two photographs, Matplotlib's portrait and, where it is installed,
scikit-image's photographs, faces, textures, scans and pictures of a microscope.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import matplotlib
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


KINDS = (noise, smooth_noise, single_color, gradient, text)
OF_SKIMAGE = {
    "photographs": (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "motorcycle_left.png",
    ),
    "textures": ("brick.png", "grass.png", "gravel.png"),
    "microscope": ("ihc.png", "cell.png", "retina.jpg"),
    "scans": ("page.png", "text.png", "clock_motion.png", "coins.png"),
}


def pictures() -> dict[str, list[Pixels]]:
    """Return the pictures of installed packages by kind."""
    portrait = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    found = {"photographs": [*load_sample_images().images, read(portrait)]}
    package = importlib.util.find_spec("skimage")
    if package is not None and package.submodule_search_locations:
        folder = Path(package.submodule_search_locations[0]) / "data"
        for kind, names in OF_SKIMAGE.items():
            found.setdefault(kind, []).extend(read(folder / name) for name in names)
        faces = (255 * np.load(folder / "lfw_subset.npy")[:100].clip(0, 1)).astype(np.uint8)
        found["faces"] = [np.repeat(face[..., None], 3, axis=2) for face in faces]
    return found


def read(file: Path) -> Pixels:
    """Return an image in colors."""
    return np.asarray(Image.open(file).convert("RGB"))


def part(rng: np.random.Generator, whole: Pixels) -> Pixels:
    """Return a square part, half as high as the picture or more; of a face, all of it."""
    height, width = whole.shape[:2]
    least = min(height, width)
    side = least if least < 100 else int(rng.integers(least // 2, least + 1))
    y, x = (int(rng.integers(length - side + 1)) for length in (height, width))
    return np.ascontiguousarray(whole[y : y + side, x : x + side])


def scrambled(rng: np.random.Generator, image: Pixels, cells: int | None) -> Pixels:
    """Return an image whose ``cells`` x ``cells`` blocks, or all pixels, changed places."""
    side = min(image.shape[:2]) // 8 * 8
    n = cells or side
    blocks = image[:side, :side].reshape(n, side // n, n, side // n, 3).swapaxes(1, 2)
    mixed = rng.permutation(blocks.reshape(n * n, *blocks.shape[2:]))
    return mixed.reshape(blocks.shape).swapaxes(1, 2).reshape(side, side, 3)


def queries(
    n: int, ids: list[str], folders: list[Path]
) -> Iterator[tuple[str, list[Pixels | Path | str]]]:
    """Yield each kind of query and its queries: n, or ten times n of the archive's kind."""
    rng = np.random.default_rng(0)
    yield "own records", rng.choice(ids, min(10 * n, len(ids)), replace=False).tolist()
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        chosen = rng.permutation(np.array(files, object))[: 10 * n].tolist()
        yield folder.name, chosen
        tiles = [read(file) for file in chosen[:n]]
        yield "its pixels scrambled", [scrambled(rng, tile, None) for tile in tiles]
        yield "its blocks scrambled", [scrambled(rng, tile, 8) for tile in tiles]
    for make in KINDS:
        yield make.__name__.replace("_", " "), [make(rng) for _ in range(n)]
    for kind, known in pictures().items():
        yield kind, [part(rng, known[i % len(known)]) for i in range(n)]


def main() -> None:
    """Print the share of queries with the remark, by kind and mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("folder", nargs="*", default=[], help="of images, as further queries")
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--mode", nargs="+", default=["embedding", "code", "cue"])
    args = parser.parse_args()
    with landcue.open(args.archive) as archive:
        print(f"{'kind':<21}" + "".join(f"{mode:>12}" for mode in args.mode))
        for kind, chosen in queries(args.n, archive.ids(), list(map(Path, args.folder))):
            remarks: list[list[bool]] = []
            for query in chosen:
                found = [archive.search(query, k=10, mode=mode) for mode in args.mode]
                remarks.append([one.remark is not None for one in found])
            shares = "".join(f"{share:>11.0f}%" for share in 100 * np.mean(remarks, axis=0))
            print(f"{kind:<21}{shares}", flush=True)


if __name__ == "__main__":
    main()

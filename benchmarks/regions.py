"""Objects much smaller than a chip: region search against whole-chip search.

    python benchmarks/regions.py [--images images.npz] [--seed 404] [--turns 0]

Chips of 384 pixels (192 m) drawn by the demo renderer: 50 with one ship, 50 with one court and 50
with one tank, and 750 with none of them, each in four turns by a quarter. Queries are crops of 48
to 128 pixels around the object of 60 further chips, 20 of each kind; relevant is a chip with an
object of the same kind. Both searches use the same crop, encoded by the built-in encoder, for
regions by ``encode_crop``. ``--images`` keeps the drawn chips for a second run.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from landcue import load_model
from landcue.codes.regions import RegionIndex, encode_crop, region_boxes
from landcue.demo.objects import COURT_COLORS, anywhere, court, ship, tank
from landcue.demo.scenes import draw
from landcue.models.regions import RegionEncoder

SIZE, PER_KIND, QUERIES, WITHOUT = 384, 50, 20, 750
LABELS = {"ship": "ships", "court": "courts", "tank": "tanks"}
THEMES = ("coast", "lake", "river", "farmland", "desert", "suburb", "forest")
PLACES = {
    "ship": ("coast", "lake", "river"),
    "court": ("suburb", "farmland", "lake"),
    "tank": ("farmland", "desert", "river"),
}
GROUND = ("grass", "field", "bare-soil", "sand", "pavement")
MARGIN = 20  # meters from an object to the edge of its chip


def draw_chip(seed: list[int], theme: str, kind: str) -> tuple[Any, tuple[int, ...]] | None:
    """Draw a chip with at most one object, and its box; ``None`` if it does not fit."""
    canvas = draw(np.random.default_rng(seed), theme, SIZE)
    if any(canvas.owned(label).any() for label in LABELS.values()):
        return None
    if not kind:
        return canvas.develop(), (0, 0, 0, 0)
    for _ in range(200):
        x, y = anywhere(canvas)
        angle = canvas.uniform(0, 2 * math.pi)
        if min(x, y) <= MARGIN or max(x, y) >= canvas.extent - MARGIN:
            continue
        if kind == "ship":
            length = canvas.uniform(18, 30)
            drawn = ship(canvas, x, y, length, angle, wake=canvas.chance(0.5))
        elif kind == "court":
            drawn = court(canvas, x, y, angle, canvas.pick(COURT_COLORS), *GROUND)
        else:
            drawn = tank(canvas, x, y, canvas.uniform(6, 11), *GROUND)
        if drawn:
            rows, columns = np.nonzero(canvas.owned(LABELS[kind]))  # half pixels
            box = columns.min() // 2, rows.min() // 2, columns.max() // 2 + 1, rows.max() // 2 + 1
            return canvas.develop(), tuple(map(int, box))
    return None


def draw_all(seed: list[int], empty: list[int]) -> dict[str, Any]:
    """Draw all chips, those without an object from a seed of their own; the same at each call."""
    jobs = [
        (kind, PLACES[kind][i % 3], [*seed, 1, number, i], i >= PER_KIND)
        for number, kind in enumerate(LABELS)
        for i in range(PER_KIND + QUERIES)
    ]
    jobs += [("", THEMES[i % len(THEMES)], [*empty, 2, 0, i], False) for i in range(WITHOUT)]
    found: list[tuple[Any, ...]] = []
    for kind, theme, seed, asks in jobs:
        tries = (draw_chip([*seed, again], theme, kind) for again in range(20))
        drawn = next((one for one in tries if one is not None), None)
        if drawn is not None:
            found.append((kind, asks, *drawn))
    kinds, asks, images, boxes = zip(*found, strict=True)
    return {
        "kind": np.array(kinds),
        "asks": np.array(asks),
        "image": np.stack(images),
        "box": np.array(boxes),
    }


def crop(image: Any, box: Any, side: int) -> Any:
    """Cut a square around a box, moved inside the image."""
    left, top = (
        int(np.clip((box[axis] + box[axis + 2] - side) / 2, 0, SIZE - side)) for axis in (0, 1)
    )
    return image[top : top + side, left : left + side]


def recall_at_100(order: Any, relevant: Any) -> float:
    """Return the share of the relevant rows among the first 100."""
    return float(relevant[order[:100]].sum() / relevant.sum())


def main() -> None:
    """Draw, encode, search and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="Where the drawn chips are kept (.npz).")
    parser.add_argument("--sides", type=int, nargs="+", default=[3], help="Regions a side.")
    parser.add_argument("--seed", type=int, nargs="*", default=[], help="Draws other chips.")
    parser.add_argument("--empty-seed", type=int, nargs="*", help="That of chips without objects.")
    parser.add_argument("--turns", type=int, default=3, help="Turns of chips without objects, 0-3.")
    options = parser.parse_args()
    if options.images is not None and options.images.is_file():
        chips = dict(np.load(options.images))
    else:
        empty = options.seed if options.empty_seed is None else options.empty_seed
        chips = draw_all(options.seed, empty)
        if options.images is not None:
            np.savez(options.images, **chips)
    asks, kinds, images, boxes = (chips[name] for name in ("asks", "kind", "image", "box"))
    others = np.flatnonzero(kinds == "")
    turns = range(1, options.turns + 1)
    turned = [np.rot90(images[others], by, axes=(1, 2)) for by in turns]
    images = np.concatenate([images, *turned])
    kinds, boxes, asks = (
        np.concatenate([values, *[values[others]] * options.turns])
        for values in (kinds, boxes, asks)
    )
    gallery, queries = np.flatnonzero(~asks), np.flatnonzero(asks)
    encoder = load_model("builtin")
    counts = {name: int((kinds[gallery] == name).sum()) for name in LABELS}
    share = np.mean(np.diff(boxes[kinds != ""][:, [[0, 2], [1, 3]]], axis=2)) / SIZE
    print(f"{len(gallery)} chips, {counts} with an object, {len(queries)} queries")
    print(f"an object's box takes {share:.2f} of a chip's side; chance {100 / len(gallery):.3f}")
    crops: dict[int, list[tuple[Any, Any]]] = {}
    for side in (48, 64, 96, 128):
        cut = [crop(images[i], boxes[i], side) for i in queries]
        asked = [encode_crop(encoder, one).embedding for one in cut]
        crops[side] = list(zip(encoder.encode(cut).embedding, asked, strict=True))
    for side in options.sides:
        with_regions, spans = RegionEncoder(encoder, side), region_boxes(side)
        started, whole, parts = time.process_time(), [], []
        for first in range(0, len(gallery), 16):
            one = with_regions.encode([images[i] for i in gallery[first : first + 16]])
            whole.append(one.embedding)
            parts.append(one.regions)
        seconds = time.process_time() - started
        embedding, region = np.concatenate(whole), np.concatenate(parts)
        index, times = RegionIndex(region, encoder.dim), region.nbytes / embedding.nbytes
        print(f"{side} x {side} regions: {times:.2f} times the disk of embeddings, "
              f"{1000 * seconds / len(gallery):.0f} ms of CPU a chip")  # fmt: skip
        print("crop px  recall@100: chip  regions  ratio   " + "  ".join(LABELS) + "   in box")
        for pixels, pairs in crops.items():
            found: list[tuple[float, float, str]] = []
            inside: list[bool] = []
            for (vector, asked), row in zip(pairs, queries, strict=True):
                relevant = kinds[gallery] == kinds[row]
                chip = np.argsort(-(embedding @ vector), kind="stable")
                query = index.query(asked)
                _, order = index.search(query, 100)
                values = recall_at_100(chip, relevant), recall_at_100(order, relevant)
                found.append((*values, str(kinds[row])))
                hits = order[relevant[order]]
                middle = boxes[gallery[hits]].reshape(-1, 2, 2).mean(1) / SIZE
                box = spans[index.nearest_regions(query, hits)]
                held = (box[:, :2] <= middle) & (middle <= box[:, 2:])
                inside += held.all(axis=1).tolist()
            chip, best = np.mean([(a, b) for a, b, _ in found], axis=0).tolist()
            each = "  ".join(
                f"{np.mean([v for _, v, one in found if one == kind]):.2f}" for kind in LABELS
            )
            print(f"{pixels:>7}  {chip:>16.3f}  {best:>7.3f}  {best / chip:>5.2f}   {each}   "
                  f"{np.mean(inside):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()

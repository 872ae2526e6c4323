"""Train the change model of the built-in encoder on synthetic pairs.

    python scripts/make_change_model.py [--seeds 1000:1100] [--out FILE]

Each seed is a pair of dates (season, light, haze) with 14 places of each of 14 themes, of which
15 % get houses, water or another field. ``benchmarks/change.py`` measures on other seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import landcue
from landcue.demo.pairs import CHANGES, SceneDate, render_pair
from landcue.demo.scenes import THEMES
from landcue.search import unusual
from landcue.types import ByteArray, FloatArray

Pairs = tuple[list[ByteArray], list[ByteArray], np.ndarray]
"""Images before, images after, and int ``[n]``: 0 without change, else its kind from 1."""


def render_scene(seed: int, places: int = 14, share: float = 0.15) -> Pairs:
    """Render the places of one pair of dates."""
    rng = np.random.default_rng(seed)
    dates = SceneDate.random(rng), SceneDate.random(rng)
    before: list[ByteArray] = []
    after: list[ByteArray] = []
    kinds: list[int] = []
    for number, theme in enumerate(THEMES):
        for place in range(places):
            own = np.random.default_rng([seed, number, place])
            kind = int(own.integers(3))
            change = list(CHANGES)[kind] if own.random() < share else None
            first, second = render_pair(own, theme, dates, change)
            before.append(first)
            after.append(second)
            kinds.append(0 if change is None else kind + 1)
    return before, after, np.array(kinds)


def _centered(vectors: FloatArray) -> FloatArray:
    return vectors - np.median(vectors, axis=0)


def main() -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1000:1100")
    parser.add_argument("--out", type=Path, default=unusual.TRAINED)
    args = parser.parse_args()
    encoder = landcue.load_model("builtin")
    first: list[FloatArray] = []
    second: list[FloatArray] = []
    changed: list[np.ndarray] = []
    for seed in range(*map(int, args.seeds.split(":"))):
        before, after, kinds = render_scene(seed)
        first.append(_centered(encoder.encode(np.stack(before)).embedding))
        second.append(_centered(encoder.encode(np.stack(after)).embedding))
        changed.append(kinds > 0)
        print(f"seed {seed}: {len(kinds)} pairs, {np.count_nonzero(kinds)} changed", flush=True)
    model = unusual.train(np.concatenate(first), np.concatenate(second), np.concatenate(changed))
    model.save(args.out, encoder.fingerprint)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

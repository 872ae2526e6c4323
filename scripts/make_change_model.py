"""Train the change model of the built-in encoder on synthetic pairs.

    python scripts/make_change_model.py [--seeds 1000:1100] [--out FILE]

Each seed is a pair of dates (season, light, haze) with 14 places of each of 14 themes, of which
15 % get houses, water or another field. ``benchmarks/change.py`` measures on other seeds.
The file in the package was made with an earlier order of random draws: this script gives a model of
the same kind, not the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import landcue
from landcue.demo.pairs import render_scene
from landcue.search import unusual
from landcue.types import FloatArray


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
        first.append(_centered(encoder.encode(before).embedding))
        second.append(_centered(encoder.encode(after).embedding))
        changed.append(kinds > 0)
        print(f"seed {seed}: {len(kinds)} pairs, {np.count_nonzero(kinds)} changed", flush=True)
    model = unusual.train(np.concatenate(first), np.concatenate(second), np.concatenate(changed))
    model.save(args.out, encoder.fingerprint)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

"""What to label next: learning curves of suggestions, of uncertainty alone and of random choice.

    python benchmarks/suggest.py validate DATA     # the settings, on the validation division
    python benchmarks/suggest.py test DATA [--json FILE]
    python benchmarks/suggest.py clumps            # kinds of several clumps, made from a seed
    python benchmarks/suggest.py speed [--records 1000000] [--dim 256]

DATA holds ``uc_merced/`` and ``weights/``. One label is looked for at a time. The first mark is a
random image with the label; then batches of 10 are marked by the truth. After each batch the held
out images are ranked by the mean of the regression of :mod:`landcue.search.suggest`, and by rule
``linear`` of ``landcue search``, whatever chose the marks. Images and divisions: split
``per-class-70-10-20-seed1``, that of the built-in encoder. Validation: 630 of its training images
to choose from, its validation part held out. Test: the other 840, and its test part.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import landcue
from landcue.data import apply_split, load_dataset, read_image
from landcue.data.imageset import ImageSet
from landcue.search.feedback import direction
from landcue.search.suggest import DEFAULT, Posterior, Rule, Space, choose

SPLIT = "per-class-70-10-20-seed1"
BATCH = 10
GOAL = 0.9
RARE = 210
UNCERTAIN = Rule((0.0,), diverse=False)
SETTINGS = [
    Rule(spread, level, unmarked)
    for spread in ((1.0,), (2.0,), (4.0,), (1.0, 2.0), (1.0, 4.0))
    for level in (0.0, 0.2)
    for unmarked in (1.0, 3.0)
]
Rows = NDArray[np.int64]
Truth = NDArray[np.bool_]
Vectors = NDArray[np.float32]
Choice = Callable[[Space, Rows, Truth, Rows, np.random.Generator], list[int]]


def random_choice(
    _space: Space, _known: Rows, _relevant: Truth, left: Rows, draw: np.random.Generator
) -> list[int]:
    """Choose at random."""
    return draw.choice(left, min(BATCH, len(left)), replace=False).tolist()


def by_rule(rule: Rule) -> Choice:
    """Return the choice of a rule."""

    def pick(
        space: Space, known: Rows, relevant: Truth, left: Rows, draw: np.random.Generator
    ) -> list[int]:
        seed = int(draw.integers(1 << 30))
        return choose(space, [(known, relevant)], left, BATCH, seed=seed, rule=rule)[0].tolist()

    return pick


def average_precision(relevant: Truth, scores: NDArray[np.float64]) -> float:
    """Return the mean precision at the relevant records."""
    hits = np.flatnonzero(relevant[np.argsort(-scores, kind="stable")])
    return float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))


def curve(
    x: Vectors, truth: Truth, pool: Rows, held: Rows, seed: list[int], pick: Choice, most: int
) -> NDArray[np.float64]:
    """Return AP by the regression, AP by rule ``linear``, and relevant marks, after each batch."""
    draw = np.random.default_rng(seed)
    marked = [int(draw.choice(pool[truth[pool]]))]
    space, found = Space(x, 0), list[tuple[float, float, int]]()
    target = space.take(held)
    while True:
        known = np.array(marked)
        left = np.setdiff1d(pool, known)
        rest = draw.choice(left, min(200, len(left)), replace=False)
        posterior = Posterior(
            space.take(known).astype(np.float64), truth[known],
            space.take(rest).astype(np.float64), DEFAULT.unmarked,
        )  # fmt: skip
        rule = direction(x[known[truth[known]]], x[known[~truth[known]]], "linear")
        scores = [posterior.mean(target), (x[held] @ rule).astype(np.float64)]
        one, two = (average_precision(truth[held], values) for values in scores)
        found.append((one, two, int(truth[known].sum())))
        if len(marked) >= most:
            return np.array(found)
        marked += pick(space, known, truth[known], left, draw)


def curves(
    x: Vectors, labels: Truth, pool: Rows, held: Rows, pick: Choice, seeds: int, most: int
) -> NDArray[np.float64]:
    """Return the curves ``[labels, batches, 3]``, means over seeds."""
    return np.array(
        [
            np.mean(
                [curve(x, y, pool, held, [seed, i], pick, most) for seed in range(seeds)], axis=0
            )
            for i, y in enumerate(labels.T)
        ]
    )


def needed(values: NDArray[np.float64], goal: float = GOAL) -> int | None:
    """Return the marks after which a curve first reaches the goal."""
    reached = np.flatnonzero(values >= goal)
    return 1 + BATCH * int(reached[0]) if len(reached) else None


def encode(images: ImageSet, data: Path) -> dict[str, Vectors]:
    """Return unit embeddings by encoder: built in, and frozen ImageNet features (128 of PCA)."""
    from landcue.models.backbones import FOLDED, create_backbone, load_backbone_weights
    from landcue.models.encoder import NeuralEncoder, build_config
    from landcue.models.fitting import fit_space
    from landcue.training.evaluation import encode_images
    from landcue.training.images import ImageDataset

    model = landcue.load_model("builtin")
    pixels = [model.prepare(read_image(record.path)) for record in images.records]
    builtin = [
        model.encode(np.stack(pixels[i : i + 64])).embedding for i in range(0, len(pixels), 64)
    ]
    backbone = create_backbone(FOLDED)
    load_backbone_weights(backbone, data / "weights" / "mobilenet_v2_1.0_224_imagenet_folded.npz")
    frozen = NeuralEncoder(build_config(FOLDED, image_size=224), backbone)
    features = encode_images(frozen, ImageDataset(images.records, images.label_names, 224)).features
    space = fit_space(features, dim=128, n_bits=0)
    return {"frozen": space.encode(features).embedding, "built-in": np.concatenate(builtin)}


def load(data: Path, cache: Path | None) -> tuple[ImageSet, dict[str, Vectors]]:
    """Read images and embeddings, from the cache if they are there."""
    images = apply_split(load_dataset("ucmerced", data / "uc_merced"), SPLIT)
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as stored:
            return images, {name: stored[name] for name in stored.files}
    vectors = encode(images, data)
    if cache is not None:
        np.savez(cache, **vectors)  # pyright: ignore[reportArgumentType]
    return images, vectors


def divide(images: ImageSet, which: str) -> tuple[Rows, Rows]:
    """Return rows to choose from, and held out rows."""
    part = np.array([record.part for record in images.records])
    train = np.random.default_rng(12345).permutation(np.flatnonzero(part == "train"))
    if which == "validate":
        return np.sort(train[:630]), np.flatnonzero(part == "val")
    return np.sort(train[630:]), np.flatnonzero(part == "test")


def validate(images: ImageSet, vectors: dict[str, Vectors], seeds: int) -> None:
    """Print the mean AP of rare labels over 11 to 101 marks for each setting."""
    labels = images.label_matrix().astype(bool)
    labels = labels[:, labels.sum(axis=0) <= RARE]
    pool, held = divide(images, "validate")
    print(f"{'setting':<60}" + "".join(f"{name:>10}" for name in vectors) + f"{'mean':>8}")
    choices = {str(rule): by_rule(rule) for rule in SETTINGS}
    for name, pick in {"random": random_choice, "uncertain": by_rule(UNCERTAIN), **choices}.items():
        means = [
            curves(x, labels, pool, held, pick, seeds, 101)[:, 1:, 0].mean()
            for x in vectors.values()
        ]
        shown = "".join(f"{value:>10.4f}" for value in means)
        print(f"{name:<60}{shown}{np.mean(means):>8.4f}", flush=True)


def test(images: ImageSet, vectors: dict[str, Vectors], seeds: int, out: Path | None) -> None:
    """Print and write the learning curves on the test division."""
    labels = images.label_matrix().astype(bool)
    rare = labels.sum(axis=0) <= RARE
    names = [name for name, kept in zip(images.label_names, rare, strict=True) if kept]
    labels = labels[:, rare]
    pool, held = divide(images, "test")
    picks = {"random": (random_choice, 601), "uncertain": (by_rule(UNCERTAIN), 201),
             "suggested": (by_rule(DEFAULT), 201)}  # fmt: skip
    written: dict[str, object] = {"rule": str(DEFAULT), "seeds": seeds, "batch": BATCH}
    for encoder, x in vectors.items():
        found = {
            name: curves(x, labels, pool, held, pick, seeds, most)
            for name, (pick, most) in picks.items()
        }
        print(f"\n{encoder}: AP of the {len(names)} rare labels after so many marks")
        shown = (1, 11, 21, 31, 51, 101, 201)
        for at, ranking in enumerate(("regression", "rule linear")):
            print(f"{ranking:<14}" + "".join(f"{n:>8}" for n in shown) + f"{'for 0.9':>10}")
            for name, values in found.items():
                mean = values[:, :, at].mean(axis=0)
                cells = "".join(f"{mean[n // BATCH]:>8.3f}" for n in shown)
                print(f"{name:<14}{cells}{needed(mean) or '> ' + str(picks[name][1]):>10}")
        print(f"{'marks for 0.9':<14}{'positives':>10}" + "".join(f"{name:>12}" for name in found))
        for i, label in enumerate(names):
            counts = [needed(values[i, :, 0]) or "-" for values in found.values()]
            positives = labels[pool, i].sum()
            print(f"{label:<14}{positives:>10}" + "".join(f"{n:>12}" for n in counts))
        written[encoder] = {
            name: {label: values[i].round(4).tolist() for i, label in enumerate(names)}
            for name, values in found.items()
        }
    if out is not None:
        out.write_text(json.dumps(written), encoding="utf-8")


def clumps(seeds: int) -> None:
    """Print marks needed for an AP of 0.85 where the kind sought is three separate clumps."""
    pool, held = np.arange(700), np.arange(700, 1_200)
    choices = {"random": random_choice, "uncertain": by_rule(UNCERTAIN)} | {
        str(spread): by_rule(Rule(spread, DEFAULT.level))
        for spread in dict.fromkeys(r.spread for r in SETTINGS)
    }
    print(f"{'spread':<14}{'24 dim':>8}{'64 dim':>8}{'128 dim':>9}")
    for name, pick in choices.items():
        row: list[float] = []
        for dim, noise in ((24, 0.4), (64, 0.4), (128, 0.5)):
            counts: list[int] = []
            for seed in range(seeds):
                draw = np.random.default_rng(seed)
                centers, rare = draw.normal(size=(40, dim)), draw.random(1_200) < 0.05
                kind = np.where(rare, draw.integers(0, 3, 1_200), draw.integers(3, 40, 1_200))
                x = centers[kind] + noise * draw.normal(size=(1_200, dim))
                x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
                values = curve(x, rare, pool, held, [seed], pick, 301)[:, 0]
                counts.append(needed(values, 0.85) or 301)
            row.append(float(np.mean(counts)))
        print(f"{name:<14}{row[0]:>8.0f}{row[1]:>8.0f}{row[2]:>9.0f}", flush=True)


def speed(records: int, dim: int) -> None:
    """Print seconds of one batch of 20, for one label and for 17."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(records, dim)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    marked = np.sort(draw.choice(records, 100, replace=False))
    left = np.setdiff1d(np.arange(records), marked)
    for n_labels in (1, 17):
        marks = [(marked, draw.random(100) < 0.2) for _ in range(n_labels)]
        started, used = time.perf_counter(), time.process_time()
        choose(Space(x, 0), marks, left, 20)
        spent = time.perf_counter() - started, time.process_time() - used
        print(
            f"{records:,} x {dim}, {n_labels} label(s): {spent[0]:.2f} s, {spent[1]:.2f} s of CPU"
        )


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["validate", "test", "clumps", "speed"])
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="file that keeps the embeddings (.npz)")
    parser.add_argument("--json", type=Path, help="file to write all curves to")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    args = parser.parse_args()
    if args.what == "clumps":
        clumps(args.seeds)
    elif args.what == "speed":
        speed(args.records, args.dim)
    elif args.data is None:
        parser.error("DATA is needed")
    elif args.what == "validate":
        validate(*load(args.data, args.cache), args.seeds)
    else:
        test(*load(args.data, args.cache), args.seeds, args.json)


if __name__ == "__main__":
    main()

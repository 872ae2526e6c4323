"""Change between dates: average precision, false alarms and speed.

    python benchmarks/change.py synthetic [--seeds 2000:2012]
    python benchmarks/change.py naip DATA/rasters/naip
    python benchmarks/change.py ucmerced DATA/uc_merced/UCMerced_LandUse/Images
    python benchmarks/change.py speed [--pairs 1000000]

A row is the average precision (AP) of a ranking: the mean over pairs of dates, each ranked by
itself as ``landcue change`` does, and of all pairs of dates ranked together. ``both`` is what
``landcue change`` uses with the built-in encoder, ``measured`` what it uses with others. Settings
were chosen on the synthetic seeds 0:8 and the validation part of UC Merced; the model was trained
on the seeds 1000:1100.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import landcue
from landcue.demo.pairs import CHANGES, render_scene
from landcue.models.fitted_codes import fit_codes
from landcue.search import change, unusual
from landcue.search.history import compare_histories
from landcue.search.records import COLUMNS, Records
from landcue.search.vectors import OwnEmbeddings
from landcue.types import Encoding

ALPHA = 0.05


@dataclass
class Scene:
    """Pairs of two dates: embeddings, per-pixel differences, and whether they changed.

    ``rise`` is by how much the predicted score of the label ``water`` rose; ``near`` are the
    embeddings at the date before the first and after the second, NaN where there is none.
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    pixels: NDArray[np.float64]
    changed: NDArray[np.bool_]
    kinds: NDArray[np.int64]
    rise: NDArray[np.float64] | None = None
    near: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


def average_precision(changed: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the mean precision at the changed pairs, ties counted as in one rank."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(changed[order])
    last = np.append(np.diff(scores[order]) != 0, True)
    ends = np.flatnonzero(last)
    precision = hits[ends] / (ends + 1)
    gain = np.diff(np.append(0, hits[ends]))
    return float((precision * gain).sum() / changed.sum())


def all_scores(scene: Scene, fingerprint: str) -> dict[str, NDArray[np.float64]]:
    """Return the scores of each method."""
    rows = np.arange(len(scene.changed))
    pairs = unusual.Differences(scene.first, scene.second, rows, rows, 0 * rows)
    trained = unusual.load_trained(fingerprint)
    measured, cosine = unusual.compare_pairs(pairs, [None])
    both = unusual.compare_pairs(pairs, [trained, None])[0]
    found = {
        "per-pixel difference": scene.pixels,
        "cosine": cosine,
        "measured": measured,
        "trained": unusual.compare_pairs(pairs, [trained])[0],
        "both": both,
    }
    if scene.rise is not None:
        rise = np.abs(scene.rise)
        found |= {"rise or fall of water": rise, "by water": unusual.join_scores(both, rise)}
    if scene.near is not None:
        sides = zip((scene.first, scene.second), scene.near, strict=True)
        vectors = [np.concatenate([side, near]) for side, near in sides]
        others = [np.where(np.isnan(near[:, 0]), -1, len(rows) + rows) for near in scene.near]
        pairs = unusual.Differences(*vectors, rows, rows, 0 * rows)
        placed, _ = compare_histories(pairs, (others[0], others[1]), [trained, None])
        found["both, other dates"] = placed
        if scene.rise is not None:
            found["by water, other dates"] = unusual.join_scores(placed, np.abs(scene.rise))
    return found


def print_precision(scenes: list[Scene], fingerprint: str) -> None:
    """Print the average precision of each method, and the false alarms of the default one."""
    scenes = [scene for scene in scenes if np.count_nonzero(scene.changed) >= 5]
    changed = np.concatenate([scene.changed for scene in scenes])
    print(
        f"{len(scenes)} pairs of dates, {len(changed):,} pairs of places, "
        f"{100 * changed.mean():.1f} % changed"
    )
    found = [all_scores(scene, fingerprint) for scene in scenes]
    print(f"{'method':<22}{'mean AP':>8}{'lowest':>8}{'all':>8}{'all, z':>8}")
    for name in found[0]:
        each = [average_precision(s.changed, f[name]) for s, f in zip(scenes, found, strict=True)]
        whole = average_precision(changed, np.concatenate([f[name] for f in found]))
        one = [np.zeros(len(f[name]), np.int64) for f in found]
        z = [unusual.conformal(f[name], [g])[1] for f, g in zip(found, one, strict=True)]
        ranked = average_precision(changed, np.concatenate(z))
        print(f"{name:<22}{np.mean(each):>8.3f}{min(each):>8.3f}{whole:>8.3f}{ranked:>8.3f}")
    print_alarms(scenes, [f["both"] for f in found])


def print_alarms(scenes: list[Scene], scores: list[NDArray[np.float64]]) -> None:
    """Print the shares of pairs with p <= ALPHA, calibrated in two ways."""
    rng = np.random.default_rng(0)
    print(f"{'p <= ' + str(ALPHA) + ', calibrated on':<34}{'unchanged':>10}{'changed':>9}")
    for name in ("all pairs", "half of the unchanged pairs"):
        alarms, hits = [], []
        for scene, score in zip(scenes, scores, strict=True):
            known = None
            judged = ~scene.changed
            if name != "all pairs":
                known = ~scene.changed & (rng.random(len(score)) < 0.5)
                judged = judged & ~known
            p, _, _ = unusual.conformal(score, [np.zeros(len(score), np.int64)], known)
            alarms.append(p[judged] <= ALPHA)
            hits.append(p[scene.changed] <= ALPHA)
        shares = [100 * np.concatenate(part).mean() for part in (alarms, hits)]
        print(f"{name:<34}{shares[0]:>8.1f} %{shares[1]:>7.1f} %")


def synthetic(seeds: range) -> None:
    """Measure on places drawn by the demo's renderer."""
    encoder = landcue.load_model("builtin")
    scenes: list[Scene] = []
    for seed in seeds:
        before, after, kinds = render_scene(seed)
        sides = [encoder.encode(side) for side in (before, after)]
        first, second = (side.embedding for side in sides)
        wet = [side.label_scores[:, encoder.label_names.index("water")] for side in sides]
        pixels = np.abs(before.astype(np.float32) - after).mean((1, 2, 3)).astype(np.float64)
        rise = (wet[1] - wet[0]).astype(np.float64)
        scenes.append(Scene(first, second, pixels, kinds > 0, kinds, rise))
    print_precision(scenes, encoder.fingerprint)
    for number, name in enumerate(CHANGES, start=1):
        each: dict[str, list[float]] = {}
        for scene in scenes:
            rows = (scene.kinds == 0) | (scene.kinds == number)
            if (scene.kinds == number).any():
                for method, scores in all_scores(scene, encoder.fingerprint).items():
                    value = average_precision(scene.changed[rows], scores[rows])
                    each.setdefault(method, []).append(value)
        said = ", ".join(f"{method} {np.mean(values):.3f}" for method, values in each.items())
        print(f"{name} alone: {said}")


def otsu(values: NDArray[np.float32]) -> float:
    """Return the threshold that separates two groups of values best."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts) / counts.sum()
    means = np.cumsum(counts * middles) / counts.sum()
    between = (means[-1] * below - means) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return float(middles[between.argmax()])


def naip(folder: Path, bands: str, side: str) -> None:
    """Measure on real dates: water that covers 10 points more or less of a chip.

    Water is where NDWI > 0 and the near infrared is below its threshold (Otsu) of the date: bare
    fields have NDWI > 0 too in these images, whose values are not calibrated.
    """
    import rasterio

    files = sorted(folder.glob("*.tif"))
    dates = [re.search(r"(\d{4})(\d{2})(\d{2})\.tif$", file.name) for file in files]
    with tempfile.TemporaryDirectory() as work:
        table = Path(work) / "naip.csv"
        days = ["-".join(found.groups()) for found in dates if found]
        lines = [f"{file},{day}" for file, day in zip(files, days, strict=True)]
        table.write_text("path,time\n" + "\n".join(lines) + "\n")
        options = landcue.IndexOptions(chip=side, grid="utm", bands=bands, scale="fixed:0,255")
        archive = landcue.index(table, Path(work) / "archive", options=options)
        records, vectors = archive.backend.records, archive.backend.own_embeddings[:]
        wet = archive.backend.vectors.score("water")
        encoder = change.encoder_of(archive.backend.archive)  # reads the archive's model
        chips: dict[str, dict[str, tuple[NDArray, float, NDArray, float]]] = {}
        images = {}
        for file, day in zip(files, days, strict=True):
            with rasterio.open(file) as raster:
                values = raster.read().astype(np.float32)
            valid = values.any(axis=0)
            index = (values[1] - values[3]) / np.maximum(values[1] + values[3], 1)
            images[day] = values, (index > 0) & (values[3] < otsu(values[3][valid])) & valid
        for row, facts in enumerate(records.facts(np.arange(len(records)))):
            day, (left, top, right, bottom) = str(facts[8].date()), facts[12]
            part = np.s_[top:bottom, left:right]
            values, water = images[day]
            chip = vectors[row], water[part].mean(), values[(slice(None), *part)], wet[row]
            chips.setdefault(facts[0].rsplit("/", 1)[1], {})[day] = chip
    scenes = []
    for first, second in itertools.combinations(days, 2):
        both = [one for one in chips.values() if first in one and second in one]
        changed = np.array([abs(one[first][1] - one[second][1]) > 0.1 for one in both])
        pixels = [np.abs(one[first][2] - one[second][2]).mean() for one in both]
        embeddings = [np.stack([one[day][0] for one in both]) for day in (first, second)]
        rise = np.array([one[second][3] - one[first][3] for one in both], np.float64)
        at = days.index(first), days.index(second) + 1
        nothing = np.full(vectors.shape[1], np.nan, np.float32)
        near = [
            np.stack([next((one[day][0] for day in some if day in one), nothing) for one in both])
            for some in (days[: at[0]][::-1], days[at[1] :])
        ]
        pixel = np.array(pixels, np.float64)
        scenes.append(
            Scene(*embeddings, pixel, changed, 1 * changed, rise, near=(near[0], near[1]))
        )
    print(f"bands {bands}, chips of {side}; per-pixel difference of all four bands")
    print_precision(scenes, encoder)


def ucmerced(folder: Path, part: str, scenes: int = 6, places: int = 150) -> None:
    """Measure on photographs: light, color, haze and a shift; in 15 % a part of another image.

    The validation part has the images of odd numbers, the test part those of even ones.
    """
    from PIL import Image, ImageEnhance

    encoder = landcue.load_model("builtin")
    odd = part == "validation"
    files = [one for one in sorted(folder.glob("*/*.webp")) if int(one.stem[-2:]) % 2 == odd]
    made: list[Scene] = []
    for seed in range(scenes):
        rng = np.random.default_rng([4000 if odd else 5000, seed])
        light, contrast, color = rng.uniform(0.75, 1.25, 3)
        haze, noise = rng.uniform(0, 0.25), rng.uniform(1, 5)
        tint = rng.normal(1, 0.04, 3)
        before, after, changed = [], [], []
        for at in rng.choice(len(files), places, replace=False):
            with Image.open(files[at]) as file:
                image = file.convert("RGB").resize((256, 256))
            x, y = rng.uniform(-1, 1, 2)
            moved = image.transform((256, 256), Image.Transform.AFFINE, (1, 0, x, 0, 1, y),
                                    Image.Resampling.BICUBIC)  # fmt: skip
            changed.append(rng.random() < 0.15)
            if changed[-1]:
                strangers = [file for file in files if file.parent != files[at].parent]
                other = strangers[int(rng.integers(len(strangers)))]
                with Image.open(other) as file:
                    width, height = (int(256 * rng.uniform(0.35, 0.6)) for _ in range(2))
                    patch = file.convert("RGB").resize((256, 256)).crop((0, 0, width, height))
                moved.paste(patch, tuple(rng.integers(0, 256 - n) for n in (width, height)))
            moved = ImageEnhance.Brightness(moved).enhance(light)
            moved = ImageEnhance.Contrast(moved).enhance(contrast)
            values = np.asarray(ImageEnhance.Color(moved).enhance(color), np.float32) * tint
            values += haze * (np.array((168, 178, 190)) - values)
            values += rng.normal(0, noise, values.shape)
            before.append(np.asarray(image))
            after.append(np.clip(values, 0, 255).astype(np.uint8))
        first, second = (encoder.encode(np.stack(side)).embedding for side in (before, after))
        pixels = np.abs(np.stack(before).astype(np.float32) - np.stack(after)).mean((1, 2, 3))
        kinds = np.array(changed)
        made.append(Scene(first, second, pixels.astype(np.float64), kinds, 1 * kinds))
    print_precision(made, encoder.fingerprint)


def batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield ids and readings as an archive does."""
    yield from table.select(["id"]).append_column(
        "reading", pa.nulls(len(table), pa.string())
    ).to_batches(8192)  # fmt: skip


def _cpu() -> str:
    facts = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", facts.read_text()) if facts.exists() else []
    return names[0] if names else platform.processor()


YEARS = {2: (2010, 2018), 4: (2007, 2010, 2018, 2020)}
"""Dates of places by their number; 2010 and 2018 are compared."""


def speed(n: int, years: Sequence[int]) -> None:
    """Time ``find_changes`` over n places, records and embeddings in memory.

    The dates between the first and the last year are their places' history.
    """
    model = landcue.load_model("builtin")
    rng = np.random.default_rng(0)
    dim, labels = model.dim, model.label_names
    place = np.arange(n)
    column, row = place % 1000, place // 1000
    west, south = column * 0.005, row * 0.004
    ids = [f"{year}/utm31N-500m-n{r:06}-e{c:06}" for year in years
           for c, r in zip(column.tolist(), row.tolist(), strict=True)]  # fmt: skip
    dates = len(years)
    days = np.repeat(np.array([f"{year}-07-01" for year in years], "datetime64[us]"), n)
    values: dict[str, object] = dict.fromkeys(COLUMNS)
    values |= {
        "id": pa.array(ids, pa.large_string()), "path": pa.array(ids, pa.large_string()),
        "west": np.tile(west, dates), "east": np.tile(west + 0.005, dates),
        "south": np.tile(south, dates), "north": np.tile(south + 0.004, dates),
        "time": pa.array(days, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC")),
        "sensor": pa.array(["S2"] * (dates * n)), "source": pa.array(["s"] * (dates * n)),
        "labels": pa.nulls(dates * n, pa.list_(pa.string())),
        "predicted_labels": pa.array([["water"]] * (dates * n), pa.list_(pa.string())),
        "geometry": pa.nulls(dates * n, pa.binary()),
        "pixel_bbox": pa.nulls(dates * n, pa.list_(pa.int32())),
        "group": pa.nulls(dates * n, pa.string()), "part": pa.nulls(dates * n, pa.string()),
    }  # fmt: skip
    table = pa.table(values)
    embedding = rng.standard_normal((dates * n, dim), np.float32)
    for first in range(n, dates * n, n):
        embedding[first : first + n] = embedding[:n] + 0.2 * embedding[first : first + n]
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    scores = rng.random((dates * n, len(labels)), np.float32)
    print(f"{n:,} pairs of {dim} numbers, {dates} dates; {os.cpu_count()} cores, {_cpu()}")
    none = np.empty((2048, 0), np.float32)
    fitted = fit_codes(Encoding(embedding[:2048], none.astype(np.uint8), 0, none), 0, centered=160)
    for name, fingerprint, space in (
        ("both", model.fingerprint, None),
        ("both, embeddings fitted to the archive", model.fingerprint, fitted),
        ("measured", "another", None),
    ):
        manifest = SimpleNamespace(fingerprint=fingerprint, label_names=labels)
        backend = SimpleNamespace(
            records=Records(table),
            vectors=SimpleNamespace(
                embedding=embedding, scores=scores, score=lambda x: scores[:, labels.index(x)]
            ),
            own_embeddings=OwnEmbeddings(embedding, space),
            manifest=manifest,
            archive=SimpleNamespace(
                batches=lambda _: batches(table),
                folder=Path("memory"),
                model_folder=None,
                manifest=manifest,
            ),
        )
        periods = change.Period.before("2013"), change.Period.after("2018")
        started, cpu = time.perf_counter(), time.process_time()
        found = change.find_changes(backend, backend, periods)  # type: ignore[arg-type]
        first = found[0]
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(
            f"{name}: {seconds:.1f} s ({cpu:.1f} s of CPU), {len(found):,} pairs returned, "
            f"first p {first.p:.2g}"
        )


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("synthetic", "naip", "ucmerced", "speed"))
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--seeds", default="2000:2012")
    parser.add_argument("--bands", default="1,2,3")
    parser.add_argument("--chip", default="320m")
    parser.add_argument("--part", default="test", choices=("validation", "test"))
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dates", type=int, default=2, choices=tuple(YEARS))
    args = parser.parse_args()
    if args.what in ("naip", "ucmerced") and args.data is None:
        parser.error("DATA is missing")
    if args.what == "synthetic":
        synthetic(range(*map(int, args.seeds.split(":"))))
    elif args.what == "naip":
        naip(args.data, args.bands, args.chip)
    elif args.what == "ucmerced":
        ucmerced(args.data, args.part)
    else:
        speed(args.pairs, YEARS[args.dates])


if __name__ == "__main__":
    main()

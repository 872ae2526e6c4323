"""Losses and rankings compared by heads on cached features of UC Merced, chosen on validation.

    python benchmarks/heads.py DATA OUT [--epochs 12] [--divisions 5] [--seeds 2] [--trials 3]

DATA holds ``uc_merced/`` and ``weights/``. Features are the pooled ones of the folded MobileNetV2
at 224 px, of eight views of every image (flips and quarter turns): training draws a view,
measuring averages all. One test part is held out for all methods: 20 images of each class that are
in no validation part of the earlier contests and not in the test part of seed 42. The rest is
divided anew into 1,470 and 210 images. Every method has two settings, chosen by nDCG@100 on the
first ``--trials`` divisions, and so are the weights of the rankings. The leaders are trained with
one more seed, whose test images also search the training images. OUT keeps features, encodings
and ``results.json``; the test part's labels are read last, by the methods chosen.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from landcue import metrics
from landcue.codes.hashers import fit_decoder, fit_itq
from landcue.data.datasets import load_dataset
from landcue.losses.classification import BCE
from landcue.losses.registry import create_loss
from landcue.losses.statistics import LabelStatistics
from landcue.models.backbones import FOLDED, create_backbone, load_backbone_weights
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.search.rerank import (
    FusedCodes,
    alpha_qe,
    k_reciprocal,
    label_scale,
    log_gain,
)
from landcue.training.averages import fit_label_temperatures
from landcue.training.images import ImageDataset
from landcue.training.label_aware import LabelAware
from landcue.training.samplers import Shares, Shuffle

WEIGHTS = "mobilenet_v2_1.0_224_imagenet_folded.npz"
VIEWS, BATCH, FUSION = 8, 96, (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
BITS = (16, 32, 48, 64, 128)
WEIGHTED = (
    "fused",
    "k-reciprocal + fused",
    "alpha-QE + fused",
    *(f"{n} bits + labels" for n in BITS),
)
RANKINGS = ("plain", "alpha-QE", *(f"{n} bits" for n in BITS), *WEIGHTED)
SHOWN = ("nDCG@100", "WAP@100", "nDCG@100(jaccard)", "mAP", "mAP(J>=0.8)")
BOTH = ({"temperature": 0.07}, {"temperature": 0.1})
METHODS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "marc": ("marc", BOTH),
    "marc + nDCG": ("marc", ({"ndcg": 0.25}, {"ndcg": 0.5})),
    "mulsupcon": ("mulsupcon", BOTH),
    "gain soft-max": ("gain_softmax", BOTH),
    "half-half": ("gain_softmax", tuple({"label_share": 0.5} | both for both in BOTH)),
    "supcon": ("supcon", BOTH),
    "marc, preset rare": ("marc", tuple({"preset": "rare"} | both for both in BOTH)),
}
LEADERS = ("marc", "mulsupcon", "gain soft-max", "half-half")
Rows = Any


def features(data: Path, file: Path) -> dict[str, Any]:
    """Return features ``[n, views, 1280]``, labels, classes and ids; compute them once."""
    if not file.exists():
        source = load_dataset("ucmerced", data / "uc_merced")
        images = ImageDataset(source.records, source.label_names, 224)
        images.drop_unreadable()
        backbone = create_backbone(FOLDED)
        load_backbone_weights(backbone, data / "weights" / WEIGHTS)
        model = NeuralEncoder(build_config(FOLDED, image_size=224), backbone).eval()
        out = np.empty((len(images), VIEWS, 1280), np.float16)
        with torch.inference_mode(), ThreadPoolExecutor(2) as pool:
            for first in range(0, len(images), 30):
                rows = range(first, min(first + 30, len(images)))
                pixels = torch.as_tensor(images.batch(rows, pool)).permute(0, 3, 1, 2)
                x = model.normalize(pixels)
                for view in range(VIEWS):
                    turned = torch.rot90(x, view % 4, (2, 3))
                    turned = turned.flip(3) if view >= 4 else turned
                    with torch.autocast("cpu", dtype=torch.bfloat16):
                        found = backbone(turned.contiguous(memory_format=torch.channels_last))
                    out[rows.start : rows.stop, view] = found.float().numpy()
        np.savez(
            file,
            x=out,
            y=images.labels,
            ids=[record.id for record in images.records],
            group=[str(record.group) for record in images.records],
        )
    with np.load(file) as arrays:
        found = dict(arrays)
    found["x"] = torch.from_numpy(found["x"].astype(np.float32))
    return found


def divide(groups: Any, rows: Rows, percent: tuple[float, float, float], seed: int) -> list[Rows]:
    """Divide rows by class, at random, as a split of that seed does."""
    parts: list[list[int]] = [[], [], []]
    for group in np.unique(groups[rows]):
        members = rows[groups[rows] == group]
        rng = np.random.default_rng([seed, zlib.crc32(str(group).encode())])
        order = members[rng.permutation(len(members))]
        ends = [round(len(members) * sum(percent[: i + 1]) / 100) for i in range(3)]
        for part, start, end in zip(parts, [0, *ends], ends, strict=False):
            part += order[start:end].tolist()
    return [np.sort(np.array(part, int)) for part in parts]


def hold_out(groups: Any) -> tuple[Rows, Rows]:
    """Return the test part, 20 images of a class, and the rest."""
    everything = np.arange(len(groups))
    used = np.zeros(len(groups), bool)
    for seed in (1, 2, 3, 42):
        used[divide(groups, everything, (70, 10, 20), seed)[1]] = True
    used[divide(groups, everything, (70, 10, 20), 42)[2]] = True
    test: list[int] = []
    for group in np.unique(groups):
        free = np.flatnonzero((groups == group) & ~used)
        test += np.random.default_rng([2026, len(test)]).permutation(free)[:20].tolist()
    chosen = np.sort(np.array(test))
    return chosen, np.setdiff1d(everything, chosen)


class Heads(nn.Module):
    """An embedding and a label head on standardized features."""

    def __init__(self, n_labels: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(1280, 512), nn.ReLU(), nn.Linear(512, 128))
        self.label = nn.Linear(1280, n_labels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit vectors and logits."""
        return F.normalize(self.project(x), dim=1), self.label(x)


def fit(
    x: Any, y: Any, train: Rows, name: str, options: dict[str, Any], seed: int, epochs: int
) -> Any:
    """Train heads and return a function from rows to their mean over the views."""
    torch.manual_seed(seed)
    labels = torch.from_numpy(y[train]).float()
    mean, std = x[train].mean((0, 1)), x[train].std((0, 1)) + 1e-3
    model = Heads(y.shape[1])
    loss = create_loss(name, options, LabelStatistics.from_labels(labels), 128)
    classify = BCE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    shares = Shares(len(train), BATCH)
    sampler = LabelAware(y[train], shares, seed) if name == "marc" else Shuffle(shares, seed)
    views = torch.Generator().manual_seed(seed)
    total = epochs * len(sampler)
    for epoch in range(epochs):
        for i, rows in enumerate(sampler.batches(epoch)):
            step = epoch * len(sampler) + i
            factor = (
                min(1, (step + 1) / len(sampler)) * 0.5 * (1 + math.cos(math.pi * step / total))
            )
            optimizer.param_groups[0]["lr"] = 1e-3 * factor
            view = torch.randint(0, VIEWS, (len(rows),), generator=views)
            z, logits = model(F.dropout((x[train[rows], view] - mean) / std, 0.2))
            value = classify(logits, labels[rows]) + loss(z, labels[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    @torch.no_grad()
    def encode(rows: Rows) -> tuple[Any, Any]:
        z, logits = model.eval()((x[rows].mean(1) - mean) / std)
        return z.numpy(), logits.numpy()

    return encode


def distances(ranking: str, z: Any, p: Any, weight: float) -> Any:
    """Return distances ``[n, n]`` of images that search one another.

    Codes are fitted to the embeddings of these images, without labels; queries keep their floats.
    """
    cosine, others = z @ z.T, ~np.eye(len(z), dtype=bool)
    if ranking == "plain":
        return -cosine
    gain = log_gain(p, p)
    slope = weight * label_scale(cosine[others], gain[others]) if weight else 0.0
    if ranking.startswith("alpha-QE"):
        each = [alpha_qe(z[i : i + 1], np.delete(z, i, 0), 10, 3.0)[0] for i in range(len(z))]
        return -(np.stack(each) @ z.T + slope * gain)
    if "bits" in ranking:
        n_bits = int(ranking.split()[0])
        codes = fit_itq(z, n_bits).encode(z)
        return -FusedCodes(codes, p, fit_decoder(codes, z, n_bits)).scores(z, p, slope)
    gain = np.expm1(log_gain(p, p))
    if ranking == "fused":
        return -(cosine + weight * label_scale(cosine[others], gain[others]) * gain)
    found = k_reciprocal(np.sqrt(np.maximum(2 - 2 * cosine, 0)))
    return found / found[others].std() - weight * gain / gain[others].std()


def probabilities(logits: Any, known: Any, labels: Any) -> Any:
    """Return probabilities of labels, calibrated on the logits of images with known labels."""
    return 0.5 * (1 + np.tanh(logits / fit_label_temperatures(known, labels) / 2))


class Contest:
    """The held-out test part, divisions of the rest, and measures of encodings of both.

    ``encodings(method, trial, division, seed)`` gives embeddings and logits of the validation part
    (``zv``, ``lv``) and of the test part (``zt``, ``lt``).
    """

    def __init__(
        self, found: dict[str, Any], divisions: int, encodings: Callable[..., Any]
    ) -> None:
        self.y, self.ids = found["y"], found["ids"]
        self.test, rest = hold_out(found["group"])
        self.split = {
            d: divide(found["group"], rest, (87.5, 12.5, 0), d)[:2]
            for d in range(101, 101 + divisions)
        }
        self.encodings = encodings

    def annotate(self, rows: Rows) -> Any:
        """Return ids and labels of some rows."""
        return metrics.annotate([str(self.ids[row]) for row in rows], self.y[rows])

    def report(self, rows: Rows, division: int, values: Any, gallery: Rows | None = None) -> Any:
        """Measure distances of rows to one another or to a gallery."""
        images = self.annotate(rows)
        counts = self.y[self.split[division][0]].sum(0)
        return metrics.evaluate_distances(
            np.asarray(values, np.float32),
            images,
            None if gallery is None else self.annotate(gallery),
            protocol="ml-papers-v1",
            label_counts=dict(zip(images.label_names, counts.tolist(), strict=True)),
        )

    def measure(self, *args: Any) -> dict[str, float]:
        """Return the metrics shown of :meth:`report`."""
        report = self.report(*args)
        shown = {name: report.metrics[name] for name in SHOWN}
        return shown | {"own-label AP": report.macro["all"], "rare": report.macro["rare"]}

    def on_validation(
        self, method: str, trial: int, ranking: str, weight: float, trials: list[int]
    ) -> float:
        """Return the mean nDCG@100 of a ranking on the validation parts of some divisions."""
        values = []
        for division in trials:
            val, made = self.split[division][1], self.encodings(method, trial, division, 0)
            p, half = np.empty(made["lv"].shape), np.arange(len(val)) % 2 == 0
            for ours in (half, ~half) if weight else ():  # temperatures of the other half
                p[ours] = probabilities(made["lv"][ours], made["lv"][~ours], self.y[val[~ours]])
            p = p if weight else np.ones_like(p)
            scores = self.measure(val, division, distances(ranking, made["zv"], p, weight))
            values.append(scores["nDCG@100"])
        return float(np.mean(values))

    def weights(self, method: str, trial: int, trials: list[int], rankings: Any) -> dict[str, Any]:
        """Return the weight of each ranking that validation parts prefer."""

        def score(weight: float, ranking: str) -> float:
            return self.on_validation(method, trial, ranking, weight, trials)

        return {r: max(FUSION, key=lambda w, r=r: score(w, r)) for r in rankings}


def main() -> None:
    """Train what is not there yet, choose, measure the test part and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    for name, default in (("epochs", 12), ("divisions", 5), ("seeds", 2), ("trials", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    found = features(args.data, args.out / "features.npz")
    x, y = found["x"], found["y"]

    def encodings(method: str, trial: int, division: int, seed: int) -> Any:
        file = args.out / f"{method}-{trial}-{division}-{seed}.npz".replace(" ", "")
        train, val = contest.split[division]
        if not file.exists():
            name, options = METHODS[method][0], METHODS[method][1][trial]
            encode = fit(x, y, train, name, options, 1000 * seed + division, args.epochs)
            (zv, lv), (zt, lt) = encode(val), encode(contest.test)
            more = {"zr": encode(train)[0]} if seed == args.seeds else {}
            np.savez(file, zv=zv, lv=lv, zt=zt, lt=lt, **more)
        return np.load(file)

    contest = Contest(found, args.divisions, encodings)
    split, test = contest.split, contest.test
    trials = list(split)[: args.trials]

    chosen: dict[str, Any] = {}
    for method, (_, settings) in METHODS.items():
        plain = [
            contest.on_validation(method, t, "plain", 0.0, trials) for t in range(len(settings))
        ]
        trial = int(np.argmax(plain))
        weights = contest.weights(method, trial, trials, WEIGHTED)
        chosen[method] = {"trial": trial, "validation": plain, "weights": weights}
        print(method, settings[trial], f"{plain[trial]:.4f}", weights, flush=True)
    runs = {
        method: [(d, seed) for seed in range(args.seeds + (method in LEADERS)) for d in split]
        for method in METHODS
    }
    for method in METHODS:  # all trainings end before the test part's labels are read
        for division, seed in runs[method]:
            encodings(method, chosen[method]["trial"], division, seed)
    results: dict[str, Any] = {"chosen": chosen, "test": {}, "train gallery": {}}
    for method in METHODS:
        for division, seed in runs[method]:
            made, val = (
                encodings(method, chosen[method]["trial"], division, seed),
                split[division][1],
            )
            p = probabilities(made["lt"], made["lv"], y[val])
            for ranking in RANKINGS:
                weight = chosen[method]["weights"].get(ranking, 0.0)
                scores = contest.measure(test, division, distances(ranking, made["zt"], p, weight))
                results["test"].setdefault(f"{method} / {ranking}", []).append(scores)
            if "zr" in made:
                scores = contest.measure(
                    test, division, -(made["zt"] @ made["zr"].T), split[division][0]
                )
                results["train gallery"].setdefault(method, []).append(scores)
    (args.out / "results.json").write_text(json.dumps(results) + "\n")
    galleries = {f"{name}, training images": v for name, v in results["train gallery"].items()}
    for name, rows in (results["test"] | galleries).items():
        print(name, {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]})


if __name__ == "__main__":
    main()

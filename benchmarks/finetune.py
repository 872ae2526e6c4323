"""Losses and rankings compared with a trained backbone, on the divisions of ``heads.py``.

    python benchmarks/finetune.py DATA OUT [--epochs 4] [--divisions 3]

EfficientNet-Lite0 at 224 px, trained from its fifth stage on: the stem, the first four stages and
all depthwise filters keep their ImageNet weights. The fourth stage's maps of four views of every
image (a half turn and two flips) are computed once and kept in OUT. Training draws a view and 10 x
10 of its 14 x 14 places, as a crop of 160 px of an image of 224 px would be; measuring takes whole
maps and the mean features of the four views. Test part, divisions, heads, settings of the losses
and rankings are those of ``heads.py``, whose validation parts chose the settings; the weights of
the rankings are chosen anew on the validation parts. Finished trainings stay in OUT, and a second
call goes on where the first one ended. The test part's labels are read after all trainings.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

import heads
from landcue import metrics
from landcue.data.datasets import load_dataset
from landcue.losses.classification import BCE
from landcue.losses.registry import create_loss
from landcue.losses.statistics import LabelStatistics
from landcue.models.backbones import (
    create_backbone,
    freeze_depthwise,
    load_backbone_weights,
    package_weights,
)
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.training.images import ImageDataset
from landcue.training.label_aware import LabelAware
from landcue.training.samplers import Shares, Shuffle

BACKBONE, FROZEN, PLACES, CROP = "tf_efficientnet_lite0", 4, 14, 10
VIEWS = ((0, False), (2, False), (1, True), (3, True))  # quarter turns, and whether flipped then
CHOSEN = Path(__file__).parents[1] / "docs/results/heads/results.json"
FIVE = ("marc", "mulsupcon", "gain soft-max", "half-half", "marc, preset rare")
WEIGHTED = ("fused", "k-reciprocal + fused", "alpha-QE + fused", "64 bits + labels")
RANKINGS = ("plain", "alpha-QE", "64 bits", *WEIGHTED)
Rows = Any


def lite0() -> Any:
    """Return EfficientNet-Lite0 with ImageNet weights, for inference."""
    net = create_backbone(BACKBONE)
    load_backbone_weights(net, package_weights(BACKBONE))
    return net.eval().to(memory_format=torch.channels_last)


def compiled(module: nn.Module, shape: tuple[int, ...]) -> Any:
    """Return a function of one array ``[1, ...]`` that runs a module in ONNX Runtime.

    On one thread it is twice as fast as torch, and fastest image by image.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/module.onnx"
        torch.onnx.export(module.eval(), (torch.zeros(1, *shape),), file, dynamo=False)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Any) -> Any:
        return session.run(None, {name: x})[0]

    return run


def maps(data: Path, out: Path) -> dict[str, Any]:
    """Return the fourth stage's maps ``[n, views, 80, 14, 14]``, labels, classes and ids.

    They are computed once, at 224 px, with ImageNet weights.
    """
    file = out / "maps.npz"
    if not file.exists():
        source = load_dataset("ucmerced", data / "uc_merced")
        images = ImageDataset(source.records, source.label_names, 224)
        net = lite0()
        normalize = NeuralEncoder(build_config(BACKBONE, image_size=224), net).normalize
        front = nn.Sequential(net.conv_stem, net.bn1, *net.blocks[:FROZEN])
        run = compiled(front, (3, 224, 224))
        x = np.empty((len(images), len(VIEWS), 80, PLACES, PLACES), np.float16)
        for row in range(len(images)):
            image = torch.as_tensor(images.pixels(row)).permute(2, 0, 1)[None]
            image = normalize(image).numpy()
            for place, (turns, flip) in enumerate(VIEWS):
                turned = np.rot90(image, turns, (2, 3))
                turned = turned[..., ::-1] if flip else turned
                x[row, place] = run(np.ascontiguousarray(turned))[0]
        np.savez(
            file,
            x=x,
            y=images.labels,
            ids=[record.id for record in images.records],
            group=[str(record.group) for record in images.records],
        )
    with np.load(file) as arrays:
        return dict(arrays)


class Tail(nn.Module):
    """The stages that learn, and the heads of ``heads.py`` on their pooled features."""

    def __init__(self, n_labels: int) -> None:
        super().__init__()
        net = lite0()
        freeze_depthwise(net)
        for frozen in (net.conv_stem, net.bn1, *net.blocks[:FROZEN]):
            frozen.requires_grad_(False)
        self.net, self.heads = net, heads.Heads(n_labels)

    def layers(self) -> nn.Module:
        """Return what makes maps ``[n, 1280, h, w]`` of maps ``[n, 80, 2 h, 2 w]``."""
        return nn.Sequential(*self.net.blocks[FROZEN:], self.net.conv_head, self.net.bn2)

    def features(self, x: Any) -> torch.Tensor:
        """Pool features ``[n, 1280]``."""
        x = torch.from_numpy(x).float().contiguous(memory_format=torch.channels_last)
        return self.layers()(x).mean((2, 3))


def draw(x: Any, rows: Rows, rng: np.random.Generator) -> Any:
    """Return one view of every row, 10 x 10 places of it."""
    views = rng.integers(0, len(VIEWS), len(rows))
    tops, lefts = rng.integers(0, PLACES - CROP + 1, (2, len(rows)))
    places = zip(rows, views, tops, lefts, strict=True)
    return np.stack([x[r, v, :, t : t + CROP, w : w + CROP] for r, v, t, w in places])


def fit(
    x: Any, y: Any, train: Rows, name: str, options: dict[str, Any], seed: int, epochs: int
) -> Any:
    """Train, and return a function from rows to embeddings and logits."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(y[train]).float()
    model = Tail(y.shape[1])
    loss = create_loss(name, options, LabelStatistics.from_labels(labels), 128)
    groups = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate, "rate": rate}
        for part, rate in ((model.net, 1e-3), (model.heads, 3e-3))
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    shares = Shares(len(train), heads.BATCH)
    sampler = LabelAware(y[train], shares, seed) if name == "marc" else Shuffle(shares, seed)
    total, start = epochs * len(sampler), time.process_time()
    model.train()
    for epoch in range(epochs):
        seen = 0.0
        for i, rows in enumerate(sampler.batches(epoch)):
            step = epoch * len(sampler) + i
            warm = min(1, (step + 1) / len(sampler))
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * warm * (1 + math.cos(math.pi * step / total)) / 2
            features = model.features(draw(x, train[rows], rng))
            z, logits = model.heads(F.dropout(features, 0.2))
            value = BCE()(logits, labels[rows]) + loss(z, labels[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            seen += value.item() / len(sampler)
        seconds = time.process_time() - start
        print(f"{name} {options} epoch {epoch + 1} loss {seen:.3f} {seconds:.0f} s", flush=True)
    run = compiled(model.layers(), (80, PLACES, PLACES))

    @torch.inference_mode()
    def encode(rows: Rows) -> tuple[Any, Any]:
        found = [
            np.mean([run(x[row, v][None].astype(np.float32)) for v in range(len(VIEWS))], 0)
            for row in rows
        ]
        features = np.concatenate(found).mean((2, 3))
        z, logits = model.heads.eval()(torch.from_numpy(features))
        return z.numpy(), logits.numpy()

    return encode


def contest(found: dict[str, Any], out: Path, epochs: int, divisions: int) -> None:
    """Train the five losses on every division, choose weights, then read the test part once."""
    chosen = json.loads(CHOSEN.read_text())["chosen"]
    x, y, groups = found["x"], found["y"], found["group"]

    def encodings(method: str, trial: int, division: int, seed: int) -> Any:
        file = out / f"{method}-{trial}-{division}-{seed}-e{epochs}.npz".replace(" ", "")
        train, val = matches.split[division]
        if not file.exists():
            name, options = heads.METHODS[method][0], heads.METHODS[method][1][trial]
            encode = fit(x, y, train, name, options, 1000 * seed + division, epochs)
            (zv, lv), (zt, lt) = encode(val), encode(matches.test)
            np.savez(file, zv=zv, lv=lv, zt=zt, lt=lt)
        return np.load(file)

    matches = heads.Contest(found, divisions, encodings)
    trial = {method: chosen[method]["trial"] for method in FIVE}
    for division in matches.split:
        for method in FIVE:
            encodings(method, trial[method], division, 0)
            score = matches.on_validation(method, trial[method], "plain", 0.0, [division])
            print(f"{method} {division}: validation {score:.4f}", flush=True)
    trials = list(matches.split)
    results: dict[str, Any] = {"epochs": epochs, "chosen": {}, "test": {}, "against marc": {}}
    for method in FIVE:
        weights = matches.weights(method, trial[method], trials, WEIGHTED)
        plain = matches.on_validation(method, trial[method], "plain", 0.0, trials)
        results["chosen"][method] = {"validation": plain, "weights": weights}
    (out / "chosen.json").write_text(json.dumps(results["chosen"]) + "\n")
    queries: dict[str, list[Any]] = {}
    for method in FIVE:
        for division in trials:
            made, val = encodings(method, trial[method], division, 0), matches.split[division][1]
            p = heads.probabilities(made["lt"], made["lv"], y[val])
            for ranking in RANKINGS:
                log(out, f"{method} {division} {ranking}")
                weight = results["chosen"][method]["weights"].get(ranking, 0.0)
                values = heads.distances(ranking, made["zt"], p, weight)
                report = matches.report(matches.test, division, values)
                scores = {name: report.metrics[name] for name in heads.SHOWN}
                scores |= {"own-label AP": report.macro["all"], "rare": report.macro["rare"]}
                results["test"].setdefault(f"{method} / {ranking}", []).append(scores)
                if ranking == "plain":
                    queries.setdefault(method, []).append(report.per_query)
    classes = [groups[matches.test]] * len(trials)
    for method in FIVE[1:]:
        results["against marc"][method] = versus(results["test"], queries, method, classes)
    (out / "results.json").write_text(json.dumps(results) + "\n")
    for name, rows in results["test"].items():
        print(name, {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]})
    print(json.dumps(results["chosen"] | results["against marc"], indent=1))


def versus(test: Any, queries: Any, method: str, classes: Any) -> dict[str, Any]:
    """Compare MARC with a loss: over divisions, and over queries clustered by scene class."""
    names, found = ("nDCG@100", "WAP@100", "mAP(J>=0.8)", "own-label AP", "rare"), {}
    for name in names:
        ours, theirs = ([row[name] for row in test[f"{m} / plain"]] for m in ("marc", method))
        over = metrics.compare_over_splits(ours, theirs, test_share=420 / 1470)
        found[name] = {"difference": over.difference, "95 %": over.interval, "p": over.p_value}
    adjusted = metrics.holm({name: found[name]["p"] for name in names})
    for name in names:
        found[name]["p after Holm"] = adjusted[name]
        if name in queries[method][0]:
            ours, theirs = ([run[name] for run in queries[m]] for m in ("marc", method))
            over = metrics.compare(ours, theirs, clusters=classes)
            found[name]["95 % over classes"] = over.interval
    return found


def log(out: Path, what: str) -> None:
    """Note that the test part is read."""
    with (out / "test_log.jsonl").open("a") as file:
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "what": what}
        file.write(json.dumps(line) + "\n")


def main() -> None:
    """Compute the maps, train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--divisions", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    contest(maps(args.data, args.out), args.out, args.epochs, args.divisions)


if __name__ == "__main__":
    main()

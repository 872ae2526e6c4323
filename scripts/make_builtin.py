"""Make the encoder that comes with LandCue: judge its recipe, store it as ONNX, or export it again.

    landcue train scripts/builtin.yaml --out runs/tuned   # with its paths filled in
    python scripts/make_builtin.py judge DATA --out docs/results/unseen.json
    python scripts/make_builtin.py train DATA --tuned runs/tuned --judged docs/results/unseen.json
    python scripts/make_builtin.py export DATA            # the same weights, by today's exporter

Two backbones see an image beside each other: MobileNetV2, three quarters of the way from its
ImageNet weights to those fine-tuned with MARC (WiSE-FT, Wortsman et al., CVPR 2022), and
EfficientNet-Lite0 as ImageNet left it. The embedding has two parts, both linear maps of the pooled
features of both:

* principal components after within-class covariance normalization (Hatch et al., Interspeech 2006),
  which damps what differs between images of one scene class, for scenes without labels,
* a projection trained with MARC on the 17 labels, for scenes like those of the training.

``judge`` fits all that to 14 scene classes and measures on the 7 others, three times (splits
``unseen-classes-F-of-3``), with MobileNetV2 at its ImageNet weights: the fine-tuned ones have seen
all classes. ``train`` fits to the train part of ``per-class-70-10-20-seed1``, measures its test
part with the stored file, and writes the package's model file and card. ``export`` writes the
stored weights as today's exporter does, if the outputs for the test part stay the same. ``DATA``
holds ``uc_merced/`` and ``weights/``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue import __version__
from landcue.codes import pack_bits
from landcue.codes.hashers import fit_itq
from landcue.data.datasets import load_dataset
from landcue.data.images import read_image
from landcue.data.imageset import ImageSet, label_matrix
from landcue.data.splits import apply_split, data_id
from landcue.files import write_atomic
from landcue.losses import MARC
from landcue.losses.statistics import LabelStatistics
from landcue.metrics import evaluate, evaluate_codes
from landcue.metrics.protocol import DEFAULT
from landcue.models.backbones import (
    JOINED,
    create_backbone,
    load_backbone_weights,
    package_weights,
)
from landcue.models.checkpoint import Checkpoint, load_checkpoint, model_card, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.export import float32_outputs, round_weights, write_compact
from landcue.models.fidelity import compare_encodings
from landcue.models.fitted_codes import fit_codes
from landcue.models.load import BUILTIN, EXPORTED, find_model
from landcue.models.mobilenetv2 import JoinedBackbone, fold_batch_norm
from landcue.models.onnx import OnnxEncoder
from landcue.training.evaluation import VALIDATION_METRICS
from landcue.training.heads import train_averaged
from landcue.types import Encoding, Record

SPLIT = "per-class-70-10-20-seed1"
FOLDS = 3
_MOST_BYTES = 8_000_000
_MOST_GAP = 1e-6
_INIT = "weights/mobilenet_v2_1.0_224_imagenet_folded.npz"
_LITE = "tf_efficientnet_lite0"
_BATCH = 30
# The settings of MARC that the stored file was trained with, which are not the defaults.
_MARC: dict[str, Any] = {"reweighting": None, "weighting": "label", "alpha": 0.5, "beta": 0.0}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings.

    Attributes:
        size: Side of an image in pixels.
        tuned: How far MobileNetV2 is on the way to its fine-tuned weights, 0..1.
        general: Length of the embedding's part from within-class normalization.
        learned: Length of its part trained with MARC.
        share: Of the learned part in the squared length of an embedding, on average.
        shrinkage: What is added to the within-class covariance, over its mean eigenvalue.
        n_bits: Bits of a code.
        epochs: Of the learned part.
        seed: Of the learned part and of the codes.
    """

    size: int = 192
    tuned: float = 0.75
    general: int = 160
    learned: int = 96
    share: float = 0.4
    shrinkage: float = 2.0
    n_bits: int = 64
    epochs: int = 40
    seed: int = 0


class Measured:
    """Images to measure on: by scene class and by their labels, each against all others."""

    def __init__(self, records: list[Record], label_names: tuple[str, ...]) -> None:
        groups = sorted({record.group or "" for record in records})
        self.classes = np.array([groups.index(record.group or "") for record in records])
        self.labels = label_matrix([record.labels for record in records], label_names)

    def floats(self, vectors: Any) -> dict[str, float]:
        """Return same-scene mAP, mAP@20 and P@1, and nDCG@100 of the labels, of unit vectors."""
        scenes = evaluate(vectors, self.classes, ks=(1, 20)).metrics
        return _shown(scenes, evaluate(vectors, self.labels, protocol=DEFAULT).metrics)

    def codes(self, code: Any, n_bits: int) -> dict[str, float]:
        """Return the same of packed codes, with ties at their expectation."""
        scenes = evaluate_codes(code, n_bits, self.classes, ks=(1, 20)).metrics
        return _shown(scenes, evaluate_codes(code, n_bits, self.labels, protocol=DEFAULT).metrics)


def _shown(scenes: Any, labels: Any) -> dict[str, float]:
    found = {name: float(scenes[name]) for name in ("mAP", "mAP@20", "P@1")}
    return found | {"nDCG@100": float(labels["nDCG@100"])}


def unit(vectors: Any) -> Any:
    """Return rows of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def open_backbone(init: Path, tuned: Path | None, share: float) -> JoinedBackbone:
    """Return both backbones, MobileNetV2 moved ``share`` of the way to its fine-tuned weights."""
    joined = cast(JoinedBackbone, create_backbone(JOINED))
    load_backbone_weights(joined.first, init)
    if tuned is not None and share:
        end = load_checkpoint(tuned).encoder.backbone.state_dict()
        mixed = {n: t + share * (end[n].float() - t) for n, t in joined.first.state_dict().items()}
        joined.first.load_state_dict(mixed)
    lite = create_backbone(_LITE)
    load_backbone_weights(lite, package_weights(_LITE))
    joined.second.load_state_dict(fold_batch_norm(lite).state_dict())
    return joined.eval()


def pooled(backbone: nn.Module, records: list[Record], encoder: NeuralEncoder) -> Any:
    """Return pooled features float32 ``[n, F]`` of images."""
    found: list[Tensor] = []
    fast = backbone.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for i in range(0, len(records), _BATCH):
            part = [encoder.prepare(read_image(r.path)) for r in records[i : i + _BATCH]]
            pixels = torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2)
            found.append(fast(encoder.normalize(pixels)).float())
    return torch.cat(found).numpy()


def cached_features(
    file: Path | None, backbone: nn.Module, records: list[Record], encoder: NeuralEncoder
) -> Any:
    """Return :func:`pooled` features, from a file if its first batch is still the same."""
    if file is not None and file.is_file():
        found = np.load(file)
        few = pooled(backbone, records[:_BATCH], encoder)
        if len(found) == len(records) and np.allclose(found[:_BATCH], few, rtol=0.02, atol=0.02):
            return found
    found = pooled(backbone, records, encoder)
    if file is not None:
        np.save(file, found)
    return found


def general_part(x: Any, classes: Any, recipe: Recipe) -> Any:
    """Return a map ``[F, d]`` of centered features ``[m, F]``; see the module."""
    values, left = np.linalg.eigh(x @ x.T)
    rank = min(700, len(x) - 1)
    basis = x.T @ (left[:, ::-1][:, :rank] / np.sqrt(values[::-1][:rank]))
    y = x @ basis
    within = np.concatenate([y[classes == c] - y[classes == c].mean(0) for c in set(classes)])
    spread, axes = np.linalg.eigh(within.T @ within / len(within))
    damped = axes / np.sqrt(spread + recipe.shrinkage * spread.mean())
    turned = y @ (damped @ axes.T)
    _, principal = np.linalg.eigh(turned.T @ turned)
    return basis @ (damped @ axes.T) @ principal[:, ::-1][:, : recipe.general]


def learned_part(x: Any, labels: Any, recipe: Recipe) -> tuple[Any, Any]:
    """Return a map ``[F, d]`` of centered features and its bias ``[d]``, trained with MARC."""
    torch.manual_seed(recipe.seed)
    values, left = np.linalg.eigh(x @ x.T)
    axes = x.T @ (left[:, ::-1] / np.sqrt(values[::-1].clip(1e-9)))[:, : recipe.learned]
    u, y = torch.from_numpy(x).float(), torch.from_numpy(labels).float()
    layer = nn.Linear(*axes.shape)
    layer.load_state_dict(
        {"weight": torch.tensor(axes.T.copy()).float(), "bias": torch.zeros(axes.shape[1])}
    )
    loss = MARC.from_labels(y, **_MARC)
    train_averaged(
        layer, lambda rows: loss(F.normalize(layer(u[rows]), dim=1), y[rows]), len(u),
        groups=layer.parameters(), batch_size=256, epochs=recipe.epochs, lr=2e-3, seed=recipe.seed,
    )  # fmt: skip
    weight, bias = (value.detach().double().numpy() for value in layer.parameters())
    return weight.T, bias


@dataclass(frozen=True, slots=True)
class Heads:
    """Affine maps of pooled features ``[n, F]``: embedding, hash values and label logits."""

    weight: Any
    bias: Any
    sizes: tuple[int, int, int]

    def outputs(self, features: Any) -> tuple[Any, Any]:
        """Return embeddings and packed codes."""
        out = features.astype(np.float64) @ self.weight + self.bias
        d, k, _ = self.sizes
        return unit(out[:, :d]), pack_bits(out[:, d : d + k] > 0)


def fit_heads(features: Any, classes: Any, labels: Any, recipe: Recipe) -> Heads:
    """Fit all heads to features ``[m, F]``, scene classes ``[m]`` and labels ``[m, C]``."""
    mean = features.mean(0).astype(np.float64)
    x = features.astype(np.float64) - mean
    x /= (length := np.linalg.norm(x, axis=1).mean())
    parts = (general_part(x, classes, recipe), 0.0), learned_part(x, labels, recipe)
    maps: list[Any] = []
    shifts: list[Any] = []
    for (part, shift), share in zip(parts, (1 - recipe.share, recipe.share), strict=True):
        factor = np.sqrt(share) / np.linalg.norm(x @ part + shift, axis=1).mean()
        maps.append(part * factor)
        shifts.append(np.broadcast_to(shift * factor, part.shape[1]))
    embedding, offset = np.concatenate(maps, axis=1), np.concatenate(shifts)
    z = x @ embedding + offset
    hasher = fit_itq(unit(z), recipe.n_bits, recipe.seed)
    # A code is made of the unit vector less the hasher's mean; here, of the vector less its mean.
    turn = np.asarray(hasher.projection)
    logits, logit_shift = fit_labels(x, labels)
    weight = np.concatenate([embedding, embedding @ turn, logits], axis=1) / length
    bias = np.concatenate([offset, (offset - z.mean(0)) @ turn, logit_shift]) - mean @ weight
    return Heads(weight, bias, (embedding.shape[1], recipe.n_bits, logits.shape[1]))


def fit_labels(x: Any, labels: Any, penalty: float = 1e-3) -> tuple[Any, Any]:
    """Return weight ``[F, C]`` and bias ``[C]`` of a logistic regression."""
    u, y = torch.from_numpy(x), torch.from_numpy(labels).double()
    layer = nn.Linear(u.shape[1], y.shape[1]).double()
    nn.init.zeros_(layer.weight)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(layer(u), y)
        value = value + penalty * (layer.weight**2).sum() / (y.shape[1] * u.shape[1])
        value.backward()
        return value

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return layer.weight.detach().numpy().T, layer.bias.detach().numpy()


def rows_of(images: ImageSet, part: str) -> Any:
    """Return the rows of a part."""
    return np.array([i for i, record in enumerate(images.records) if record.part == part])


def fit(images: ImageSet, features: Any, recipe: Recipe) -> Heads:
    """Fit heads to the train part of a split."""
    rows = rows_of(images, "train")
    records = [images.records[i] for i in rows]
    labels = label_matrix([record.labels for record in records], images.label_names)
    classes = np.array([record.group for record in records])
    return fit_heads(features[rows], classes, labels, recipe)


def own_space(vectors: Any, recipe: Recipe) -> Encoding:
    """Return what ``landcue index`` fits to these images without labels."""
    none = np.zeros((len(vectors), 0), np.float32)
    known = Encoding(vectors, none.astype(np.uint8), 0, none)
    space = fit_codes(known, recipe.n_bits, centered=recipe.general)
    return known if space is None else space.encode(vectors)


def measure(images: ImageSet, features: Any, heads: Heads, recipe: Recipe) -> dict[str, Any]:
    """Measure the test part in every space."""
    rows = rows_of(images, "test")
    on = Measured([images.records[i] for i in rows], images.label_names)
    vectors, code = heads.outputs(features[rows])
    half = features.shape[1] // 2
    fitted = own_space(vectors, recipe)
    return {
        "MobileNetV2, pooled features": on.floats(unit(features[rows, :half])),
        "EfficientNet-Lite0, pooled features": on.floats(unit(features[rows, half:])),
        "embedding": on.floats(vectors),
        "embedding, fitted to the images themselves": on.floats(fitted.embedding),
        "code": on.codes(code, recipe.n_bits),
        "code, fitted to the images themselves": on.codes(fitted.code, recipe.n_bits),
    }


def show(scores: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    for name, values in scores.items():
        print(f"{name:48}" + "".join(f"{value:8.4f}" for value in values.values()), flush=True)


def blank(recipe: Recipe, label_names: tuple[str, ...], backbone: nn.Module) -> NeuralEncoder:
    """Return the encoder without its heads' weights."""
    config = build_config(
        JOINED,
        dim=recipe.general + recipe.learned,
        projection="linear",
        n_bits=recipe.n_bits,
        label_names=label_names,
        image_size=recipe.size,
    )
    return NeuralEncoder(config, backbone).eval()


def judge(data: Path, out: Path, recipe: Recipe, cache: Path | None = None) -> None:
    """Measure on unseen scene classes and on seen ones, and write all scores.

    ``cache`` keeps the pooled features, which take most of the time.
    """
    images = load_dataset("ucmerced", data / "uc_merced")
    backbone = open_backbone(data / _INIT, None, 0)
    encoder = blank(recipe, images.label_names, backbone)
    features = cached_features(cache, backbone, list(images.records), encoder)
    scale_parts(backbone, features)
    folds: dict[str, Any] = {}
    for fold in range(1, FOLDS + 1):
        divided = apply_split(images, f"unseen-classes-{fold}-of-{FOLDS}")
        heads = fit(divided, features, recipe)
        folds[f"unseen-classes-{fold}-of-{FOLDS}"] = measure(divided, features, heads, recipe)
    scores = list(folds.values())
    mean = {
        space: {name: float(np.mean([s[space][name] for s in scores])) for name in values}
        for space, values in scores[0].items()
    }
    show(mean)
    divided = apply_split(images, SPLIT)
    seen = measure(divided, features, fit(divided, features, recipe), recipe)
    show(seen)
    found = {"recipe": asdict(recipe), "mean": mean, "folds": folds, "seen": seen}
    write_atomic(out, json.dumps(found, indent=1) + "\n")


def scale_parts(backbone: JoinedBackbone, features: Any) -> None:
    """Give both backbones' features a mean length of 1, in the backbone and in ``features``."""
    half = features.shape[1] // 2
    for columns in (slice(half), slice(half, None)):
        scale = 1 / float(np.linalg.norm(features[:, columns], axis=1).mean())
        features[:, columns] *= scale
        backbone.scale.data[columns] *= scale


def train(data: Path, tuned: Path, judged: dict[str, Any], out: Path, recipe: Recipe) -> None:
    """Fit to seen classes, measure the test part, and store the package's model."""
    images = apply_split(load_dataset("ucmerced", data / "uc_merced"), SPLIT)
    backbone = open_backbone(data / _INIT, tuned, recipe.tuned)
    encoder = blank(recipe, images.label_names, backbone)
    round_weights(encoder)
    features = pooled(backbone, list(images.records), encoder)
    scale_parts(backbone, features)
    heads = fit(images, features, recipe)
    seen = measure(images, features, heads, recipe)
    show(seen)
    first = 0
    for layer, size in zip(
        (encoder.projection, encoder.hash, encoder.label), heads.sizes, strict=True
    ):
        part = slice(first, first + size)
        weight, bias = heads.weight[:, part].T, heads.bias[part]
        layer.load_state_dict(
            {"weight": torch.tensor(weight).float(), "bias": torch.tensor(bias).float()}
        )
        first += size
    round_weights(encoder)
    rows = rows_of(images, "train")
    records = [images.records[i] for i in rows]
    labels = label_matrix([record.labels for record in records], images.label_names)
    provenance = {
        "dataset": "ucmerced",
        "data_id": data_id(images),
        "split": SPLIT,
        "seed": recipe.seed,
        "loss": "marc",
        "label_statistics": LabelStatistics.from_labels(torch.from_numpy(labels)).to_json(),
        "made_by": "scripts/make_builtin.py",
        "recipe": asdict(recipe),
        "initial_weights": [Path(_INIT).name, package_weights(_LITE).name],
        "scores": validation(images, features, heads, recipe),
        "unseen": judged["mean"],
        "seen_before_rounding": seen,
        "training": {"epochs": recipe.epochs, "n_train": len(rows), "finished": True},
    }
    save_checkpoint(out, encoder, provenance)
    store(Checkpoint(encoder, provenance), images, find_model(BUILTIN))


def float_encoding(made: Checkpoint, pixels: Any) -> Encoding:
    """Encode with torch in float32: what the stored file is compared with."""
    parts = [
        float32_outputs(made.encoder, torch.from_numpy(pixels[i : i + 32]))
        for i in range(0, len(pixels), 32)
    ]
    embedding, hashed, scores = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Encoding(embedding, pack_bits(hashed > 0), made.encoder.n_bits, scores)


def store(made: Checkpoint, images: ImageSet, folder: Path) -> None:
    """Write the model file and its card; both say what was lost on the test part."""
    records = [record for record in images.records if record.part == "test"]
    pixels = np.stack([made.encoder.prepare(read_image(record.path)) for record in records])
    file = folder / EXPORTED
    write_compact(made, file, {})
    stored = OnnxEncoder(file).encode(pixels)
    found = compare_encodings(float_encoding(made, pixels), stored, records, images.label_names)
    on = Measured(records, images.label_names)
    made.provenance["seen"] = {
        "embedding": on.floats(stored.embedding),
        "code": on.codes(stored.code, stored.n_bits),
    }
    floats = evaluate(stored.embedding, on.labels, protocol=DEFAULT)
    codes = evaluate_codes(stored.code, stored.n_bits, on.labels, protocol=DEFAULT)
    made.provenance["test"] = {
        "about": f"{len(records)} images of split {SPLIT}, leave-one-out, protocol {DEFAULT}; "
        "not seen in training",
        "spaces": {
            "embedding": _main(floats.metrics),
            "code": _main(codes.metrics),
            "chance": _main(floats.chance),
        },
    }
    write_compact(made, file, found)
    size = file.stat().st_size
    if size >= _MOST_BYTES:
        raise SystemExit(f"{file} has {size:,} bytes, limit {_MOST_BYTES:,}")
    final = OnnxEncoder(file)
    config = {
        "format": 1,
        "landcue": __version__,
        "fingerprint": final.fingerprint,
        "model": final.card.model,
        "provenance": made.provenance,
    }
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_atomic(folder / "README.md", card(config, made, found))
    print(f"{file}: {size:,} bytes, {found}")


def export_again(data: Path) -> None:
    """Write the package's model file again from its own weights."""
    folder = find_model(BUILTIN)
    before, made = OnnxEncoder(folder / EXPORTED), load_checkpoint(folder)
    images = apply_split(load_dataset("ucmerced", data / "uc_merced"), SPLIT)
    records = [record for record in images.records if record.part == "test"]
    pixels = np.stack([before.prepare(read_image(record.path)) for record in records])
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / EXPORTED
        write_compact(made, file, before.card.fidelity)
        after = OnnxEncoder(file)
        old, new = before.encode(pixels), after.encode(pixels)
        gap = float(np.abs(new.embedding - old.embedding).max())
        bits = int(np.bitwise_count(new.code ^ old.code).sum())
        print(
            f"{len(records)} images: embeddings differ by at most {gap:.1e}, codes by {bits} bits"
        )
        if gap > _MOST_GAP or bits:
            raise SystemExit("the outputs changed: nothing was written")
        write_atomic(folder / EXPORTED, file.read_bytes())
    for name in ("config.json", "README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        write_atomic(folder / name, text.replace(before.fingerprint, after.fingerprint))


def _main(metrics: Any) -> dict[str, float]:
    return {name: float(metrics[name]) for name in VALIDATION_METRICS}


def validation(images: ImageSet, features: Any, heads: Heads, recipe: Recipe) -> dict[str, float]:
    """Return the main scores of the validation part."""
    rows = rows_of(images, "val")
    on = Measured([images.records[i] for i in rows], images.label_names)
    vectors, code = heads.outputs(features[rows])
    shown = _main(evaluate(vectors, on.labels, protocol=DEFAULT).metrics)
    codes = _main(evaluate_codes(code, recipe.n_bits, on.labels, protocol=DEFAULT).metrics)
    return shown | {f"code/{name}": value for name, value in codes.items()}


def card(config: dict[str, Any], made: Checkpoint, found: dict[str, Any]) -> str:
    """Render the card: what the model was judged by, and what the stored file loses."""
    count = sum(tensor.numel() for tensor in made.encoder.state_dict().values())
    provenance = made.provenance
    unseen: dict[str, dict[str, float]] = provenance["unseen"]
    table = ["| space | mAP | mAP@20 | P@1 | nDCG@100 |", "| --- | --- | --- | --- | --- |"]
    lines = [
        "",
        "## Scene classes it has not seen",
        "",
        "What the recipe was judged by: UC Merced, three times 14 scene classes for the heads and "
        "the 7 others to measure (splits `unseen-classes-F-of-3`, 700 images each, leave-one-out); "
        "mean of the three. mAP, mAP@20 and P@1: same scene class; nDCG@100: the 17 labels. There, "
        "both backbones had their ImageNet weights. In this folder MobileNetV2 is "
        f"{provenance['recipe']['tuned']:g} of the way to weights fine-tuned on all 21 classes, so "
        "that the file itself cannot be measured this way. The recipe's settings were chosen by "
        "looking at these folds and at the test part of the seen classes, so that the figures of "
        "both are optimistic.",
        "",
        *table,
        *(_row(name, values) for name, values in unseen.items()),
        "",
        "The rows `fitted to the images themselves` are what `landcue index` makes of archives of "
        "256 images or more, without labels.",
        "",
        "## Scene classes it has seen",
        "",
        f"The test part of `{provenance['split']}`, by the same measures: images that it was not "
        "trained on, of classes that it was.",
        "",
        *table,
        *(_row(name, values) for name, values in provenance["seen"].items()),
        "",
        "## What the stored file loses",
        "",
        "Weights are stored as 8 bits with a scale per output channel, to which they were rounded "
        "before, and computed with in float32 by ONNX Runtime. Beside torch in float32, on the "
        f"{found['images']} images of the test part: least cosine of two embeddings "
        f"{found['cosine']['least']:.6f}, bits that differ {found['flipped_bits']:.4%}, recall@20 "
        f"{found['recall@20']:.4f}.",
    ]
    return model_card(config, count) + "\n".join(lines) + "\n"


def _row(name: str, values: dict[str, float]) -> str:
    cells = (values[metric] for metric in ("mAP", "mAP@20", "P@1", "nDCG@100"))
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in cells) + " |"


def main() -> None:
    """Judge the recipe, make and store the model, or export it again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=("judge", "train", "export"))
    parser.add_argument("data", type=Path, help="folder of uc_merced/ and weights/")
    parser.add_argument(
        "--tuned", type=Path, help="train: run folder of the fine-tuned MobileNetV2"
    )
    parser.add_argument("--judged", type=Path, help="train: the JSON of judge")
    parser.add_argument("--features", type=Path, help="judge: keep pooled features here (.npy)")
    parser.add_argument("--out", type=Path, help="judge: JSON to write; train: run folder")
    args = parser.parse_args()
    recipe = Recipe()
    if args.action == "judge":
        judge(args.data, args.out or Path("docs/results/unseen.json"), recipe, args.features)
        return
    if args.action == "export":
        export_again(args.data)
        return
    if args.judged is None or args.tuned is None:
        parser.error("train needs --tuned RUN and --judged FILE")
    judged = json.loads(args.judged.read_text())
    train(args.data, args.tuned, judged, args.out or Path("runs/builtin"), recipe)


if __name__ == "__main__":
    main()

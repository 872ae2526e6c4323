"""Retrieval without training: frozen ImageNet features and random vectors on UC Merced.

    python benchmarks/frozen.py DATA [--split per-class-70-10-20-seed42] [--image-size 160]

DATA holds ``uc_merced/`` and ``weights/``. Numbers to beat, and a check of the metrics: random
vectors must score the closed-form chance level.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from landcue.data.datasets import load_dataset
from landcue.data.splits import apply_split
from landcue.metrics.evaluation import evaluate
from landcue.metrics.protocol import DEFAULT
from landcue.models.backbones import FOLDED, create_backbone, load_backbone_weights
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.training.evaluation import annotate, encode_images
from landcue.training.images import ImageDataset

WEIGHTS = "mobilenet_v2_1.0_224_imagenet_folded.npz"
SHOWN = ("nDCG@100", "mAP", "WAP@100", "mAP(J>=0.8)")


def main() -> None:
    """Print the scores of both, and chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="per-class-70-10-20-seed42")
    parser.add_argument("--image-size", type=int, default=160)
    args = parser.parse_args()
    images = apply_split(load_dataset("ucmerced", args.data / "uc_merced"), args.split)
    test = ImageDataset(images.part("test").records, images.label_names, args.image_size)
    test.drop_unreadable()
    known = annotate(test)
    backbone = create_backbone(FOLDED)
    load_backbone_weights(backbone, args.data / "weights" / WEIGHTS)
    model = NeuralEncoder(build_config(FOLDED, image_size=args.image_size), backbone)
    frozen = evaluate(encode_images(model, test).features, known, protocol=DEFAULT)
    vectors = np.random.default_rng(0).normal(size=(len(known), 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    random = evaluate(vectors, known, protocol=DEFAULT)
    print(f"{args.split}, {len(known)} test images, {args.image_size} px")
    print(f"{'':16}" + "".join(f"{name:>14}" for name in SHOWN))
    for name, metrics in (
        ("frozen features", frozen.metrics),
        ("random vectors", random.metrics),
        ("chance", random.chance),
    ):
        print(f"{name:16}" + "".join(f"{metrics[shown]:14.4f}" for shown in SHOWN))


if __name__ == "__main__":
    main()

"""Frozen ImageNet features on the real UC Merced images: the pipeline end to end, but training."""

from __future__ import annotations

import numpy as np
import pytest

from landcue.data.datasets import load_dataset
from landcue.data.splits import apply_split
from landcue.models.backbones import FOLDED, create_backbone, load_backbone_weights
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.training.evaluation import annotate, encode_images
from landcue.training.images import ImageDataset
from standard_protocol import evaluate_embeddings

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def test_frozen_features_and_random_vectors_score_as_known(real_data):
    source = load_dataset("ucmerced", real_data / "uc_merced")
    images = apply_split(source, "per-class-70-10-20-seed42")
    test = ImageDataset(images.part("test").records, images.label_names, 256)
    test.drop_unreadable()
    known = annotate(test)
    backbone = create_backbone(FOLDED)
    weights = real_data / "weights" / "mobilenet_v2_1.0_224_imagenet_folded.npz"
    load_backbone_weights(backbone, weights)
    model = NeuralEncoder(build_config(FOLDED, image_size=256), backbone)
    frozen = evaluate_embeddings(known, encode_images(model, test).features)
    # An independent pilot on another draw of this split: 0.688, 0.824, 2.156.
    assert frozen.metrics["nDCG@100"] == pytest.approx(0.688, abs=0.02)
    assert frozen.metrics["mAP"] == pytest.approx(0.824, abs=0.02)
    assert frozen.metrics["WAP@100"] == pytest.approx(2.156, abs=0.12)
    vectors = np.random.default_rng(0).normal(size=(420, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    random = evaluate_embeddings(known, vectors)
    for name in ("nDCG@100", "mAP", "WAP@100"):
        assert random.metrics[name] == pytest.approx(random.chance[name], rel=0.02)
        assert frozen.metrics[name] > 1.2 * random.metrics[name]

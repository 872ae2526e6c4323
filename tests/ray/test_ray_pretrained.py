"""Codes and labels that were fitted to an archive are the same from Ray's workers."""

from __future__ import annotations

import numpy as np
import pytest

import landcue
import tiny_models
from landcue.archive.indexing import IndexOptions, index_source

pytestmark = pytest.mark.ray


def test_workers_encode_with_the_fitted_space(tmp_path):
    tiny_models.write_pictures(tmp_path / "photos", 40)
    model = tiny_models.onnx_model(tmp_path / "tiny.onnx", n_features=40)
    text = "size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\n"
    model.with_suffix(".yaml").write_text(text)
    made = {}
    for name, ray in (("here", None), ("ray", "local")):
        options = IndexOptions(
            labels=tmp_path / "labels.csv", dim=12, bits=16,
            ray=ray, ray_workers=1 if ray else None,
        )  # fmt: skip
        index_source(tmp_path / "photos", tmp_path / name, model=f"onnx:{model}", options=options)
        made[name] = landcue.open(tmp_path / name)
    here, there = made["here"], made["ray"]
    assert here.manifest.fingerprint == there.manifest.fingerprint
    np.testing.assert_allclose(here.columns().embedding, there.columns().embedding, atol=1e-6)
    np.testing.assert_array_equal(here.columns().code, there.columns().code)
    np.testing.assert_allclose(here.label_scores(), there.label_scores(), atol=1e-6)

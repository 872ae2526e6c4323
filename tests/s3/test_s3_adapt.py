"""Heads that learn from an archive in a store, whose images are in the store, too."""

from __future__ import annotations

import numpy as np
import pytest

import commands
import landcue
import tiny_models
from landcue import AdaptOptions, adapt
from landcue.archive.indexing import IndexOptions, index_source
from landcue.models import load_model

pytestmark = pytest.mark.s3

QUICK = AdaptOptions(dim=8, n_bits=16, epochs=4, batch_size=32, lr=3e-2, folds=2)
STORE = "s3://bucket/archives/one"


def test_an_archive_in_a_store_is_learned_from_as_one_in_a_folder(store, tmp_path):
    photos = tiny_models.write_pictures(tmp_path / "photos", 48)
    for file in photos.iterdir():
        with store.open_output_stream(f"bucket/photos/{file.name}") as to:
            to.write(file.read_bytes())
    model = tiny_models.onnx_model(tmp_path / "tiny.onnx", n_features=40)
    model.with_suffix(".yaml").write_text("size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [1, 1, 1]\n")
    options = IndexOptions(labels=tmp_path / "labels.csv", dim=16, bits=16)
    index_source(photos, tmp_path / "archive", model=f"onnx:{model}", options=options)
    index_source("s3://bucket/photos", STORE, model=f"onnx:{model}", options=options)
    marks = {id_: id_.startswith(("water", "sand")) for id_ in landcue.open(STORE).ids()}
    found = {
        place: adapt(source, tmp_path / place, marks=marks, options=QUICK)
        for place, source in (("there", STORE), ("here", tmp_path / "archive"))
    }
    assert found["there"].kept
    assert found["there"].problems == ()
    assert found["there"].scores == found["here"].scores
    there, here = (load_model(tmp_path / place) for place in ("there", "here"))
    assert there.fingerprint == here.fingerprint
    images = sorted(photos.iterdir())[:4]
    np.testing.assert_array_equal(there.encode(images).embedding, here.encode(images).embedding)
    store.delete_file("bucket/photos/water001.png")
    less = adapt(STORE, tmp_path / "less", marks=marks, options=QUICK)
    assert less.n_images == 47
    assert less.problems == (
        "s3://bucket/photos/water001.png: the image is missing or cannot be read",
    )
    line = commands.error_line(1, "adapt", "s3://bucket/archives/none", "--out", tmp_path / "out")
    assert "s3://bucket/archives/none" in line
    assert not (tmp_path / "out").exists()

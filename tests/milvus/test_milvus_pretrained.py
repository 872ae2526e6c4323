"""Codes, labels and texts of an encoder of another library, searched in a collection."""

from __future__ import annotations

import pytest

import commands
import landcue
import tiny_models
from landcue import AdaptOptions, adapt
from landcue.archive.indexing import IndexOptions, index_source
from landcue.models import load_model

pytestmark = pytest.mark.milvus


def test_a_collection_gives_what_the_folder_gives(tmp_path, port):
    tiny_models.write_pictures(tmp_path / "photos", 40)
    clip = tiny_models.open_clip_folder(tmp_path / "clip")
    options = IndexOptions(labels=tmp_path / "labels.csv", dim=12, bits=16)
    index_source(
        tmp_path / "photos", tmp_path / "archive", model=f"open_clip:{clip}", options=options
    )
    folder = landcue.open(tmp_path / "archive")
    url = f"milvus://127.0.0.1:{port}/pretrained"
    folder.push(url)
    collection = landcue.open(url, model=folder.model_folder)
    picture = tiny_models.picture("water", 901)
    for mode in ("embedding", "code", "cue"):
        ours, theirs = (one.search(picture, k=10, mode=mode) for one in (folder, collection))
        assert ours.ids == theirs.ids, mode
        assert [hit.distance for hit in ours] == pytest.approx(
            [hit.distance for hit in theirs], abs=1e-5
        )
    assert folder.search(text="a lake", k=10).ids == collection.search(text="a lake", k=10).ids


def test_heads_learn_from_the_images_of_a_collection(tmp_path, port):
    tiny_models.write_pictures(tmp_path / "photos", 48)
    model = tiny_models.onnx_model(tmp_path / "tiny.onnx", n_features=40)
    model.with_suffix(".yaml").write_text("size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [1, 1, 1]\n")
    options = IndexOptions(labels=tmp_path / "labels.csv", dim=16, bits=16)
    index_source(tmp_path / "photos", tmp_path / "here", model=f"onnx:{model}", options=options)
    url = f"milvus://127.0.0.1:{port}/adapted"
    landcue.open(tmp_path / "here").push(url)
    quick = AdaptOptions(dim=8, n_bits=16, epochs=4, batch_size=32, lr=3e-2, folds=2)
    ids = landcue.open(tmp_path / "here").ids()
    marks = {id_: id_.startswith(("water", "sand")) for id_ in ids}
    found = {
        name: adapt(source, tmp_path / name, marks=marks, options=quick)
        for name, source in (("theirs", url), ("ours", tmp_path / "here"))
    }
    assert found["theirs"].kept
    assert (found["theirs"].n_images, found["theirs"].problems) == (48, ())
    assert found["theirs"].scores == found["ours"].scores
    assert len({load_model(tmp_path / name).fingerprint for name in found}) == 1
    (tmp_path / "here").rename(tmp_path / "moved")
    words = ("adapt", url, "--out", tmp_path / "out", "--epochs", 1, "--folds", 2)
    assert commands.error_line(2, *words).endswith("is not on this machine; add --model")
    (tmp_path / "photos").rename(tmp_path / "gone")
    with_model = (*words, "--model", f"onnx:{model}")
    done = commands.landcue(*with_model)
    assert done.returncode == 1
    assert "none of 48 annotated images can be read" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()

"""Codes, labels and texts of an encoder of another library, searched in a collection."""

from __future__ import annotations

import pytest

import landcue
import tiny_models
from landcue.archive.indexing import IndexOptions, index_source

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

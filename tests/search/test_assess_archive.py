"""Archives under protocols that name their images."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import pixel_encoder as tools
from landcue.archive.archive import MODEL_FOLDER, ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.errors import UsageError
from landcue.evaluation import evaluate
from landcue.metrics.protocol import Roles, find_protocol

RULES = replace(
    find_protocol("ml-retrieval-v1"),
    name="mine-v1",
    roles=Roles("flowers", "files-60-40", gallery="train"),
)


@pytest.fixture
def made(tmp_path):
    """An archive of 10 records with parts, and of 10 without, by a model of known data."""

    def make(parts):
        root = tmp_path / "source"
        records = [
            replace(record, labels=(("red", "blue")[i % 2],), part=parts and parts[i])
            for i, record in enumerate(tools.write_images(root, [f"{i}.png" for i in range(10)]))
        ]
        ingest(SourceImages(records, root), tmp_path / "archive", tools.PixelEncoder())
        model = ArchiveFolder.open(tmp_path / "archive").base / MODEL_FOLDER
        model.mkdir()
        about = {"provenance": {"dataset": "flowers", "split": "files-60-40"}}
        (model / "config.json").write_text(json.dumps(about))
        return tmp_path / "archive"

    return make


def test_the_test_part_searches_the_train_part(made):
    archive = made(["train"] * 6 + ["test"] * 4)
    found = evaluate(archive, protocol=RULES, resamples=0)
    assert (found.about["part"], found.about["gallery"]) == ("test", "train")
    assert (len(found.query), len(found.gallery)) == (4, 6)
    for space in found.spaces.values():
        assert (space.distances.n_query, space.distances.n_gallery) == (4, 6)
        # Every query finds its three images of six, on ranks up to six.
        assert space.scores.metrics["P@10"] == pytest.approx(3 / 10)
    plain = evaluate(archive, resamples=0)
    assert (plain.about["gallery"], len(plain.gallery)) == ("test", 4)


def test_other_images_are_refused(made):
    archive = made(["train"] * 6 + ["test"] * 4)
    other = replace(RULES, roles=Roles("trees", "files-60-40"))
    with pytest.raises(UsageError, match=r"mine-v1 asks for dataset trees \(not flowers\)"):
        evaluate(archive, protocol=other)
    with pytest.raises(UsageError, match=r"query part test \(not all\)"):
        evaluate(archive, protocol=RULES, part="all")


def test_an_archive_that_knows_no_parts_is_of_other_images(made):
    with pytest.raises(UsageError, match=r"dataset flowers \(not unknown\), split files-60-40"):
        evaluate(made(None), protocol=RULES)

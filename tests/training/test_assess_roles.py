"""Protocols that name their images, on a run of the folder dataset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from landcue.errors import UsageError
from landcue.metrics.protocol import Roles, find_protocol
from landcue.training.config import make_config
from landcue.training.evaluation import study_run
from landcue.training.loop import train

SPLIT = "per-class-70-10-20-seed1"
RULES = find_protocol("ml-retrieval-v1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("roles")
    rng = np.random.default_rng(0)
    lines = ["path,group,labels"]
    for i in range(30):
        color = i % 3
        pixels = rng.integers(0, 60, (40, 40, 3))
        pixels[..., color] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i:02}.png")
        lines.append(f"{i:02}.png,g,{('red', 'green', 'blue')[color]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    values = {
        "data": {"dataset": "folder", "root": str(root), "split": SPLIT},
        "model": {
            "backbone": "mobilenetv3_small_050", "init": "none", "image_size": 32,
            "dim": 16, "n_bits": 16,
        },
        "optimizer": {"epochs": 1, "batch_size": 21},
        "loggers": [],
    }  # fmt: skip
    folder = root.parent / f"{root.name}-run"
    train(make_config(values), folder)
    return folder


def test_the_gallery_is_the_part_that_the_protocol_names(run):
    roles = Roles("folder", "per-class-70-10-20-seed*", gallery="train")
    found = study_run(run, protocol=replace(RULES, name="mine-v1", roles=roles), resamples=0)
    assert (found.about["part"], found.about["gallery"]) == ("test", "train")
    assert len(found.query) == 6
    assert len(found.gallery) == 21
    assert not set(found.query.ids) & set(found.gallery.ids)
    for space in found.spaces.values():
        assert (space.distances.n_query, space.distances.n_gallery) == (6, 21)
        assert space.scores.counts == {**space.scores.counts, "n_query": 6, "n_gallery": 21}
    # Rank 100 is beyond the gallery: all training images with a query's color are found.
    same = found.query.labels.astype(int) @ found.gallery.labels.T
    for space in found.spaces.values():
        assert space.scores.metrics["P@100"] == pytest.approx(same.sum(axis=1).mean() / 100)
    names = [found.query.ids[0], found.gallery.ids[0]]
    assert set(found.pictures(names)) == set(names)


def test_without_roles_a_part_searches_itself(run):
    found = study_run(run, part="train", resamples=0)
    assert (found.about["part"], found.about["gallery"]) == ("train", "train")
    assert found.query is found.gallery


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (Roles("ucmerced", SPLIT), r"asks for dataset ucmerced \(not folder\): evaluate"),
        (Roles("folder", "files-80-20"), rf"split files-80-20 \(not {SPLIT}\)"),
        (Roles("folder", SPLIT, target="group"), r"target group \(not labels\)"),
        (Roles("folder", SPLIT, query="val"), r"query part val \(not test\)"),
    ],
)
def test_images_that_a_protocol_does_not_speak_of_are_refused(run, roles, message):
    with pytest.raises(UsageError, match=message):
        study_run(run, protocol=replace(RULES, name="mine-v1", roles=roles))

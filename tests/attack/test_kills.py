"""kill -9 at random moments of every command that writes: nothing is lost, and it goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time

import numpy as np
import pytest
import torch
from PIL import Image

from crash_tools import Server, between, whole
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.models.checkpoint import save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.load import load_model
from landcue.search import Filter, open_archive
from landcue.server.collections import Collections

pytestmark = pytest.mark.attack

KILLS = int(os.environ.get("LANDCUE_KILLS", "6"))
"""Kills of each command; the full run has 48, which makes 528 of all eleven."""
DELETED = {"12.png", "13.png"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory, tools):
    """A source, the archive of its first state, one that is up to date, models and a table."""
    folder = tmp_path_factory.mktemp("kills")
    root, encoder = folder / "source", tools.PixelEncoder()
    run = tools.write_model(folder / "run", encoder)
    tools.write_model(folder / "other run", tools.PixelEncoder(seed=5, dim=24, n_bits=12))
    ingest(SourceImages(tools.first_state(root), root), folder / "old", encoder, model_folder=run)
    tools.change_source(root)
    tools.write_table(folder / "table.parquet", 40)
    rng = np.random.default_rng(0)
    for name, color in (("field", (60, 160, 60)), ("sand", (200, 180, 90)), ("sea", (30, 60, 160))):
        (folder / "scenes" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.uint8(np.clip(color + rng.normal(0, 45, (40, 40, 3)), 0, 255))
            Image.fromarray(pixels).save(folder / "scenes" / name / f"{i}.png")
    torch.manual_seed(0)
    config = build_config("mobilenetv3_small_050", image_size=32, dim=8, n_bits=8, label_names=())
    save_checkpoint(folder / "base", NeuralEncoder(config), {})
    watched = folder / "watched" / "archive"
    shutil.copytree(folder / "old", watched)
    for name in ("first", "second"):
        open_archive(watched).watches.add(name, None, where=Filter(no_labels=("dark",)))
    ingest(
        SourceImages(tools.second_state(root), root), watched, encoder, prune=True, model_folder=run
    )
    return folder


def killed(server, task, root, fresh):
    """Yield copies of what a task works on, after it was killed at random moments, and the death.

    Args:
        server: Carries out tasks.
        task: Its name.
        root: Folder of the images.
        fresh: Makes a copy, of a name.
    """
    chance = random.Random(task)
    began = time.monotonic()
    assert not {"error", "crash"} & set(server.run(task, fresh("undisturbed"), root))
    seconds = time.monotonic() - began
    kills = 2 if KILLS < 10 and seconds > 2 else KILLS  # what trains or fits takes long
    runs = deaths = 0
    while runs < kills or (not deaths and runs < 50):
        runs += 1
        folder = fresh("killed")
        delay = chance.uniform(0, seconds)
        died = server.run(task, folder, root, after_seconds=delay)["killed"]
        deaths += died
        if not died:
            seconds = delay  # it was done by then: it takes less than the first run
        yield folder
        shutil.rmtree(folder)
    print(f"{task}: {runs} runs, {deaths} killed")
    assert deaths


def leftover(archive):
    return [path for path in archive.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    "task", ["update", "new", "delete", "compact", "reembed", "space", "repair", "import"]
)
def test_killed_at_random_moments(server, stage, tmp_path, task):
    root = stage / "source"
    start = None if task in ("new", "import") else stage / "old"
    command = "update" if task == "new" else task

    def fresh(name):
        if start is not None:
            shutil.copytree(start, tmp_path / name)
        if task == "repair":
            (data,) = (tmp_path / name / "records.lance/data").iterdir()
            content = bytearray(data.read_bytes())
            content[len(content) // 2] ^= 1
            data.write_bytes(content)
        return tmp_path / name

    expected = None
    before = None if start is None else {row["id"] for row in whole(start)}
    for archive in killed(server, command, root, fresh):
        expected = expected or whole(tmp_path / "undisturbed")
        if start is not None and task != "repair":  # these are whole at every moment
            left = {row["id"] for row in between(archive)}
            if task == "delete":
                assert before - left in (set(), DELETED & before)
            elif task != "update":
                assert left == before
        said = server.run(command, archive, root)
        if task in ("reembed", "space") and "error" in said:
            assert "was made by this model" in said["error"]  # it was complete
        else:
            assert not {"error", "crash"} & set(said), said
        found = whole(archive)
        assert [row["id"] for row in found] == [row["id"] for row in expected]
        assert {len(row["embedding"]) for row in found} == {len(expected[0]["embedding"])}
        opened = ArchiveFolder.open(archive)
        assert opened.manifest.records == len(expected)
        opened.close()
        if leftover(archive):  # the command had nothing to write; the next writer removes them
            assert not {"error", "crash"} & set(server.run("compact", archive, root))
            assert [row["id"] for row in whole(archive)] == [row["id"] for row in expected]
        assert not leftover(archive)


def test_a_killed_adaptation_leaves_nothing_or_a_model(server, stage, tmp_path):
    def fresh(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    for folder in killed(server, "adapt", stage / "source", fresh):
        complete = (folder / "adapted").exists()
        said = server.run("adapt", folder, stage / "source")
        if complete:
            assert "is not empty" in said["error"]
        else:
            assert not {"error", "crash"} & set(said), said
        assert load_model(folder / "adapted").label_names == ("field", "sand", "sea")
        fingerprint = load_model(tmp_path / "undisturbed/adapted").fingerprint
        assert load_model(folder / "adapted").fingerprint == fingerprint
        assert not leftover(folder)


def test_killed_changes_of_collections_are_whole(server, stage, tmp_path):
    def fresh(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    for folder in killed(server, "collections", stage / "source", fresh):
        file, log = folder / "picks.sqlite", folder / "log"
        said = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        kept = Collections(file, 1 << 22)
        kept.check()
        found = [kept.get(one["id"]) for one in kept.list("photos")]
        assert len(found) <= 1
        members = [member["id"] for one in found for member in one["members"]]
        assert members in ([id_ for _, id_ in said], [f"{i:02}" for i in range(len(said) + 1)])
        assert {id_ for id_, _ in said} <= {one["id"] for one in found}
        with contextlib.closing(sqlite3.connect(file)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not {"error", "crash"} & set(server.run("collections", folder, stage / "source"))
        assert len(Collections(file, 1 << 22).list("photos")) == len(found) + 1


def test_killed_runs_of_saved_searches_report_each_hit_once(server, stage, tmp_path):
    def fresh(name):
        return shutil.copytree(stage / "watched", tmp_path / name)

    def hits(folder):
        watches = open_archive(folder / "archive", cache=False).watches
        return sorted((hit.watch, hit.id) for hit in watches.hits())

    for folder in killed(server, "watches", stage / "source", fresh):
        expected = hits(tmp_path / "undisturbed")
        assert len(expected) == 40
        assert hits(folder) in ([], expected)
        assert not {"error", "crash"} & set(server.run("watches", folder, stage / "source"))
        assert hits(folder) == expected
        names = [one.name for one in open_archive(folder / "archive", cache=False).watches.list()]
        assert names == ["first", "later", "second"]

"""kill -9 at random moments of every command that writes: nothing is lost, and it goes on."""

from __future__ import annotations

import os
import random
import shutil
import time

import pytest

from crash_tools import Server, between, whole
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest

pytestmark = pytest.mark.attack

KILLS = int(os.environ.get("LANDCUE_KILLS", "6"))
"""Kills of each command; the full run has 72, which makes 504 of all."""
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
    ingest(tools.first_state(root), folder / "old", encoder, source_root=root, model_folder=run)
    tools.change_source(root)
    tools.write_table(folder / "table.parquet", 40)
    return folder


def leftover(archive):
    return [path for path in archive.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    "task", ["update", "new", "delete", "compact", "reembed", "repair", "import"]
)
def test_killed_at_random_moments(server, stage, tmp_path, task):
    root, chance = stage / "source", random.Random(task)
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

    undisturbed = fresh("undisturbed")
    began = time.monotonic()
    assert "error" not in server.run(command, undisturbed, root)
    seconds = time.monotonic() - began
    expected = whole(undisturbed)
    before = None if start is None else {row["id"] for row in whole(start)}
    runs = deaths = 0
    while runs < KILLS or (not deaths and runs < 50):
        runs += 1
        archive = fresh("archive")
        delay = chance.uniform(0, seconds)
        if server.run(command, archive, root, after_seconds=delay)["killed"]:
            deaths += 1
        else:
            seconds = delay  # it was done by then: it takes less than the first run
        if start is not None and task != "repair":  # these are whole at every moment
            left = {row["id"] for row in between(archive)}
            if task == "delete":
                assert before - left in (set(), DELETED & before)
            elif task != "update":
                assert left == before
        said = server.run(command, archive, root)
        if task == "reembed" and "error" in said:
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
        shutil.rmtree(archive)
    assert deaths

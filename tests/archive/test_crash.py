from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import scene_files
from crash_tools import Server, between, whole
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import compact, delete
from landcue.archive.encoding import EncodingOptions
from landcue.archive.import_columns import ImportColumns
from landcue.archive.importing import import_table
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed, repair
from landcue.archive.table import RecordTable
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import ArchiveError, LandcueError
from landcue.search import open_archive
from landcue.server.collections import Collections

HERE = Path(__file__).parent
OPTIONS = EncodingOptions(batch_size=4, commit_every=8)
SCENES = SceneOptions(Length(32, meters=False), side=32)
FAIL, DIE, TEAR = 0, 1, 2
# Some calls are hit, by one of these in turn; with LANDCUE_FAULTS=all every call is.
FAULTS = [
    (DIE, 0, False),
    (FAIL, errno.ENOSPC, True),
    (TEAR, 0, False),
    (FAIL, errno.EIO, False),
]
EVERY = os.environ.get("LANDCUE_FAULTS") == "all"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that lets calls that change a file fail; ``None`` where it cannot be made."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = tmp_path_factory.mktemp("shim") / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library)]
    subprocess.run([*command, str(HERE / "faults.c"), "-ldl", "-lpthread"], check=True)
    return library


@pytest.fixture(scope="module")
def server(shim, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"), shim)
    yield server
    server.close()


@pytest.fixture
def faulty(server, shim):
    """A server in which any call that changes a file can be made to fail."""
    if shim is None:
        pytest.skip("needs a C compiler on Linux")
    return server


@pytest.fixture(scope="module")
def stage(tmp_path_factory, tools):
    """A changed source, the archive of its first state, and what an undisturbed run makes."""
    folder = tmp_path_factory.mktemp("crash")
    root = folder / "source"
    encoder = tools.PixelEncoder()
    run = tools.write_model(folder / "run", encoder)
    ingest(SourceImages(tools.first_state(root), root), folder / "old", encoder, model_folder=run)
    tools.change_source(root)
    shutil.copytree(folder / "old", folder / "undisturbed")
    resume(folder / "undisturbed", root, tools)
    tools.write_model(folder / "other run", other_encoder(tools))
    tools.write_table(folder / "table.parquet", 40)
    return folder, tools.contents(ArchiveFolder.open(folder / "undisturbed"))


def resume(archive, root, tools):
    encoder = tools.PixelEncoder()
    records = tools.second_state(root)
    return ingest(
        SourceImages(records, root), archive, encoder, options=OPTIONS,
        prune=True, model_folder=root.parent / "run",
    )  # fmt: skip


def other_encoder(tools):
    return tools.PixelEncoder(seed=5, dim=24, n_bits=12)


@pytest.mark.parametrize(
    ("point", "count"),
    [
        *[(" progress", 6), (" progress", 28)],
        *[("<add", 1), ("~add", 2), (">add", 1)],
        *[("<replace", 1), ("~replace", 1), (">replace", 2)],
        *[("<delete", 1), ("~compact", 1), (">compact", 1), ("<last manifest", 1)],
        *[("<checksums", 1), (">checksums", 1)],
    ],
)
def test_update_killed_anywhere_goes_on(server, stage, tmp_path, tools, point, count):
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    shutil.copytree(folder / "old", archive)
    server.kill_at(point, count, archive, root)
    # What the dead process left is a whole archive: rows of the old state or of the new one.
    new = {row["id"]: row["content"] for row in expected}
    old = {row["id"]: row["content"] for row in tools.contents(ArchiveFolder.open(folder / "old"))}
    for row in between(archive):
        assert row["content"] in {new.get(row["id"]), old.get(row["id"])}

    resume(archive, root, tools)
    assert whole(archive) == expected
    report = resume(archive, root, tools)
    assert report.unchanged == report.records == len(expected)
    # Nothing of the killed run stays behind.
    assert len(list((archive / "records.lance/data").iterdir())) == 1


@pytest.mark.parametrize(
    ("point", "count"),
    [
        *[("<copy_model", 1), ("~copy_model", 1), (">copy_model", 1), (">first manifest", 1)],
        *[*[("~create", 1)] * 3, (">create", 1), ("~add", 1), (" progress", 20)],
    ],
)
def test_new_archive_killed_anywhere_goes_on(server, stage, tmp_path, tools, point, count):
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    server.kill_at(point, count, archive, root)
    resume(archive, root, tools)
    assert whole(archive) == expected
    again = ArchiveFolder.open(archive)
    assert again.manifest.records == len(expected)
    weights = folder / "run/model.safetensors"
    assert (again.model_folder / "model.safetensors").read_bytes() == weights.read_bytes()
    assert not (archive / ".model.tmp").exists()


def test_killed_while_made_leaves_the_choice_of_model(server, stage, tmp_path, tools):
    folder, _ = stage
    root, archive = folder / "source", tmp_path / "archive"
    server.kill_at(">copy_model", 1, archive, root)
    other = tools.PixelEncoder(seed=9)
    run = tools.write_model(tmp_path / "other", other)
    ingest(SourceImages(tools.second_state(root), root), archive, other, model_folder=run)
    opened = ArchiveFolder.open(archive)
    assert opened.manifest.fingerprint == other.fingerprint
    assert other.fingerprint in (opened.model_folder / "config.json").read_text()


@pytest.mark.parametrize("count", [4, 24, 36])
def test_reembed_killed_while_encoding_goes_on(server, stage, tmp_path, tools, count):
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    shutil.copytree(folder / "undisturbed", archive)
    server.kill_at(" progress", count, archive, root, "reembed")
    assert between(archive) == expected  # the old embeddings serve
    staged = RecordTable.open(archive / "v2", pinned=True)
    kept = staged.count() if staged else 0
    encoder = other_encoder(tools)
    reembed(
        archive,
        encoder,
        options=EncodingOptions(batch_size=4, commit_every=8),
        model_folder=folder / "other run",
    )
    assert encoder.encoded == len(expected) - kept
    assert [row["id"] for row in whole(archive)] == [row["id"] for row in expected]
    assert ArchiveFolder.open(archive).manifest.dim == 24


@pytest.mark.parametrize("point", ["<switch", ">switch", "<sweep", ">sweep"])
def test_reembed_killed_around_its_switch(server, stage, tmp_path, tools, point):
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    shutil.copytree(folder / "undisturbed", archive)
    server.kill_at(point, 1, archive, root, "reembed")
    rows = between(archive)
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    dim = ArchiveFolder.open(archive).manifest.dim
    assert {len(row["embedding"]) for row in rows} == {dim}
    assert dim == (16 if point == "<switch" else 24)


def test_killed_at_random_moments(server, stage, tmp_path, tools):
    """Whatever the moment: old state or new, and the end equals an undisturbed run."""
    folder, expected = stage
    root, archive = folder / "source", tmp_path / "archive"
    shutil.copytree(folder / "old", archive)
    moments = random.Random(0)
    deaths, longest = 0, 0.4
    for _ in range(40 if EVERY else 10):
        said = server.run("update", archive, root, after_seconds=moments.uniform(0, longest))
        between(archive)
        if said["killed"]:
            deaths += 1
        else:  # it was faster: from the old state once more, and sooner
            longest /= 2
            shutil.rmtree(archive)
            shutil.copytree(folder / "old", archive)
    assert deaths
    resume(archive, root, tools)
    assert whole(archive) == expected


@pytest.mark.parametrize("moment", ["1", "13", "30", "any"])
def test_killed_ingest_of_scenes_goes_on(server, tmp_path, tools, moment):
    root, archive, undisturbed = (tmp_path / name for name in ("scenes", "archive", "undisturbed"))
    for seed, name in enumerate(("a", "b", "c")):
        values = scene_files.noise(seed, 3, 70, 100)
        if name == "b":
            values[:, :, :40] = 0
        scene_files.write_scene(root / f"{name}.tif", values, nodata=0)

    def index(folder):
        scenes = cut_scenes(open_source(root), SCENES)
        encoder = tools.PixelEncoder()
        report = ingest(SourceImages(scenes.records, root, SCENES), folder, encoder)
        return report, encoder.encoded

    report, _ = index(undisturbed)
    assert (report.added, report.empty) == (33, 3)
    count, delay = (1, random.random() / 20) if moment == "any" else (int(moment), None)
    order = {} if delay is None else {"delay": delay}
    said = server.run("scenes", archive, root, point=" progress", count=count, **order)
    assert said["killed"] or moment == "any", said
    index(archive)
    assert whole(archive) == whole(undisturbed)
    again, encoded = index(archive)
    assert (again.unchanged, again.empty, again.records, encoded) == (33, 3, 33, 0)


def test_any_failing_call_of_an_update(faulty, stage, tmp_path, tools):
    folder, expected = stage
    root = folder / "source"
    new = {row["id"]: row for row in expected}
    old = {row["id"]: row for row in tools.contents(ArchiveFolder.open(folder / "old"))}

    def check(archive):
        for row in between(archive):
            assert row["content"] in {state[row["id"]]["content"] for state in (old, new)
                                      if row["id"] in state}  # fmt: skip
        resume(archive, root, tools)
        assert whole(archive) == expected

    ended = hit_every_call(faulty, "update", folder / "old", root, tmp_path, check, most=16)
    assert ended > 8


def test_any_failing_call_of_a_new_archive(faulty, stage, tmp_path, tools):
    folder, expected = stage
    root = folder / "source"

    def check(archive):
        resume(archive, root, tools)
        assert whole(archive) == expected

    assert hit_every_call(faulty, "update", None, root, tmp_path, check, most=8) > 2


@pytest.mark.parametrize(
    ("task", "most"),
    [("delete", 8), ("compact", 8), ("repair", 2), ("reembed", 8), ("import", 8)],
)
def test_any_failing_call_of_other_changes(faulty, stage, tmp_path, tools, task, most):
    folder, expected = stage
    root, before = folder / "source", tmp_path / "before"
    if task != "import":
        shutil.copytree(folder / "undisturbed", before)
    if task == "compact":
        reader = ArchiveFolder.open(before)
        delete(before, ["20.png"])  # leaves two versions, because a process reads
        reader.close()
    if task == "repair":
        (data,) = (before / "records.lance/data").iterdir()
        damaged = bytearray(data.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        data.write_bytes(damaged)
    sound = None if task in ("import", "repair") else whole(before)

    def check(archive):
        if sound is not None:
            left = {row["id"] for row in between(archive)}
            assert {row["id"] for row in sound} - left <= {"12.png", "13.png"}
        if task == "delete":
            left = ArchiveFolder.open(archive).columns().ids
            delete(archive, [id_ for id_ in ("12.png", "13.png") if id_ in left])
            assert len(whole(archive)) == len(expected) - 2
        elif task == "compact":
            compact(archive)
            assert whole(archive) == sound
        elif task == "repair":
            repair(archive, apply=True)
            assert len(whole(archive)) >= len(expected) - 1
        elif task == "reembed":
            if ArchiveFolder.open(archive).manifest.dim == 16:
                reembed(archive, other_encoder(tools), model_folder=folder / "other run")
            assert {len(row["embedding"]) for row in whole(archive)} == {24}
            assert len(whole(archive)) == len(expected)
        else:
            import_table(folder / "table.parquet", archive, ImportColumns("embedding"))
            assert len(whole(archive)) == 40

    start = None if task == "import" else before
    assert hit_every_call(faulty, task, start, root, tmp_path, check, most=most) > most // 3


def test_an_import_of_a_collection_that_dies_at_any_call_is_whole_or_absent(
    faulty, stage, tmp_path
):
    """It writes two SQLite files, the collections and the archive's saved searches."""
    folder, _ = stage
    start, root = tmp_path / "start", folder / "source"
    shutil.copytree(folder / "undisturbed", start / "archive")
    searches = [
        {"name": name, "min_score": -1, "model": "none", "filters": {"labels": "water"}}
        for name in ("first", "second")
    ]
    members = [{"id": "10.png", "mark": "good"}]
    file = {
        "id": "kept",
        "archive": "photos",
        "name": "ships",
        "members": members,
        "watches": searches,
    }
    (folder / "picks.json").write_text(json.dumps(file))

    Collections(start / "picks.sqlite", 1 << 22).check()

    def imported(at):
        watches = open_archive(at / "archive", cache=False).watches
        kept = Collections(at / "picks.sqlite", 1 << 22)
        return kept.list("photos"), [(one.name, one.collection) for one in watches.list()]

    absent = present = 0
    undisturbed = fresh(start, tmp_path / "undisturbed")
    said = faulty.run("import collection", undisturbed, root, fault=[0, 0, 0, 0])
    assert not {"error", "crash"} & set(said), said
    calls = said["calls"]
    step = 1 if EVERY else max(1, calls // 20)
    for n in sorted({*range(1, calls, step), calls}):
        at = fresh(start, tmp_path / f"killed {n}")
        assert faulty.run("import collection", at, root, fault=[n, DIE, 0, 0])["killed"]
        collections, watches = imported(at)
        ids = [one["id"] for one in collections]
        assert watches == [(name, id_) for id_ in ids for name in ("first", "second")]
        assert [one["members"] for one in collections] == [1] * len(ids)
        absent, present = absent + (not ids), present + len(ids)
        last = at
    assert not {"error", "crash"} & set(faulty.run("import collection", last, root))
    assert len(imported(last)[0]) == 2
    assert absent
    assert present


def test_a_commit_whose_file_was_cut_is_taken_back(tmp_path):
    """LanceDB commits a version although the last write to its data failed."""
    resource = pytest.importorskip("resource")

    def rows(*ids):
        noise = [random.Random(id_).randbytes(100_000) for id_ in ids]
        return pa.table({"id": pa.array(ids, pa.string()), "noise": pa.array(noise, pa.binary())})

    table = RecordTable.create(tmp_path, rows().schema)
    table.add(rows("a", "b"))
    other = RecordTable.create(tmp_path / "other", rows().schema)
    other.add(rows("c"))
    (file,) = (tmp_path / "other/records.lance/data").iterdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size - 1, limits[1]))
    try:
        with pytest.raises(
            ArchiveError, match=r"not written in full; 2 records are safe"
        ) as caught:
            table.add(rows("c"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    again = RecordTable.open(tmp_path, pinned=True)
    assert sorted(again.read(["id"])["id"].to_pylist()) == ["a", "b"]
    table.add(rows("c"))
    again = RecordTable.open(tmp_path, pinned=True)
    assert (
        again.rows(["a", "b", "c"])["noise"].to_pylist() == rows("a", "b", "c")["noise"].to_pylist()
    )


def hit_every_call(faulty, task, start, root, tmp_path, check, most):
    """Let calls that change a file fail, one in each run of a task; return how many runs it ended.

    Args:
        most: Runs, spread evenly over the calls, unless every call is wanted.
    """
    ended = 0
    counted = fresh(start, tmp_path / "counted")
    calls = faulty.run(task, counted, root, fault=[0, 0, 0, 0])["calls"]
    shutil.rmtree(counted)
    step = 1 if EVERY else max(1, calls // most)
    for i, n in enumerate(range(1, calls + 1, step)):
        mode, number, again = FAULTS[i % 4]
        archive = fresh(start, tmp_path / "archive")
        said = faulty.run(task, archive, root, fault=[n, mode, number, again])
        where = f"call {n} of {calls}, fault {mode} {number}: {said}"
        assert "crash" not in said, where
        assert "\n" not in said.get("error", "")
        ended += said["killed"] or "error" in said
        try:
            check(archive)
        except (LandcueError, AssertionError) as error:
            raise AssertionError(where) from error
        shutil.rmtree(archive)
    return ended


def fresh(start, archive):
    if start is not None:
        shutil.copytree(start, archive)
    return archive


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"cannot mount a small disk: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_disk_full_names_what_is_safe_and_goes_on(small_disk, tmp_path, tools):
    root, archive = tmp_path / "source", small_disk / "archive"
    records = tools.write_images(root, [f"{i:03}.png" for i in range(200)])
    encoder = tools.PixelEncoder()
    with pytest.raises(ArchiveError) as caught:
        ingest(
            SourceImages(records, root),
            archive,
            encoder,
            options=EncodingOptions(batch_size=10, commit_every=20),
        )
    message = str(caught.value)
    assert "\n" not in message
    reader = ArchiveFolder.open(archive)
    assert 0 < reader.count < 200
    assert f"no space left; {reader.count} records are safe, free space" in message
    assert reader.verify() == ()
    reader.close()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    ingest(SourceImages(records, root), archive, encoder)
    assert ArchiveFolder.open(archive).columns().ids == tuple(record.id for record in records)

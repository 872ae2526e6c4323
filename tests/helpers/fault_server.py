"""Runs tasks that end badly, each in a process of its own; started once by ``test_crash.py``.

Reads one JSON order a line and answers with one. Each order is carried out by a fork of this
process, which has everything imported and never touched a table: a fork costs a fraction of a
start. A fork may be asked to die at a point of our own code (``point``), or, where ``faults.so`` is
preloaded, at any call that changes a file (``fault``).
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

import lancedb  # noqa: F401  # imported before the fork, not used before it
from PIL import Image

import pixel_encoder as tools
from landcue.archive.changes import compact, delete
from landcue.archive.encoding import EncodingOptions
from landcue.archive.import_columns import ImportColumns
from landcue.archive.importing import import_table
from landcue.archive.indexing import reembed_archive
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed, repair
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import LandcueError
from landcue.search import Filter, open_archive
from landcue.server.collections import Collections
from landcue.server.schemas.collections import CollectionFile
from landcue.server.transfer import import_collection

POINTS = {
    "copy_model": ("landcue.archive.layout", None, "copy_model"),
    "first manifest": ("landcue.archive.layout", None, "write_manifest"),
    "last manifest": ("landcue.archive.changes", None, "write_manifest"),
    "checksums": ("landcue.archive.changes", None, "write_checksums"),
    "create": ("landcue.archive.table", "RecordTable", "create"),
    "add": ("landcue.archive.table", "RecordTable", "add"),
    "replace": ("landcue.archive.table", "RecordTable", "replace"),
    "delete": ("landcue.archive.table", "RecordTable", "delete"),
    "compact": ("landcue.archive.table", "RecordTable", "compact"),
    "switch": ("landcue.archive.rebuild", None, "switch"),
    "sweep": ("landcue.archive.layout", None, "sweep"),
}


def update(archive, root, progress=None):
    return ingest(
        SourceImages(tools.second_state(root), root),
        archive,
        tools.PixelEncoder(),
        options=EncodingOptions(batch_size=4, commit_every=8),
        prune=True,
        model_folder=root.parent / "run",
        progress=progress,
    )


def index_scenes(archive, root, progress=None):
    options = SceneOptions(Length(32, meters=False), side=32)
    return ingest(
        SourceImages(cut_scenes(open_source(root), options).records, root, options),
        archive,
        tools.PixelEncoder(),
        options=EncodingOptions(batch_size=4, commit_every=8),
        progress=progress,
    )


def embed_again(archive, root, progress=None):
    return reembed(
        archive,
        tools.PixelEncoder(seed=5, dim=24, n_bits=12),
        options=EncodingOptions(batch_size=4, commit_every=8),
        model_folder=root.parent / "other run",
        progress=progress,
    )


def fit_space_again(archive, root, progress=None):
    return reembed_archive(archive, "builtin", dim=8, bits=8, batch_size=8)


def adapt_heads(archive, root):
    from landcue.training.adapt import AdaptOptions, adapt

    options = AdaptOptions(dim=8, n_bits=16, epochs=16, batch_size=32, lr=3e-2, folds=3)
    scenes, cache = root.parent / "scenes", archive / "cache"
    return adapt(
        scenes, archive / "adapted", model=root.parent / "base", options=options, cache=cache
    )


def mark_records(archive, root):
    """Mark records one by one; each line of the log is one that was acknowledged."""
    kept = Collections(archive / "picks.sqlite", 1 << 22)
    kept.check()
    id_ = kept.create("photos", "mine", None, [], None)["id"]
    with (archive / "log").open("a") as log:
        for i in range(40):
            member = {"id": f"{i:02}", "mark": "good", "note": "a" * 500, "labels": ["water"]}
            kept.change(id_, None, None, [member], None)
            log.write(f"{id_} {member['id']}\n")
            log.flush()


def import_picks(archive, root):
    """Import a collection with saved searches into the archive of a folder."""
    opened = open_archive(archive / "archive", cache=False)
    kept = Collections(archive / "picks.sqlite", 1 << 22)
    kept.check()
    given = CollectionFile.model_validate_json((root.parent / "picks.json").read_bytes())
    _, problems = import_collection(kept, opened, "photos", given, lambda data: data)
    assert not problems, problems


def run_watches(archive, root):
    watches = open_archive(archive / "archive", cache=False).watches
    watches.run()
    if "later" not in {one.name for one in watches.list()}:
        watches.add("later", None, where=Filter(labels=("water",)))


TASKS = {
    "space": fit_space_again,
    "adapt": adapt_heads,
    "collections": mark_records,
    "import collection": import_picks,
    "watches": run_watches,
    "update": update,
    "scenes": index_scenes,
    "reembed": embed_again,
    "delete": lambda archive, root: delete(archive, ["12.png", "13.png"]),
    "compact": lambda archive, root: compact(archive),
    "repair": lambda archive, root: repair(archive, apply=True),
    "import": lambda archive, root: import_table(
        root.parent / "table.parquet", archive, ImportColumns("embedding"), commit_every=8
    ),
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def install(point, when, count, folder):
    module_name, class_name, name = POINTS[point]
    owner = importlib.import_module(module_name)
    owner = getattr(owner, class_name) if class_name else owner
    genuine = getattr(owner, name)
    calls = 0

    def deadly(*args, **options):
        nonlocal calls
        calls += 1
        if calls < count:
            return genuine(*args, **options)
        if when == "<":
            die()
        if when == "~":
            threading.Thread(target=die_at_first_new_file, args=(folder,), daemon=True).start()
        result = genuine(*args, **options)
        die()
        return result

    setattr(owner, name, deadly)


def die_at_first_new_file(folder):
    before = set(folder.rglob("*"))
    while set(folder.rglob("*")) == before:
        pass
    die()


def carry_out(order):
    archive, root = Path(order["archive"]), Path(order["root"])
    options = {}
    if "point" in order:
        when, point = order["point"][0], order["point"][1:]
        if point == "progress":

            def progress(done, total):
                if done >= order["count"]:
                    threading.Timer(order["delay"], die).start() if "delay" in order else die()

            options["progress"] = progress
        else:
            install(point, when, order["count"], archive)
    if "after_seconds" in order:
        threading.Timer(order["after_seconds"], die).start()
    shim = ctypes.CDLL(None) if "fault" in order else None
    if shim is not None:
        n, mode, number, again = order["fault"]
        shim.faults_calls.restype = ctypes.c_longlong
        shim.faults_arm(os.fsencode(archive), ctypes.c_longlong(n), mode, number, again)
    said = {}
    try:
        TASKS[order["task"]](archive, root, **options)
    except LandcueError as error:
        said["error"] = str(error)
    except BaseException as error:
        said["crash"] = f"{type(error).__name__}: {error}"
    if shim is not None:
        said["calls"] = shim.faults_calls()
    return said


def load(task):
    """Load what takes long: once, before forks."""
    needed = {
        "adapt": ("landcue.training.adapt", "timm", "torch._dynamo"),
        "space": ("landcue.models.checkpoint", "landcue.models.fitted_codes", "onnxruntime"),
    }
    if task in needed:
        for name in needed[task]:
            importlib.import_module(name)
        importlib.import_module("landcue.codes.compiled").scan()


def main():
    warnings.simplefilter("ignore")  # a fork before any table is touched is safe
    Image.init()
    for line in sys.stdin:
        order = json.loads(line)
        load(order["task"])
        screen, answer = Path(order["scratch"]) / "stderr", Path(order["scratch"]) / "answer"
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            signal.alarm(120)  # a fork that hangs ends, and the test fails instead of waiting
            os.dup2(os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            said = json.dumps(carry_out(order))
            written = answer.with_suffix(".tmp")
            written.write_text(said)
            written.replace(answer)  # whole, or not there, where it is killed right now
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        said = json.loads(answer.read_text()) if answer.exists() else {}
        said |= {"killed": os.WIFSIGNALED(status), "screen": screen.read_text(errors="replace")}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

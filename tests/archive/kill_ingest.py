"""Run by test_crash.py in a process of its own: an ingest that kills itself at a given point.

Arguments: archive, source root, point, count. A point is a function of the archive package; the
process dies at its count-th call: before the work (``<``), after it (``>``), or as soon as that
call made a new file (``~``), in the middle of writing.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path

spec = importlib.util.spec_from_file_location(
    "pixel_encoder", Path(__file__).with_name("pixel_encoder.py")
)
tools = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tools)

POINTS = {
    "copy_model": ("landcue.archive.create", None, "copy_model"),
    "first manifest": ("landcue.archive.create", None, "write_manifest"),
    "last manifest": ("landcue.archive.settle", None, "write_manifest"),
    "seal": ("landcue.archive.settle", None, "write_seal"),
    "create": ("landcue.archive.table", "RecordTable", "create"),
    "add": ("landcue.archive.table", "RecordTable", "add"),
    "replace": ("landcue.archive.table", "RecordTable", "replace"),
    "delete": ("landcue.archive.table", "RecordTable", "delete"),
    "compact": ("landcue.archive.table", "RecordTable", "compact"),
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


def main(folder, root, point, count):
    when, point = point[0], point[1:]
    from landcue.archive.ingest import ingest

    progress = None
    if point == "progress":

        def progress(done, total):
            if done >= count:
                die()
    else:
        install(point, when, count, folder)
    encoder = tools.PixelEncoder()
    ingest(
        tools.second_state(root), folder, encoder, source_root=root, prune=True, batch_size=4,
        commit_every=8, model_folder=root.parent / "run", progress=progress,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))

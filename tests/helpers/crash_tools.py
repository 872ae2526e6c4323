"""Tasks in processes that die, and what must hold of the archives that they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from landcue.archive.archive import ArchiveFolder
from landcue.archive.verify import verify_archive, verify_files

HERE = Path(__file__).parent


class Server:
    """Carries out tasks in processes that may die."""

    def __init__(self, scratch, preload=None):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        if preload:
            env["LD_PRELOAD"] = str(preload)
        self.scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fault_server.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip

    def run(self, task, archive, root, **order):
        order |= {"task": task, "archive": str(archive), "root": str(root)}
        self._process.stdin.write(json.dumps(order | {"scratch": str(self.scratch)}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill_at(self, point, count, archive, root, task="update"):
        assert self.run(task, archive, root, point=point, count=count)["killed"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)


def whole(archive):
    """Check all of an archive and return its rows."""
    assert verify_archive(archive).problems == ()
    return rows_of(ArchiveFolder.open(archive))


def between(archive):
    """Check what a run left that died: no file and no row may look damaged. Return its rows."""
    assert not verify_files(archive).problems
    opened = ArchiveFolder.open(archive)
    assert opened.verify() == ()
    return rows_of(opened)


def rows_of(opened):
    """Return all rows of an archive, by id, as plain values; close it."""
    batches = opened.batches(opened.manifest.schema.names) if opened.count else []
    rows = [row for batch in batches for row in batch.to_pylist()]
    opened.close()
    return sorted(rows, key=lambda row: row["id"])

"""Opens, verifies and searches archives that may be damaged, each in a process of its own.

Reads the path of one archive a line and answers with one JSON line: what is wrong by ``verify``,
and the answers of searches or the error. A process that dies leaves its signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import lancedb  # noqa: F401  # imported before the fork, not used before it
from PIL import Image

import landcue
import landcue.data.reader
import landcue.search.archive
import landcue.search.local
import landcue.search.planner
from landcue.archive.verify import verify_archive
from landcue.codes import compiled, cue_index, hamming  # noqa: F401
from landcue.errors import LandcueError

MODES = ("embedding", "code", "cue", "two-stage")


def look(archive):
    said = {"problems": []}
    try:
        found = verify_archive(archive).problems
        said["problems"] = [(problem.where, problem.what) for problem in found]
    except LandcueError as error:
        said["verify"] = str(error)
    try:
        with landcue.open(archive, cache=True) as opened:
            ids = ("03.png", "21.png")
            said["hits"] = [
                [(hit.id, hit.score, hit.labels) for hit in opened.search(id_, k=9, mode=mode)]
                for id_ in ids
                for mode in MODES
            ]
            said["records"] = [str(opened.record(id_)) for id_ in ids]
            said["thumbnails"] = [opened.thumbnail(id_).hex() for id_ in ids]
    except LandcueError as error:
        said["error"] = str(error)
    except BaseException as error:
        said["crash"] = f"{type(error).__name__}: {error}"
    return said


def main():
    warnings.simplefilter("ignore")  # a fork before any table is touched is safe
    compiled.scan(), Image.init()  # once, and not in each process
    answer = Path(sys.argv[1])
    for line in sys.stdin:
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            signal.alarm(60)  # a process that hangs ends, and the test fails instead of waiting
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                answer.write_text(json.dumps(look(Path(line.rstrip("\n")))))
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        said = json.loads(answer.read_text()) if answer.exists() else {}
        said["signal"] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

"""Run by test_ingest_scenes.py in a process of its own: an ingest of scenes that is killed.

Arguments: archive, source root, number of chips after which the process kills itself; 0: never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pixel_encoder as tools
from landcue.archive.ingest import ingest
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes


def main(folder, root, count):
    def progress(done, total):
        print(done, flush=True)
        if count and done >= count:
            os.kill(os.getpid(), signal.SIGKILL)

    options = SceneOptions(Length(32, metres=False), side=32)
    scenes = cut_scenes(open_source(root), options)
    ingest(
        scenes.records, folder, tools.PixelEncoder(), source_root=root, scenes=options,
        batch_size=4, commit_every=8, progress=progress,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

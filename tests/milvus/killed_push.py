"""Push an archive, and die by SIGKILL before or after the n-th write: run by a test."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from landcue.archive.archive import ArchiveFolder
from landcue.milvus import push as module
from landcue.milvus.link import Address, Link


def main() -> None:
    archive, address, count, when = sys.argv[1:]
    left, counting = int(count), threading.Lock()

    def deadly(name):
        real = getattr(Link, name)

        def call(self, *args, **options):
            nonlocal left
            with counting:
                left -= 1
                last = left == 0
            if last and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            found = real(self, *args, **options)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        setattr(Link, name, call)

    for name in ("write", "delete", "make"):
        deadly(name)
    module.push(ArchiveFolder.open(Path(archive)), Address.parse(address), rows=16)


if __name__ == "__main__":
    main()

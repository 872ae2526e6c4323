"""``torchrun … -m landcue.train CONFIG.yaml --out RUN``: ``landcue train`` in every process."""

from __future__ import annotations

import contextlib
import os
import sys


def main() -> None:
    """Run ``landcue train`` with this process's arguments; the first one prints the result."""
    from landcue.cli.main import main as landcue

    sys.argv = ["landcue", "train", *sys.argv[1:]]
    with contextlib.ExitStack() as held:
        if os.environ.get("RANK", "0") != "0":
            quiet = held.enter_context(open(os.devnull, "w"))
            held.enter_context(contextlib.redirect_stdout(quiet))
        landcue()


if __name__ == "__main__":
    main()

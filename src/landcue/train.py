"""``torchrun … -m landcue.train CONFIG.yaml --out RUN``: ``landcue train`` in every process."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``landcue train`` with this process's arguments."""
    from landcue.cli.main import main as landcue

    sys.argv = ["landcue", "train", *sys.argv[1:]]
    landcue()


if __name__ == "__main__":
    main()

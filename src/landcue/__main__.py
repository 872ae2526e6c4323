"""``python -m landcue`` is ``landcue``; ``torchrun … -m landcue train`` runs it in each process."""

from __future__ import annotations

from landcue.cli.main import main

if __name__ == "__main__":
    main()

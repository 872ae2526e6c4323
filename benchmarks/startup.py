"""How long ``landcue --help`` takes, against an empty Python and an ``import torch``.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time


def best_of(command: list[str], times: int = 7) -> float:
    """Return the shortest wall time in seconds."""
    seconds: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Print the three times and the ratios."""
    empty = best_of([sys.executable, "-c", "pass"])
    ours = best_of([sys.executable, "-m", "landcue.cli.main", "--help"])
    torch = best_of([sys.executable, "-c", "import torch"], times=3)
    print(f"python -c pass    {empty:.3f} s")
    print(f"landcue --help    {ours:.3f} s   {ours / empty:.1f}x an empty Python")
    print(f"import torch      {torch:.3f} s   {torch / ours:.1f}x landcue --help")


if __name__ == "__main__":
    main()

"""Time of evaluating a saved search on new records.

    python benchmarks/watches.py [--new 100000] [--old 100000] [--searches 1 10]

Each search has an embedding and a filter, and about one in a thousand of the new records is a hit.
Numbering the new records, which all searches share, storing the hits and reading them again are
included; opening the archive is not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import landcue
from landcue.search import Filter
from landcue.search.watch import watch_file

sys.path.append(str(Path(__file__).parents[1] / "tests/helpers"))
import made_archive


def main() -> None:
    """Print a row for each number of searches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new", type=int, default=100_000)
    parser.add_argument("--old", type=int, default=100_000)
    parser.add_argument("--searches", type=int, nargs="+", default=[1, 10])
    options = parser.parse_args()
    sizes = made_archive.Sizes(dim=256, n_bits=64)
    print("searches  new records    hits  seconds  seconds of CPU")
    for searches in options.searches:
        with tempfile.TemporaryDirectory() as folder:
            old, new = Path(folder, "old"), Path(folder, "new")
            for path, n in ((old, options.old), (new, options.old + options.new)):
                rows = [made_archive.plain_record(i) for i in range(n)]
                encoding = made_archive.random_encoding(0, n, sizes)
                made_archive.make_archive(path, n, sizes=sizes, facts=rows, encoding=encoding)
            archive = landcue.open(old)
            queries = archive.columns().embedding[:searches]
            for i, query in enumerate(queries):
                where = Filter(expression="not ships")
                archive.watches.add(f"search {i}", query[None], where=where, min_score=0.19)
            # The larger archive has the same records and more.
            watch_file(old).rename(watch_file(new))
            archive = landcue.open(new)
            began, cpu = time.perf_counter(), time.process_time()
            hits = len(archive.watches.run().hits)
            took = time.perf_counter() - began, time.process_time() - cpu
            print(f"{searches:8}  {options.new:11,}  {hits:6,}  {took[0]:7.2f}  {took[1]:.2f}")


if __name__ == "__main__":
    main()

"""How exact code search scales: flat and cue-pruned scans from a million to a billion records.

    python benchmarks/scale_codes.py --rows 1000000 10000000 --labels LandUse_Multilabeled.txt
    python benchmarks/scale_codes.py --rows 1000000000 --order grouped --labels ...

Every record has a label code and a hash code of 64 bits. Label codes are rows drawn from a real
17-label table (tab separated, a header line, then one image a line). Hash codes are made up:

* ``random``: independent bits, which say nothing about labels;
* ``correlated``: each label has a random pattern, a label code's center is the majority of the
  patterns of its labels, and every bit of a record differs from its center with probability 1/8.

Queries are drawn like records. ``--order shuffled`` lays records out as they were drawn;
``grouped`` in the order of their label codes and rings, so that the cue-pruned index shares the
flat index's memory: the way to a billion on one machine.

The flat scan compares hash codes alone, 8 bytes a record: less than a full scan of the weighted
distance must do. One query is also answered in NumPy, block by block, and compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from landcue.codes.cue import CueCodes
from landcue.codes.cue_index import CueIndex
from landcue.codes.engine import merge, to_answer, to_keys
from landcue.codes.groups import LabelGroups, group_by_label
from landcue.codes.hamming import CodeIndex
from landcue.codes.packing import pack_bits

BITS = 64
BLOCK = 1 << 20


class World:
    """Label codes with their shares, and hash codes drawn for them.

    Attributes:
        labels: Distinct label rows, 0 and 1 ``[G, L]``, in the order of their packed numbers.
        shares: Probability of each ``[G]``.
    """

    def __init__(self, table: Path, kind: str, rng: np.random.Generator) -> None:
        lines = table.read_text().splitlines()[1:]
        rows = np.array([line.split("\t")[1:] for line in lines if line.strip()], np.uint8)
        packed = group_by_label(pack_bits(rows), rows.shape[1])
        self.n_label_bits = rows.shape[1]
        self.packed = packed.labels
        self.labels = np.unpackbits(packed.labels, axis=1, count=rows.shape[1], bitorder="little")
        self.shares = np.diff(packed.edges) / len(rows)
        self._kind, self._rng = kind, rng
        patterns = rng.choice([-1, 1], (rows.shape[1], BITS))
        tie = rng.choice([-0.5, 0.5], BITS)
        centers = self.labels.astype(int) @ patterns + tie > 0
        self._centers = pack_bits(centers).view(np.uint64)[:, 0]

    def groups(self, n: int, order: str) -> np.ndarray | LabelGroups:
        """Draw the label code of n records: their numbers ``[n]``, or where each group lies."""
        if order == "shuffled":
            return self._rng.choice(len(self.shares), n, p=self.shares).astype(np.uint16)
        counts = self._rng.multinomial(n, self.shares)
        edges = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return LabelGroups(self.packed, edges, np.empty(0, np.uint32), self.n_label_bits)

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Draw hash codes uint64 ``[n]`` of records with these label codes."""
        words = self._rng.integers(0, 2**64, numbers.size, dtype=np.uint64)
        if self._kind == "random":
            return words
        for _ in range(2):
            words &= self._rng.integers(0, 2**64, numbers.size, dtype=np.uint64)
        return words ^ self._centers[numbers]

    def queries(self, n: int) -> CueCodes:
        """Draw queries as records are drawn."""
        numbers = self._rng.choice(len(self.shares), n, p=self.shares)
        code = self.codes(numbers).view(np.uint8).reshape(n, 8)
        return CueCodes(self.packed[numbers], code, self.n_label_bits, BITS)


def fill(world: World, groups: np.ndarray | LabelGroups, n: int) -> np.ndarray:
    """Return hash codes uint8 ``[n, 8]``, drawn block by block."""
    codes = np.empty(n, np.uint64)
    for first in range(0, n, BLOCK):
        stop = min(first + BLOCK, n)
        if isinstance(groups, LabelGroups):
            sizes = np.diff(np.clip(groups.edges, first, stop))
            numbers = np.repeat(np.arange(len(sizes)), sizes)
        else:
            numbers = groups[first:stop]
        codes[first : first + BLOCK] = world.codes(numbers)
    return codes.view(np.uint8).reshape(n, 8)


def in_numpy(codes: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Answer one query ``[1, 8]`` block by block."""
    words, word = codes.view(np.uint64)[:, 0], query.view(np.uint64)[0, 0]
    best = np.empty(0, np.uint64)
    for first in range(0, len(words), BLOCK):
        distances = np.bitwise_count(words[first : first + BLOCK] ^ word)
        keys = to_keys(distances, np.arange(first, first + distances.size))
        best = merge([best[None], keys[None]], k)[0]
    return to_answer(best[None])


def timed(search: Callable[[int], object], repeats: int) -> tuple[float, float, float]:
    """Return the least and the median milliseconds of ``search(i)``, after an unmeasured call.

    The third value is the median of its processor time, of all threads together.
    """
    search(0)
    taken, used = list[float](), list[float]()
    for i in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        search(i)
        taken.append((time.perf_counter() - start) * 1e3)
        used.append((time.process_time() - cpu) * 1e3)
    return min(taken), float(np.median(taken)), float(np.median(used))


def describe_machine() -> str:
    """Return processor, cores, memory and load in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "?")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    cores = len(os.sched_getaffinity(0))
    return f"{name}, {cores} usable cores, {free_gb():.1f} GB free, load {load}"


def resident_gb() -> float:
    """Return this process's memory in GB, files mapped by it included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def large_pages() -> float:
    """Return the share of this process's memory that lies in large pages."""
    sizes = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
    kb = {name: int(size) for name, size, *_ in sizes}
    return (kb.get("AnonHugePages:", 0) + kb.get("FilePmdMapped:", 0)) / kb["Rss:"]


def free_gb() -> float:
    """Return the memory that can be had without swapping, in GB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit("/proc/meminfo tells no MemAvailable")


def show(title: str, least: float, median: float, cpu: float, note: str = "") -> None:
    """Print one measurement in milliseconds."""
    print(
        f"{title:44} least {least:10.3f} ms  median {median:10.3f} ms  CPU {cpu:10.3f} ms  {note}",
        flush=True,
    )


def measure(n: int, options: argparse.Namespace) -> None:
    """Build n records, check one answer, and time all searches."""
    rng = np.random.default_rng(options.seed)
    world = World(options.labels, options.kind, rng)
    need = n * (12 if options.order == "grouped" else 8 + 8 + 4 + 3 + 2 + 8) / 1e9 + 0.5
    if need > free_gb():
        raise SystemExit(f"{n:,} records need {need:.1f} GB, {free_gb():.1f} GB are free")
    before = resident_gb()
    start = time.perf_counter()
    groups = world.groups(n, options.order)
    codes = fill(world, groups, n)
    print(f"\n{n:,} records, {options.kind} hash codes, {options.order}, top-{options.k}")
    print(f"made up in {time.perf_counter() - start:.1f} s", flush=True)

    pruned = None
    if isinstance(groups, LabelGroups):  # first, because it gives the records their rows
        pruned = grouped_index(groups, codes, options)

    start = time.perf_counter()
    flat = CodeIndex(codes, BITS, threads=options.threads)
    built = time.perf_counter() - start
    held = (resident_gb() - before) / n * 1e9
    print(
        f"flat index in {built:.3f} s, {held:.1f} bytes a record in memory, "
        f"{large_pages():.0%} of it in large pages",
        flush=True,
    )
    queries = world.queries(max(options.batch, options.repeats))
    singles = [queries.take(slice(i, i + 1)) for i in range(len(queries))]
    expected = in_numpy(codes, singles[0].hash, options.k)
    found = flat.search(singles[0].hash, options.k)
    if not all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)):
        raise SystemExit("the flat scan and NumPy disagree")

    one = timed(lambda i: flat.search(singles[i].hash, options.k), options.repeats)
    show("flat, one query", *one, f"{n * 8e-6 / one[0]:.1f} GB/s at best")
    batch = queries.hash[: options.batch]
    many = timed(lambda _: flat.search(batch, options.k), max(1, options.repeats // 5))
    least, median, cpu = (value / options.batch for value in many)
    title = f"flat, a query in a batch of {options.batch}"
    show(title, least, median, cpu, f"{one[0] / least:.2f}x")
    mask = np.zeros(n, np.bool_)
    mask[::2] = True
    half = timed(lambda i: flat.search(singles[i].hash, options.k, mask), options.repeats)
    show("flat, every second record allowed", *half, f"costs {half[0] / one[0]:.2f}x")
    if options.file:
        measure_file(flat, singles, one[0], options)

    if pruned is None:
        start = time.perf_counter()
        cues = CueCodes(world.packed[groups], codes, world.n_label_bits, BITS)
        pruned = CueIndex(cues, threads=options.threads)
        print(f"cue-pruned index in {time.perf_counter() - start:.3f} s", flush=True)
    for weight in options.weights:
        times = timed(
            lambda i: pruned.search(singles[i], options.k, weight=weight),  # noqa: B023
            options.repeats,
        )
        share = pruned.visited(queries, options.k, weight=weight).mean() / n
        note = f"{one[1] / times[1]:.2f}x by medians, {share:.1%} visited"
        show(f"cue-pruned, weight {weight}", *times, note)
    times = timed(
        lambda i: pruned.search(singles[i], options.k, mask, weight=options.weights[-1]),
        options.repeats,
    )
    show(f"cue-pruned, weight {options.weights[-1]}, half allowed", *times)


def grouped_index(groups: LabelGroups, codes: np.ndarray, options: argparse.Namespace) -> CueIndex:
    """Index records that come group by group, and put them in the order of their rings."""
    start = time.perf_counter()
    pruned = CueIndex.from_groups(groups, codes, BITS, reorder=True, threads=options.threads)
    print(f"cue-pruned index in {time.perf_counter() - start:.3f} s", flush=True)
    return pruned


def measure_file(
    flat: CodeIndex, singles: list[CueCodes], flat_ms: float, options: argparse.Namespace
) -> None:
    """Save the index, open it by memory map, and search it there."""
    with tempfile.TemporaryDirectory(dir=options.file) as folder:
        path = Path(folder) / "codes.bin"
        start = time.perf_counter()
        flat.save(path)
        saved = time.perf_counter() - start
        start = time.perf_counter()
        opened = CodeIndex.open(path, threads=options.threads)
        ready = time.perf_counter() - start
        opened.search(singles[0].hash, options.k)
        first = time.perf_counter() - start
        print(
            f"saved in {saved:.2f} s, {path.stat().st_size / len(flat):.2f} bytes a record; "
            f"opened in {ready * 1e3:.2f} ms, first answer after {first * 1e3:.1f} ms"
        )
        times = timed(lambda i: opened.search(singles[i].hash, options.k), options.repeats)
        show("flat, one query, memory map", *times, f"costs {times[0] / flat_ms:.2f}x")


def main() -> None:
    """Run every size, from small to large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--labels", type=Path, required=True, help="a table of 0 and 1")
    parser.add_argument("--kind", choices=["random", "correlated"], default="correlated")
    parser.add_argument("--order", choices=["shuffled", "grouped"], default="shuffled")
    parser.add_argument("--weights", type=int, nargs="+", default=[1, 4, 65])
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--file", type=Path, help="folder with room for the codes, to be mapped")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if min(*options.rows, options.k, options.batch, options.repeats) < 1:
        parser.error("--rows, --k, --batch and --repeats must be at least 1")
    print(describe_machine())
    for n in sorted(options.rows):
        measure(n, options)


if __name__ == "__main__":
    main()

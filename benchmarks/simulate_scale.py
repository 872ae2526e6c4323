"""Simulate ingest and search on 1 to 100 nodes, from figures measured on one.

    python benchmarks/simulate_scale.py [--figures docs/results/scale/figures.json]

A node is the machine that was measured. Ingest is simulated block by block: nodes read chips from
one object store whose bandwidth they share, encode them at speeds that differ a little, die now and
then (another node encodes their block again) and hand rows to one driver that writes them in turn.
Search is arithmetic: records are dealt out evenly, each node scans its share, the answer is merged
from all. What was not measured is an assumption, printed with the tables.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = Path(__file__).parents[1] / "docs" / "results" / "scale" / "figures.json"
NODES = (1, 2, 4, 10, 20, 50, 100)
CHIPS = (10**6, 10**8, 10**9, 10**10)
BLOCKS = 40_000


@dataclass(frozen=True, slots=True)
class Ingest:
    """What a simulated ingest took.

    Attributes:
        seconds: From the first read to the last row written.
        bottleneck: ``nodes``, ``store`` or ``driver``: what worked without a pause.
        sent_gbit: Mean rate at which rows reached the driver, Gbit/s.
        read_gbit: Mean rate at which the store was read, Gbit/s.
    """

    seconds: float
    bottleneck: str
    sent_gbit: float
    read_gbit: float


def simulate_ingest(nodes: int, chips: int, figures: dict[str, Any], seed: int = 0) -> Ingest:
    """Run blocks of chips through nodes, store and driver.

    Every block takes the node's own pace, or the store's when all nodes together ask for more than
    it gives. The driver writes one block at a time.
    """
    rng = np.random.default_rng(seed)
    rate, write = figures["images_per_second"], figures["rows_per_second"]
    store = figures["store_gbit"] * 1e9 / 8 / figures["chip_bytes"]
    blocks = min(BLOCKS, math.ceil(chips / 512))
    size = chips / blocks
    pace = rate * rng.normal(1, figures["speed_spread"], nodes).clip(0.5, 1.5)
    pace *= min(1.0, store / pace.sum())
    failure = size / rate / (figures["node_mtbf_hours"] * 3600)
    free = [(figures["start_seconds"], node) for node in range(nodes)]
    heapq.heapify(free)
    left, driver, waited, busy = blocks, 0.0, 0.0, 0.0
    while left:
        begin, node = heapq.heappop(free)
        took = size / pace[node]
        if rng.random() < failure:
            lost = rng.random() * took + figures["restart_seconds"]
            heapq.heappush(free, (begin + lost, node))
            continue
        end = begin + took
        waited += max(0.0, driver - end)
        driver = max(driver, end) + size / write
        busy += size / write
        # A node may be as many blocks ahead of the driver as the queue is long.
        heapq.heappush(free, (max(end, driver - figures["queue_blocks"] * size / write), node))
        left -= 1
    if busy > 0.9 * driver:
        bottleneck = "driver"
    elif nodes * rate > store:
        bottleneck = "store"
    else:
        bottleneck = "nodes"
    total = 8 * chips / driver / 1e9
    return Ingest(driver, bottleneck, total * figures["row_bytes"], total * figures["chip_bytes"])


def search(nodes: int, records: int, figures: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of one query, and bytes of memory a node, when records are dealt out."""
    share = records / nodes
    fan = figures["rtt_seconds"] * (nodes > 1) + nodes * 100 * 16 * 8 / 1e9
    return {
        "flat codes": share * 8 / (figures["scan_gbytes"] * 1e9) + fan,
        "codes in a batch": share / figures["batch_codes_per_second"] + fan,
        "cue-pruned": share * figures["cue_share"] * 8 / (figures["scan_gbytes"] * 1e9) + fan,
        "code memory": share * 8.1,
        "float memory": share * 4 * figures["dim"],
    }


def duration(seconds: float) -> str:
    """Write seconds as a person would."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * size or (unit == "s" and seconds >= 1):
            return f"{seconds / size:.{0 if seconds >= 20 * size else 1}f} {unit}"
    return f"{seconds * 1000:.3g} ms"


def memory(size: float) -> str:
    """Write bytes as a person would."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def main() -> None:
    """Print the figures and the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    figures = json.loads(parser.parse_args().figures.read_text())
    print("| figure | value | from |\n| --- | --- | --- |")
    for entry in figures.values():
        print(f"| {entry['what']} | {entry['value']:,g} {entry['unit']} | {entry['from']} |")
    values = {name: entry["value"] for name, entry in figures.items()}

    print("\nIngest: time, and what limits it.\n")
    print(
        "| nodes | " + " | ".join(f"{chips:,} chips" for chips in CHIPS) + " | read | to driver |"
    )
    print("| --- " * (len(CHIPS) + 3) + "|")
    for nodes in NODES:
        runs = [simulate_ingest(nodes, chips, values) for chips in CHIPS]
        cells = [f"{duration(run.seconds)}, {run.bottleneck}" for run in runs]
        rates = f"{runs[-1].read_gbit:.3g} Gbit/s | {runs[-1].sent_gbit:.3g} Gbit/s"
        print(f"| {nodes} | {' | '.join(cells)} | {rates} |")

    for records in (10**9, 10**10):
        print(f"\nSearch among {records:,} records, exact top 100 of 64-bit codes.\n")
        names = list(search(1, records, values))
        print("| nodes | " + " | ".join(names) + " |")
        print("| --- " * (len(names) + 1) + "|")
        for nodes in NODES:
            found = search(nodes, records, values)
            cells = [memory(v) if "memory" in n else duration(v) for n, v in found.items()]
            print(f"| {nodes} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""Time and memory of every loss, forward and backward, beside pytorch-metric-learning's.

    python benchmarks/losses.py [--sizes 256 1024 4096] [--only marc supcon] [--large] [--system]

All see the same random unit vectors and the same labels, 1 to 7 of 17 per image. Single-label
losses, theirs included, get the first of them as the class. Rounds are interleaved, and the best
counts. Memory is what a fresh process takes at its peak beyond what it held before. Freed memory
is kept in the process, as in training; ``--system`` leaves that to the C library.
Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_metric_learning as pml
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as library
from torch import Tensor

from landcue.losses.registry import LOSSES, create_loss
from landcue.losses.statistics import LabelStatistics
from landcue.training.state import keep_freed_memory

DIM, N_LABELS = 128, 17
MARC: dict[str, dict[str, Any]] = {
    "marc rarity": {"plr": "rarity_jaccard", "weighting": "none"},
    "marc pairwise": {"plr": "pairwise"},
    "marc count": {"norm": "count"},
    "marc row": {"alpha": 0.5, "mode": "row"},
}
LARGE = ("supcon", "marc", "marc row")
OURS = "ours  "
THEIRS = "theirs"
Loss = Callable[[Tensor, Tensor], Tensor]


def batch(n: int) -> tuple[Tensor, Tensor]:
    """Draw unit vectors ``[n, 128]`` and labels ``[n, 17]``, frequent ones and rare ones."""
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(n, DIM, generator=generator), dim=1)
    rates = 0.6 * 0.8 ** torch.arange(N_LABELS)  # 60 % down to 2 %
    scores = torch.rand(n, N_LABELS, generator=generator) - rates
    order = scores.argsort(1).argsort(1)
    return z, (((scores < 0) & (order < 7)) | (order == 0)).long()


def contestants() -> dict[str, Callable[[Tensor], Loss]]:
    """Return by name what makes a loss from the batch's labels."""

    def ours(name: str, options: dict[str, Any]) -> Callable[[Tensor], Loss]:
        return lambda y: create_loss(name, options, LabelStatistics.from_labels(y), DIM)

    made = {f"{OURS} {name}": ours(name, {}) for name in LOSSES}
    made |= {f"{OURS} {name}": ours("marc", options) for name, options in MARC.items()}
    made[f"{THEIRS} SupConLoss"] = lambda _: _single(library.SupConLoss(temperature=0.1))
    multi = getattr(library, "MultiSupConLoss", None)  # in releases from version 3 on
    if multi:
        made[f"{THEIRS} MultiSupConLoss"] = lambda _: _boolean(multi())
    for name in ("triplet", "multi_similarity", "n_pair", "contrastive", "proxy_nca"):
        del made[f"{OURS} {name}"]  # the library's own, in our module
    return made


def _single(loss: Any) -> Loss:
    return lambda z, y: loss(z, y.argmax(1))


def _boolean(loss: Any) -> Loss:
    return lambda z, y: loss(z, y.bool())


def seconds(loss: Loss, z: Tensor, y: Tensor) -> float:
    """Time one forward and backward pass from a fresh leaf."""
    leaf = z.clone().requires_grad_()
    start = time.perf_counter()
    loss(leaf, y).backward()
    return time.perf_counter() - start


def peak_bytes(name: str, n: int, keep: bool) -> int:
    """Return what one forward and backward pass takes at its peak; run it in a fresh process."""
    if keep:
        keep_freed_memory()
    z, y = batch(n)
    loss = contestants()[name](y)
    seconds(loss, *batch(64))  # starts the threads and what else is made once
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _resident("VmRSS")
    seconds(loss, z, y)
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not report its memory in /proc")


def best_seconds(names: list[str], n: int, rounds: int) -> dict[str, float]:
    """Time each loss on one batch of n images, in turn; the best of some rounds.

    Each is called once before it is timed: what ran before it must not decide what lies in cache.
    """
    z, y = batch(n)
    made = {name: build(y) for name, build in contestants().items() if name in names}
    best = dict.fromkeys(made, float("inf"))
    for _ in range(rounds):
        for name, loss in made.items():
            seconds(loss, z, y)
            best[name] = min(best[name], seconds(loss, z, y))
    return best


def show(n: int, best: dict[str, float], peaks: dict[str, int]) -> None:
    """Print time, memory and their ratios to our SupCon."""
    print(f"\nn = {n:,}, {float(batch(n)[1].sum(1).float().mean()):.1f} labels per image")
    base = f"{OURS} supcon"
    for name, time_ in best.items():
        print(f"{name:<32} {time_ * 1e3:9.1f} ms {time_ / best[base]:6.2f}x "
              f"{peaks[name] / 2**20:9.0f} MiB {peaks[name] / max(peaks[base], 1):6.2f}x",
              flush=True)  # fmt: skip


def in_fresh_processes(names: list[str], n: int, keep: bool) -> Iterator[int]:
    """Measure the memory of each loss in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pytorch_metric_learning.losses", __name__])
    with context.Pool(1, maxtasksperchild=1) as pool:
        yield from pool.imap(_peak, [(name, n, keep) for name in names])


def _peak(task: tuple[str, int, bool]) -> int:
    return peak_bytes(*task)


def main() -> None:
    """Print one table per batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--only", nargs="+", help="Losses by name; supcon always runs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="Memory at 16,384 images only.")
    parser.add_argument("--system", action="store_true", help="Give freed memory back.")
    args = parser.parse_args()
    if not args.system:
        keep_freed_memory()
    names = list(contestants())
    if args.only:
        names = [n for n in names if n.split(" ", 1)[1].strip() in {"supcon", *args.only}]
    kept = "given back" if args.system else "kept"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
          f"{torch.__version__}, pytorch-metric-learning {pml.__version__}, load "
          f"{os.getloadavg()[0]:.1f}, freed memory {kept}")  # fmt: skip
    if args.large:
        chosen = [f"{OURS} {name}" for name in LARGE]
        peaks = in_fresh_processes(chosen, 16_384, not args.system)
        for name, peak in zip(chosen, peaks, strict=True):
            print(f"n = 16,384   {name:<32} {peak / 2**20:7.0f} MiB", flush=True)
        return
    times = {n: best_seconds(names, n, args.rounds) for n in args.sizes}
    print("timed; memory follows, which needs no idle machine", flush=True)
    for n, best in times.items():
        peaks = in_fresh_processes(list(best), n, not args.system)
        show(n, best, dict(zip(best, peaks, strict=True)))


if __name__ == "__main__":
    main()

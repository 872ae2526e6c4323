"""What every exact search shares: engine, threads, keys, and the order (distance, row)."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.files import core_count

Engine = Literal["auto", "numba", "numpy"]
MAX_ROWS = 2**32 - 1
ROW_BITS = 32
_ROW_BITS = np.uint64(ROW_BITS)
_ROW_MASK = np.uint64(MAX_ROWS)


def load_compiled(engine: Engine) -> ModuleType | None:
    """Return the module of compiled scans, or ``None`` where NumPy must do."""
    if engine not in ("auto", "numba", "numpy"):
        raise UsageError(f"unknown search engine {engine!r}: pass 'auto', 'numba' or 'numpy'")
    if engine == "numpy" or (engine == "auto" and os.environ.get("LANDCUE_NUMBA") == "0"):
        return None
    try:
        from landcue.codes import compiled

        if compiled.usable():
            return compiled
    except ImportError:
        pass
    if engine == "numba":
        raise UsageError("numba is missing or disabled: install numba, or use engine='numpy'")
    return None


def check_size(n: int) -> None:
    """Refuse more rows than a key can number."""
    if n > MAX_ROWS:
        raise UsageError(f"{n:,} codes are too many for one index: split them at {MAX_ROWS:,}")


def check_threads(threads: int | None) -> int:
    """Return how many threads to use: by default the cores this process may run on."""
    if threads is not None and threads < 1:
        raise UsageError(f"a search cannot run on {threads} threads: pass 1 or more")
    return core_count() if threads is None else threads


def for_each(run: Callable[[int], None], count: int, threads: int) -> None:
    """Call ``run(0)`` to ``run(count - 1)``, side by side if there are threads for it."""
    threads = min(threads, count)
    if threads <= 1:
        for item in range(count):
            run(item)
        return
    items = itertools.count()

    def work() -> None:
        while (item := next(items)) < count:
            run(item)

    helpers = [_helpers().submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    """Return the threads that help; to start them anew takes as long as a short scan."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="scan")


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not outlive a fork


def buffer_size(k: int, n: int) -> int:
    """Return how many keys a scan of ``n`` rows notes before it keeps the k least of them."""
    return min(k + k // 4 + 8, n)


def to_keys(
    distances: npt.NDArray[Any], rows: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.uint64]:
    """Return ``distance << 32 | row``: one number with the order (distance, row)."""
    return (distances.astype(np.uint64) << _ROW_BITS) | rows.astype(np.uint64)


def merge(parts: list[npt.NDArray[np.uint64]], k: int) -> npt.NDArray[np.uint64]:
    """Return the k least keys ``[q, min(k, ...)]`` of keys ``[q, ...]``, unsorted."""
    keys = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return np.partition(keys, k - 1, axis=1)[:, :k] if keys.shape[1] > k else keys


def to_answer(
    keys: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return distances and rows ``[q, k]`` of keys ``[q, k]``, in the order (distance, row)."""
    ordered = np.sort(keys, axis=1)
    distances = (ordered >> _ROW_BITS).astype(np.int32)
    ordered &= _ROW_MASK
    return distances, ordered.view(np.int64)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a contiguous, read-only view: the one array type the scans are compiled for."""
    flags = array.flags
    if type(array) is not np.ndarray or not (flags.c_contiguous and flags.aligned):
        array = np.require(array, requirements=["C", "A", "E"])
    view = array.view()
    view.flags.writeable = False
    return view


_GROUP = 64


def check_k(k: object) -> int:
    """Return ``k`` as a plain int."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UsageError(f"k is {k!r}: ask for a whole number of hits, 1 or more")
    return int(k)


def check_mask(mask: npt.NDArray[np.bool_] | None, n: int) -> int:
    """Return how many of ``n`` rows the filter ``mask`` allows (all of them without one)."""
    check_mask_shape(mask, n)
    return n if mask is None else int(np.count_nonzero(mask))


def check_mask_shape(mask: npt.NDArray[np.bool_] | None, n: int) -> None:
    """Refuse a filter that is not one bool for each of ``n`` rows."""
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != (n,)):
        raise UsageError(
            f"the filter is {mask.dtype} {list(mask.shape)}: pass one bool per record, [{n}]"
        )


def reach(distances: npt.NDArray[Any], k: int) -> float:
    """Return a value that at least k of ``[n]`` distances do not exceed, k <= n.

    It is the k-th smallest, or a little more where that is much cheaper to find.
    """
    n_groups = distances.size // _GROUP
    if n_groups >= 8 * k:
        # The least of k groups are k distances, and far fewer of them need to be ordered.
        distances = distances[: n_groups * _GROUP].reshape(_GROUP, n_groups).min(axis=0)
    return np.partition(distances, k - 1)[k - 1].item()


def smallest(distances: npt.NDArray[Any], k: int) -> npt.NDArray[np.int64]:
    """Return the positions int64 ``[min(k, n)]`` of the smallest of ``[n]`` distances.

    They are ordered by (distance, position), also where a tie straddles the k-th place.
    """
    if k < distances.size:
        near = np.flatnonzero(distances <= reach(distances, k))
    else:
        near = np.arange(distances.size)
    some = distances[near]
    if some.dtype == np.float32 and some.size <= MAX_ROWS:  # sorting numbers is faster
        bits = (some + np.float32(0)).view(np.uint32)  # without a negative zero
        bits = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
        order = to_answer(np.sort(to_keys(bits, np.arange(some.size)))[None, :k])[1][0]
    else:
        order = np.argsort(some, kind="stable")[:k]
    return near[order].astype(np.int64, copy=False)

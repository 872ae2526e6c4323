"""Blocks of objects that threads share."""

from __future__ import annotations

import threading

import pytest

from landcue.data import object_ranges
from landcue.data.object_ranges import RUN, Blocks
from landcue.errors import StoreError


class Store:
    """Gives blocks of ten bytes and notes which were asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, numbers):
        self.asked.append(list(numbers))
        return {i: bytes([i % 256]) * 10 for i in numbers}


def test_only_missing_blocks_are_fetched():
    blocks, store = Blocks(1000), Store()
    assert blocks.get("a", [5, 7], 100, store) == {5: b"\5" * 10, 7: b"\7" * 10}
    assert set(blocks.get("a", [5, 7, 9], 100, store)) == {5, 7, 9}
    assert set(blocks.get("b", [5], 100, store)) == {5}
    assert store.asked == [[5, 7], [9], [5]]


def test_reading_on_fetches_ahead():
    blocks, store = Blocks(10_000), Store()
    blocks.get("a", [5], 100, store)
    blocks.get("a", [6], 100, store)
    blocks.get("a", [5 + RUN], 100, store)
    assert store.asked == [[5], list(range(6, 6 + RUN))]
    blocks.get("a", [98], 100, store)
    blocks.get("a", [99], 100, store)
    assert store.asked[-1] == [99]  # not beyond the end


def test_what_is_kept_is_bounded():
    blocks, store = Blocks(30), Store()
    for i in (0, 10, 20):
        blocks.get("a", [i], 100, store)
    blocks.get("a", [0], 100, store)  # used again
    blocks.get("a", [30], 100, store)  # 10 goes
    blocks.get("a", [0, 20, 30], 100, store)
    assert store.asked == [[0], [10], [20], [30]]
    blocks.get("a", [10], 100, store)
    assert store.asked[-1] == [10]
    assert len(blocks.get("a", [40, 50, 60, 70, 80], 100, store)) == 5  # more than there is room


def test_threads_fetch_each_block_once():
    blocks, store = Blocks(10**6), Store()
    began, go = threading.Event(), threading.Event()
    found = []

    def slow(numbers):
        began.set()
        assert go.wait(30)
        return store(numbers)

    threads = [
        threading.Thread(target=lambda: found.append(blocks.get("a", [1, 2], 9, slow)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert began.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert found == [{1: b"\1" * 10, 2: b"\2" * 10}] * 4
    assert store.asked == [[1, 2]]


def test_a_failure_leaves_blocks_to_others():
    blocks, store = Blocks(1000), Store()

    def failing(_):
        raise StoreError("slow down")

    with pytest.raises(StoreError):
        blocks.get("a", [3], 9, failing)
    assert blocks.get("a", [3], 9, store) == {3: b"\3" * 10}


def test_runs_are_bounded():
    end = 2 * RUN + 8
    numbers = [*range(end), end + 9, end + 11, end + 12]
    runs = object_ranges._runs(numbers)
    assert [i for run in runs for i in run] == numbers
    assert [len(run) for run in runs] == [RUN, RUN, 8, 1, 2]

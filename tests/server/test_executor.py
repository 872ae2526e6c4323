from __future__ import annotations

import asyncio
import threading

import pytest

from landcue.server.errors import ProblemError
from landcue.server.metrics import Metrics
from landcue.server.routes.base import BoundedExecutor


def test_results_and_errors_come_back_to_whom_they_belong():
    async def go():
        pool = BoundedExecutor("p", 3, 1_000, Metrics())

        def work(i):
            if i % 7 == 0:
                raise KeyError(i)
            return i

        found = await asyncio.gather(
            *(pool.run(lambda i=i: work(i)) for i in range(500)), return_exceptions=True
        )
        for i, value in enumerate(found):
            if i % 7:
                assert value == i
            else:
                assert isinstance(value, KeyError)
                assert value.args == (i,)
        assert pool.jobs == 0
        pool.close()

    asyncio.run(go())


def test_short_jobs_pass_a_long_one():
    async def go():
        pool, may = BoundedExecutor("p", 2, 100, Metrics()), threading.Event()
        long = asyncio.create_task(pool.run(may.wait))
        short = [asyncio.create_task(pool.run(lambda i=i: i)) for i in range(50)]
        assert await asyncio.gather(*short) == list(range(50))
        assert not long.done()
        may.set()
        assert await long
        pool.close()

    asyncio.run(go())


def test_a_result_does_not_wait_for_the_job_behind_it():
    async def go():
        pool, may = BoundedExecutor("p", 1, 100, Metrics()), threading.Event()
        first = asyncio.create_task(pool.run(lambda: 1))
        second = asyncio.create_task(pool.run(may.wait))
        assert await first == 1
        assert not second.done()
        may.set()
        assert await second
        pool.close()

    asyncio.run(go())


def test_no_more_run_at_a_time_than_there_are_workers():
    async def go():
        pool, lock, together = (
            BoundedExecutor("p", 3, 100, Metrics()),
            threading.Lock(),
            threading.Barrier(3),
        )
        now, most = 0, 0

        def work():
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            together.wait()
            with lock:
                now -= 1

        await asyncio.gather(*(pool.run(work) for _ in range(12)))
        assert most == 3
        pool.close()

    asyncio.run(go())


def test_closing_finishes_what_runs_and_drops_what_waits():
    async def go():
        pool, began, may = (
            BoundedExecutor("p", 1, 100, Metrics()),
            threading.Event(),
            threading.Event(),
        )

        def work():
            began.set()
            may.wait()
            return "done"

        runs = asyncio.create_task(pool.run(work))
        waits = asyncio.create_task(pool.run(lambda: "never"))
        while not began.is_set():
            await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(pool.close))
        with pytest.raises(asyncio.CancelledError):
            await waits
        with pytest.raises(ProblemError) as caught:
            await pool.run(lambda: 1)
        assert caught.value.status_code == 503
        may.set()
        await closing
        assert await runs == "done"
        assert pool.jobs == 0

    asyncio.run(go())

"""Several processes that serve the same archives on one port, and the one that minds them.

This process accepts connections and hands each to the process that has the fewest: among sockets of
their own the kernel would spread them by chance, and the slowest answers come from whoever got the
most. What comes while none serves waits in the queue. It opens no archive itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from landcue.archive.layout import ReaderMark
from landcue.errors import LandcueError, UsageError
from landcue.server.listening import address_of, listen
from landcue.server.logs import start_logging
from landcue.server.orders import Failed, Job, Opened
from landcue.server.settings import Settings, check_host
from landcue.server.shared import Shared, end_account
from landcue.server.worker import work

END_SECONDS = 27.0
"""Until processes that were told to end are killed: some more than requests under way get."""

_MOST_FAILURES = 4
_LONGEST_WAIT = 30.0
_SETTLED = 60.0
_DEALT_AT_ONCE = 64

_log = logging.getLogger("landcue.server")
_spawn = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    """One process, and the next one of its number.

    Attributes:
        number: Of the process.
        process: ``None`` after its end.
        pipe: To it.
        serving: It answers requests.
        ready: It has loaded models and vectors.
        began: When.
        due: When it begins anew.
        failures: Ends in a row before it was ready.
        short: Ends in a row soon after the beginning.
        door: Connections go through it.
        dealt: Connections handed over.
        turn: When the last one was; of processes with as many, the one that waited longest is next.
        message: Why it ended.
    """

    number: int
    process: SpawnProcess | None = None
    pipe: Connection | None = None
    serving: bool = False
    ready: bool = False
    began: float = 0.0
    due: float = 0.0
    failures: int = 0
    short: int = 0
    door: socket.socket | None = None
    dealt: int = 0
    turn: float = 0.0
    message: str = ""


def run_processes(
    archives: Sequence[Path],
    model: Path | None,
    settings: Settings,
    host: str,
    port: int,
    processes: int,
) -> None:
    """Serve in several processes until SIGINT or SIGTERM.

    Args:
        archives: Folders and addresses.
        model: Of collections among them.
        settings: How.
        host: Address to listen on.
        port: 0 takes a free one.
        processes: How many.

    Raises:
        UsageError: As :func:`landcue.server.server.run`, or two archives have one name.
        LandcueError: An archive cannot be opened, or processes end again and again.
    """
    check_host(host, settings.tokens)
    host = host.strip("[]")
    with contextlib.ExitStack() as stack:
        wake = stack.enter_context(_signals())
        listener = stack.enter_context(listen(host, port))
        listener.setblocking(False)
        shared = Shared.make(processes)
        stack.callback(shutil.rmtree, shared.folder, ignore_errors=True)
        stack.enter_context(_kept(shared.folder))
        handler = start_logging(shared=shared)
        stack.callback(handler.flush)
        _Minder(Job(tuple(archives), model, settings, host, shared), listener).run(wake)


@dataclass
class _Minder:
    """Begins processes, and begins them anew."""

    job: Job
    listener: socket.socket
    workers: list[_Worker] = field(init=False)
    opened: Opened | None = None
    announced: bool = False
    marks: list[ReaderMark] = field(default_factory=list[ReaderMark])

    def __post_init__(self) -> None:
        self.workers = [_Worker(number) for number in range(self.job.shared.processes)]
        self._ended_connections = self.job.shared.ended()

    def run(self, wake: socket.socket) -> None:
        """Mind the processes until a signal wakes this one."""
        try:
            for worker in self.workers:
                self._begin(worker)
            while wake not in (found := wait(self._watched(wake), self._patience())):
                for worker in self.workers:
                    self._hear(worker)
                    if worker.process is not None and worker.process.sentinel in found:
                        self._ended(worker)
                    if worker.process is None and worker.due <= time.monotonic():
                        self._begin(worker)
                self._announce()
                if self.listener in found:
                    self._deal()
        finally:
            self._end()

    def _watched(self, wake: socket.socket) -> list[Any]:
        running = [worker for worker in self.workers if worker.process is not None]
        sentinels = [worker.process.sentinel for worker in running if worker.process is not None]
        pipes = [worker.pipe for worker in running if worker.pipe is not None]
        serving = self.announced and any(worker.serving for worker in self.workers)
        return [wake, *sentinels, *pipes, *([self.listener] if serving else [])]

    def _patience(self) -> float | None:
        due = [worker.due for worker in self.workers if worker.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _begin(self, worker: _Worker) -> None:
        here, there = _spawn.Pipe()
        door, far = socket.socketpair()
        job = replace(self.job, shared=replace(self.job.shared, number=worker.number))
        process = _spawn.Process(
            target=work, args=(job, there, far), name=f"landcue-serve-{worker.number}"
        )
        resource_tracker.ensure_running()  # it would let signals in again
        # A signal that comes now is kept until the process can ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            far.close()
        there.close()
        door.setblocking(False)
        worker.process, worker.pipe, worker.began = process, here, time.monotonic()
        worker.door, worker.dealt = door, 0
        self._ended_connections[worker.number] = 0
        worker.serving = worker.ready = False
        worker.message = ""
        if self.opened is not None:
            self._send(worker, self.opened.pins)
        elif worker.number == 0:
            self._send(worker, None)  # the first one chooses what all show

    def _send(self, worker: _Worker, pins: bytes | None) -> None:
        with contextlib.suppress(OSError):  # it has ended, which is noticed next
            if worker.pipe is not None:
                worker.pipe.send(pins)

    def _hear(self, worker: _Worker) -> None:
        """Take notice of what a process reports."""
        try:
            while worker.pipe is not None and worker.pipe.poll():
                report = worker.pipe.recv()
                if isinstance(report, Failed):
                    self._failed(worker, report)
                elif isinstance(report, Opened):
                    self._choose(report)
                elif report == "serving":
                    worker.serving = True
                elif report == "ready":
                    worker.ready, worker.failures = True, 0
                    self._tell_of(worker)
        except (EOFError, OSError):
            if worker.pipe is not None:
                worker.pipe.close()
            worker.pipe = None

    def _tell_of(self, worker: _Worker) -> None:
        """Log that a process took the place of another."""
        if self.announced and worker.process is not None:
            facts = {"began": worker.process.pid}
            _log.info("a server process is ready", extra={"facts": facts})

    def _choose(self, opened: Opened) -> None:
        """Let all processes show what the first one has opened, and writers keep it."""
        if self.opened is None:
            self.opened = opened
            self.marks = [ReaderMark(folder) for folder in opened.folders]
            for worker in self.workers[1:]:
                self._send(worker, opened.pins)

    def _failed(self, worker: _Worker, report: Failed) -> None:
        if not self.announced:
            raise (UsageError if report.exit_code == 2 else LandcueError)(report.message)
        worker.message = report.message

    def _ended(self, worker: _Worker) -> None:
        """Note the end of a process, and when it begins anew."""
        if worker.process is None:
            return
        worker.process.join()
        pid, status = worker.process.pid, worker.process.exitcode
        end_account(self.job.shared.account(worker.number))
        for end in (worker.pipe, worker.door):
            if end is not None:
                end.close()
        now = time.monotonic()
        worker.failures += not worker.ready
        worker.short = 0 if worker.ready and now - worker.began > _SETTLED else worker.short + 1
        worker.process = worker.pipe = worker.door = None
        worker.serving = worker.ready = False
        why = worker.message or f"exit status {status}"
        if worker.failures >= _MOST_FAILURES:
            raise LandcueError(
                f"a server process ended {worker.failures} times before it was ready ({why}): mend "
                "that and start the service again"
            )
        pause = min(_LONGEST_WAIT, 0.25 * 2**worker.short) if worker.short > 1 else 0.0
        worker.due = now + pause
        facts = {"ended": pid, "why": why, "again_in_seconds": pause}
        _log.warning("a server process ended", extra={"facts": facts})

    def _deal(self) -> None:
        """Hand connections to the processes that have the fewest."""
        serving = [worker for worker in self.workers if worker.serving]
        for _ in range(_DEALT_AT_ONCE):
            try:
                connection, _ = self.listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    time.sleep(0.05)  # until somebody closes a file
                return
            with connection:
                for worker in sorted(serving, key=self._connections):
                    try:
                        if worker.door is not None:
                            socket.send_fds(worker.door, [b"c"], [connection.fileno()])
                            worker.dealt += 1
                            worker.turn = time.monotonic()
                            break
                    except OSError:  # it has ended, or takes nothing any more: the next one does
                        continue

    def _connections(self, worker: _Worker) -> tuple[int, float]:
        return worker.dealt - self._ended_connections[worker.number], worker.turn

    def _announce(self) -> None:
        """Tell that the service can be asked, once all processes serve."""
        if self.announced or self.opened is None or not all(one.serving for one in self.workers):
            return
        from landcue.server.page import NOT_BUILT

        self.announced = True
        names, address = ", ".join(self.opened.names), address_of(self.job.host, self.listener)
        print(f"serving {names} on {address}", file=sys.stderr)
        if not self.opened.built:
            print(NOT_BUILT, end="", file=sys.stderr)
        sys.stderr.flush()

    def _end(self) -> None:
        """Let all processes finish what they do, and kill those that take too long."""
        self.listener.close()  # nobody would answer what comes from now on
        left = [worker.process for worker in self.workers if worker.process is not None]
        for process in left:
            process.terminate()
        for worker in self.workers:
            if worker.pipe is not None:
                worker.pipe.close()  # which ends a process, too, if it just missed the signal
        until = time.monotonic() + END_SECONDS
        for process in left:
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                _log.warning("a server process was killed", extra={"facts": {"ended": process.pid}})
                process.kill()
                process.join()


@contextlib.contextmanager
def _signals() -> Generator[socket.socket]:
    """Give a socket that can be read once SIGINT or SIGTERM came."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        wakeup = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, _only_wake) for number in numbers}
        try:
            yield here
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def _only_wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal makes a socket readable."""


@contextlib.contextmanager
def _kept(folder: Path) -> Generator[None]:
    """Keep those who clean up old temporary files from a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)

"""One of several processes that serve the same archives on one port."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import socket
from dataclasses import replace
from multiprocessing.connection import Connection

from landcue.errors import LandcueError
from landcue.server.orders import Failed, Job, Opened


def work(job: Job, parent: Connection, door: socket.socket) -> None:
    """Serve until told to end, or until the parent is gone.

    Args:
        job: What to serve.
        parent: Gives the pins of what to show, or ``None`` to the process that is to choose; takes
            reports.
        door: Connections come through it.
    """
    # Ctrl-C reaches all processes of a terminal; until uvicorn is there the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    status = 0
    try:
        _serve(job, parent, door)
    except EOFError:
        pass  # the parent is gone
    except (LandcueError, OSError) as error:
        status = error.exit_code if isinstance(error, LandcueError) else 1
        with contextlib.suppress(OSError):
            parent.send(Failed(str(error), status))
    if _is_gone(parent):
        shutil.rmtree(job.shared.folder, ignore_errors=True)
    # All is closed and written: to let go of models and libraries piece by piece takes seconds.
    os._exit(status)


def _serve(job: Job, parent: Connection, door: socket.socket) -> None:
    _share_cores(job.shared.processes)
    # What computes is loaded only now: it looks once at how many cores it may use.
    from landcue.server.catalog import Catalog
    from landcue.server.follower import Follower
    from landcue.server.logs import start_logging
    from landcue.server.server import configure, ignore_signals, settle

    handler = start_logging(shared=job.shared)
    given: bytes | None = parent.recv()
    catalog = Catalog.open(job.archives, job.model, None if given is None else pickle.loads(given))
    config, service = configure(catalog, replace(job.settings, shared=job.shared), job.host)
    pins = catalog.pins()
    folders = tuple(pin.folder for pin in pins if pin is not None)
    parent.send(Opened(tuple(catalog.names), folders, pickle.dumps(pins), service.page.built))

    def ready() -> None:
        settle()
        with contextlib.suppress(OSError):
            parent.send("ready")

    async def tell() -> None:
        service.tell()

    service.when_ready = ready
    config.callback_notify, config.timeout_notify = tell, 1
    service.tell()
    ignore_signals()
    try:
        Follower(config, parent, door, job.shared).run()
    finally:
        service.tell()
        handler.flush()


def _share_cores(processes: int) -> None:
    """Compute with a fair part of the cores, unless the operator chose a number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // processes)))


def _is_gone(parent: Connection) -> bool:
    try:
        while parent.poll():
            parent.recv()
    except (EOFError, OSError):
        return True
    return False

"""Products of small matrices on one thread."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Generator

from threadpoolctl import ThreadpoolController


class _OneThread:
    """Limits BLAS for the whole process while anybody asks for it.

    threadpoolctl itself restores what it found, which is another caller's limit if two overlap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def __call__(self) -> Generator[None]:
        with self._lock:
            if not self._users:
                self._limits = _controller().limit(limits=1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._limits.restore_original_limits()


@functools.cache
def _controller() -> ThreadpoolController:
    """Return that of the libraries loaded by now, NumPy's among them; finding them takes 2 ms."""
    return ThreadpoolController()


one_blas_thread = _OneThread()
"""Context in which BLAS uses one thread: more of them wait for each other, and for those of a scan,
longer than small products take."""

"""What the processes of one service share: files in a private folder of theirs."""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from landcue.server.metrics import Families, added
from landcue.server.rate import make_table

_ENDED = "ended"
_log = logging.getLogger("landcue.server")


@dataclass(frozen=True, slots=True)
class Shared:
    """One of several processes, and where they meet.

    Attributes:
        folder: Nobody else may read it.
        processes: How many there are.
        number: Of this one, from 0.
    """

    folder: Path
    processes: int
    number: int = 0

    @classmethod
    def make(cls, processes: int) -> Self:
        """Make the folder, in the machine's own one for temporary files."""
        shared = cls(Path(tempfile.mkdtemp(prefix="landcue-serve-")), processes)
        make_table(shared.rates)
        shared.log.touch(0o600)
        (shared.folder / _ENDED).write_bytes(bytes(8 * processes))
        return shared

    @property
    def rates(self) -> Path:
        """How much each client asked lately, see :mod:`landcue.server.rate`."""
        return self.folder / "rates"

    @property
    def log(self) -> Path:
        """Whoever locks it may write log lines."""
        return self.folder / "log"

    def ended(self) -> memoryview:
        """Return how many connections each process has ended, int64 ``[processes]``.

        All see what one writes there.
        """
        with (self.folder / _ENDED).open("r+b") as file:
            return memoryview(mmap.mmap(file.fileno(), 8 * self.processes)).cast("q")

    def account(self, number: int) -> Path:
        """What a process tells of itself."""
        return self.folder / f"process-{number}.json"


@dataclass(frozen=True, slots=True)
class Account:
    """What a process tells of itself.

    Attributes:
        ready: Its models and vectors are loaded.
        counters: Since the service began, also of earlier processes of the same number.
        gauges: What is so now; nothing after its end.
    """

    ready: bool
    counters: Families
    gauges: Families


class Accounts:
    """Tells the other processes of this one, and reads what they tell."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._before = _read(shared.account(shared.number)).counters
        self._writing = threading.Lock()

    def tell(self, ready: bool, counters: Families, gauges: Families) -> None:
        """Tell of this process; its predecessors' counters are added."""
        account = Account(ready, added([self._before, counters]), gauges)
        try:
            with self._writing:
                _write(self._shared.account(self._shared.number), account)
        except FileNotFoundError:
            pass  # the service ends
        except OSError as error:  # what was told before stays
            _log.warning("metrics were not written", extra={"facts": {"error": str(error)}})

    def all(self) -> list[Account]:
        """Return what each process told last."""
        return [_read(self._shared.account(number)) for number in range(self._shared.processes)]


def end_account(path: Path) -> None:
    """Note that a process ended: its counters stay."""
    with contextlib.suppress(OSError):
        _write(path, Account(False, _read(path).counters, {}))


def _read(path: Path) -> Account:
    try:
        value: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Account(False, {}, {})
    counters, gauges = (
        {name: (kind, samples) for name, (kind, samples) in value[part].items()}
        for part in ("counters", "gauges")
    )
    return Account(value["ready"], counters, gauges)


def _write(path: Path, account: Account) -> None:
    """Replace a file at once, so that readers see all of the old or all of the new."""
    temporary = path.with_suffix(".tmp")
    value = {"ready": account.ready, "counters": account.counters, "gauges": account.gauges}
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)

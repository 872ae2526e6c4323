"""What differs between operating systems: atomic replacement, file locks, the core count."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from filelock import lock_descriptor, unlock_descriptor

from landcue.errors import LandcueError

_WINDOWS_RETRIES = 40
_WINDOWS_PAUSE = 0.05
_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Of the container: microseconds of processor time that it may use, and in which period."""


@contextlib.contextmanager
def replacing(path: Path, *, parents: bool = True) -> Generator[Path]:
    """Yield a temporary path to write; it replaces ``path`` when the block ends without an error.

    A crash leaves the old file or the new one, on every system. ``parents`` creates the folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LandcueError(f"cannot write {path}: {reason}; free space or choose another") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Rename over ``path``; Windows refuses while another process has it open, so try again."""
    for _ in range(_WINDOWS_RETRIES if sys.platform == "win32" else 0):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(_WINDOWS_PAUSE)
    temporary.replace(path)


def reserve(path: Path, size: int) -> None:
    """Create a file of ``size`` bytes; where the system can, a full disk shows now, not later.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    with path.open("wb") as file:
        if sys.platform == "linux":
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as error:  # some file systems cannot
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        file.truncate(size)


def write_atomic(path: Path, content: bytes | str, *, parents: bool = True) -> None:
    """Replace ``path`` by ``content``: see :func:`replacing`."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, parents=parents) as temporary:
        temporary.write_bytes(data)


def read_json(path: Path, kind: type[LandcueError], hint: str) -> dict[str, Any]:
    """Read a JSON object, or raise ``kind`` with one line that names the file and ``hint``."""
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise kind(f"{path} is not a regular file; {hint}")
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise kind(f"{path} is missing; {hint}") from None
    except OSError as error:
        raise kind(f"cannot read {path}: {error.strerror}; {hint}") from None
    return parse_json(text, path, kind, hint)


def parse_json(
    text: str | bytes, path: Path, kind: type[LandcueError], hint: str
) -> dict[str, Any]:
    """Return the JSON object in the content of ``path``; raise ``kind`` as :func:`read_json`."""
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise kind(f"{path} is not valid JSON (nested too deeply); {hint}") from None
    except ValueError as error:  # also an integer of too many digits
        raise kind(f"{path} is not valid JSON ({error}); {hint}") from None
    if not isinstance(value, dict):
        raise kind(f"{path} does not hold a JSON object; {hint}")
    return value


@contextlib.contextmanager
def exclusive(
    folder: Path, kind: type[LandcueError], doing: str, *, create: bool = True
) -> Generator[None]:
    """Hold ``folder/.lock`` for this process; a second process is refused at once.

    The system releases the lock when its process dies, so a kill -9 leaves nothing to clean up.

    Raises:
        kind: Another process holds the lock, or the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            free = held.enter_context(locked_file(folder / ".lock", wait=False))
        except OSError as error:
            reason = error.strerror or error
            raise kind(f"cannot write {folder}: {reason}; choose another folder") from None
        if not free:
            raise kind(f"another process is {doing} {folder}; wait for it or choose another folder")
        yield


_LOCK_FLAGS = sum(
    getattr(os, name, 0) for name in ("O_RDWR", "O_CREAT", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK")
)


@contextlib.contextmanager
def locked_file(path: Path, *, wait: bool) -> Generator[bool]:
    """Hold the lock of a file, which is created; its folder is not, unlike by ``FileLock``.

    Yields:
        Whether the lock is held; always if ``wait`` is set.

    Raises:
        OSError: The file cannot be written, or its file system has no locks.
    """
    handle = os.open(path, _LOCK_FLAGS, 0o666)
    try:
        held = lock_descriptor(handle, blocking=wait)
        try:
            yield held
        finally:
            if held:  # a forked process may have the file open too
                unlock_descriptor(handle)
    finally:
        os.close(handle)


def core_count() -> int:
    """Return how many processor cores this process may use, at least 1.

    Counts the cores that the process is bound to and the limit of its container, if any; else
    all cores of the machine.
    """
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    elif sys.version_info >= (3, 13):
        cores = os.process_cpu_count() or 1
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _container_limit() or cores))


@functools.cache
def _container_limit() -> int | None:
    try:
        quota, period = _CPU_LIMIT.read_text(encoding="ascii").split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # not Linux, or "max": no limit
        return None

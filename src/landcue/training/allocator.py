"""Keep freed memory in the process while training on a CPU."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 * 2**20


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed instead of giving it back to the system.

    glibc maps every block above 32 MiB anew and returns it when it is freed. Activations of a
    batch are such blocks: each step then pays a page fault per 4 KiB, which took more than half of
    the time of a MobileNetV2 step. The process stays as large as its largest step.

    Returns:
        Whether the C library took the setting; other libraries and systems are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])

"""Large pages of memory for mapped files that are scanned: fewer addresses to look up."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


def want_large_pages(mapped: mmap.mmap | npt.NDArray[Any]) -> None:
    """Ask that a file, or the memory map that an array is a view of, be kept in large pages.

    It matters while the file is written or first read; what is in memory stays as it is. A hint:
    systems that cannot do so go on with small pages. Not for files of which single rows are read,
    because each brings a large page in.
    """
    found: Any = mapped
    while isinstance(found, np.ndarray):
        found = found.base
    if isinstance(found, mmap.mmap) and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            found.madvise(mmap.MADV_HUGEPAGE)

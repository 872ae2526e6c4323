"""The audit of a data set: copies, leakage across parts of a split, labels, sizes, broken files.

The package is also its main function: ``landcue.audit(folder)`` is ``landcue.audit.audit(folder)``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from landcue.lazy import CallablePackage, lazy_exports

if TYPE_CHECKING:
    from landcue.audit.pairs import Limits
    from landcue.audit.report import AuditReport, Finding
    from landcue.audit.run import audit

__all__ = ["AuditReport", "Finding", "Limits", "audit"]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.audit.pairs": ("Limits",),
        "landcue.audit.report": ("AuditReport", "Finding"),
        "landcue.audit.run": ("audit",),
    },
)
sys.modules[__name__].__class__ = CallablePackage

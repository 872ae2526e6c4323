"""Reports: one self-contained HTML file each, no network, no script; Markdown and LaTeX tables.

>>> import landcue
>>> from landcue.report import write_report
>>> first, second = landcue.evaluate("runs/a"), landcue.evaluate("runs/b")     # doctest: +SKIP
>>> write_report(first, second, page="comparison.html")                        # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.report.comparison import Contest, compare_evaluations
    from landcue.report.evaluation import Evaluation
    from landcue.report.write import write_report

__all__ = ["Contest", "Evaluation", "compare_evaluations", "write_report"]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.report.comparison": ("Contest", "compare_evaluations"),
        "landcue.report.evaluation": ("Evaluation",),
        "landcue.report.write": ("write_report",),
    },
)

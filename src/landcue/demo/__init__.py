"""A synthetic archive: scenes seen from above, drawn from a seed, with labels true by design."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.demo.archive import write_demo_archive
    from landcue.demo.canvas import LABELS
    from landcue.demo.run import DemoReport, run_demo
    from landcue.demo.scenes import THEMES, render_chip

__all__ = ["LABELS", "THEMES", "DemoReport", "render_chip", "run_demo", "write_demo_archive"]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.demo.archive": ("write_demo_archive",),
        "landcue.demo.canvas": ("LABELS",),
        "landcue.demo.run": ("DemoReport", "run_demo"),
        "landcue.demo.scenes": ("THEMES", "render_chip"),
    },
)

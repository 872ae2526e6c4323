"""A synthetic archive: scenes seen from above, drawn from a seed, with labels true by design."""

from landcue.demo.archive import write_demo_archive
from landcue.demo.canvas import LABELS
from landcue.demo.scenes import THEMES, render_chip

__all__ = ["LABELS", "THEMES", "render_chip", "write_demo_archive"]

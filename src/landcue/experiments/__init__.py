"""Experiments: methods x seeds x bits under one protocol, chosen on validation, tested once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.experiments.presets import PRESETS, Estimate, estimate_hours, read_preset
    from landcue.experiments.runner import Results, Row, run
    from landcue.experiments.spec import Spec, read_spec
    from landcue.experiments.tables import to_json, to_latex, to_markdown

__all__ = [
    "PRESETS",
    "Estimate",
    "Results",
    "Row",
    "Spec",
    "estimate_hours",
    "read_preset",
    "read_spec",
    "run",
    "to_json",
    "to_latex",
    "to_markdown",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.experiments.presets": ("Estimate", "PRESETS", "estimate_hours", "read_preset"),
        "landcue.experiments.runner": ("Results", "Row", "run"),
        "landcue.experiments.spec": ("Spec", "read_spec"),
        "landcue.experiments.tables": ("to_json", "to_latex", "to_markdown"),
    },
)

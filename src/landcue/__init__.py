"""LandCue finds look-alike places in an Earth-observation archive."""

from __future__ import annotations

__version__ = "0.1.0"

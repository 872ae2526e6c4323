"""The encoder that comes with LandCue, and the names under which models are found."""

from __future__ import annotations

from pathlib import Path

BUILTIN = "builtin"
"""Name of the encoder in this package; a folder of that name is reached as ``./builtin``."""


def find_model(name: str | Path) -> Path:
    """Return the checkpoint folder of ``builtin``, or the path itself."""
    return Path(__file__).with_name(BUILTIN) if str(name) == BUILTIN else Path(name)

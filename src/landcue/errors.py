"""The error family: one clear line that names the thing and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LandcueError(Exception):
    """A failure LandCue explains in one line; the command line ends with status 1."""

    exit_code = 1


class UsageError(LandcueError):
    """A value the caller gave cannot be used; the command line ends with status 2."""

    exit_code = 2


class DataError(LandcueError):
    """Images, labels or splits are missing, broken or contradict each other."""


class ModelError(LandcueError):
    """A checkpoint or weight file is missing, broken, refused, or fits another model."""


class ArchiveError(LandcueError):
    """An archive is missing, broken, locked, or was made by another model."""


def did_you_mean(word: str, known: Iterable[str], most: int = 20) -> str:
    """Return `` (did you mean 'x'?)`` for near matches, or else the first ``most`` names known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if near:
        return " (did you mean " + " or ".join(repr(name) for name in near) + "?)"
    if not names:
        return ""
    shown = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f" (known: {shown})"

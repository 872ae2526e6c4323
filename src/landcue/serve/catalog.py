"""The archives that a service shows, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from landcue.errors import LandcueError, UsageError, did_you_mean
from landcue.milvus.address import is_address
from landcue.milvus.opening import open_archive
from landcue.search.queries import ById
from landcue.serve.problems import ProblemError
from landcue.serve.served import Served

_COMPILED = ("code", "cue")
"""Modes whose scans are compiled."""


class Catalog:
    """Archives by name; the first is the default."""

    def __init__(self, served: Sequence[Served]) -> None:
        """Take archives.

        Raises:
            UsageError: Two have one name.
        """
        self._served: dict[str, Served] = {}
        for one in served:
            if one.name in self._served:
                raise UsageError(
                    f"two archives are both called {one.name!r}: give folders of different names"
                )
            self._served[one.name] = one

    @classmethod
    def open(cls, folders: Sequence[Path], model: Path | None = None) -> Catalog:
        """Open archives; the name of each is that of its folder or collection.

        Args:
            folders: Archive folders, or addresses ``milvus://host:port/collection``.
            model: Of all collections among them.

        Raises:
            ArchiveError: One is missing or broken.
            UsageError: Two have one name, or the model is of none of them.
        """
        if model is not None and not any(map(is_address, folders)):
            raise UsageError(
                "--model belongs to milvus:// collections: a folder holds its own model"
            )
        opened = [
            (folder.resolve().name, open_archive(folder, model if is_address(folder) else None))
            for folder in folders
        ]
        return cls([Served(name, archive) for name, archive in opened])

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def get(self, name: str | None) -> Served:
        """Return an archive.

        Raises:
            ProblemError: 404: none has this name.
        """
        if name is None and self._served:
            return next(iter(self._served.values()))
        found = self._served.get(name or "")
        if found is None:
            near = did_you_mean(name or "", self.names)
            raise ProblemError(404, f"no archive is called {name!r}{near}")
        return found

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return list(self._served)

    def warm(self) -> list[LandcueError]:
        """Load models, codes and the vectors of a first search; return what went wrong.

        The scans of codes are compiled here, which takes seconds where numba's cache is empty.
        """
        problems: list[LandcueError] = []
        for served in self:
            try:
                if served.encodes:
                    served.encoder()
                if len(served.searcher.records):
                    first = ById(served.searcher.records.id(0))
                    for mode in ("auto", *(m for m in _COMPILED if m in served.searcher.modes)):
                        served.searcher.search(first, k=1, mode=mode)
            except LandcueError as error:
                problems.append(error)
        return problems

    def close(self) -> None:
        """Let writers remove the versions shown."""
        for served in self:
            served.archive.close()

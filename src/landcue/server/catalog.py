"""The archives that a service shows, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import Manifest
from landcue.errors import ArchiveError, LandcueError, UsageError, did_you_mean
from landcue.milvus.address import is_address
from landcue.milvus.opening import open_archive
from landcue.search.queries import ById
from landcue.server.problems import ProblemError
from landcue.server.served import Served

_COMPILED = ("code", "cue")
"""Modes whose scans are compiled."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What one process shows of an archive, for another one to show the same.

    Attributes:
        folder: Of the archive.
        manifest: Likewise.
        version: Of its table.
        mark: Of its content; see :attr:`landcue.search.searcher.Searcher.mark`.
    """

    folder: Path
    manifest: Manifest
    version: int
    mark: str

    def open(self) -> ArchiveFolder:
        """Open what is shown; :meth:`check` tells whether it is the same."""
        return ArchiveFolder.open_version(self.folder, self.manifest, self.version)

    def check(self, served: Served) -> None:
        """Refuse another archive that is in the same place now.

        Raises:
            ArchiveError: It is another one.
        """
        if served.searcher.mark != self.mark:
            raise ArchiveError(
                f"{self.folder} was replaced while it is served: start the service again"
            )


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
    def open(
        cls,
        folders: Sequence[Path],
        model: Path | None = None,
        pins: Sequence[Pin | None] | None = None,
    ) -> Catalog:
        """Open archives; the name of each is that of its folder or collection.

        Args:
            folders: Archive folders, or addresses ``milvus://host:port/collection``.
            model: Of all collections among them.
            pins: What another process shows of them, see :meth:`pins`; the newest without it.

        Raises:
            ArchiveError: One is missing or broken, or is not what the other process shows.
            UsageError: Two have one name, or the model is of none of them.
        """
        if model is not None and not any(map(is_address, folders)):
            raise UsageError(
                "--model belongs to milvus:// collections: a folder holds its own model"
            )
        found: list[Served] = []
        for folder, pin in zip(folders, pins or [None] * len(folders), strict=True):
            own = model if is_address(folder) else None
            archive = open_archive(folder, own) if pin is None else pin.open()
            served = Served(folder.resolve().name, archive)
            if pin is not None:
                pin.check(served)
            found.append(served)
        return cls(found)

    def pins(self) -> list[Pin | None]:
        """Return what is shown of each archive; ``None`` of collections, which show the newest."""
        return [
            Pin(one.archive.folder, one.archive.manifest, one.archive.version, one.searcher.mark)
            if one.local
            else None
            for one in self
        ]

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

"""From a chip of a scene to all that an archive stores of it but the encoding."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from landcue.archive.plan import Task, with_status
from landcue.archive.reading import ReadImage, make_thumbnail
from landcue.archive.schema import Metadata
from landcue.data.object_ranges import object_path
from landcue.data.objects import CHANGED, is_object, shown
from landcue.data.raster import read_facts
from landcue.data.raster_read import SceneOptions, SceneReader
from landcue.errors import DataError, LandcueError, StoreError, UsageError
from landcue.types import Encoder, Problem

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class EmptyChip:
    """A chip with too little data; ``stored`` tells whether the archive holds an older row."""

    id: str
    stored: bool


@dataclass(slots=True)
class _Scene:
    """What all chips of one scene share, found out by the first thread that needs it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    path: Path = Path()
    status: os.stat_result | None = None
    digest: str = ""
    bands: tuple[int, ...] = ()
    limits: npt.NDArray[Any] | None = None
    scaled: bool = False
    error: LandcueError | None = None


class SceneFacts:
    """What was found out about scenes; several readers may share it.

    A scene's file is hashed once, and not at all when the archive already knows it or a store
    tells its ETag; its scaling is estimated once, when a chip of it is read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scenes: dict[Path, _Scene] = {}

    def of(self, path: Path) -> _Scene:
        """Return the place for the facts of one scene."""
        with self._lock:
            return self._scenes.setdefault(path, _Scene())


class ChipReader:
    """Reads chips in several threads; each keeps the scene open that it read last."""

    def __init__(
        self, options: SceneOptions, encoder: Encoder, facts: SceneFacts | None = None
    ) -> None:
        self._options = options
        self._encoder = encoder
        self._facts = facts or SceneFacts()
        self._readers: dict[int, SceneReader] = {}

    def read(self, task: Task) -> ReadImage | Metadata | Problem | EmptyChip:
        """Read one chip.

        Returns:
            The chip; only its new metadata when the scene holds the same bytes as before; that it
            has too little data; or why it must be skipped.

        Raises:
            StoreError: The object store does not answer: what it holds is no less usable for that.
            UsageError: There are no credentials for it.
        """
        try:
            return self._read(task)
        except (StoreError, UsageError):
            raise
        except LandcueError as error:
            what = str(error).removeprefix(f"{shown(task.record.path)}: ")
            return Problem(task.metadata.path, what)

    def close(self) -> None:
        """Close all scenes; no thread may be reading any more."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _read(self, task: Task) -> ReadImage | Metadata | EmptyChip:
        window = task.record.window
        if window is None:
            raise DataError("is no chip of a scene")
        scene, status = self._scene(task)
        metadata = with_status(task.metadata, status)
        content = f"{scene.digest}-{self._options.recipe}"
        if task.stored is not None and task.stored.content == content:
            return metadata
        reader = self._reader(scene)
        image = reader.chip(window, self._limits(scene, reader))
        _check_same(task.record.path, status)
        if image is None:
            return EmptyChip(task.record.id, task.stored is not None)
        return ReadImage(
            metadata=replace(metadata, bounds=task.record.bounds, footprint=task.record.footprint),
            content=content,
            thumbnail=make_thumbnail(image),
            pixels=self._encoder.prepare(image),
            replaces=task.stored is not None,
        )

    def _scene(self, task: Task) -> tuple[_Scene, os.stat_result]:
        path = task.record.path
        scene = self._facts.of(path)
        with scene.lock:
            if scene.status is None and scene.error is None:
                try:
                    scene.path, status, scene.digest = _digest(task)
                    scene.bands = self._options.choose(read_facts(scene.path))
                    scene.status = status
                except LandcueError as error:
                    scene.error = error
        if scene.status is None:
            raise scene.error or DataError("cannot be read")
        return scene, scene.status

    def _reader(self, scene: _Scene) -> SceneReader:
        thread = threading.get_ident()
        reader = self._readers.get(thread)
        if reader is None or reader.path != scene.path:
            if reader is not None:
                reader.close()
                del self._readers[thread]
            reader = self._readers[thread] = SceneReader(scene.path, scene.bands, self._options)
        return reader

    def _limits(self, scene: _Scene, reader: SceneReader) -> npt.NDArray[Any] | None:
        with scene.lock:
            if not scene.scaled:
                try:
                    scene.limits, scene.scaled = reader.limits(), True
                except LandcueError as error:  # the next chip need not try again
                    scene.status, scene.error = None, error
                    raise
            return scene.limits


def _digest(task: Task) -> tuple[Path, os.stat_result, str]:
    """Return a scene's file, its size and time, and the digest of its bytes or of their ETag."""
    path = task.record.path
    if is_object(path):
        found = object_path(path)
        return found, found.stat(), found.digest
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            known = (task.metadata.size, task.metadata.mtime_ns)
            if task.digest is not None and (status.st_size, status.st_mtime_ns) == known:
                return path, status, task.digest
            digest = hashlib.blake2b(digest_size=16)
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    _check_same(path, status)
    return path, status, digest.hexdigest()


def _check_same(path: Path, status: os.stat_result) -> None:
    """Refuse pixels that may be of other bytes than the digest."""
    if is_object(path):
        return  # whoever fetched them has asked
    try:
        now = os.stat(path)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        raise DataError(CHANGED)

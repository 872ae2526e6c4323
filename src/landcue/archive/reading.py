"""Read an image file or a chip of a scene, with all that is stored before encoding."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from landcue.archive.manifest import THUMBNAIL_SIDE
from landcue.archive.plan import MAX_BYTES, Task, with_status
from landcue.archive.schema import Metadata
from landcue.data.images import files_beside, image_version, read_picture
from landcue.data.objects import CHANGED, is_object, object_path, read_file, shown
from landcue.data.pictures import Rendering
from landcue.data.raster import HEAD, RASTER_SUFFIXES, is_raster
from landcue.data.reader import SceneReader
from landcue.data.scenes import SceneOptions
from landcue.data.stacks import band_files
from landcue.errors import DataError, LandcueError, StoreError, UsageError
from landcue.types import ByteArray, Encoder, Encoding, Problem, Window

_WHOLE = SceneOptions()


@dataclass(frozen=True, slots=True)
class ReadImage:
    """One image, ready for the encoder.

    Attributes:
        metadata: Its columns, with size and time as they were when the file was read.
        content: BLAKE2b-128 of the file's bytes, hex; for a raster, followed by ``-`` and its
            recipe.
        thumbnail: JPEG.
        pixels: Result of :meth:`landcue.types.Encoder.prepare`.
        replaces: Whether the archive holds an older row of the same id.
        reading: How a raster's numbers became a picture, see
            :meth:`landcue.data.reader.SceneReader.reading`.
        encoding: What the encoder returned, of one image, if that is known; then ``pixels`` is
            empty.
    """

    metadata: Metadata
    content: str
    thumbnail: bytes
    pixels: ByteArray
    replaces: bool
    reading: Mapping[str, Any] | None = None
    encoding: Encoding | None = None


Known = Mapping[tuple[Path, Window | None], ReadImage]
"""Images that were encoded already, by file and window."""


def _recalled(task: Task, known: Known) -> ReadImage | Metadata | None:
    """Return what is known of an image whose file has the same size and time as it was read."""
    image = known.get((task.record.path, task.record.window))
    if image is None:
        return None
    then, now = image.metadata, task.metadata
    if (then.size, then.mtime_ns) != (now.size, now.mtime_ns):
        return None
    if task.stored is not None and task.stored.content == image.content:
        return now
    metadata = replace(
        now, bbox=then.bbox, geometry=then.geometry,
        datetime=now.datetime or then.datetime, sensor=now.sensor or then.sensor,
    )  # fmt: skip
    return replace(image, metadata=metadata, replaces=task.stored is not None)


def read_task(
    task: Task, encoder: Encoder, options: SceneOptions = _WHOLE
) -> ReadImage | Metadata | Problem:
    """Read one file once: hash it and decode it from the same bytes.

    Returns:
        The image; or only its new metadata if the bytes are those of the stored row; or the
        reason why it must be skipped.

    Raises:
        StoreError: The object store does not answer; the image itself may be readable.
        UsageError: There are no credentials for it.
    """
    try:
        metadata, source, content = _load(task, options)
        if task.stored is not None and task.stored.content == content:
            return metadata
        path = task.record.path
        picture = read_picture(source, options, name=metadata.path, path=path)
        if isinstance(source, Path):
            _check_same(source, metadata)
        # The bounds may have changed with the file.
        bounds, footprint = task.record.bbox, task.record.geometry
        if bounds is None:
            bounds, footprint = picture.bbox, picture.geometry
        time, sensor = metadata.datetime or picture.datetime, metadata.sensor or picture.sensor
        metadata = replace(metadata, datetime=time, sensor=sensor)
        return ReadImage(
            metadata=replace(metadata, bbox=bounds, geometry=footprint),
            content=content,
            thumbnail=make_thumbnail(picture.pixels),
            pixels=encoder.prepare(picture.pixels),
            replaces=task.stored is not None,
            reading=picture.reading,
        )
    except (StoreError, UsageError):
        raise
    except LandcueError as error:
        path = task.metadata.path
        return Problem(path, str(error).removeprefix(f"{path}: "))


def make_thumbnail(image: ByteArray) -> bytes:
    """Return a JPEG of uint8 ``[h, w, C]`` with a longer side of 65 to 96 pixels, or its own.

    The first three bands are red, green and blue; with fewer than three, the first one is gray.
    """
    bands = image.shape[2]
    small = Image.fromarray(image if bands == 3 else image[..., :3] if bands > 3 else image[..., 0])
    # This runs for every image: the mean of whole pixels is the cheapest filter.
    factor = -(-max(small.size) // THUMBNAIL_SIDE)
    if factor > 2:
        small = small.reduce(factor)
    else:
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def _load(task: Task, options: SceneOptions) -> tuple[Metadata, Path | bytes, str]:
    """Return the metadata of a file, what to decode, and its digest.

    Rasters on this machine are hashed and then read by GDAL, and so are scenes of one object a
    band; the others are read from one copy in memory.
    """
    path = task.record.path
    gdal = path.suffix.lower() in RASTER_SUFFIXES
    if gdal and (not is_object(path) or band_files(path)):
        source, status, digest = scene_digest(task)
        return with_status(task.metadata, path, status), source, f"{digest}-{options.recipe}"
    status, data = read_file(path, MAX_BYTES + 1)
    metadata = with_status(task.metadata, path, status)
    if len(data) > MAX_BYTES:
        raise DataError("is larger than 1 GiB; cut it into chips")
    hashed = hashlib.blake2b(data, digest_size=16)
    try:
        for other in files_beside(path):
            hashed.update(other.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    digest = hashed.hexdigest()
    return metadata, data, f"{digest}-{options.recipe}" if is_raster(data[:HEAD]) else digest


_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class EmptyChip:
    """A chip with too little data; ``stored``: whether the archive holds an older row."""

    id: str
    scene: str
    stored: bool


Digest = Callable[[Task], tuple[Path, os.stat_result, str]]


@dataclass(slots=True)
class _Scene:
    """The shared facts of all chips of one scene, computed by the first thread that needs them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    path: Path = Path()
    status: os.stat_result | None = None
    digest: str = ""
    rendering: Rendering | None = None
    error: LandcueError | None = None


class SceneFacts:
    """Facts about scenes; several readers may share them.

    A scene's file is hashed once, or not at all if the archive holds its digest or a store returns
    its ETag; its scaling is estimated once, when a chip of it is read.

    Args:
        digest: Finds a scene's file, its size and time, and its digest: :func:`scene_digest`.
    """

    def __init__(self, digest: Digest | None = None) -> None:
        self.digest = digest or scene_digest
        self._lock = threading.Lock()
        self._scenes: dict[Path, _Scene] = {}

    def of(self, path: Path) -> _Scene:
        """Return the facts of one scene, which may be empty yet."""
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
            The chip; only its new metadata if the scene has the same bytes as before; that it has
            too little data; or the reason why it must be skipped.

        Raises:
            StoreError: The object store does not answer; the scene itself may be readable.
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
        """Close all scenes, after all threads have finished reading."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _read(self, task: Task) -> ReadImage | Metadata | EmptyChip:
        window = task.record.window
        if window is None:
            raise DataError("is not a chip of a scene")
        scene, status = self._scene(task)
        metadata = with_status(task.metadata, task.record.path, status)
        content = f"{scene.digest}-{self._options.recipe}"
        if task.stored is not None and task.stored.content == content:
            return metadata
        reader = self._reader(scene)
        rendering = self._rendering(scene, reader)
        image = reader.chip(window, rendering)
        _check_same(task.record.path, metadata)
        if image is None:
            return EmptyChip(task.record.id, task.metadata.path, task.stored is not None)
        return ReadImage(
            metadata=replace(metadata, bbox=task.record.bbox, geometry=task.record.geometry),
            content=content,
            thumbnail=make_thumbnail(image),
            pixels=self._encoder.prepare(image),
            replaces=task.stored is not None,
            reading=reader.reading(rendering),
        )

    def _scene(self, task: Task) -> tuple[_Scene, os.stat_result]:
        path = task.record.path
        scene = self._facts.of(path)
        with scene.lock:
            if scene.status is None and scene.error is None:
                try:
                    scene.path, status, scene.digest = self._facts.digest(task)
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
            reader = self._readers[thread] = SceneReader(scene.path, self._options)
        return reader

    def _rendering(self, scene: _Scene, reader: SceneReader) -> Rendering:
        with scene.lock:
            if scene.rendering is None:
                try:
                    scene.rendering = reader.rendering()
                except LandcueError as error:  # the next chip need not try again
                    scene.status, scene.error = None, error
                    raise
            return scene.rendering


def scene_digest(task: Task) -> tuple[Path, os.stat_result, str]:
    """Return a scene's file, its size and time, and the digest of its bytes or of their ETag."""
    path = task.record.path
    if is_object(path):
        found = object_path(path)
        others = [object_path(one).digest for one in list(band_files(path).values())[1:]]
        return found, found.stat(), _joined_digest(found.digest, others)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            known = (task.metadata.size, task.metadata.mtime_ns)
            if task.digest is not None and image_version(path, status) == known:
                return path, status, task.digest
            digest = hashlib.blake2b(digest_size=16)
            while block := file.read(_BLOCK):
                digest.update(block)
        for other in files_beside(path):
            with other.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    return path, status, digest.hexdigest()


def _joined_digest(first: str, others: Sequence[str]) -> str:
    """Return a digest of the files of a scene: that of the only one, or of all digests."""
    if not others:
        return first
    return hashlib.blake2b(" ".join((first, *others)).encode(), digest_size=16).hexdigest()


def _check_same(path: Path, metadata: Metadata) -> None:
    """Check that the file has not changed since its digest was computed."""
    if is_object(path):
        return  # checked by the reader
    try:
        now = image_version(path, os.stat(path))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    if now != (metadata.size, metadata.mtime_ns):
        raise DataError(CHANGED)


Item = ReadImage | Metadata | Problem | EmptyChip
Hold = Callable[[], contextlib.AbstractContextManager[None]]

_RUN = 16


@contextlib.contextmanager
def reading_ahead(
    tasks: Sequence[Task],
    encoder: Encoder,
    scenes: SceneOptions | None,
    workers: int,
    ahead: int,
    *,
    beside_encoder: bool,
    facts: SceneFacts | None = None,
    reuse: Known | None = None,
) -> Generator[tuple[Iterator[Item], Hold]]:
    """Read all tasks, in order, while up to ``ahead`` more are being read.

    Args:
        ahead: Most images in memory besides those yielded.
        beside_encoder: Continue to read while the encoder runs.

    Yields:
        The results, and a context manager to run the encoder in.
    """
    free = threading.Event()
    free.set()
    options = scenes or _WHOLE
    chips = ChipReader(options, encoder, facts)

    @contextlib.contextmanager
    def hold() -> Generator[None]:
        """Stop the readers after their current image."""
        free.clear()
        try:
            yield
        finally:
            free.set()

    def read_run(run: Sequence[Task]) -> list[Item]:
        items: list[Item] = []
        for task in run:
            if reuse and (found := _recalled(task, reuse)):
                items.append(found)
                continue
            free.wait()
            if task.record.window is not None:
                items.append(chips.read(task))
            else:
                items.append(read_task(task, encoder, options))
        return items

    pool = ThreadPoolExecutor(workers, thread_name_prefix="image reader")
    try:
        yield (
            _in_order(pool, read_run, tasks, ahead),
            contextlib.nullcontext if beside_encoder else hold,
        )
    finally:
        free.set()
        pool.shutdown(cancel_futures=True)
        chips.close()


def _in_order(
    pool: ThreadPoolExecutor,
    read_run: Callable[[Sequence[Task]], list[Item]],
    tasks: Sequence[Task],
    ahead: int,
) -> Iterator[Item]:
    pending: deque[tuple[int, Future[list[Item]]]] = deque()
    waiting = 0
    for run in _runs(tasks):
        pending.append((len(run), pool.submit(read_run, run)))
        waiting += len(run)
        while waiting > ahead:
            n, future = pending.popleft()
            yield from future.result()
            waiting -= n
    while pending:
        yield from pending.popleft()[1].result()


def _runs(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Yield images one by one, and neighboring chips together: they share blocks of the file."""

    def key(task: Task) -> tuple[str, int]:
        window = task.record.window
        return (task.record.id, -1) if window is None else (task.metadata.path, window.row)

    for _, row in itertools.groupby(tasks, key):
        run = list(row)
        for first in range(0, len(run), _RUN):
            yield run[first : first + _RUN]

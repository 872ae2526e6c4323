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
from typing import Any, BinaryIO

from PIL import Image

from landcue.archive.manifest import THUMBNAIL_SIDE
from landcue.archive.plan import MAX_BYTES, Task, with_version
from landcue.archive.schema import Metadata
from landcue.data.images import files_beside, read_picture, version_of_files
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
        metadata, source, content, others = _load(task, options)
        if task.stored is not None and task.stored.content == content:
            return metadata
        path = task.record.path
        picture = read_picture(source, options, name=metadata.path, path=path)
        if isinstance(source, Path):
            _check_same(source, others, metadata)
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


def _load(
    task: Task, options: SceneOptions
) -> tuple[Metadata, Path | bytes, str, tuple[Path, ...]]:
    """Return the metadata of a file, what to decode, its digest, and the files beside it.

    Rasters on this machine are hashed and then read by GDAL, and so are scenes of one object a
    band; the others are read from one copy in memory.
    """
    path = task.record.path
    gdal = path.suffix.lower() in RASTER_SUFFIXES
    if gdal and (not is_object(path) or band_files(path)):
        scene = scene_digest(task)
        metadata = with_version(task.metadata, scene.version)
        return metadata, scene.path, f"{scene.digest}-{options.recipe}", scene.others
    status, data = read_file(path, MAX_BYTES + 1)
    others = tuple(files_beside(path))
    metadata = with_version(task.metadata, version_of_files(status, others))
    if len(data) > MAX_BYTES:
        raise DataError("is larger than 1 GiB; cut it into chips")
    hashed = hashlib.blake2b(data, digest_size=16)
    try:
        _hash_files(others, hashed)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    digest = hashed.hexdigest()
    recipe = f"-{options.recipe}" if is_raster(data[:HEAD]) else ""
    return metadata, data, digest + recipe, others


@dataclass(frozen=True, slots=True)
class EmptyChip:
    """A chip with too little data; ``stored``: whether the archive holds an older row."""

    id: str
    scene: str
    stored: bool


@dataclass(frozen=True, slots=True)
class SceneFiles:
    """The files of a scene, as they were read to compute its digest.

    Attributes:
        path: Its file, of a scene of one file a band that of the red one.
        others: The files beside it, see :func:`landcue.data.images.files_beside`.
        version: Size and time of all, before they were read: see
            :func:`landcue.data.images.image_version`.
        digest: Of the bytes of all, or of their ETags.
    """

    path: Path
    others: tuple[Path, ...]
    version: tuple[int, int]
    digest: str


Digest = Callable[[Task], SceneFiles]


@dataclass(slots=True)
class _Scene:
    """The shared facts of all chips of one scene, computed by the first thread that needs them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    files: SceneFiles | None = None
    rendering: Rendering | None = None
    error: LandcueError | None = None


class SceneFacts:
    """Facts about scenes; several readers may share them.

    A scene's file is hashed once, or not at all if the archive holds its digest or a store returns
    its ETag; its scaling is estimated once, when a chip of it is read.

    Args:
        digest: Finds a scene's files, their size and time, and its digest: :func:`scene_digest`.
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
        scene, files = self._scene(task)
        metadata = with_version(task.metadata, files.version)
        content = f"{files.digest}-{self._options.recipe}"
        if task.stored is not None and task.stored.content == content:
            return metadata
        reader = self._reader(files.path)
        rendering = self._rendering(scene, reader)
        image = reader.chip(window, rendering)
        _check_same(task.record.path, files.others, metadata)
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

    def _scene(self, task: Task) -> tuple[_Scene, SceneFiles]:
        scene = self._facts.of(task.record.path)
        with scene.lock:
            if scene.files is None and scene.error is None:
                try:
                    scene.files = self._facts.digest(task)
                except LandcueError as error:
                    scene.error = error
            files = scene.files
        if files is None:
            raise scene.error or DataError("cannot be read")
        return scene, files

    def _reader(self, path: Path) -> SceneReader:
        thread = threading.get_ident()
        reader = self._readers.get(thread)
        if reader is None or reader.path != path:
            if reader is not None:
                reader.close()
                del self._readers[thread]
            reader = self._readers[thread] = SceneReader(path, self._options)
        return reader

    def _rendering(self, scene: _Scene, reader: SceneReader) -> Rendering:
        with scene.lock:
            if scene.rendering is None:
                try:
                    scene.rendering = reader.rendering()
                except LandcueError as error:  # the next chip need not try again
                    scene.files, scene.error = None, error
                    raise
            return scene.rendering


def scene_digest(task: Task) -> SceneFiles:
    """Return a scene's files, their size and time, and the digest of their bytes or ETags.

    Size and time are taken first, so that a change of any file from then on is found.
    """
    path = task.record.path
    if is_object(path):
        found = object_path(path)
        bands = [object_path(one).digest for one in list(band_files(path).values())[1:]]
        version = version_of_files(found.stat(), ())
        return SceneFiles(found, (), version, _joined_digest(found.digest, bands))
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            others = tuple(files_beside(path))
            version = version_of_files(status, others)
            known = (task.metadata.size, task.metadata.mtime_ns)
            if task.digest is not None and version == known:
                return SceneFiles(path, others, version, task.digest)
            digest = hashlib.blake2b(digest_size=16)
            _hash_blocks(file, digest)
        _hash_files(others, digest)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from None
    return SceneFiles(path, others, version, digest.hexdigest())


_BLOCK = 1 << 20


def _hash_blocks(file: BinaryIO, digest: hashlib.blake2b) -> None:
    while block := file.read(_BLOCK):
        digest.update(block)


def _hash_files(paths: Iterable[Path], digest: hashlib.blake2b) -> None:
    for path in paths:
        with path.open("rb") as file:
            _hash_blocks(file, digest)


def _joined_digest(first: str, others: Sequence[str]) -> str:
    """Return a digest of the files of a scene: that of the only one, or of all digests."""
    if not others:
        return first
    return hashlib.blake2b(" ".join((first, *others)).encode(), digest_size=16).hexdigest()


def _check_same(path: Path, others: Iterable[Path], metadata: Metadata) -> None:
    """Check that the files of an image have not changed since before its digest was computed."""
    if is_object(path):
        return  # checked by the reader
    try:
        now = version_of_files(os.stat(path), others)
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

"""The images of a part of a data set, and the batches of an epoch for any number of workers."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from landcue.data.datasets import load_dataset
from landcue.data.datasets.bands import read_bands, read_rgb
from landcue.data.imageset import ImageSet, label_matrix, labeled_by_group
from landcue.data.splits import apply_split
from landcue.errors import DataError, LandcueError, ModelError, UsageError
from landcue.files import core_count, exclusive
from landcue.models.resize import resize_square
from landcue.training.config import LoaderSection, SamplerSection, TrainingConfig
from landcue.training.label_aware import LabelAware
from landcue.training.samplers import BatchSampler, ClassBalanced, Shares, Shuffle, classes_of
from landcue.types import ByteArray, Problem, Record

CACHE_BYTES = 8 * 2**30
"""Default limit of the decoded images that one data set keeps on the disk."""
Message = Callable[[str], None]
"""Called with one line of text."""
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and the total."""
_BLOCK = 1024
_PREFIX = "landcue-images-"

Transform = Callable[[Tensor], Tensor]
"""From uint8 ``[C, h, w]`` to ``[C, size, size]`` with values 0..255."""


def ignore(*_: object) -> None:
    """Do nothing: the default of callbacks."""


def read_split(config: TrainingConfig) -> ImageSet:
    """Read the configured data set, leave unannotated images out, and apply the split.

    With ``data.target: group`` the group of an image is its only label.
    """
    images = load_dataset(config.data.dataset, Path(config.data.root))
    if config.data.target == "group":
        images = labeled_by_group(images)
    labeled = [record for record in images.records if record.labels is not None]
    if not labeled or not images.label_names:
        raise DataError(
            f"{config.data.root} has no labels; put images into class folders or add labels.csv"
        )
    return apply_split(images.subset(labeled), config.data.split)


class PixelCache:
    """Decoded images in one temporary file, read and written by offset.

    No process maps or holds the file: what stays in memory is the system's page cache, which
    gives way when memory is needed. Each entry is a byte that says whether it was written, and
    the pixels. Processes on one machine that know the ``name`` share the file; it is removed when
    its creator ends, or by the next training if the creator was killed.
    """

    def __init__(self, n: int, shape: tuple[int, ...], limit: int, name: str | None = None) -> None:
        """Make room for as many of ``n`` images of ``shape`` as fit in ``limit`` bytes.

        At most half of the free space of the temporary folder is used.
        """
        parent = Path(tempfile.gettempdir())
        _remove_abandoned(parent)
        self.shape, self._stride = shape, math.prod(shape) + 1
        available = min(limit, shutil.disk_usage(parent).free // 2)
        self.capacity = min(n, available // self._stride)
        folder = parent / f"{_PREFIX}{name or uuid.uuid4().hex}"
        self._file = folder / "pixels"
        if self.capacity:
            held = contextlib.ExitStack()
            with contextlib.suppress(LandcueError):  # another process of this training holds it
                held.enter_context(exclusive(folder, ModelError, "caching images in"))
                weakref.finalize(self, _remove, held, folder)
            with self._file.open("ab") as file:
                file.truncate(self.capacity * self._stride)

    def read(self, row: int) -> ByteArray | None:
        """Return an image, uint8 of ``shape``; ``None`` if it is not cached."""
        if row >= self.capacity:
            return None
        entry = bytearray(self._stride)
        with self._file.open("rb", buffering=0) as file:
            file.seek(row * self._stride)
            if file.readinto(entry) != self._stride or not entry[0]:
                return None
        return np.frombuffer(entry, np.uint8, offset=1).reshape(self.shape)

    def write(self, row: int, pixels: ByteArray) -> None:
        """Keep an image, if there is room for it."""
        if row >= self.capacity:
            return
        with contextlib.suppress(OSError), self._file.open("rb+", buffering=0) as file:
            file.seek(row * self._stride + 1)
            if file.write(np.ascontiguousarray(pixels).data) == self._stride - 1:
                file.seek(row * self._stride)  # last: a set mark means complete pixels
                file.write(b"\x01")


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """The images of one part as a :class:`torch.utils.data.Dataset`.

    ``dataset[row]`` and ``dataset[row, seed]`` give the image, uint8 ``[C, size, size]``, and its
    multi-hot labels, uint8 ``[L]``. With a transform the image is what the transform makes of it,
    all of whose draws from torch follow from ``seed``.

    Args:
        records: The images.
        label_names: Names of the L labels.
        size: Side in pixels to which images are resized.
        bands: What is read of Sentinel-2 images; RGB by default, and of all other images.
        cache_bytes: Limit of the decoded images kept on the disk; 0 for none.
        cache_name: Name under which processes on one machine share the cache.

    Example:
        >>> from landcue.data.sources import open_source
        >>> source = open_source(Path("photos"))                            # doctest: +SKIP
        >>> ImageDataset(source.records, source.label_names, 160)[0][0].shape  # doctest: +SKIP
        torch.Size([3, 160, 160])
    """

    def __init__(
        self,
        records: Sequence[Record],
        label_names: Sequence[str],
        size: int,
        bands: Sequence[str] = (),
        *,
        cache_bytes: int = CACHE_BYTES,
        cache_name: str | None = None,
    ) -> None:
        self.records, self.label_names = tuple(records), tuple(label_names)
        self.problems: tuple[Problem, ...] = ()
        self.size, self.bands = size, tuple(bands)
        self.transform: Transform | None = None
        self.labels = label_matrix([record.labels for record in records], label_names)
        shape = (size, size, len(bands) or 3)
        self.cache = PixelCache(len(records), shape, cache_bytes, cache_name)
        self._entries: npt.NDArray[np.int64] = np.arange(len(records))

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        row, seed = index if isinstance(index, tuple) else (index, None)
        image = torch.from_numpy(self.pixels(row)).permute(2, 0, 1)
        if self.transform is not None:
            with torch.random.fork_rng(devices=[], enabled=seed is not None):
                if seed is not None:
                    torch.default_generator.manual_seed(seed)
                image = self.transform(image)
        return image, torch.from_numpy(self.labels[row])

    def pixels(self, row: int) -> ByteArray:
        """Return an image, uint8 ``[size, size, C]``.

        Raises:
            DataError: Its file is missing or broken.
        """
        entry = int(self._entries[row])
        found = self.cache.read(entry)
        if found is None:
            record = self.records[row]
            image = read_bands(record, self.bands) if self.bands else read_rgb(record)
            found = np.require(resize_square(image, self.size), requirements=["C", "W"])
            self.cache.write(entry, found)
        return found

    def batch(self, rows: Sequence[int], pool: ThreadPoolExecutor) -> ByteArray:
        """Return images, uint8 ``[n, size, size, C]``, decoded by a pool of threads."""
        return np.stack(list(pool.map(self.pixels, rows)))

    @property
    def is_cached(self) -> bool:
        """Whether there is room for all decoded images in the cache."""
        return self.cache.capacity >= len(self._entries)

    def drop_unreadable(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode every image once, filling the cache, and leave out those that fail.

        They are named in ``problems``.

        Raises:
            DataError: No image can be decoded.
        """
        self.drop(self.check(range(len(self)), progress))

    def check(
        self, rows: Sequence[int], progress: Callable[[int, int], None] | None = None
    ) -> list[tuple[int, str]]:
        """Decode images once, filling the cache; return the rows that fail, and why."""
        failed: list[tuple[int, str]] = []
        with ThreadPoolExecutor(max(2, core_count())) as pool:
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                for done, problem in enumerate(pool.map(self._problem, block), start + 1):
                    if problem:
                        failed.append((rows[done - 1], problem))
                    if progress:
                        progress(done, len(rows))
        return failed

    def drop(self, failed: Sequence[tuple[int, str]]) -> None:
        """Leave out the images that :meth:`check` found to fail.

        Raises:
            DataError: None is left.
        """
        self.problems = tuple(Problem(self.records[row].id, what) for row, what in failed)
        bad = {row for row, _ in failed}
        good = [row for row in range(len(self)) if row not in bad]
        if not good:
            first = f", first: {self.problems[0].what}" if self.problems else ""
            raise DataError(f"none of {len(self)} images can be decoded{first}")
        if bad:
            self.records = tuple(self.records[row] for row in good)
            self.labels, self._entries = self.labels[good], self._entries[good]

    def _problem(self, row: int) -> str | None:
        try:
            self.pixels(row)
        except DataError as error:
            return str(error)
        return None


def _remove(held: contextlib.ExitStack, folder: Path) -> None:
    held.close()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove the caches of processes that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, LandcueError):
            if time.time() - folder.stat().st_mtime > 60:
                with exclusive(folder, ModelError, "caching images in"):
                    pass
                shutil.rmtree(folder, ignore_errors=True)


_MOST_WORKERS = 8


def create_sampler(
    section: SamplerSection,
    shares: Shares,
    seed: int,
    labels: npt.ArrayLike,
    groups: Sequence[str | None],
    names: Sequence[str],
    losses: Sequence[str | None] = (),
) -> tuple[BatchSampler, str]:
    """Create the configured sampler, with a note on what ``auto`` could not do, or ``""``."""
    if section.name == "class_balanced":
        balanced = classes_of(labels, groups)
        return ClassBalanced(balanced, shares, seed, per_class=section.per_class), ""
    if section.name == "shuffle" or (section.name == "auto" and "marc" not in losses):
        return Shuffle(shares, seed), ""
    try:
        return LabelAware(
            labels, shares, seed, min_count=section.min_count, cap=section.cap, names=names
        ), ""
    except (DataError, UsageError) as error:
        if section.name != "auto":
            raise
        return Shuffle(shares, seed), f"batches are drawn without regard to labels: {error}"


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch as lists of (row, seed of its view).

    A seed follows from the run's seed, the epoch, the step and the row: neither the number of
    processes nor that of workers changes a view, and a resumed run sees those of the first.
    """

    def __init__(self, sampler: BatchSampler, seed: int, n_images: int) -> None:
        self.epoch = 0
        self._sampler, self._seed, self._n_images = sampler, seed, n_images

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        sequence = np.random.SeedSequence([self._seed, self.epoch, 1])
        base = sequence.generate_state(self._n_images, np.uint32)
        for step, rows in enumerate(self._sampler.batches(self.epoch)):
            yield [(row, int(base[row]) << 20 | step) for row in rows.tolist()]


def create_loader(
    images: ImageDataset,
    batches: EpochBatches,
    section: LoaderSection,
    device: torch.device,
    processes: int = 1,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Make the loader of a training: its workers are spawned once and live through all epochs.

    Without ``loader.workers`` a GPU gets up to eight workers; a CPU, whose cores the model itself
    needs, gets none if all decoded images are cached, and else half as many as cores.
    """
    workers = section.workers
    if workers is None:
        cores = core_count() // processes
        if device.type != "cpu":
            workers = min(_MOST_WORKERS, cores)
        else:
            workers = 0 if images.is_cached else min(_MOST_WORKERS, max(1, cores // 2))
    options: dict[str, Any] = {}
    if workers:
        options = {"multiprocessing_context": "spawn", "persistent_workers": True}
    return DataLoader(
        images,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # its own: the loader leaves the global one as it is
        **options,
    )

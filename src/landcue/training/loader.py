"""Batches of an epoch, loaded by worker processes: the same whatever their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from landcue.errors import DataError, UsageError
from landcue.files import core_count
from landcue.training.config import LoaderSection, SamplerSection
from landcue.training.images import ImageDataset
from landcue.training.label_aware import LabelAware
from landcue.training.samplers import BatchSampler, ClassBalanced, Shares, Shuffle, classes_of

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

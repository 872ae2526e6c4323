"""What becomes of the images of an ingest: rows to write, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from landcue.archive.ahead import Hold, Item, reading_ahead
from landcue.archive.chips import ChipReader, EmptyChip
from landcue.archive.encoding import encode_rows
from landcue.archive.plan import Task
from landcue.archive.reading import ReadImage
from landcue.archive.schema import Metadata
from landcue.data.raster_read import SceneOptions
from landcue.types import Encoder, Problem


@dataclass(frozen=True, slots=True)
class Encoded:
    """What some tasks became.

    Attributes:
        rows: Rows to add and rows that replace older ones, each only if there are any.
        same: New metadata of images whose bytes are those of the stored row.
        left_out: What could not be read or encoded, and chips with too little data.
        n: How many tasks these were.
    """

    rows: Mapping[Literal["add", "replace"], pa.Table]
    same: tuple[Metadata, ...]
    left_out: tuple[Problem | EmptyChip, ...]
    n: int


Engine = Callable[[Sequence[Task], SceneOptions | None], AbstractContextManager[Iterator[Encoded]]]
"""Reads and encodes all tasks; what they became comes in their order."""


@contextlib.contextmanager
def encoding_here(
    tasks: Sequence[Task],
    encoder: Encoder,
    chips: ChipReader | None,
    *,
    batch_size: int,
    workers: int,
    overlap: bool,
) -> Generator[Iterator[Encoded]]:
    """Read and encode in this process.

    Args:
        tasks: What to read.
        encoder: The model; it runs in the calling thread.
        chips: Reads tasks that are chips.
        batch_size: Images per encoder call.
        workers: Reading threads.
        overlap: Read while the encoder runs.
    """
    with reading_ahead(tasks, encoder, chips, workers, 2 * batch_size, beside_encoder=overlap) as (
        read,
        held,
    ):
        yield _batches(read, encoder, batch_size, held)


def _batches(
    read: Iterator[Item], encoder: Encoder, batch_size: int, held: Hold
) -> Iterator[Encoded]:
    while batch := _take(read, batch_size):
        images = [item for item in batch if isinstance(item, ReadImage)]
        same = tuple(item for item in batch if isinstance(item, Metadata))
        unread = [item for item in batch if isinstance(item, Problem | EmptyChip)]
        with held():
            rows, problems = encode_rows(images, encoder)
        yield Encoded(rows, same, (*unread, *problems), len(batch))


def _take(read: Iterator[Item], images: int) -> list[Item]:
    """Return what was read up to the given number of images, but not for ever without any."""
    batch: list[Item] = []
    found = 0
    for item in read:
        batch.append(item)
        found += isinstance(item, ReadImage)
        if found == images or len(batch) == 4 * images:
            break
    return batch

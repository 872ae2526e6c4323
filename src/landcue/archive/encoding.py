"""Encode images that were read into rows of the table, batch by batch."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.archive.plan import Task
from landcue.archive.reading import (
    EmptyChip,
    Hold,
    Item,
    Known,
    ReadImage,
    SceneFacts,
    reading_ahead,
)
from landcue.archive.schema import Metadata, encoded_rows, record_schema
from landcue.codes.packing import code_width
from landcue.data.scenes import SceneOptions
from landcue.errors import ModelError, UsageError
from landcue.files import core_count
from landcue.types import Encoder, Encoding, Problem, regions_of

_NORM_TOLERANCE = 1e-3
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class EncodingOptions:
    """How images are read and encoded, and their rows committed.

    Attributes:
        batch_size: Images per encoder call.
        commit_every: Rows per commit.
        workers: Reading threads; by default the cores this process may use, up to 4.
        overlap: Read while the encoder runs: useful for an encoder on a GPU. On the CPU, readers
            would slow down the encoder, which uses all cores.

    Raises:
        UsageError: A number is less than 1.
    """

    batch_size: int = 64
    commit_every: int = 512
    workers: int | None = None
    overlap: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "commit_every", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}: use 1 or more")

    @property
    def threads(self) -> int:
        """Reading threads."""
        return self.workers or min(_MOST_THREADS, core_count())


def encode_rows(
    images: Sequence[ReadImage], encoder: Encoder
) -> tuple[dict[Literal["add", "replace"], pa.Table], list[Problem]]:
    """Encode images in one call.

    Returns:
        Rows to add and rows that replace older ones, each only if there are any; and the images
        whose embedding or scores are not finite, or whose embedding is not of unit norm.

    Raises:
        ModelError: The output does not have the shapes the encoder promises.
    """
    if not images:
        return {}, []
    encoding = _encode(images, encoder)
    usable = _usable(encoding)
    problems = [
        Problem(image.metadata.path, "the model returned no finite embedding of unit norm")
        for image, good in zip(images, usable, strict=True)
        if not good
    ]
    replaces = np.array([image.replaces for image in images], np.bool_)
    rows: dict[Literal["add", "replace"], pa.Table | None] = {
        "add": _rows(images, encoding, usable & ~replaces, encoder),
        "replace": _rows(images, encoding, usable & replaces, encoder),
    }
    return {kind: part for kind, part in rows.items() if part is not None}, problems


def _encode(images: Sequence[ReadImage], encoder: Encoder) -> Encoding:
    """Encode those images whose encoding is not known."""
    new = [image.pixels for image in images if image.encoding is None]
    made = encoder.encode(new) if new else None
    if made is not None:
        _check_shapes(made, encoder, len(new))
        if len(new) == len(images):
            return made
    fresh = iter(range(len(new)))
    parts = [_row(made, next(fresh)) if i.encoding is None else i.encoding for i in images]
    regions = [part.regions for part in parts if part.regions is not None]
    encoding = Encoding(
        np.concatenate([part.embedding for part in parts]),
        np.concatenate([part.code for part in parts]),
        encoder.n_bits,
        np.concatenate([part.label_scores for part in parts]),
        np.concatenate(regions) if regions else None,
    )
    _check_shapes(encoding, encoder, len(images))
    return encoding


def _row(made: Encoding | None, i: int) -> Encoding:
    assert made is not None
    return _taken(made, slice(i, i + 1))


def _taken(made: Encoding, which: Any) -> Encoding:
    return Encoding(
        made.embedding[which],
        made.code[which],
        made.n_bits,
        made.label_scores[which],
        None if made.regions is None else made.regions[which],
    )


def _rows(
    images: Sequence[ReadImage],
    encoding: Encoding,
    wanted: npt.NDArray[np.bool_],
    encoder: Encoder,
) -> pa.Table | None:
    if not wanted.any():
        return None
    chosen = list(itertools.compress(images, wanted))
    return encoded_rows(
        [image.metadata for image in chosen],
        [image.content for image in chosen],
        [image.thumbnail for image in chosen],
        _taken(encoding, wanted),
        encoder.label_names,
        record_schema(
            encoder.dim, encoder.n_bits, len(encoder.label_names), regions_of(encoder) ** 2
        ),
        [None if image.reading is None else json.dumps(image.reading) for image in chosen],
    )


def _usable(encoding: Encoding) -> npt.NDArray[np.bool_]:
    finite = np.isfinite(encoding.label_scores).all(axis=1)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(encoding.embedding.astype(np.float64), axis=1)
    return finite & (np.abs(norms - 1) <= _NORM_TOLERANCE)


def _check_shapes(encoding: Encoding, encoder: Encoder, n: int) -> None:
    regions = regions_of(encoder) ** 2
    found = (encoding.embedding.shape, encoding.code.shape, encoding.label_scores.shape)
    promised = (
        (n, encoder.dim),
        (n, code_width(encoder.n_bits)),
        (n, len(encoder.label_names)),
    )
    if regions:
        found += ((0, 0) if encoding.regions is None else encoding.regions.shape,)
        promised += ((n, regions * encoder.dim),)
    if found != promised or encoding.n_bits != encoder.n_bits:
        raise ModelError(
            f"model {encoder.fingerprint[:12]} returned embeddings, codes and scores of shapes "
            f"{found}, but promised {promised}; the model is broken"
        )


@dataclass(frozen=True, slots=True)
class Encoded:
    """The results of some tasks.

    Attributes:
        rows: Rows to add and rows that replace older ones, each only if there are any.
        same: New metadata of images whose bytes are those of the stored row.
        left_out: Images that could not be read or encoded, and chips with too little data.
        n: Number of tasks.
    """

    rows: Mapping[Literal["add", "replace"], pa.Table]
    same: tuple[Metadata, ...]
    left_out: tuple[Problem | EmptyChip, ...]
    n: int


Engine = Callable[[Sequence[Task], SceneOptions | None], AbstractContextManager[Iterator[Encoded]]]
"""Reads and encodes all tasks; results are in the order of the tasks."""


@contextlib.contextmanager
def encoding_here(
    tasks: Sequence[Task],
    encoder: Encoder,
    scenes: SceneOptions | None,
    options: EncodingOptions,
    *,
    facts: SceneFacts | None = None,
    reuse: Known | None = None,
) -> Generator[Iterator[Encoded]]:
    """Read and encode in this process."""
    with reading_ahead(
        tasks, encoder, scenes, options.threads, 2 * options.batch_size,
        beside_encoder=options.overlap, facts=facts, reuse=reuse,
    ) as (read, held):  # fmt: skip
        yield _batches(read, encoder, options.batch_size, held)


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
    """Take results up to a number of images; stop after many results without any."""
    batch: list[Item] = []
    found = 0
    for item in read:
        batch.append(item)
        found += isinstance(item, ReadImage)
        if found == images or len(batch) == 4 * images:
            break
    return batch

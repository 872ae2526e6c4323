"""The same ingest as a pipeline of Ray Data, to compare LandCue's own use of Ray with."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from landcue.archive.encoding import Encoded, encode_rows
from landcue.archive.plan import Task
from landcue.archive.reading import ReadImage, make_thumbnail
from landcue.data.images import read_image
from landcue.data.scenes import SceneOptions
from landcue.ray.worker import ModelFiles


class _Encode:
    """The actor of the pool: bytes of files come in, rows go out."""

    def __init__(self, model: ModelFiles, tasks: dict[str, Task]) -> None:
        import torch

        torch.set_num_threads(1)
        self._encoder, self._tasks = model(1), tasks

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        images: list[ReadImage] = []
        for path, data in zip(batch["path"], batch["bytes"], strict=True):
            pixels = read_image(data, name=path)
            images.append(
                ReadImage(
                    metadata=self._tasks[Path(path).name].metadata,
                    content=hashlib.blake2b(data, digest_size=16).hexdigest(),
                    thumbnail=make_thumbnail(pixels),
                    pixels=self._encoder.prepare(pixels),
                    replaces=False,
                )
            )
        rows, problems = encode_rows(images, self._encoder)
        return {"encoded": [pickle.dumps(Encoded(rows, (), tuple(problems), len(images)))]}


class RayData:
    """An engine for :func:`landcue.archive.ingest.ingest`: read, encode in a pool, take in order.

    It reads sound images of one folder only, and does nothing about failures.
    """

    def __init__(self, model: ModelFiles, workers: int, batch_size: int = 64) -> None:
        self._model, self._workers, self._batch = model, workers, batch_size
        self.startup_seconds = 0.0

    @contextlib.contextmanager
    def __call__(
        self, tasks: Sequence[Task], scenes: SceneOptions | None
    ) -> Generator[Iterator[Encoded]]:
        """Start the pipeline on the cluster that is connected, and give what comes out of it."""
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        # Shares of cores that let readers run beside as many actors as there are cores.
        files = ray.data.read_binary_files(
            [str(task.record.path) for task in tasks], include_paths=True, num_cpus=0.25
        )
        encoded = files.map_batches(
            _Encode,
            batch_size=self._batch,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=self._workers),
            num_cpus=0.5,
            fn_constructor_args=(self._model, {task.record.path.name: task for task in tasks}),
        )
        yield self._take(encoded.iter_rows())

    def _take(self, rows: Iterator[dict[str, Any]]) -> Iterator[Encoded]:
        started = time.perf_counter()
        for row in rows:
            self.startup_seconds = self.startup_seconds or time.perf_counter() - started
            yield pickle.loads(row["encoded"])

"""The process that reads and encodes: one per GPU, or per share of a node's cores."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from landcue import __version__
from landcue.archive.encoding import Encoded, encoding_here
from landcue.archive.plan import Task
from landcue.archive.reading import ChipReader, SceneFacts
from landcue.data.objects import is_object, store_of
from landcue.data.scenes import SceneOptions
from landcue.errors import LandcueError, ModelError, UsageError
from landcue.ray.cluster import import_ray
from landcue.types import ByteArray, Encoder, Encoding

OpenEncoder = Callable[[int], Encoder]
"""Opens the model on a worker's node, for a number of threads."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of one ingest is told.

    Attributes:
        open_encoder: Opens the model.
        fingerprint: Which model it must be.
        version: Of LandCue, which must be the same everywhere.
        probe: A folder that every node must see, or an object in the store it must reach.
        scenes: How chips are read.
        batch_size: Images per encoder call.
        threads: Of the encoder, and reading ones.
        overlap: Read while the encoder runs.
    """

    open_encoder: OpenEncoder
    fingerprint: str
    version: str
    probe: Path
    scenes: SceneOptions | None
    batch_size: int
    threads: int
    overlap: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs: its host, Ray's id of the node, and its process id."""

    host: str
    node: str
    pid: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker made of its tasks, and the seconds that it took."""

    encoded: list[Encoded]
    seconds: float


class Worker:
    """Runs as a Ray actor."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._encoder: Encoder | None = None
        self._facts = SceneFacts()  # a scene is hashed once, however many calls bring its chips

    def open(self) -> Place:
        """Load the model.

        Raises:
            LandcueError: This node lacks something that the job needs.
        """
        job, host = self._job, socket.gethostname()
        if __version__ != job.version:
            raise UsageError(
                f"node {host} has LandCue {__version__}, not {job.version}; install the same "
                "version on all nodes"
            )
        if is_object(job.probe):
            try:
                store_of(job.probe)
            except LandcueError as error:
                raise type(error)(f"node {host}: {error}") from None
        elif not job.probe.is_dir():
            raise UsageError(
                f"node {host} does not see {job.probe}; mount it at the same path on all nodes, or "
                "index from an object store (s3://…)"
            )
        encoder = job.open_encoder(job.threads)
        if "torch" in sys.modules:
            import torch

            torch.set_num_threads(job.threads)
        if encoder.fingerprint != job.fingerprint:
            raise ModelError(
                f"node {host} opened model {encoder.fingerprint[:12]}, not {job.fingerprint[:12]}; "
                "its training may be going on: wait for its end"
            )
        self._encoder = _OneAtATime(encoder) if job.overlap else encoder
        return Place(host, import_ray().get_runtime_context().get_node_id(), os.getpid())

    def encode(self, tasks: Sequence[Task]) -> Done:
        """Read and encode some tasks.

        Raises:
            LandcueError: The model does not keep its word.
        """
        if self._encoder is None:
            raise LandcueError("a worker was asked before it was opened")
        started = time.perf_counter()
        job, encoder = self._job, self._encoder
        chips = ChipReader(job.scenes, encoder, self._facts) if job.scenes else None
        with encoding_here(
            tasks, encoder, chips,
            batch_size=job.batch_size, workers=job.threads, overlap=job.overlap,
        ) as encoded:  # fmt: skip
            found = list(encoded)
        return Done(found, time.perf_counter() - started)


class _OneAtATime:
    """An encoder that several threads share: while one encodes, the others read."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self.fingerprint, self.dim = encoder.fingerprint, encoder.dim
        self.n_bits, self.label_names = encoder.n_bits, encoder.label_names

    def prepare(self, image: ByteArray) -> ByteArray:
        return self._encoder.prepare(image)

    def encode(self, pixels: Sequence[ByteArray] | ByteArray) -> Encoding:
        with self._lock:
            return self._encoder.encode(pixels)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model that travels as its own safe files, so that nodes need not share a disk.

    Attributes:
        files: Content by name: a checkpoint folder's, or an exported file's.
        runtime: As :func:`landcue.models.load.load_model` takes it.
        device: Likewise.
    """

    files: dict[str, bytes]
    runtime: str
    device: str

    @classmethod
    def read(cls, path: Path, runtime: str, device: str) -> ModelFiles:
        """Read what is to travel of a run folder, a model folder or an exported file.

        Raises:
            ModelError: It cannot be read.
        """
        from landcue.archive.layout import EXPORTED, MODEL_FILES

        names = {EXPORTED: path} if path.is_file() else {n: path / n for n in MODEL_FILES}
        if path.is_dir() and (path / EXPORTED).is_file():
            names[EXPORTED] = path / EXPORTED
        try:
            files = {name: file.read_bytes() for name, file in names.items() if file.is_file()}
        except OSError as error:
            raise ModelError(f"cannot read {error.filename}: {error.strerror}") from None
        return cls(files, runtime, device)

    def __call__(self, threads: int) -> Encoder:
        """Open the model from a folder of its own, which goes again."""
        import tempfile

        from landcue.models.load import load_model

        with tempfile.TemporaryDirectory(prefix="landcue-model-") as folder:
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
            return load_model(
                folder, runtime=self.runtime, device=self.device, threads=threads
            ).encoder

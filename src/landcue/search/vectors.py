"""The vectors of an archive in the order of ids, mapped from derived files, read on access.

Codes use memory only when they are scanned; embeddings stay on disk, and a search reads only those
it needs.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
from threadpoolctl import ThreadpoolController

from landcue.archive.archive import ArchiveFolder
from landcue.archive.schema import LABEL_THRESHOLD
from landcue.codes.cue import CueCodes
from landcue.codes.hamming import CodeIndex
from landcue.codes.hashers import Hasher, fit_hasher
from landcue.codes.packing import code_width, pack_bits
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.search.store import Store
from landcue.types import ByteArray, FloatArray

if TYPE_CHECKING:
    from landcue.models.space import Space

pc: Any = pyarrow.compute


class Vectors:
    """Embeddings, codes and label scores; several threads may use them.

    Attributes:
        store: Their derived files.
    """

    def __init__(self, archive: ArchiveFolder, store: Store) -> None:
        self.store = store
        self._archive = archive
        self._manifest = archive.manifest
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._lock = threading.RLock()

    @property
    def read(self) -> frozenset[str]:
        """Which were used so far: ``embedding``, ``code``, ``scores``, ``cue``."""
        return frozenset(self._arrays)

    @property
    def embedding(self) -> FloatArray:
        """float32 ``[n, d]``."""
        return self._array("embedding", "embedding", np.float32, self._manifest.dim)

    @property
    def code(self) -> ByteArray:
        """Packed uint8 ``[n, ceil(n_bits / 8)]``."""
        return self._array("code", "code", np.uint8, code_width(self._manifest.n_bits))

    @property
    def scores(self) -> FloatArray:
        """Label scores float32 ``[n, C]`` in 0..1."""
        width = len(self._manifest.label_names)
        return self._array("scores", "label_scores", np.float32, width)

    @property
    def cue(self) -> ByteArray:
        """Predicted labels as bits, packed uint8 ``[n, ceil(C / 8)]``."""
        width = code_width(len(self._manifest.label_names))
        return self._array("cue", "label_scores", np.uint8, width, cue_bits)

    @property
    def regions(self) -> npt.NDArray[np.int8]:
        """Embeddings of regions, int8 ``[n, R * d]``."""
        width = self._manifest.regions**2 * self._manifest.dim
        return self._array("regions", "regions", np.int8, width)

    def cue_codes(self, rows: npt.NDArray[np.int64] | None = None) -> CueCodes:
        """Return label bits and hash codes of all records, or of some rows."""
        n_bits, n_labels = self._manifest.n_bits, len(self._manifest.label_names)
        code = self.code if n_bits else np.empty((len(self.cue), 0), np.uint8)
        cue = self.cue
        if rows is not None:
            cue, code = cue[rows], code[rows]
        return CueCodes(cue, code, n_labels, n_bits)

    def score(self, name: str) -> FloatArray:
        """Return the predicted scores of one label, float32 ``[n]``."""
        names = self._manifest.label_names
        if name not in names:
            raise UsageError(
                f"the model has no scores for label {name!r}{did_you_mean(name, names)}"
            )
        return self.scores[:, names.index(name)]

    def _array(
        self,
        name: str,
        column: str,
        dtype: npt.DTypeLike,
        width: int,
        change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = lambda values: values,
    ) -> npt.NDArray[Any]:
        with self._lock:
            if name not in self._arrays:

                def fill(out: npt.NDArray[Any]) -> None:
                    self._fill(column, change, out)

                shape = (self._archive.count, width)
                self._arrays[name] = self.store.array(name, dtype, shape, fill)
            return self._arrays[name]

    def _fill(
        self,
        column: str,
        change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        out: npt.NDArray[Any],
    ) -> None:
        """Write a column of the table to ``out``, in the order of ids, batch by batch."""
        stored = self._ids()
        order = pc.sort_indices(stored).to_numpy()
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        first = 0
        for batch in self._archive.batches(["id", column]):
            n = len(batch)
            if not batch["id"].cast(pa.large_string()).equals(stored.slice(first, n)):
                raise ArchiveError(f"{self._archive.folder} changed while it was read: try again")
            values = batch[column].flatten().to_numpy(zero_copy_only=True).reshape(n, -1)
            out[rank[first : first + n]] = change(values)
            first += n

    def _ids(self) -> Any:
        batches = self._archive.batches(["id"], 65_536)
        parts = [batch["id"].cast(pa.large_string()) for batch in batches]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.large_string())


def cue_bits(scores: FloatArray) -> ByteArray:
    """Return the predicted labels of scores ``[n, C]`` as packed bits ``[n, ceil(C / 8)]``."""
    return pack_bits(scores >= LABEL_THRESHOLD)


MOST_BITS = 128
"""16 bytes per record stay in memory."""

_SAMPLE = 20_000
_ROWS_AT_ONCE = 16_384
_SEED = 20


class Sketches:
    """Sketches of all embeddings of an archive, computed on first use.

    They are codes of iterative quantization, fitted on a sample of the embeddings; random
    projections where there are too few records to fit.
    """

    def __init__(self, vectors: Vectors, dim: int) -> None:
        """Derive sketches of embeddings of ``dim`` values."""
        self._vectors = vectors
        self._bits = min(MOST_BITS, max(8, dim // 8 * 8))
        self._dim = dim
        self._lock = threading.Lock()
        self._index: CodeIndex | None = None
        self._hasher: Hasher | None = None

    def encode(self, embeddings: FloatArray) -> ByteArray:
        """Return the sketches of embeddings ``[n, d]``, packed uint8 ``[n, bits / 8]``."""
        return self._ready()[1].encode(embeddings)

    def candidates(
        self, query: FloatArray, n: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return the rows of the n nearest sketches, nearest first, ties by row.

        Args:
            query: float32 ``[1, d]``.
            n: Most rows to return.
            mask: bool ``[rows]``, true for the allowed rows; all rows if ``None``.
        """
        index, hasher = self._ready()
        _, rows = index.search(hasher.encode(query), n, mask)
        return rows[0]

    def _ready(self) -> tuple[CodeIndex, Hasher]:
        with self._lock:
            if self._index is None or self._hasher is None:
                hasher = self.fitted()
                embedding = self._vectors.embedding

                def fill(out: npt.NDArray[np.uint8]) -> None:
                    for first in range(0, len(embedding), _ROWS_AT_ONCE):
                        part = slice(first, first + _ROWS_AT_ONCE)
                        out[part] = hasher.encode(embedding[part])

                shape = (len(embedding), code_width(self._bits))
                codes = self._vectors.store.array("sketch", np.uint8, shape, fill)
                self._index, self._hasher = CodeIndex(codes, self._bits), hasher
            return self._index, self._hasher

    def fitted(self) -> Hasher:
        """Load or fit the projection that makes sketches of embeddings."""

        def write(out: npt.NDArray[np.float64]) -> None:
            embedding = self._vectors.embedding
            n = len(embedding)
            chosen = np.random.default_rng(_SEED).choice(n, min(n, _SAMPLE), replace=False)
            sample = embedding[np.sort(chosen)]
            enough = len(sample) > 4 * self._bits and self._bits <= self._dim
            with one_blas_thread():  # on two busy cores six times as fast
                made = fit_hasher("itq" if enough else "lsh", sample, self._bits, _SEED)
            out[:, 0], out[:, 1:] = made.mean, made.projection

        shape = (self._dim, 1 + self._bits)  # the mean, then the projection
        stored = self._vectors.store.array("sketch-projection", np.float64, shape, write)
        return Hasher("sketch", stored[:, 0], stored[:, 1:])


class OwnEmbeddings:
    """Embeddings as an encoder made them, before they were fitted to an archive.

    Archives of one encoder are compared by them. They are computed for the rows that are read.

    Attributes:
        space: What maps them to the stored ones; ``None`` if they are the same.
        shape: Rows and values.
    """

    def __init__(self, stored: FloatArray, space: Space | None) -> None:
        self._stored, self.space = stored, space
        self.shape = stored.shape

    def __getitem__(self, rows: Any) -> FloatArray:
        return self.of(self._stored[rows])

    def of(self, stored: FloatArray) -> FloatArray:
        """Return those of embeddings of the archive ``[m, d]``."""
        return stored if self.space is None else self.space.invert(stored)


class _OneThread:
    """Limits BLAS for the whole process while anybody asks for it.

    threadpoolctl itself restores what it found, which is another caller's limit if two overlap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0

    @contextlib.contextmanager
    def __call__(self) -> Generator[None]:
        with self._lock:
            if not self._users:
                self._limits = _controller().limit(limits=1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._limits.restore_original_limits()


@functools.cache
def _controller() -> ThreadpoolController:
    """Return that of the libraries loaded by now, NumPy's among them; finding them takes 2 ms."""
    return ThreadpoolController()


one_blas_thread = _OneThread()
"""Context in which BLAS uses one thread: more of them wait for each other, and for those of a scan,
longer than small products take."""

"""Which rows of an archive are not what was written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.archive.schema import metadata_checks, predicted_labels, row_check

_VECTORS = ("embedding", "code", "label_scores")


def row_faults(batch: pa.RecordBatch, label_names: Sequence[str] | None = None) -> list[str | None]:
    """Compare whole rows with their checksums.

    Args:
        batch: Rows with all columns of the archive.
        label_names: Of the label scores, to compare predicted labels with them too.

    Returns:
        For each row what is wrong with it, or ``None``.
    """
    n = len(batch)
    if not n:
        return []
    present = batch.schema.names
    vectors = [_matrix(batch, name) for name in _VECTORS if name in present]
    scores = vectors[-1] if label_names else np.empty((n, 0), np.float32)
    expected = predicted_labels(scores, label_names or ())
    metadata = metadata_checks(batch)
    columns = ("id", "content", "thumbnail", "check", "metadata_check", "predicted_labels")
    plain = zip(*(batch[name].to_pylist() for name in columns), strict=True)
    faults: list[str | None] = []
    for i, (id_, content, thumbnail, check, metadata_check, predicted) in enumerate(plain):
        if row_check(id_ or "", content or "", thumbnail or b"", *(v[i] for v in vectors)) != check:
            faults.append("is damaged: its checksum differs")
        elif metadata[i] != metadata_check:
            faults.append("is damaged: the checksum of its metadata differs")
        elif label_names is not None and predicted != expected[i]:
            faults.append("is damaged: its predicted labels are not those of its scores")
        else:
            faults.append(None)
    return faults


def first_of_each(ids: list[str], seen: set[str]) -> list[bool]:
    """Tell which ids were not met before, and note them in ``seen``."""
    fresh: list[bool] = []
    for id_ in ids:
        fresh.append(id_ not in seen)
        seen.add(id_)
    return fresh


def only(batch: pa.RecordBatch, wanted: list[bool]) -> pa.Table:
    """Return the wanted rows of a batch."""
    rows = list(itertools.compress(range(len(batch)), wanted))
    return pa.Table.from_batches([batch]).take(rows)


def _matrix(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    return batch[name].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)

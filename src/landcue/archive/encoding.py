"""One batch through the model: rows for the table, and what the model could not encode."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.archive.reading import ReadImage
from landcue.archive.schema import encoded_rows, record_schema
from landcue.codes.packing import code_width
from landcue.errors import ModelError
from landcue.types import Encoder, Encoding, Problem

_NORM_TOLERANCE = 1e-3


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
    encoding = encoder.encode([image.pixels for image in images])
    _check_shapes(encoding, encoder, len(images))
    usable = _usable(encoding)
    problems = [
        Problem(image.metadata.path, "the model gave no finite embedding of unit norm")
        for image, good in zip(images, usable, strict=True)
        if not good
    ]
    replaces = np.array([image.replaces for image in images], np.bool_)
    rows: dict[Literal["add", "replace"], pa.Table | None] = {
        "add": _rows(images, encoding, usable & ~replaces, encoder),
        "replace": _rows(images, encoding, usable & replaces, encoder),
    }
    return {kind: part for kind, part in rows.items() if part is not None}, problems


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
        Encoding(
            encoding.embedding[wanted],
            encoding.code[wanted],
            encoding.n_bits,
            encoding.label_scores[wanted],
        ),
        encoder.label_names,
        record_schema(encoder.dim, encoder.n_bits, len(encoder.label_names)),
    )


def _usable(encoding: Encoding) -> npt.NDArray[np.bool_]:
    finite = np.isfinite(encoding.label_scores).all(axis=1)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(encoding.embedding.astype(np.float64), axis=1)
    return finite & (np.abs(norms - 1) <= _NORM_TOLERANCE)


def _check_shapes(encoding: Encoding, encoder: Encoder, n: int) -> None:
    found = (encoding.embedding.shape, encoding.code.shape, encoding.label_scores.shape)
    promised = (
        (n, encoder.dim),
        (n, code_width(encoder.n_bits)),
        (n, len(encoder.label_names)),
    )
    if found != promised or encoding.n_bits != encoder.n_bits:
        raise ModelError(
            f"model {encoder.fingerprint[:12]} gave embeddings, codes and scores of shapes "
            f"{found}, but promised {promised}; use a model that keeps its word"
        )

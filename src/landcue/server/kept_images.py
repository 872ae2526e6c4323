"""The images of a query that a collection keeps, as its model encoded them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.types import Encoding

if TYPE_CHECKING:
    from landcue.archive.space import ArchiveSpace


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An uploaded image of a query, as a model encoded it.

    Attributes:
        part: ``image``, ``positive`` or ``negative``.
        fingerprint: Of the model.
        encoding: Of one image.
        thumbnail: A JPEG.
    """

    part: str
    fingerprint: str
    encoding: Encoding
    thumbnail: bytes

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> KeptImage:
        """Return the image of a row of the table ``images``."""
        embedding, scores = (
            np.frombuffer(row[name], np.float32)[None] for name in ("embedding", "scores")
        )
        code = np.frombuffer(row["code"], np.uint8)[None]
        encoding = Encoding(embedding, code, row["bits"], scores, model=row["fingerprint"])
        return cls(row["part"], row["fingerprint"], encoding, row["thumbnail"])

    def to_row(self) -> tuple[Any, ...]:
        """Return the values of a row, after those of its key."""
        made = self.encoding
        vectors = (made.embedding.tobytes(), made.code.tobytes())
        scores = made.label_scores.astype(np.float32).tobytes()
        return (self.part, self.fingerprint, made.n_bits, *vectors, scores, self.thumbnail)

    def convert(self, space: ArchiveSpace) -> KeptImage:
        """Return the image as the model of an archive encodes it.

        Raises:
            UsageError: Another model encoded it, not only a former fit of the archive.
        """
        encoding = space.accept_encoding(self.encoding)
        return replace(self, fingerprint=space.fingerprint, encoding=encoding)

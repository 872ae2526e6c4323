"""An evaluation: images, the spaces they were compared in, and their scores."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from landcue.metrics.annotations import Annotations
from landcue.metrics.distances import Distances, cosine, hamming, time_queries
from landcue.metrics.report import Report, side_by_side
from landcue.types import ByteArray, FloatArray

Pictures = Callable[[Iterable[str]], dict[str, bytes]]
"""Returns JPEG thumbnails by image id; an id without a picture is left out."""


@dataclass(frozen=True, slots=True)
class Space:
    """One way to compare the images of an evaluation.

    Attributes:
        scores: What was measured.
        distances: Of every query to every gallery image.
        floats: The gallery's vectors, float32 ``[n, d]``, unless it is compared by codes.
        codes: The gallery's packed codes, uint8 ``[n, ceil(n_bits / 8)]``, unless by floats.
        n_bits: Bits of a code; 0 with floats.
    """

    scores: Report
    distances: Distances
    floats: FloatArray | None = field(default=None, repr=False)
    codes: ByteArray | None = field(default=None, repr=False)
    n_bits: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluated model and its images.

    Attributes:
        name: What tables call it: the last part of the run's or archive's folder.
        about: Provenance: ``part``, ``model`` (fingerprint), ``searched``, and ``dataset`` and
            ``split`` where they are known. It holds no file paths.
        query: Ids and labels of the queries.
        gallery: Ids and labels of the gallery; often the queries themselves.
        spaces: By name, such as ``embedding``, ``features`` and ``code``.
        pictures: Thumbnails.
    """

    name: str
    about: dict[str, Any]
    query: Annotations
    gallery: Annotations
    spaces: dict[str, Space]
    pictures: Pictures = field(repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """Mean of every metric in the space in which the model is searched."""
        return self.main.scores.metrics

    @property
    def searched(self) -> str:
        """The space in which the model is searched."""
        return str(self.about["searched"])

    @property
    def main(self) -> Space:
        """The space in which the model is searched."""
        return self.spaces[self.searched]

    @property
    def scores(self) -> dict[str, Report]:
        """Scores by space, the searched one first."""
        names = [self.searched, *(name for name in self.spaces if name != self.searched)]
        return {name: self.spaces[name].scores for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return provenance and scores as plain JSON types."""
        from landcue.codes.packing import code_statistics

        spaces = {name: scores.to_json() for name, scores in self.scores.items()}
        for name, space in self.spaces.items():
            if space.codes is not None:
                spaces[name]["codes"] = code_statistics(space.codes, space.n_bits).to_json()
        return {**self.about, **self.main.scores.to_json(), "spaces": spaces}

    def to_text(self) -> str:
        """Return provenance and the scores of all spaces side by side."""
        facts = [f"{name}: {value}" for name, value in self.about.items()]
        return "\n".join(facts) + "\n\n" + side_by_side(self.scores, self.searched)


def float_space(scores: Report, query: FloatArray, gallery: FloatArray | None = None) -> Space:
    """Return the space of unit-norm vectors ``[q, d]`` and ``[n, d]``, compared by cosine."""
    theirs = query if gallery is None else gallery
    return Space(scores, cosine(query, theirs), floats=theirs)


def code_space(
    scores: Report, query: ByteArray, n_bits: int, gallery: ByteArray | None = None
) -> Space:
    """Return the space of packed codes, compared by Hamming distance."""
    theirs = query if gallery is None else gallery
    return Space(scores, hamming(query, theirs, n_bits), codes=theirs, n_bits=n_bits)


def measure_times(spaces: Mapping[str, Space]) -> dict[str, Space]:
    """Return the spaces with the time of a query in their scores."""
    return {
        name: replace(
            space, scores=replace(space.scores, retrieval_time=time_queries(space.distances))
        )
        for name, space in spaces.items()
    }


SIDE = 96
_QUALITY = 80


def thumbnail(pixels: ByteArray) -> bytes:
    """Return a JPEG of uint8 ``[h, w, 3]`` whose longer side is at most 96 pixels."""
    small = Image.fromarray(pixels)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()

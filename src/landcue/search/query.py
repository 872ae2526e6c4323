"""Queries: records, images, chips, vectors, or several of them, and their encoding."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import PIL.Image

from landcue.archive.archive import unknown_id
from landcue.archive.space import ArchiveSpace
from landcue.codes.packing import check_codes, pack_bits, unpack_bits
from landcue.codes.regions import encode_crop
from landcue.errors import UsageError, did_you_mean
from landcue.search.backend import Target, View
from landcue.search.feedback import RULES, direction
from landcue.search.scene import Chip, read_chip
from landcue.search.vectors import cue_bits
from landcue.types import ByteArray, Encoder, Encoding, FloatArray, Hit, Record

Rule = Literal["mean", "rocchio", "linear"]


@dataclass(frozen=True, slots=True)
class ById:
    """A record of the archive, even if there is a file of the same name.

    >>> archive.search(ById("a.png"), k=1)[0].id
    'b.png'
    """

    id: str


@dataclass(frozen=True, slots=True)
class Text:
    """A description in words, for models with a text tower.

    >>> archive.search(Text("a harbor with many small boats"))                 # doctest: +SKIP
    """

    text: str


Image = PIL.Image.Image
Pixels = npt.NDArray[Any]
Example = (
    str | os.PathLike[str] | bytes | Pixels | Image | Hit | Record | ById | Chip | Encoding | Text
)


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One or more positive examples, and optional negative ones.

    An example is one of:

    * a ``str``: the id of a record; if no record has it, an image file or ``s3://`` address;
    * a path: an image file (see :func:`landcue.data.read_image`); ``bytes``: the contents of one;
    * a Pillow image, or decoded pixels, uint8 ``[h, w, 3]``;
    * a vector, float ``[d]`` or ``[1, d]``, of any length but 0; one of a fitted archive that does
      not know its space (see :meth:`landcue.Archive.embed`) needs ``space``;
    * a :class:`landcue.types.Hit` or :class:`landcue.types.Record`: the record of its id;
    * a :class:`landcue.search.Chip` of a scene, or one image as :class:`landcue.types.Encoding`;
    * a :class:`landcue.search.Text`, for models with a text tower. Beside images it is weighted so
      that texts and images spread the records equally, as measured when the archive was made.

    Records among the examples are not returned.

    >>> from landcue import Query
    >>> [hit.id for hit in archive.search(Query(["a.png", "b.png"], negatives=["d.png"]), k=1)]
    ['c.png']

    Attributes:
        positives: At least one; a single example needs no list.
        negatives: Any number.
        rule: ``mean``: the mean of the positives less ``negative_weight`` times the mean of the
            negatives, then unit norm. ``rocchio`` and ``linear``: see
            :mod:`landcue.search.feedback`; the first positive is the original query.
        negative_weight: 0 or more; for the rule ``mean``, and for codes.
        name: Name of the query in the result; by default composed of the examples.
        marks: So many of the last positives are results that were marked as relevant: their labels
            are not labels of the query.
        space: Of which space vectors are that do not know it: ``archive``: of this archive's
            records; ``encoder``: of its encoder itself, before embeddings were fitted to the
            archive, so that they are converted; or the fingerprint of a model.
    """

    positives: tuple[Example, ...]
    negatives: tuple[Example, ...] = ()
    rule: str = "mean"
    negative_weight: float = 0.5
    name: str | None = None
    marks: int = 0
    space: str | None = None

    def __init__(
        self,
        positives: Example | Sequence[Example],
        negatives: Sequence[Example] = (),
        rule: str = "mean",
        negative_weight: float = 0.5,
        name: str | None = None,
        marks: int = 0,
        space: str | None = None,
    ) -> None:
        """Take examples."""
        several = tuple(positives) if isinstance(positives, list | tuple) else (positives,)
        values = several, tuple(negatives), rule, negative_weight, name, marks, space
        for field, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, field, value)

    def also(self, *positives: Example) -> Query:
        """Return the query with more positive examples."""
        return replace(
            self,
            positives=(*self.positives, *positives),
            name=None if self.name is None else " + ".join([self.name, *map(_name, positives)]),
            marks=self.marks and self.marks + len(positives),
        )

    @property
    def title(self) -> str:
        """The name of the query in the result."""
        parts = [_name(example) for example in self.positives]
        made = " ".join([" + ".join(parts), *(f"- {_name(e)}" for e in self.negatives)])
        return self.name or made


def as_query(example: Example | Query, space: str | None = None) -> Query:
    """Return the query of one example, or the query itself, of a space if one is given."""
    query = example if isinstance(example, Query) else Query((example,))
    return query if space is None else replace(query, space=space)


def _name(example: Example) -> str:
    if isinstance(example, str):
        return example
    if isinstance(example, ById | Hit | Record):
        return example.id
    if isinstance(example, Chip):
        return str(example.path)
    if isinstance(example, Text):
        return f'"{example.text}"'
    if isinstance(example, os.PathLike):
        return str(Path(example))
    return "vector" if isinstance(example, np.ndarray) and not _is_pixels(example) else "image"


def _is_pixels(array: npt.NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3


def has_scores(query: Query) -> bool:
    """Return whether all examples have label probabilities: vectors and texts have none."""
    examples = (*query.positives, *query.negatives)
    return not any(
        isinstance(one, Text) or (isinstance(one, np.ndarray) and not _is_pixels(one))
        for one in examples
    )


def only_texts(query: Query) -> bool:
    """Return whether all positive examples are texts."""
    return all(isinstance(example, Text) for example in query.positives)


def named_labels(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that a text names, word by word, in the plural too; longer ones first.

    >>> named_labels("Two tennis courts by the sea", ["court", "sea", "tennis court", "ship"])
    ('tennis court', 'sea')
    """
    words = _words(text)
    found: list[str] = []
    for name in sorted(names, key=lambda name: (-len(_words(name)), names.index(name))):
        wanted = _words(name)
        for first in range(len(words) - len(wanted) + 1):
            if wanted and words[first : first + len(wanted)] == wanted:
                words[first : first + len(wanted)] = [""] * len(wanted)
                found.append(name)
                break
    return tuple(found)


def _words(text: str) -> list[str]:
    return [_singular(word) for word in re.findall(r"\w+", text.casefold())]


def _singular(word: str) -> str:
    for ending, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", "")):
        if word.endswith(ending) and len(word) > 3 and not word.endswith("ss"):
            return word.removesuffix(ending) + instead
    return word


class QueryEncoder:
    """Encodes queries with the records of one archive and its encoder."""

    def __init__(
        self, view: View, encoder: Callable[[], Encoder] | None, space: ArchiveSpace
    ) -> None:
        """Take the archive, what loads its encoder, and the space of its embeddings."""
        self._space = space
        self._view, self._records, self._encoder = view, view.records, encoder
        manifest = view.manifest
        self._dim, self._n_bits = manifest.dim, manifest.n_bits
        self._label_names = manifest.label_names
        self._sources = manifest.sources

    def encode(self, query: Query, needs: frozenset[str]) -> Target:
        """Encode a query; ``needs`` names the required ones of ``embedding``, ``code`` and ``cue``.

        With ``crop`` among them, images are encoded by :func:`landcue.codes.regions.encode_crop`.

        Raises:
            UsageError: An unknown id or rule, no positive, an encoding that does not fit, or an
                image without an encoder.
            DataError: An image cannot be read.
        """
        if query.rule not in RULES:
            raise UsageError(f"unknown rule {query.rule!r}{did_you_mean(query.rule, RULES)}")
        if not 0 <= query.negative_weight < np.inf:
            raise UsageError(f"the negative weight is {query.negative_weight}: use 0 or more")
        if not query.positives:
            raise UsageError("there are only negatives: add at least one positive example")
        positives = [self._one(example, needs, query.space) for example in query.positives]
        of_query = positives[: len(positives) - query.marks]
        labels = tuple(dict.fromkeys(label for target in of_query for label in target.labels))
        if len(positives) == 1 and not query.negatives:
            return replace(positives[0], labels=labels)
        negatives = [self._one(example, needs, query.space) for example in query.negatives]
        own = frozenset[int]().union(*(target.own for target in (*positives, *negatives)))
        embedding = positives[0].embedding
        if "embedding" in needs:
            embedding = direction(
                np.concatenate([*map(self._weighted, query.positives, positives)]),
                np.concatenate(
                    [*map(self._weighted, query.negatives, negatives)] or [embedding[:0]]
                ),
                query.rule,
                query.negative_weight,
            )[None]
        scores = _NO_NUMBERS
        if "scores" in needs:
            scores = _mean_scores(positives, negatives, query.negative_weight)
        code, cue = (
            _vote(
                [getattr(target, name) for target in positives],
                [getattr(target, name) for target in negatives],
                n_bits,
                query.negative_weight,
            )
            if name in needs  # records have only those
            else _NO_BITS
            for name, n_bits in (("code", self._n_bits), ("cue", len(self._label_names)))
        )
        return Target(embedding, code, cue, scores, labels, own)

    def _one(self, example: Example, needs: frozenset[str], space: str | None) -> Target:
        if isinstance(example, ById | Hit | Record):
            return self._record(example.id, needs)
        if isinstance(example, str) and self._records.find(example) is not None:
            return self._record(example, needs)
        if isinstance(example, Encoding):
            return self._encoded(self._space.accept_encoding(example, space))
        if isinstance(example, Text):
            return self._text(example, needs)
        if isinstance(example, np.ndarray) and not _is_pixels(example):
            return self._vector(example, needs, space)
        if isinstance(example, str):
            self._check_file(example)
        if self._encoder is None:
            raise UsageError("there is no model to encode an image with: search with a record's id")
        encoder = self._encoder()
        pixels = _read(example, encoder, self._scenes(example))
        if "crop" in needs:
            encoding = encode_crop(encoder, pixels)
        else:
            encoding = encoder.encode(encoder.prepare(pixels)[None])
        return replace(self._encoded(encoding), pixels=pixels)

    def _text(self, example: Text, needs: frozenset[str]) -> Target:
        encoder: Any = None if self._encoder is None else self._encoder()
        if not getattr(encoder, "has_text", False):
            raise UsageError(
                "the archive's model has no text tower: search with an image, or filter by labels"
            )
        found: Encoding = encoder.encode_texts([example.text])
        scores, cue, labels = _NO_NUMBERS, _NO_BITS, tuple[str, ...]()
        if needs & {"cue", "scores"}:
            labels = named_labels(example.text, self._label_names)
            if not labels:
                known = ", ".join(self._label_names[:8]) + ("…" if self._label_names[8:] else "")
                raise UsageError(
                    f"the text {example.text!r} names none of the archive's labels ({known}), "
                    "which modes cue and fused compare: search with mode embedding or code"
                )
            truth = np.isin(np.array(self._label_names), labels)[None]
            scores, cue = truth.astype(np.float32), pack_bits(truth)
        return Target(found.embedding, found.code, cue, scores, labels)

    def _weighted(self, example: Example, target: Target) -> FloatArray:
        if not isinstance(example, Text) or self._encoder is None:
            return target.embedding
        return target.embedding * np.float32(getattr(self._encoder(), "text_weight", 1.0))

    def _scenes(self, example: Example) -> Mapping[str, Any]:
        """Return how rasters of the example's source were read, or those of all if they agree."""
        example = example.path if isinstance(example, Chip) else example
        path = Path(example).absolute() if isinstance(example, str | os.PathLike) else None
        for source in self._sources.values():
            if path is not None and path.is_relative_to(source.root):
                return source.scenes
        return common_scenes(self._sources)

    def _encoded(self, encoding: Encoding) -> Target:
        check_encoding(encoding, self._dim, self._n_bits)
        cue = cue_bits(encoding.label_scores) if self._label_names else _NO_BITS
        labels: tuple[str, ...] = ()
        if self._label_names:
            bits = unpack_bits(cue, len(self._label_names))[0]
            labels = tuple(np.array(self._label_names, object)[bits].tolist())
        return Target(encoding.embedding, encoding.code, cue, encoding.label_scores, labels)

    def _record(self, id_: str, needs: frozenset[str]) -> Target:
        row = self._records.find(id_)
        if row is None:
            raise unknown_id(id_, self._records.near_ids(id_))
        at = np.array([row])
        read: dict[str, npt.NDArray[Any]] = {
            "embedding": _NO_NUMBERS,
            "code": _NO_BITS,
            "cue": _NO_BITS,
            "scores": _NO_NUMBERS,
        }
        for kind in needs - {"crop"}:
            read[kind] = self._view.read_vectors(kind, at)
        labels = self._records.labels_of(row)
        return Target(**read, labels=labels, own=frozenset({row}), id=id_)

    def _vector(self, vector: npt.NDArray[Any], needs: frozenset[str], space: str | None) -> Target:
        if needs - {"embedding", "crop"}:
            raise UsageError(
                "a vector alone has neither code nor labels: search with mode embedding, "
                "two-stage or ann"
            )
        if vector.ndim > 2 or (vector.ndim == 2 and len(vector) != 1):
            raise UsageError(
                f"the vector is {vector.dtype} {list(vector.shape)}: search with one at a time"
            )
        return Target(self._space.accept(vector, space), _NO_BITS, _NO_BITS)

    def _check_file(self, text: str) -> None:
        from landcue.data.names import find_spelling
        from landcue.data.objects import is_object

        if not is_object(Path(text)) and find_spelling(Path(text)) is None:
            unknown = unknown_id(text, self._records.near_ids(text))
            raise UsageError(f"{text} is not an image file, and {unknown}")


def common_scenes(sources: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how the rasters of all sources of an archive were read, if they agree."""
    notes = [source.scenes for source in sources.values() if source.scenes]
    return notes[0] if notes and all(note == notes[0] for note in notes) else {}


def _read(example: Any, encoder: Encoder, scenes: Mapping[str, Any]) -> ByteArray:
    """Return the pixels of an image, uint8 ``[h, w, C]``; rasters are read like the archive's."""
    from landcue.data.images import read_picture, read_pillow
    from landcue.data.names import find_spelling
    from landcue.data.objects import is_object, look_up
    from landcue.data.pictures import Scale
    from landcue.data.scenes import SceneOptions

    if isinstance(example, np.ndarray):
        if not example.size:
            raise UsageError(f"the image is {list(example.shape)}: it has no pixels")
        return example
    if isinstance(example, Image):
        return read_pillow(example)
    bands = scenes.get("bands")
    channels = len(bands) if bands else getattr(encoder, "in_chans", 3)
    options = SceneOptions(
        bands=None if bands is None else tuple(bands),
        channels=channels,
        scale=Scale.parse(str(scenes.get("scale", "auto"))),
        side=len(encoder.prepare(np.zeros((8, 8, channels), np.uint8))),
    )
    if isinstance(example, Chip):
        bands, scale = example.bands or options.bands, example.scale or scenes.get("scale")
        return read_chip(replace(example, bands=bands, scale=scale), options.side)
    if isinstance(example, bytes):
        return read_picture(example, options).pixels
    if isinstance(example, str | os.PathLike):
        path = Path(example)
        found = look_up(path) if is_object(path) else find_spelling(path) or path
        return read_picture(found, options, name=str(example)).pixels
    raise UsageError(
        f"{type(example).__name__} is not a query: use an id, an image file, its bytes, pixels or "
        "a vector"
    )


def read_vector(path: Path) -> npt.NDArray[Any]:
    """Read a vector from a ``.npy`` file.

    Raises:
        UsageError: It cannot be read, or does not hold an array of numbers.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except Exception:  # numpy parses the header as Python, and believes its shape
        found = None
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path} is not a .npy file of numbers: write it with numpy.save")
    return cast("npt.NDArray[Any]", found)


_NO_BITS: ByteArray = np.empty((1, 0), np.uint8)
_NO_NUMBERS: FloatArray = np.empty((1, 0), np.float32)


def check_encoding(encoding: Encoding, dim: int, n_bits: int) -> None:
    """Check that an encoding holds one finite image of the archive's dimensions.

    Raises:
        UsageError: It does not; the message names the difference.
    """
    found = encoding.embedding.shape[-1] if encoding.embedding.ndim else 0
    if (found, encoding.n_bits) != (dim, n_bits):
        raise UsageError(
            f"the query has {found} dimensions and {encoding.n_bits} bits, the archive "
            f"{dim} and {n_bits}: encode it with the archive's own model"
        )
    if encoding.embedding.shape[0] != 1 or encoding.embedding.ndim != 2:
        raise UsageError(f"the query holds {len(encoding)} images: search with one at a time")
    check_codes(encoding.code, encoding.n_bits, "query codes")
    norm = float(np.linalg.norm(encoding.embedding))
    if not abs(norm - 1) <= 1e-3:  # also for NaN
        raise UsageError(
            f"the query's embedding has norm {norm}, not 1: check the model that made it"
        )


def _mean_scores(
    positives: Sequence[Target], negatives: Sequence[Target], weight: float
) -> FloatArray:
    """Return the mean of the positives less the weighted mean of the negatives, cut to 0..1."""
    mean = np.concatenate([target.scores for target in positives]).mean(axis=0, dtype=np.float64)
    if negatives:
        mean -= weight * np.concatenate([target.scores for target in negatives]).mean(axis=0)
    return np.clip(mean, 0.0, 1.0).astype(np.float32)[None]


def _vote(
    positives: Sequence[ByteArray], negatives: Sequence[ByteArray], n_bits: int, weight: float
) -> ByteArray:
    """Set each bit by the mean of the positives minus the weighted mean of the negatives.

    A tie takes the bit of the first positive.
    """
    if not n_bits or not positives[0].shape[1]:
        return _NO_BITS
    votes: npt.NDArray[np.float64] = _mean_sign(positives, n_bits)
    if negatives:
        votes = votes - weight * _mean_sign(negatives, n_bits)
    first = unpack_bits(positives[0], n_bits)[0]
    return pack_bits(np.where(np.abs(votes) < 1e-12, first, votes > 0)[None])


def _mean_sign(codes: Sequence[ByteArray], n_bits: int) -> npt.NDArray[np.float64]:
    return np.where(unpack_bits(np.concatenate(codes), n_bits), 1.0, -1.0).mean(axis=0)

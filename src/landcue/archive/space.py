"""The space of an archive's embeddings: which vectors are of it, and which can be converted to it.

``landcue index`` fits embeddings to an archive, so those of two archives of one encoder, and of the
encoder itself, are of different spaces and must not be compared. A space is named by the
fingerprint of the model with what was fitted.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from landcue.archive import storage
from landcue.archive.layout import CODES, MODEL_FILES, embedding_fingerprint, model_fingerprint
from landcue.archive.manifest import FITTED_FROM, SPACE, Manifest
from landcue.data.objects import shown
from landcue.errors import ArchiveError, UsageError
from landcue.files import read_json
from landcue.types import Encoding, FloatArray

if TYPE_CHECKING:
    from landcue.models.space import Space

ARCHIVE, ENCODER = "archive", "encoder"
"""Names of the space of an archive's records, and of that of its encoder itself."""
_FEATURES = "features of "
_HEX = re.compile("[0-9a-f]{64}")
_FEATURE_SPACE = "space.safetensors"  # as landcue.models.pretrained.encoder has it


class Embeddings(np.ndarray[Any, np.dtype[np.float32]]):
    """Embeddings that know their space: what :meth:`landcue.Archive.embed` returns.

    It is an array like any other. Views and copies keep the space; what is computed, joined or
    saved is a plain array.

    Attributes:
        space: The space; ``None`` for an array that does not know it.
    """

    space: ArchiveSpace | None

    def __array_finalize__(self, obj: Any) -> None:
        self.space = getattr(obj, "space", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        return getattr(ufunc, method)(*map(_plain, inputs), **options)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Embeddings) else value


class _Stored(Protocol):
    @property
    def folder(self) -> Path: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def model_folder(self) -> Path | None: ...


class ArchiveSpace:
    """The space of an archive's embeddings.

    Attributes:
        fingerprint: Of the model that made them, with what was fitted.
    """

    def __init__(self, storage: _Stored) -> None:
        """Take an archive; its model is read when it is needed."""
        self._storage, manifest = storage, storage.manifest
        self._dim, self._n_bits = manifest.dim, manifest.n_bits
        self._unknown = manifest.imported and SPACE not in manifest.model
        self.fingerprint = str(manifest.model.get(SPACE, manifest.fingerprint))

    @functools.cached_property
    def _model(self) -> ModelSpace:
        manifest, folder = self._storage.manifest, self._storage.model_folder
        if folder is not None and model_fingerprint(folder) == manifest.fingerprint:
            return read_space(folder)
        own = str(manifest.model.get(FITTED_FROM, self.fingerprint))
        return ModelSpace(own, None, own != self.fingerprint)

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder itself."""
        return self._model.encoder

    def tag(self, values: npt.NDArray[Any]) -> Embeddings:
        """Return embeddings of this space, float32 ``[n, d]``, which know it."""
        tagged = np.ascontiguousarray(values, np.float32).view(Embeddings)
        tagged.space = self
        return tagged

    def accept(self, vectors: npt.NDArray[Any], space: str | None = None) -> FloatArray:
        """Return vectors as embeddings of this space, float32 ``[n, d]``, unit norm.

        Args:
            vectors: Floats ``[n, d]`` or ``[d]``, of any length but 0.
            space: Of which space they are: ``archive`` (this one), ``encoder`` or a fingerprint;
                for vectors that do not know it.

        Raises:
            UsageError: They cannot be converted, it is not known of which space they are, or a
                vector has another size, is all 0 or not finite.
        """
        given = vectors.space if isinstance(vectors, Embeddings) else None
        named = None if space is None else self.name(space)
        if given is not None and not (self._unknown and space == ARCHIVE):
            if named not in (None, given.fingerprint):
                raise UsageError(
                    f"the vector is of space {given.fingerprint[:12]}, not of {space!r}: leave the "
                    "space out"
                )
            named = given.fingerprint
        if named is None:
            named = self.name(None)
        if named == self.fingerprint:
            return unit_vectors(vectors, self._dim)
        own = self._model
        former = self._former(named)
        if former is not None and own.converts:
            vectors, named = former.inverted(unit_vectors(vectors, former.length)), own.encoder
        one_encoder = given is not None and given.encoder == own.encoder != named
        if given is not None and one_encoder and own.converts and given._model.converts:
            vectors = given._model.inverted(unit_vectors(vectors, given._dim))
            named = own.encoder
        if named != own.encoder or not own.converts:
            raise UsageError(self._foreign("the vector is", named))
        if own.space is None or not own.space.dim:
            return unit_vectors(vectors, self._dim)
        return own.space.encode(unit_vectors(vectors, own.space.n_features)).embedding

    def accept_encoding(self, encoding: Encoding, space: str | None = None) -> Encoding:
        """Return an encoding as one of this archive's model; likewise."""
        named = encoding.model or (space and self.name(space))
        if not named:
            known = self._model.space
            if self._model.fitted or (known is not None and "adapted" not in known.facts):
                raise UsageError(
                    "the encoding does not say which model made it, and this archive's was fitted "
                    f"to its images: encode it with archive.encoder(), or add the space {ARCHIVE!r}"
                )
            named = self.fingerprint
        if named == self.fingerprint:
            return encoding
        fitted, former = self._model.space, self._former(named)
        if former is not None:
            own = former.inverted(unit_vectors(encoding.embedding, former.length))
            encoding, named = replace(encoding, embedding=own), self.encoder
        if named != self.encoder or fitted is None:
            raise UsageError(self._foreign("the encoding is", named))
        found = fitted.encode(encoding.embedding)
        own_scores = encoding.label_scores.shape[1]
        return replace(
            found,
            embedding=found.embedding if fitted.dim else encoding.embedding,
            label_scores=encoding.label_scores if own_scores else found.label_scores,
            model=self.fingerprint,
        )

    def converts_from(self, fingerprint: str) -> bool:
        """Return whether embeddings of the space with a fingerprint can be converted."""
        if fingerprint == self.fingerprint:
            return True
        known = fingerprint == self.encoder or self._former(fingerprint) is not None
        return known and self._model.converts

    def restored(self, embeddings: FloatArray, fingerprint: str) -> FloatArray:
        """Return embeddings ``[n, d]`` of this space in a former one, or in its encoder's.

        Raises:
            UsageError: It is not known, or this space cannot be undone.
        """
        own, former = self._model.inverted(embeddings), self._former(fingerprint)
        if former is None and fingerprint != self.encoder:
            raise UsageError(self._foreign("the vector is", fingerprint))
        if former is None or former.space is None or not former.space.dim:
            return own
        return former.space.encode(own).embedding

    def _former(self, fingerprint: str) -> ModelSpace | None:
        """Return a space that the archive had before it was fitted again."""
        if fingerprint == self.fingerprint or not _HEX.fullmatch(fingerprint):
            return None
        model = self._storage.model_folder
        file = None if model is None else model / _former_name(fingerprint)
        if file is None or not file.is_file():
            return None
        return ModelSpace(self.encoder, _load(file), True)

    def name(self, space: str | None) -> str:
        """Return the fingerprint that ``archive``, ``encoder`` or a fingerprint stands for.

        Raises:
            UsageError: There is none, and embeddings were fitted to the archive.
        """
        if space is None and self._model.fitted:
            raise UsageError(
                "a vector does not say of which space it is, and this archive's was fitted to its "
                f"images: add the space {ARCHIVE!r} if it is of its records, {ENCODER!r} if its "
                "encoder itself made it, or the fingerprint of the model that made it"
            )
        if space in (None, ARCHIVE):
            return self.fingerprint
        return self.encoder if space == ENCODER else space

    def _foreign(self, what: str, named: str) -> str:
        if self._unknown:
            return (
                f"{what} of space {named[:12]}, and of which {shown(self._storage.folder)} is, "
                f"whose embeddings were imported, is not known: add the space {ARCHIVE!r} if it is "
                "the same"
            )
        return (
            f"{what} of space {named[:12]}, and {shown(self._storage.folder)} of "
            f"{self.fingerprint[:12]}: it cannot be converted; encode its image with the archive's "
            "own model, or convert it where both archives are (Archive.convert)"
        )


class ModelSpace(NamedTuple):
    """What was fitted to the embeddings of an encoder.

    Attributes:
        encoder: Fingerprint of the encoder itself.
        space: What was fitted, if anything was, and it is known here.
        fitted: Whether that was to an archive, so that embeddings are not the encoder's own.
    """

    encoder: str
    space: Space | None
    fitted: bool

    @property
    def converts(self) -> bool:
        """Whether the encoder's own embeddings can be converted."""
        return self.space is not None or not (self.fitted or self.encoder.startswith(_FEATURES))

    @property
    def length(self) -> int:
        """Length of an embedding; only where a space is known."""
        return 0 if self.space is None else self.space.dim or self.space.n_features

    def inverted(self, embeddings: FloatArray) -> FloatArray:
        """Return what the encoder itself made of the images of embeddings ``[n, d]``.

        Raises:
            UsageError: Embeddings are shorter than that.
        """
        space = self.space
        return embeddings if space is None or not space.dim else space.invert(embeddings)


def read_space(model: Path) -> ModelSpace:
    """Return the encoder in a model folder, and what was fitted to its embeddings.

    Raises:
        LandcueError: A file is broken.
    """
    codes, features = model / CODES, model / _FEATURE_SPACE
    if features.is_file():
        hint = "restore it from a copy of the model"
        config = read_json(model / MODEL_FILES[0], ArchiveError, hint)
        tower: dict[str, Any] = config["tower"]
        own, space = str(tower["fingerprint"]), _load(features)
        fitted = "adapted" not in space.facts
        if tower["kind"] == "landcue":  # its features are not the embedding of that fingerprint
            return ModelSpace(f"{_FEATURES}{own}", None, fitted)
        return ModelSpace(own, space, fitted)
    own = embedding_fingerprint(model) or ""
    if codes.is_file():
        space = _load(codes)
        return ModelSpace(own, space, bool(space.dim))
    return ModelSpace(own, None, False)


def keep_former_spaces(before: Path, after: Path) -> None:
    """Keep with the new model of an archive what undoes its former fits, if it has one encoder.

    So vectors that were kept elsewhere, in saved searches and collections, can be converted. Spaces
    that cannot be undone are left out.

    Args:
        before: Its model folder.
        after: That of the new table, which is not in use yet.
    """
    old, new = storage.local_copy(before), storage.local_copy(after)
    if old is None or new is None:
        return
    was, now = read_space(old), read_space(new)
    if was.encoder != now.encoder or not now.converts:
        return
    kept = {file.name: file.read_bytes() for file in sorted(old.glob(_former_name("*")))}
    space, mark = was.space, model_fingerprint(old)
    if space is not None and mark is not None and space.dim in (0, space.n_features):
        d = space.dim
        bare = replace(
            space, weight=space.weight[:, :d], bias=space.bias[:d], n_bits=0, label_names=(),
            text_bias=None, texts=None, facts={},
        )  # fmt: skip
        kept[_former_name(mark)] = bare.to_bytes()
    kept.pop(_former_name(model_fingerprint(new) or ""), None)
    for name, data in kept.items():
        storage.write(after / name, data)


def _former_name(fingerprint: str) -> str:
    return f"former-{fingerprint}.safetensors"


def _load(file: Path) -> Space:
    from landcue.models.space import Space

    return Space.from_bytes(file.read_bytes(), str(file))


def fitted_space(model: Path) -> Space | None:
    """Return what maps an own encoder's embeddings to an archive's; ``None`` if they are the same.

    Raises:
        ModelError: Its file is broken.
    """
    found = read_space(model).space if (model / CODES).is_file() else None
    return found if found is not None and found.dim else None


def unit_vectors(vectors: npt.NDArray[Any], dim: int) -> FloatArray:
    """Scale vectors, floats ``[n, dim]`` or ``[dim]``, to length 1: float32 ``[n, dim]``.

    Raises:
        UsageError: They have another type or number of values, or the length of one is 0.
    """
    rows = np.atleast_2d(_plain(vectors))
    if rows.ndim != 2 or rows.shape[1] != dim or not np.issubdtype(rows.dtype, np.floating):
        raise UsageError(
            f"the vector is {vectors.dtype} {list(vectors.shape)}: use one of {dim} float values, "
            "as the archive's embeddings have"
        )
    wide = rows.astype(np.float64)
    largest = np.abs(wide).max(axis=1, keepdims=True)
    for value in largest[~((largest > 0) & (largest < np.inf))][:1]:  # also NaN
        raise UsageError(f"the vector has length {value}: use finite values that are not all 0")
    wide = np.ldexp(wide, -np.frexp(largest)[1])  # exactly, so that squares do not overflow
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)

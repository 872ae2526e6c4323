"""The space of an archive: affine maps from a frozen encoder's features to all that is searched.

A :class:`Space` is fitted by :func:`landcue.models.fit_space`. It is one small file beside the
encoder; no torch is needed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from landcue.codes.packing import pack_bits
from landcue.errors import ModelError, UsageError
from landcue.types import Encoding, FloatArray

NEIGHBORS = 20
"""Nearest images that the recall of codes counts."""
_FORMAT = 1
_KEY = "landcue"


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Maps from unit-norm features u ``[F]`` to ``u @ weight + bias``: embedding, bits and logits.

    Attributes:
        weight: float32 ``[F, d + n_bits + C]``.
        bias: float32 ``[d + n_bits + C]``.
        dim: Length d of an embedding: the first outputs, scaled to length 1.
        n_bits: Bits of a code: the signs of the next outputs.
        label_names: Names of the C labels: the sigmoids of the last outputs are their scores.
        text_bias: What replaces the first values of ``bias`` for the features of texts, float32
            ``[d + n_bits]``; ``None`` for encoders without a text tower.
        texts: Features float32 ``[t, F]`` of general descriptions, to calibrate the distances of
            texts; ``None`` where they are not known.
        facts: How it was fitted and what was measured, as JSON values.
    """

    weight: FloatArray
    bias: FloatArray
    dim: int
    n_bits: int = 0
    label_names: tuple[str, ...] = ()
    text_bias: FloatArray | None = None
    texts: FloatArray | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: cast("dict[str, Any]", {}))

    @property
    def n_features(self) -> int:
        """Length F of the encoder's features."""
        return int(self.weight.shape[0])

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all values."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def encode(self, features: npt.NDArray[Any]) -> Encoding:
        """Map features of images, floats ``[n, F]``; rows that are not finite stay so.

        Raises:
            ModelError: The features have another length.
        """
        out = self._project(features)
        d, k = self.dim, self.n_bits
        logits = out[:, d + k :]
        return Encoding(
            embedding=unit_rows(out[:, :d]),
            code=pack_bits(out[:, d : d + k] > 0),
            n_bits=k,
            label_scores=(0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32),
        )

    def invert(self, embedding: npt.NDArray[Any]) -> FloatArray:
        """Return the unit-norm features ``[n, F]`` of which :meth:`encode` made embeddings.

        An embedding e is (u W + b) / s for a unit vector u, so that u = s e W^-1 - b W^-1, whose
        length decides s: there is one such s if b W^-1 is shorter than 1, as in what is fitted.

        Raises:
            UsageError: Embeddings are shorter than features (d < F).

        >>> from landcue.models import fit_space
        >>> rng = np.random.default_rng(0)
        >>> u = unit_rows(rng.normal(size=(300, 8)))
        >>> space = fit_space(u, dim=8, n_bits=0, neighbors=True)
        >>> bool(np.allclose(space.invert(space.encode(u).embedding), u, atol=1e-5))
        True
        """
        if self.dim != self.n_features or embedding.shape[1:] != (self.dim,):
            raise UsageError(
                f"embeddings {list(embedding.shape)} of a space of {self.dim} dimensions cannot be "
                f"turned into the {self.n_features} features of its encoder"
            )
        inverse, shift = _inverse_of(self)
        direction = np.asarray(embedding, np.float32) @ inverse
        along, square = direction @ shift, np.einsum("nd,nd->n", direction, direction)
        root = np.sqrt(np.maximum(along**2 + square * (1 - shift @ shift), 0))
        direction *= ((along + root) / np.maximum(square, np.finfo(np.float32).tiny))[:, None]
        direction -= shift
        return unit_rows(direction)

    def encode_text(self, features: npt.NDArray[Any]) -> Encoding:
        """Map features of texts, floats ``[n, F]``, to embeddings and codes; without label scores.

        Raises:
            UsageError: The space was fitted without texts.
        """
        if self.text_bias is None:
            raise UsageError("the model has no text tower: search with an image instead")
        d, k = self.dim, self.n_bits
        out = unit_rows(features) @ self.weight[:, : d + k] + self.text_bias
        none = np.empty((len(out), 0), np.float32)
        return Encoding(unit_rows(out[:, :d]), pack_bits(out[:, d:] > 0), k, none)

    def _project(self, features: npt.NDArray[Any]) -> FloatArray:
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise ModelError(
                f"the model returned features {list(features.shape)}, its space maps "
                f"[n, {self.n_features}]; use the model that the space was fitted for"
            )
        return unit_rows(features) @ self.weight + self.bias

    def to_bytes(self) -> bytes:
        """Return the content of its file, safetensors."""
        tensors = {"bias": self.bias, "weight": np.ascontiguousarray(self.weight)}
        if self.text_bias is not None:
            tensors["text_bias"] = self.text_bias
        if self.texts is not None:
            tensors["texts"] = self.texts
        value = {
            "format": _FORMAT,
            "dim": self.dim,
            "n_bits": self.n_bits,
            "label_names": list(self.label_names),
            "facts": dict(self.facts),
        }
        text = json.dumps(value, sort_keys=True)
        return bytes(safetensors.numpy.save(tensors, {_KEY: text}))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Space:
        """Read what :meth:`to_bytes` wrote; ``where`` names the file in errors.

        Raises:
            ModelError: It is broken, or of another format.
        """
        try:
            tensors = safetensors.numpy.load(data)
            length = int.from_bytes(data[:8], "little")
            header: dict[str, Any] = json.loads(data[8 : 8 + length])
            value: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
            if value["format"] != _FORMAT:
                raise ModelError(
                    f"{where} has format {value['format']!r}, this LandCue reads {_FORMAT}"
                )
            names = tuple(str(name) for name in value["label_names"])
            space = cls(
                tensors["weight"],
                tensors["bias"],
                int(value["dim"]),
                int(value["n_bits"]),
                names,
                tensors.get("text_bias"),
                tensors.get("texts"),
                value["facts"],
            )
            outputs = space.dim + space.n_bits + len(names)
            fits = space.weight.ndim == 2 and space.weight.shape[1] == outputs
            fits = fits and space.bias.shape == (outputs,)
            if space.text_bias is not None:
                fits = fits and space.text_bias.shape == (space.dim + space.n_bits,)
            if space.texts is not None:
                fits = fits and space.texts.ndim == 2 and space.texts.shape[1] == space.n_features
            if not fits:
                raise ValueError("shapes")
        except (
            SafetensorError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ):
            raise ModelError(f"{where} is broken; restore it from a copy of the model") from None
        return space


@functools.lru_cache(maxsize=4)
def _inverse_of(space: Space) -> tuple[FloatArray, FloatArray]:
    inverse = np.linalg.inv(space.weight[:, : space.dim].astype(np.float64))
    return inverse.astype(np.float32), (space.bias[: space.dim] @ inverse).astype(np.float32)


def unit_rows(values: npt.NDArray[Any]) -> FloatArray:
    """Scale rows ``[n, d]`` to length 1, float32; a row of zeros stays zero."""
    wide = np.asarray(values, np.float32)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        return wide / np.maximum(norms, np.finfo(np.float32).tiny)


def identity_space(n_features: int, *, text: bool = False) -> Space:
    """Return the space of an encoder that was not fitted: unit-norm features, no codes, no labels.

    >>> identity_space(4).encode(np.array([[3.0, 0, 4, 0]])).embedding.tolist()
    [[0.6000000238418579, 0.0, 0.800000011920929, 0.0]]
    """
    zeros = np.zeros(n_features, np.float32)
    return Space(
        np.eye(n_features, dtype=np.float32), zeros, n_features, text_bias=zeros if text else None
    )


def describe_space(space: Space) -> str:
    """Return one line about how a space was fitted and what was measured."""
    facts = space.facts
    if not facts:
        return f"{space.dim} dimensions, as the model returns them"
    line = f"fitted on {facts['images']} images: {space.dim} dimensions"
    if "neighbors" in facts:
        line += " with differences of neighbors damped"
    recalls: dict[str, float] = facts.get("codes", {}).get("recall", {})
    if space.n_bits:
        line += f", {space.n_bits} bits"
    if str(space.n_bits) in recalls:
        line += (
            f" (two-stage: recall@{NEIGHBORS} {recalls[str(space.n_bits)]:.3f} among the "
            f"{facts['codes']['shortlist']} nearest codes of {facts['codes']['images']} images)"
        )
    if probe := facts.get("probe"):
        line += (
            f", {probe['labels']} labels (average precision {probe['average_precision']:.3f}, "
            f"calibration error {probe['calibration_error']:.3f}, leave-one-out)"
        )
        if left := probe["left_out"]:
            line += f"; too few images for {', '.join(left)}"
    if text := facts.get("text"):
        line += (
            f"; 1 % of images score above {text['threshold']:.2f} for a text, above "
            f"{text['image_threshold']:.2f} for an image"
        )
    return line

"""Run an exported encoder with ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from landcue.codes.packing import pack_bits
from landcue.errors import ModelError, UsageError
from landcue.types import ByteArray, Encoding

METADATA = "landcue"
"""Key under which an exported file carries its description."""
_FORMAT = 1
_HINT = "export it again with 'landcue export MODEL OUT.onnx'"


@dataclass(frozen=True, slots=True)
class OnnxCard:
    """What an exported file says of itself.

    Attributes:
        model: The settings of :class:`landcue.models.encoder.ModelConfig`.
        precision: ``float32`` or ``int8``.
        source: Fingerprint of the checkpoint it was made from.
        provenance: Of that checkpoint.
        fidelity: What was measured against torch (:mod:`landcue.models.onnx.fidelity`).
    """

    model: dict[str, Any]
    precision: str
    source: str
    provenance: dict[str, Any]
    fidelity: dict[str, Any]

    def to_json(self) -> str:
        """Return the text that the file carries."""
        return json.dumps(
            {
                "format": _FORMAT,
                "model": self.model,
                "precision": self.precision,
                "source": self.source,
                "provenance": self.provenance,
                "fidelity": self.fidelity,
            }
        )

    @classmethod
    def from_json(cls, text: str, file: Path) -> OnnxCard:
        """Read the text that a file carries.

        Raises:
            ModelError: It is broken or of another format.
        """
        try:
            value: dict[str, Any] = json.loads(text)
            known = value.pop("format")
            card = cls(**value)
            sizes = (card.model["dim"], card.model["n_bits"], card.model["image_size"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{file} carries a broken description; {_HINT}") from None
        if known != _FORMAT or not all(isinstance(size, int) for size in sizes):
            raise ModelError(f"{file} is of format {known!r}, this LandCue reads {_FORMAT}")
        return card


class OnnxEncoder:
    """An exported encoder; implements :class:`landcue.types.Encoder`.

    Its fingerprint is the SHA-256 of the file: int8 and float32 give other vectors than torch in
    bfloat16, so an archive is searched by what indexed it.
    """

    def __init__(self, file: Path, *, threads: int | None = None) -> None:
        """Open an exported file.

        Args:
            file: Made by ``landcue export``.
            threads: Threads per call; ONNX Runtime's own choice by default.

        Raises:
            ModelError: Missing, broken, or not exported by LandCue; or ONNX Runtime is missing.
        """
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ModelError(f"{file} cannot be read ({error.strerror}); {_HINT}") from None
        self._session = _session(data, file, threads)
        carried: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if METADATA not in carried:
            raise ModelError(f"{file} was not exported by LandCue; {_HINT}")
        self.card = OnnxCard.from_json(carried[METADATA], file)
        self.fingerprint = hashlib.sha256(data).hexdigest()
        shapes = {out.name: out.shape for out in self._session.get_outputs()}
        self._dim = int(shapes["embedding"][1])

    @property
    def dim(self) -> int:
        """Length of a retrieval embedding."""
        return self._dim

    @property
    def n_bits(self) -> int:
        """Bits of a hash code."""
        return int(self.card.model["n_bits"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the label scores."""
        return tuple(self.card.model["label_names"])

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize one decoded image, uint8 ``[h, w, 3]``, to ``[s, s, 3]``."""
        from landcue.models.resize import resize_square

        return resize_square(image, int(self.card.model["image_size"]))

    def outputs(self, pixels: Sequence[ByteArray] | ByteArray) -> dict[str, Any]:
        """Return ``embedding``, ``hash`` and ``label_scores`` of prepared uint8 images.

        Raises:
            UsageError: The images are not uint8 ``[n, s, s, 3]`` of the model's size.
        """
        batch = np.ascontiguousarray(np.stack(list(pixels)) if len(pixels) else np.empty(0))
        size = self.card.model["image_size"]
        shape = (size, size, self.card.model.get("in_chans", 3))
        if batch.shape[1:] != shape or batch.dtype != np.uint8:
            wanted = ", ".join(["n", *map(str, shape)])
            raise UsageError(f"need uint8 images [{wanted}], got {batch.dtype} {list(batch.shape)}")
        names = [out.name for out in self._session.get_outputs()]
        values = cast(list[Any], self._session.run(names, {"pixels": batch}))
        return dict(zip(names, values, strict=True))

    def encode(self, pixels: Sequence[ByteArray] | ByteArray) -> Encoding:
        """Encode prepared uint8 images ``[n, s, s, 3]``.

        Raises:
            UsageError: See :meth:`outputs`.
        """
        out = self.outputs(pixels)
        return Encoding(
            embedding=_unit(out["embedding"]),
            code=pack_bits(out["hash"] > 0),
            n_bits=self.n_bits,
            label_scores=out["label_scores"].astype(np.float32, copy=False),
        )


def _unit(vectors: Any) -> Any:
    """Normalize again: the graph's own normalization may be off by more than rounding."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


def _session(data: bytes, file: Path, threads: int | None) -> Any:
    try:
        import onnxruntime as ort
    except ImportError:
        raise ModelError(
            f"{file} needs ONNX Runtime; install it with: pip install 'landcue[onnx]'"
        ) from None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    try:
        # From bytes: a file cannot make the runtime open other files as external weights.
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common error class of its own
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"{file} is no usable ONNX model ({first}); {_HINT}") from None

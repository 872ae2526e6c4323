"""Run an exported encoder with ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from landcue.codes.engine import for_each
from landcue.codes.packing import pack_bits
from landcue.errors import ModelError, UsageError, first_line
from landcue.files import core_count
from landcue.models.resize import resize_square, to_batch
from landcue.types import ByteArray, Encoding, FloatArray, Images

INPUT = "pixels"
OUTPUTS = ("embedding", "hash", "label_scores")
LOCATIONS = "locations"
"""Output of some files: what is searched, location by location; see :mod:`.locations`."""
WITH_LOCATIONS = "with_locations"
"""Input of the same files: whether to compute it; by default false. Older ones always do."""
FEATURES = "features"
"""Output of the same files: the pooled features ``[n, F]``."""
COMPACT, SCALE = "int8 weights", ".scale"
"""Precision of a file whose weights are int8; what a weight's scale adds to its name."""
METADATA = "landcue"
"""Key under which an exported file carries its description."""
_AT_ONCE = 4
"""Images whose activations stay in a core's cache."""
_FORMAT = 1
_LARGEST = 1 << 20
_HINT = "export it again with 'landcue export MODEL OUT.onnx'"


@dataclass(frozen=True, slots=True)
class OnnxCard:
    """What an exported file says of itself.

    Attributes:
        model: The settings of :class:`landcue.models.encoder.ModelConfig`.
        precision: ``float32``, ``int8 weights`` (those alone; computed in float32) or ``int8``.
        source: Fingerprint of the checkpoint it was made from.
        provenance: Of that checkpoint.
        fidelity: What was measured against torch (:mod:`landcue.models.fidelity`).
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
        """Read the text that a file carries."""
        try:
            value: dict[str, Any] = json.loads(text)
            known, provenance = value.pop("format"), value.get("provenance")
            card = cls(**value)
            sizes = [card.model[name] for name in ("dim", "n_bits", "image_size")]
            sizes.append(card.model.get("in_chans", 3))
            names = card.model["label_names"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ModelError(f"{file} carries a broken description; {_HINT}") from None
        if known != _FORMAT:
            shown = str(known)[:40]
            raise ModelError(f"{file} is of format {shown!r}, this LandCue reads {_FORMAT}")
        good = all(type(size) is int and 0 <= size <= _LARGEST for size in sizes)
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not good or not listed or not isinstance(provenance, dict):
            raise ModelError(f"{file} carries a broken description; {_HINT}")
        return card


class OnnxEncoder:
    """An exported encoder; implements :class:`landcue.types.Encoder`.

    Its fingerprint is the SHA-256 of the file: int8 and float32 give other vectors than torch in
    bfloat16, so an archive is searched by what indexed it.

    Attributes:
        card: What the file says of itself.
        has_locations: Whether the file can compare the regions of images.
        has_features: Whether the file returns its pooled features.
    """

    def __init__(self, file: str | Path, *, threads: int | None = None) -> None:
        """Open an exported file.

        Args:
            file: Made by ``landcue export``.
            threads: Threads per call, each of which computes a few images at a time: faster than
                one image on several, and to the same bits. By default one per core.

        Raises:
            ModelError: Missing, broken, or not exported by LandCue; or ONNX Runtime is missing.
        """
        file = Path(file)
        self._session, data = open_session(file, 1)
        self._threads = threads or core_count()
        carried: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if METADATA not in carried:
            raise ModelError(f"{file} was not exported by LandCue; {_HINT}")
        self.card = OnnxCard.from_json(carried[METADATA], file)
        self.path = file
        self.unfinished, self.on_cpu = False, True
        self.fingerprint = hashlib.sha256(data).hexdigest()
        shapes = {out.name: out.shape for out in self._session.get_outputs()}
        self.has_locations, self.has_features = LOCATIONS in shapes, FEATURES in shapes
        optional = {value.name for value in self._session.get_overridable_initializers()}
        self._asked = {WITH_LOCATIONS: np.array(True)} if WITH_LOCATIONS in optional else {}
        shape = shapes.get("embedding", ())
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise ModelError(f"{file} returns no embeddings [n, d]; {_HINT}")
        self.dim: int = shape[1]
        model = self.card.model
        self.n_bits, self.image_size = int(model["n_bits"]), int(model["image_size"])
        self.label_names: tuple[str, ...] = tuple(model["label_names"])
        self.in_chans, self.provenance = int(model.get("in_chans", 3)), self.card.provenance

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize one decoded image, uint8 ``[h, w, C]``, to ``[s, s, C]``."""
        return resize_square(image, self.image_size)

    def outputs(self, pixels: ByteArray, names: Sequence[str] = OUTPUTS) -> dict[str, Any]:
        """Return the named outputs for prepared images, uint8 ``[n, s, s, C]``."""
        n, wanted = len(pixels), list(names)
        more = self._asked if LOCATIONS in wanted else {}
        step = max(1, min(_AT_ONCE, -(-n // self._threads)))
        parts: dict[int, list[Any]] = {}

        def run(part: int) -> None:
            some = pixels[part * step : (part + 1) * step]
            parts[part] = cast(list[Any], self._session.run(wanted, {INPUT: some, **more}))

        for_each(run, max(1, -(-n // step)), self._threads)
        values = [parts[part] for part in sorted(parts)]
        joined = values[0] if len(values) == 1 else map(np.concatenate, zip(*values, strict=True))
        return dict(zip(wanted, joined, strict=True))

    def locations(self, image: ByteArray) -> FloatArray:
        """Return what is searched of a prepared image, location by location, ``[h, w, d]``.

        Raises:
            UsageError: The file was exported without it.
        """
        if not self.has_locations:
            raise UsageError(
                "similar regions need the model as it was trained; this one was exported"
            )
        return self.outputs(image[None], [LOCATIONS])[LOCATIONS][0]

    def encode(self, images: Images) -> Encoding:
        """Encode image files, Pillow images or uint8 arrays ``[h, w, C]`` of any sizes.

        Raises:
            UsageError: No image, or one of another type or number of bands.
            DataError: A file cannot be read.
        """
        out = self.outputs(to_batch(images, self.image_size, self.in_chans))
        return Encoding(
            embedding=_unit(out["embedding"]),
            code=pack_bits(out["hash"] > 0),
            n_bits=self.n_bits,
            label_scores=out["label_scores"].astype(np.float32, copy=False),
            model=self.fingerprint,
        )


def _unit(vectors: Any) -> Any:
    """Normalize again: the graph's own normalization may be off by more than rounding."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


def open_session(file: Path, threads: int | None = None) -> tuple[Any, bytes]:
    """Open a file with ONNX Runtime on the CPU; return the session and the file's bytes."""
    import onnxruntime as ort

    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}); {_HINT}") from None
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    try:
        # From bytes: a file cannot make the runtime open other files as external weights.
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]), data
    except Exception as error:  # the runtime has no common error class of its own
        raise ModelError(f"{file} is no usable ONNX model ({first_line(error)}); {_HINT}") from None


def carries_card(file: Path) -> bool:
    """Return whether a file was exported by LandCue, and so describes itself."""
    return METADATA in open_session(file, 1)[0].get_modelmeta().custom_metadata_map


def describe(card: OnnxCard) -> str:
    """Return what an exported model is and what it loses, one fact per line."""
    model, found = card.model, card.fidelity
    lines = [
        f"exported from {card.source[:12]} in {card.precision}",
        f"{model['backbone']}, {model['image_size']} px, {model['dim']} dimensions, "
        f"{model['n_bits']} bits, {len(model['label_names'])} labels",
    ]
    if not found:
        return "\n".join([*lines, "checked against torch on rendered images only"])
    cosine = found["cosine"]
    lines.append(
        f"beside the original on {found['images']} images: cosine {cosine['mean']:.4f} "
        f"(least {cosine['least']:.4f}), recall@20 {found['recall@20']:.3f}"
    )
    if "flipped_bits" in found:
        lines.append(f"bits that differ: {found['flipped_bits']:.2%}")
    spaces: dict[str, dict[str, float]] = found.get("retrieval", {})
    for space, values in spaces.items():
        lines.append(
            f"nDCG@100 of the {space}: {values['original']:.4f}, exported "
            f"{values['exported']:.4f}, {_loss(values)}"
        )
    return "\n".join(lines)


def _loss(values: dict[str, Any]) -> str:
    share = values["loss"]
    return f"{share:.2%} lost" if share >= 0 else f"{-share:.2%} gained"

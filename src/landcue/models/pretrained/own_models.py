"""Our own models as towers: what a space is fitted to are the features that they already compute.

A trained model of torch gives its pooled features, an exported file its output ``features``, or its
embedding where it has none.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.errors import UsageError
from landcue.models.load import EXPORTED, Model, load_model
from landcue.models.onnx import FEATURES, OnnxEncoder
from landcue.models.pretrained.encoder import PretrainedEncoder
from landcue.types import ByteArray, FloatArray

if TYPE_CHECKING:
    from landcue.models.encoder import NeuralEncoder

_KIND = "landcue"


class OwnTower:
    """Implements :class:`.encoder.Tower` for a model that LandCue trained."""

    has_text = False
    value_range = None
    bands = ("red", "green", "blue")

    def __init__(self, model: OnnxEncoder | NeuralEncoder) -> None:
        """Take a model of three colors."""
        if model.in_chans != 3:
            raise UsageError(
                f"the model takes {model.in_chans} bands; use one for red, green, blue"
            )
        self._model = model
        self.fingerprint = model.fingerprint
        gray = np.full((1, model.image_size, model.image_size, 3), 127, np.uint8)
        self.n_features = self.features(gray).shape[1]

    @property
    def name(self) -> str:
        """``landcue:`` and the first digits of the model's fingerprint."""
        return f"{_KIND}:{self.fingerprint[:12]}"

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared image."""
        return self._model.image_size

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU's cores."""
        return self._model.on_cpu

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize one image."""
        return self._model.prepare(image)

    def features(self, pixels: ByteArray) -> FloatArray:
        """Return features float32 ``[n, F]`` of prepared images."""
        if isinstance(self._model, OnnxEncoder):
            output = FEATURES if self._model.has_features else "embedding"
            return self._model.outputs(pixels, [output])[output]
        return self._model.outputs(pixels).features.cpu().numpy().astype(np.float32, copy=False)

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Refuse: there is no text tower."""
        raise UsageError(f"the model {self.name} has no text tower: search with an image")

    def save(self, folder: Path) -> dict[str, Any]:
        """Copy the model's files; return its settings."""
        path = self._model.path
        if isinstance(self._model, OnnxEncoder):
            shutil.copyfile(path / EXPORTED if path.is_dir() else path, folder / EXPORTED)
        else:
            for name in ("model.safetensors", "config.json"):
                shutil.copyfile(path / name, folder / name)
        return {"kind": _KIND, "fingerprint": self.fingerprint}


def restore_tower(
    settings: dict[str, Any], folder: Path, device: str, threads: int | None = None
) -> OwnTower:
    """Read what :meth:`OwnTower.save` wrote."""
    model: Any = load_model(folder, device=device, threads=threads)
    return OwnTower(model)


def as_pretrained(model: Model) -> PretrainedEncoder:
    """Return a model as a tower without a fitted space."""
    if isinstance(model, PretrainedEncoder):
        return PretrainedEncoder(model.tower)
    own: Any = model
    return PretrainedEncoder(OwnTower(own))

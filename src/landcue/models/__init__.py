"""Encoders: images in, embeddings, hash codes and label scores out.

>>> import numpy as np
>>> from landcue.models import load_model
>>> encoder = load_model("builtin")  # or a run folder, or a file of landcue export
>>> encoder.encode([np.zeros((200, 300, 3), np.uint8)]).embedding.shape
(1, 256)

What runs torch is imported when it is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.models.backbones import create_backbone, load_backbone_weights
    from landcue.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from landcue.models.encoder import ModelConfig, NeuralEncoder, build_config
    from landcue.models.load import Model, load_model
    from landcue.models.onnx import OnnxEncoder
    from landcue.models.pretrained.encoder import PretrainedEncoder
    from landcue.models.regions import RegionEncoder, Regions, similar_regions
    from landcue.models.resize import resize_square
    from landcue.models.space import Space, fit_space
    from landcue.types import Encoder, Encoding

_HOMES = {
    "Checkpoint": "landcue.models.checkpoint",
    "Encoder": "landcue.types",
    "Encoding": "landcue.types",
    "Model": "landcue.models.load",
    "ModelConfig": "landcue.models.encoder",
    "NeuralEncoder": "landcue.models.encoder",
    "OnnxEncoder": "landcue.models.onnx",
    "PretrainedEncoder": "landcue.models.pretrained.encoder",
    "RegionEncoder": "landcue.models.regions",
    "Regions": "landcue.models.regions",
    "Space": "landcue.models.space",
    "build_config": "landcue.models.encoder",
    "create_backbone": "landcue.models.backbones",
    "fit_space": "landcue.models.space",
    "load_backbone_weights": "landcue.models.backbones",
    "load_checkpoint": "landcue.models.checkpoint",
    "load_model": "landcue.models.load",
    "resize_square": "landcue.models.resize",
    "save_checkpoint": "landcue.models.checkpoint",
    "similar_regions": "landcue.models.regions",
}
__all__ = [
    "Checkpoint",
    "Encoder",
    "Encoding",
    "Model",
    "ModelConfig",
    "NeuralEncoder",
    "OnnxEncoder",
    "PretrainedEncoder",
    "RegionEncoder",
    "Regions",
    "Space",
    "build_config",
    "create_backbone",
    "fit_space",
    "load_backbone_weights",
    "load_checkpoint",
    "load_model",
    "resize_square",
    "save_checkpoint",
    "similar_regions",
]

__getattr__ = lazy_exports(__name__, _HOMES)

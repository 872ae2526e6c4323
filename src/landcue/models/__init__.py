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
    from landcue.models.export import export_onnx
    from landcue.models.fitting import fit_space
    from landcue.models.load import Model, describe_model, list_models, load_model
    from landcue.models.locations import Regions, similar_regions
    from landcue.models.onnx import OnnxCard, OnnxEncoder
    from landcue.models.pretrained.encoder import PretrainedEncoder
    from landcue.models.regions import RegionEncoder
    from landcue.models.resize import resize_square
    from landcue.models.space import Space
    from landcue.types import Encoder, Encoding

__all__ = [
    "Checkpoint",
    "Encoder",
    "Encoding",
    "Model",
    "ModelConfig",
    "NeuralEncoder",
    "OnnxCard",
    "OnnxEncoder",
    "PretrainedEncoder",
    "RegionEncoder",
    "Regions",
    "Space",
    "build_config",
    "create_backbone",
    "describe_model",
    "export_onnx",
    "fit_space",
    "list_models",
    "load_backbone_weights",
    "load_checkpoint",
    "load_model",
    "resize_square",
    "save_checkpoint",
    "similar_regions",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.models.backbones": ("create_backbone", "load_backbone_weights"),
        "landcue.models.checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
        "landcue.models.encoder": ("ModelConfig", "NeuralEncoder", "build_config"),
        "landcue.models.export": ("export_onnx",),
        "landcue.models.load": ("Model", "describe_model", "list_models", "load_model"),
        "landcue.models.onnx": ("OnnxCard", "OnnxEncoder"),
        "landcue.models.pretrained.encoder": ("PretrainedEncoder",),
        "landcue.models.locations": ("Regions", "similar_regions"),
        "landcue.models.regions": ("RegionEncoder",),
        "landcue.models.resize": ("resize_square",),
        "landcue.models.fitting": ("fit_space",),
        "landcue.models.space": ("Space",),
        "landcue.types": ("Encoder", "Encoding"),
    },
)

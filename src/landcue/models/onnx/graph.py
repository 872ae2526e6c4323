"""Turn an encoder into an ONNX graph: uint8 images in, embedding, hash and label scores out."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import ModelError
from landcue.models.encoder import NeuralEncoder

INPUT = "pixels"
OUTPUTS = ("embedding", "hash", "label_scores")
_OPSET = 18
_MOST_IMAGES = 4096


class _Graph(nn.Module):
    """An encoder with its normalization: what ``NeuralEncoder.encode`` computes, in float32."""

    def __init__(self, encoder: NeuralEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoder = self.encoder
        out = encoder(encoder.normalize(pixels.permute(0, 3, 1, 2)))
        searched = out.embedding
        if encoder.config.retrieval == "features":
            searched = F.normalize(out.features, dim=1)
        return searched, out.hash, encoder.label_scores(out.logits)


def to_onnx(encoder: NeuralEncoder) -> Any:
    """Return the encoder as an ``onnx.ModelProto`` for any number of images.

    Input: ``pixels``, uint8 ``[n, s, s, bands]``, prepared images. Outputs: ``embedding`` float32
    ``[n, d]``, unit norm; ``hash`` ``[n, K]`` in (-1, 1), whose sign is the code; ``label_scores``
    ``[n, C]``.

    Raises:
        ModelError: torch cannot export this backbone.
    """
    example = torch.zeros(2, *_image_shape(encoder), dtype=torch.uint8)
    images = torch.export.Dim("n", min=1, max=_MOST_IMAGES)
    chatter = io.StringIO()  # the exporter reports each of its steps
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(chatter), contextlib.redirect_stderr(chatter):
            program = torch.onnx.export(
                _Graph(encoder).eval(),
                (example,),
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes={INPUT: {0: images}},
                opset_version=_OPSET,
                dynamo=True,
            )
    except Exception as error:  # the exporter raises whatever its stages raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"backbone {encoder.config.backbone} cannot be exported to ONNX: {first}"
        ) from error
    finally:
        log.setLevel(level)
    if program is None:
        raise ModelError(f"backbone {encoder.config.backbone} cannot be exported to ONNX")
    return program.model_proto


def float32_outputs(encoder: NeuralEncoder, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what torch computes in float32 for prepared uint8 images ``[n, s, s, 3]``."""
    with torch.inference_mode():
        return _Graph(encoder).eval()(pixels)


def _image_shape(encoder: NeuralEncoder) -> tuple[int, int, int]:
    config = encoder.config
    return config.image_size, config.image_size, config.in_chans

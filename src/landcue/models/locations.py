"""Which locations of an image make it similar to a query: an aid to explain a hit.

A convolutional encoder pools its last feature map, one vector per location, into the vector that is
searched. Where it averages and the layers after that are linear, the pooled projection is the mean
of the projections z_l of the locations, and the cosine to a unit-norm query q splits without rest:

    q . z / |z| = mean over l of (q . z_l) / |z|,  with z = mean over l of z_l.

These parts are what :func:`similar_regions` returns, next to the cosine of each location by itself,
q . z_l / |z_l|. This is the decomposition that Stylianou, Souvenir and Pless (Visualizing Deep
Similarity Networks, WACV 2019) give for average pooling, itself in the way of class activation
maps (Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016).

Where pooling also takes maxima, or a hidden layer follows, each location goes through the layers as
if it were the whole map; the parts then no longer add up to the cosine and only show where to look.
A location has seen more of the image than its cell, so edges are soft. The map tells what moved
this model's similarity and proves nothing about the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from landcue.errors import UsageError
from landcue.models.onnx import OnnxEncoder
from landcue.types import ByteArray, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from landcue.models.encoder import NeuralEncoder
    from landcue.models.space import Space

MOST_CELLS = 4_096
_TINY = np.float32(1e-12)


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """How similar the locations of one image are to a query.

    Attributes:
        parts: What each location adds, float32 ``[rows, columns]``; see the module. Their mean is
            ``similarity`` for an encoder of average pooling and linear layers.
        cosines: Cosine of each location by itself, float32 ``[rows, columns]`` in -1..1.
        similarity: Cosine of the whole image, -1..1.
    """

    parts: FloatArray
    cosines: FloatArray
    similarity: float


def similar_regions(
    encoder: NeuralEncoder | OnnxEncoder, image: ByteArray, query: FloatArray
) -> Regions:
    """Compare each location of an image's last feature map with a query, in float32.

    Args:
        encoder: What made the query's embedding.
        image: A prepared image, uint8 ``[s, s, C]``.
        query: Embedding ``[d]`` or ``[1, d]``, unit norm.

    Raises:
        UsageError: The encoder's backbone ends in no feature map, it was exported without one, or
            the sizes do not fit.

    >>> import landcue
    >>> encoder = landcue.load_model("builtin")
    >>> image = encoder.prepare(np.zeros((200, 200, 3), np.uint8))
    >>> similar_regions(encoder, image, encoder.encode([image]).embedding).cosines.shape
    (6, 6)
    """
    space: Space | None = getattr(encoder, "space", None)  # fitted to an archive
    encoder = getattr(encoder, "base", encoder)
    direction = np.asarray(query, np.float32).reshape(-1)
    size, bands = encoder.image_size, encoder.in_chans
    if direction.shape != (encoder.dim,) or image.shape != (size, size, bands):
        raise UsageError(
            f"need a query of {encoder.dim} numbers and an image [{size}, {size}, {bands}], got "
            f"{direction.size} and {list(image.shape)}"
        )
    if isinstance(encoder, OnnxEncoder):
        locations = encoder.locations(image)
        whole = locations.mean((0, 1))
    else:
        locations, whole = _torch_locations(encoder, image)
    if space is not None and space.dim:  # affine, so that the mean over locations stays one
        locations = locations / max(float(np.linalg.norm(whole)), _TINY)
        locations = locations @ space.weight[:, : space.dim] + space.bias[: space.dim]
        whole = locations.mean((0, 1))
    along = locations @ direction
    length = max(float(np.linalg.norm(whole)), _TINY)
    return Regions(
        parts=along / np.float32(length),
        cosines=along / np.maximum(np.linalg.norm(locations, axis=2), _TINY),
        similarity=float(whole @ direction / (length * max(np.linalg.norm(direction), _TINY))),
    )


def _torch_locations(encoder: NeuralEncoder, image: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Return what is searched at each location ``[h, w, d]`` and of the image ``[d]``."""
    import torch

    encoder.eval()
    with torch.inference_mode():
        x = torch.from_numpy(np.array(image)).to(encoder.device).permute(2, 0, 1)[None]
        found = feature_map(encoder, encoder.normalize(x))
        rows, columns = found.shape[2:]
        if rows * columns > MOST_CELLS:
            raise UsageError(f"the model's feature map has {rows} x {columns} cells: too many")
        apart = locations_of(encoder, found)[0]
        whole = _searched(encoder, _pooled(encoder, found))[0]
    return apart.cpu().numpy(), whole.cpu().numpy()


def locations_of(encoder: NeuralEncoder, maps: Tensor) -> Tensor:
    """Map feature maps ``[n, F, h, w]`` to what is searched at each location ``[n, h, w, d]``."""
    n, width, rows, columns = maps.shape
    cells = maps.permute(0, 2, 3, 1).reshape(-1, width)
    searched = _searched(encoder, _pooled(encoder, cells[:, :, None, None]))
    return searched.reshape(n, rows, columns, searched.shape[1])


def feature_map(encoder: NeuralEncoder, x: Tensor) -> Tensor:
    """Return the last feature map ``[n, F, h, w]`` of normalized images.

    Raises:
        UsageError: The backbone has none.
    """
    backbone = cast(Any, encoder.backbone)
    import torch

    found: object = backbone.forward_features(x) if hasattr(backbone, "forward_features") else None
    if not isinstance(found, torch.Tensor) or found.ndim != 4:
        raise UsageError(
            f"backbone {encoder.config.backbone} ends in no feature map, so that regions cannot be "
            "compared; a convolutional backbone has one"
        )
    return found.permute(0, 3, 1, 2) if _channels_last(encoder) else found


def _pooled(encoder: NeuralEncoder, maps: Tensor) -> Tensor:
    """Pool feature maps ``[n, F, h, w]`` as the backbone does, ``[n, F']``."""
    backbone = cast(Any, encoder.backbone)
    if hasattr(backbone, "forward_head"):
        if _channels_last(encoder):
            maps = maps.permute(0, 2, 3, 1)
        return backbone.forward_head(maps, pre_logits=True)
    return backbone.global_pool(maps)


def _channels_last(encoder: NeuralEncoder) -> bool:
    return getattr(encoder.backbone, "output_fmt", "NCHW") == "NHWC"


def _searched(encoder: NeuralEncoder, features: Tensor) -> Tensor:
    """Map pooled features to the space that is searched, before its norm is made 1."""
    if encoder.config.retrieval == "features":
        return features
    return encoder.projection(features)

"""Augmentation for nadir views, by torchvision's transforms: flips, turns, scale and color."""

from __future__ import annotations

import importlib
import math
from typing import Any, cast

import torch
from torch import Tensor
from torchvision.transforms import v2

from landcue.errors import UsageError
from landcue.training.config import AugmentSection
from landcue.training.images import Transform


class QuarterTurn(v2.Transform):
    """Turn by 0, 90, 180 or 270 degrees."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the number of quarter turns."""
        return {"k": int(torch.randint(4, ()))}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Turn ``[..., h, w]``."""
        return torch.rot90(inpt, params["k"], (-2, -1))


class BandJitter(v2.Transform):
    """Vary brightness, contrast and saturation of images of any number of bands.

    torchvision's ``ColorJitter``, in which gray is the mean of the bands.
    """

    def __init__(self, change: float) -> None:
        super().__init__()
        self.change = change

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the three factors, each between 1 - change and 1 + change."""
        return {"factors": (1 + self.change * (2 * torch.rand(3) - 1)).tolist()}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Vary uint8 ``[C, h, w]``."""
        brightness, contrast, saturation = params["factors"]
        x = inpt.float()
        gray = x.mean(0, keepdim=True)
        mean = gray.mean()
        x = mean + contrast * (gray + saturation * (x - gray) - mean)
        return (x * brightness).round().clamp(0, 255).to(inpt.dtype)


class OwnTransform:
    """A user's transform by its import path, imported anew in each worker process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, image: Tensor) -> Tensor:
        """Transform an image."""
        return self.load()(image)

    def load(self) -> Transform:
        """Import the transform.

        Raises:
            UsageError: There is none at that path.
        """
        module, _, name = self.path.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"augment.transform {self.path!r} cannot be imported ({error}); use "
                "package.module:function of a module on PYTHONPATH"
            ) from None
        if not callable(found):
            raise UsageError(f"augment.transform {self.path!r} is not callable")
        return cast(Transform, found)


def create_transform(section: AugmentSection, size: int, bands: int = 3) -> Transform:
    """Make the transform of training images, from uint8 ``[C, h, w]`` to ``[C, size, size]``.

    ``section.size``, where it is given, takes the place of ``size``.
    All transforms draw from torch's global generator, which the data set seeds per view. Past an
    edge a rotated image is mirrored. With ``augment.transform`` the user's own transform takes
    the place of all others, and its result is resized where it has another size.

    Example:
        >>> image = torch.zeros(3, 184, 184, dtype=torch.uint8)
        >>> create_transform(AugmentSection(), 160)(image).shape
        torch.Size([3, 160, 160])
    """
    size = section.size or size
    if section.transform:
        own = OwnTransform(section.transform)
        _check_own(own, size, bands)
        return v2.Compose([own, v2.Resize((size, size), antialias=True)])
    steps: list[Any] = []
    if section.flips:
        steps.append(v2.RandomHorizontalFlip())
    if section.turns:
        steps.append(QuarterTurn())
    if section.rotation:
        steps.append(MirroredRotation(section.rotation))
    if section.min_area < 1:
        area = (section.min_area, 1.0)
        steps.append(v2.RandomResizedCrop(size, scale=area, ratio=(1.0, 1.0), antialias=True))
    else:
        steps.append(v2.Resize((size, size), antialias=True))
    if section.color:
        jitter = v2.ColorJitter(section.color, section.color, section.color)
        steps.append(jitter if bands == 3 else BandJitter(section.color))
    return v2.Compose(steps)


class MirroredRotation(v2.Transform):
    """Turn by any angle up to a limit in degrees; corners show the mirrored image."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.rotate = v2.RandomRotation(degrees, v2.InterpolationMode.BILINEAR)  # pyright: ignore[reportArgumentType]

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Turn ``[C, h, w]``."""
        height, width = inpt.shape[-2:]
        margin = math.ceil(0.21 * max(height, width)) + 1  # half of a diagonal less half a side
        margin = min(margin, min(height, width) - 1)
        larger = v2.functional.pad(inpt, [margin], padding_mode="reflect")
        return v2.functional.center_crop(self.rotate(larger), [height, width])


def _check_own(own: OwnTransform, size: int, bands: int) -> None:
    own.load()
    with torch.random.fork_rng(devices=[]):
        try:
            made = own(torch.zeros(bands, size, size, dtype=torch.uint8))
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else ""
            raise UsageError(
                f"augment.transform {own.path!r} fails on a black image "
                f"({type(error).__name__}: {line}); it takes uint8 [C, h, w]"
            ) from None
    if not isinstance(made, Tensor) or made.ndim != 3 or made.shape[0] != bands:  # pyright: ignore[reportUnnecessaryIsInstance]
        shape = list(getattr(made, "shape", ())) or type(made).__name__
        raise UsageError(
            f"augment.transform {own.path!r} returns {shape} for an image of {bands} bands; "
            "return a tensor [C, h, w] with values 0..255"
        )

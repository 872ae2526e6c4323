"""``torchgeo:WEIGHTS[@FILE]``: multi-band models of torchgeo with the transforms of their weights.

Images are bytes: 0 and 255 stand for the ends of the range that the weights divide by, 0 to 10000
for Sentinel-2, and rasters are scaled to it unless another scale is chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torchgeo.models as geo
from torch import Tensor, nn

from landcue.errors import UsageError, did_you_mean
from landcue.models.pretrained.encoder import fetching
from landcue.models.pretrained.preprocessing import Preprocessing
from landcue.models.pretrained.torch_tower import WEIGHTS, TorchTower, fill, read_weights

_SIDE = 224
_CLASSIFIERS = ("fc.", "head.", "classifier.")


class TorchGeoTower(TorchTower):
    """A model of torchgeo; the weights' own transforms normalize stored values."""

    def __init__(self, model: nn.Module, weight: Any, device: str) -> None:
        """Take a model with pooled features, and the entry of its weights."""
        steps = _steps(weight.transforms)
        top = _divisor(steps, str(weight))
        self.value_range = (0.0, top)
        self._top, self._transforms = top, weight.transforms
        bands = [str(band) for band in weight.meta["bands"]]
        n = len(bands)
        preprocessing = Preprocessing(
            _side(steps), (0.0,) * n, (1.0,) * n, resize="squash", interpolation="bilinear"
        )
        settings = {"kind": "torchgeo", "name": str(weight), "transforms": str(weight.transforms)}
        super().__init__(model, model, preprocessing, settings, device, bands=bands)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn bytes into stored values, and those into what the model was trained on."""
        return self._transforms(pixels.float() * (self._top / 255))


def open_tower(name: str, device: str, threads: int | None = None) -> TorchGeoTower:
    """Open a model by its weights, which are fetched or read from a safetensors file."""
    wanted, _, file = name.partition("@")
    weight, builder = _find(wanted)
    if file:
        model = _pooled(geo.get_model(builder, in_chans=weight.meta["in_chans"]), wanted)
        fill(model, read_weights(Path(file)), file, _CLASSIFIERS)
        return TorchGeoTower(model, weight, device)
    instead = f"where there is a network, save them and use torchgeo:{wanted}@FILE.safetensors"
    with fetching(f"torchgeo:{wanted}", instead):
        model = geo.get_model(builder, weights=weight)
    return TorchGeoTower(_pooled(model, wanted), weight, device)


def list_names() -> list[str]:
    """Return the names of weights that torchgeo knows."""
    return list(_known())


def restore_tower(
    settings: dict[str, Any], folder: Path, device: str, threads: int | None = None
) -> TorchGeoTower:
    """Read what :meth:`.torch_tower.TorchTower.save` wrote."""
    name = str(settings["name"])
    weight, builder = _find(name)
    model = _pooled(geo.get_model(builder, in_chans=weight.meta["in_chans"]), name)
    fill(model, read_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    return TorchGeoTower(model, weight, device)


def _known() -> dict[str, tuple[Any, str]]:
    known: dict[str, tuple[Any, str]] = {}
    for builder in geo.list_models():
        try:
            entries: Any = geo.get_model_weights(builder)
        except KeyError:  # a model without weights
            continue
        known |= {str(entry): (entry, builder) for entry in entries}
    return known


def _find(name: str) -> tuple[Any, str]:
    known = _known()
    if name not in known:
        family = {one: one.partition("_Weights")[0] for one in (name, *known)}
        near = [one for one in known if family[one] == family[name]]
        near = near or {family[one] for one in known}
        raise UsageError(f"torchgeo has no weights {name!r}{did_you_mean(name, near, 5)}")
    return known[name]


def _pooled(model: Any, name: str) -> nn.Module:
    if not hasattr(model, "reset_classifier"):
        raise UsageError(
            f"torchgeo:{name} is a {type(model).__name__} without pooled features; export one "
            "vector per image and use onnx:FILE"
        )
    model.reset_classifier(0)
    return model


def _steps(transforms: Any) -> list[Any]:
    return list(transforms) if isinstance(transforms, nn.Sequential) else [transforms]


def _divisor(steps: list[Any], name: str) -> float:
    """Return by what the weights divide stored values first."""
    for step in steps:
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            if set(mean) == {0} and len(set(std)) == 1 and float(std[0]) > 1:
                return float(std[0])
            break
    raise UsageError(
        f"torchgeo:{name} normalizes each band by itself, and bytes cannot hold its values; "
        "export it with its transforms and use onnx:FILE with a value_range"
    )


def _side(steps: list[Any]) -> int:
    """Return the side in pixels that the first step expects."""
    for step in steps:
        size = getattr(step, "size", None)
        if size is not None:
            return int(size if isinstance(size, int) else size[0])
    return _SIDE

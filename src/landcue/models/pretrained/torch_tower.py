"""What the towers that run torch share: batches, devices, fingerprints and files of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from landcue.errors import ModelError, UsageError, first_line
from landcue.models.load import find_device
from landcue.models.pretrained.preprocessing import Preprocessing
from landcue.types import ByteArray, FloatArray

WEIGHTS = "weights.safetensors"
RGB = ("red", "green", "blue")


class TorchTower:
    """Implements :class:`.encoder.Tower` with a torch module; float32 on CPU, autocast on GPUs.

    Attributes:
        module: In evaluation mode, on its device.
        preprocessing: From images to what the module takes.
        settings: JSON values that say what it is; part of the fingerprint.
    """

    value_range: tuple[float, float] | None = None

    def __init__(
        self,
        module: nn.Module,
        image: Callable[[Tensor], Any],
        preprocessing: Preprocessing,
        settings: Mapping[str, Any],
        device: str,
        *,
        text: Callable[[Sequence[str], torch.device], Tensor] | None = None,
        bands: Sequence[str] = RGB,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a module and its functions.

        Args:
            module: Holds all weights.
            image: From normalized images float32 ``[n, C, s, s]`` to features ``[n, F]``.
            preprocessing: Of images.
            settings: What it is, with ``kind`` and ``name``.
            device: Where it runs.
            text: From texts to features ``[n, F]``.
            bands: Names of the bands.
            identity: What the fingerprint covers besides weights and preprocessing; by default
                the settings.
        """
        self.device = find_device(device)
        self.module = module.eval().requires_grad_(False).to(self.device)
        self.preprocessing, self.settings = preprocessing, dict(settings)
        self.bands = tuple(bands)
        self._image, self._text = image, text
        if preprocessing.bands != len(self.bands):
            raise UsageError(
                f"{self.name} takes {len(self.bands)} bands, but mean and std have "
                f"{preprocessing.bands} values"
            )
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(preprocessing.mean, device=self.device).view(shape)
        self._std = torch.tensor(preprocessing.std, device=self.device).view(shape)
        self.fingerprint = self._fingerprint(settings if identity is None else identity)
        self.n_features = self._probe()

    @property
    def name(self) -> str:
        """Kind and name, without folders of this machine."""
        return f"{self.settings['kind']}:{self.settings['name']}"

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared image."""
        return self.preprocessing.size

    @property
    def has_text(self) -> bool:
        """Whether texts can be encoded."""
        return self._text is not None

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU's cores."""
        return self.device.type == "cpu"

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize and crop one image."""
        return self.preprocessing.prepare(image)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn bytes ``[n, C, s, s]`` into what the module was trained on."""
        return (pixels.float().div_(255) - self._mean) / self._std

    def features(self, pixels: ByteArray) -> FloatArray:
        """Return features float32 ``[n, F]`` of prepared images uint8 ``[n, s, s, C]``."""
        with torch.inference_mode(), self._autocast():
            x = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
            out = self._image(self.normalize(x.permute(0, 3, 1, 2)))
        return self._array(out, len(pixels))

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Return features float32 ``[n, F]`` of texts."""
        if self._text is None:
            raise UsageError(f"the model {self.name} has no text tower: search with an image")
        with torch.inference_mode(), self._autocast():
            out = self._text(list(texts), self.device)
        return self._array(out, len(texts))

    def _autocast(self) -> Any:
        on = self.device.type == "cuda"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on)

    def _array(self, out: Any, n: int) -> FloatArray:
        shape = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != n:
            raise ModelError(
                f"{self.name} returns {shape} for {n} images, not one vector each; choose a model "
                "with pooled features"
            )
        return out.float().cpu().numpy()

    def _probe(self) -> int:
        """Return the length of the features of a gray image."""
        side = self.preprocessing.size
        pixels = np.full((1, side, side, len(self.bands)), 127, np.uint8)
        try:
            return self.features(pixels).shape[1]
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            line = first_line(error)[:200]
            raise ModelError(
                f"{self.name} does not take images of {side} pixels and {len(self.bands)} bands "
                f"({line})"
            ) from None

    def _fingerprint(self, identity: Mapping[str, Any]) -> str:
        described = {**identity, "preprocessing": self.preprocessing.to_json()}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        tensors = self.module.state_dict()
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights; return the settings, preprocessing and fingerprint."""
        tensors = {n: t.detach().cpu().clone() for n, t in self.module.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)
        return {
            **self.settings,
            "preprocessing": self.preprocessing.to_json(),
            "bands": list(self.bands),
            "fingerprint": self.fingerprint,
        }


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    if file.suffix.lower() != ".safetensors":
        raise ModelError(
            f"{file}: weights are read from .safetensors alone, since other files can run code; "
            "convert it with safetensors.torch.save_file"
        )
    try:
        return load(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror})") from None
    except SafetensorError as error:
        raise ModelError(f"{file} is broken ({error}); download it again") from None


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, ignored: tuple[str, ...] = ()
) -> None:
    """Load weights that must fit a module exactly, but for names that begin as ``ignored`` does."""
    wanted = module.state_dict()
    unknown = sorted(tensors.keys() - wanted.keys())
    extra = [name for name in unknown if not name.startswith(ignored)]
    missing = sorted(wanted.keys() - tensors.keys())
    shapes = [n for n, t in wanted.items() if n in tensors and t.shape != tensors[n].shape]
    if missing or extra or shapes:
        kind, names = ("lacks", missing) if missing else ("has the unknown", extra)
        fault = f"{kind} {len(names)} tensors, such as {names[0]}" if names else ""
        if not names:
            name = shapes[0]
            fault = (
                f"has {name} of shape {list(tensors[name].shape)}, not {list(wanted[name].shape)}"
            )
        raise ModelError(f"{where} is for another model, size or number of bands: it {fault}")
    module.load_state_dict({name: tensors[name] for name in wanted})

"""``onnx:FILE``: any exported model that returns one vector per image, described by a YAML file.

The file beside ``model.onnx`` is ``model.yaml``::

    size: 224                     # pixels a side
    mean: [0.485, 0.456, 0.406]   # of values in 0..1, one per band
    std: [0.229, 0.224, 0.225]
    layout: nchw                  # or nhwc
    bands: [red, green, blue]     # names, in the order of the model
    output: features              # where the model has several
    resize: squash                # shortest (with scale_size and a center crop), longest
    interpolation: bilinear
    value_range: [0, 10000]       # stored values of rasters that 0..1 stand for
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from landcue.errors import LandcueError, ModelError, UsageError, did_you_mean, first_line
from landcue.models.onnx import open_session
from landcue.models.pretrained.preprocessing import Preprocessing
from landcue.types import ByteArray, FloatArray

_MODEL = "encoder.onnx"
_KNOWN = {
    *("size", "mean", "std", "layout", "bands", "output"),
    *("resize", "scale_size", "interpolation", "fill", "value_range"),
}
_LAYOUTS = ("nchw", "nhwc")
_RGB = ("red", "green", "blue")


class OnnxTower:
    """Implements :class:`.encoder.Tower` with ONNX Runtime; needs no torch."""

    has_text = False
    on_cpu = True

    def __init__(self, file: Path, settings: Mapping[str, Any], threads: int | None) -> None:
        """Open a file.

        Args:
            file: The model.
            settings: ``name``, ``preprocessing``, ``layout``, ``bands``, ``output`` and
                ``value_range``.
            threads: Threads per call.
        """
        self._file = file
        self._session, data = open_session(file, threads)
        self.preprocessing = Preprocessing.from_json(settings["preprocessing"])
        self.bands = tuple(str(band) for band in settings["bands"])
        self._channels_last = settings["layout"] == "nhwc"
        found = settings.get("value_range")
        self.value_range = None if found is None else (float(found[0]), float(found[1]))
        self._settings = {key: settings[key] for key in ("name", "layout", "output")}
        self._input = self._session.get_inputs()[0].name
        self._output = self._choose(settings["output"])
        described: dict[str, Any] = {key: settings[key] for key in ("layout", "output")}
        described |= {"bands": self.bands, "value_range": self.value_range}
        described["preprocessing"] = self.preprocessing.to_json()
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        digest.update(data)
        self.fingerprint = digest.hexdigest()
        side = self.preprocessing.size
        gray = np.full((1, side, side, len(self.bands)), 127, np.uint8)
        self.n_features = self.features(gray).shape[1]

    @property
    def name(self) -> str:
        """``onnx:`` and the name of the file."""
        return f"onnx:{self._settings['name']}"

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared image."""
        return self.preprocessing.size

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize and crop one image."""
        return self.preprocessing.prepare(image)

    def features(self, pixels: ByteArray) -> FloatArray:
        """Return features float32 ``[n, F]`` of prepared images."""
        mean, std = (np.float32(getattr(self.preprocessing, name)) for name in ("mean", "std"))
        x = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        if not self._channels_last:
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        try:
            found = self._session.run([self._output], {self._input: x})[0]
        except Exception as error:  # the runtime has no common error class of its own
            line = first_line(error)[:200]
            raise ModelError(
                f"{self.name} does not take float32 images {list(x.shape)} ({line}); check size, "
                "layout and bands of its .yaml, and that the number of images may vary"
            ) from None
        out = np.asarray(found)
        if out.ndim != 2 or len(out) != len(pixels):
            raise ModelError(
                f"{self.name} returns {list(out.shape)} for {len(pixels)} images, not one vector "
                "each; name another output in its .yaml"
            )
        return out.astype(np.float32, copy=False)

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Refuse: there is no text tower."""
        raise UsageError(f"the model {self.name} has no text tower: search with an image")

    def save(self, folder: Path) -> dict[str, Any]:
        """Copy the model; return its settings."""
        shutil.copyfile(self._file, folder / _MODEL)
        return {
            "kind": "onnx",
            **self._settings,
            "bands": list(self.bands),
            "value_range": None if self.value_range is None else list(self.value_range),
            "preprocessing": self.preprocessing.to_json(),
            "fingerprint": self.fingerprint,
        }

    def _choose(self, output: str | None) -> str:
        names = [str(one.name) for one in self._session.get_outputs()]
        if output is None and len(names) > 1:
            raise ModelError(
                f"{self.name} has the outputs {', '.join(names)}: name one as output in its .yaml"
            )
        if output is not None and output not in names:
            raise ModelError(f"{self.name} has no output {output!r}{did_you_mean(output, names)}")
        return output or names[0]


def open_tower(name: str, device: str, threads: int | None = None) -> OnnxTower:
    """Open a file with its description."""
    if device != "cpu":
        raise UsageError(f"--device {device}: models of onnx: run on the CPU; leave it out")
    file = Path(name)
    described = file.with_suffix(".yaml")
    if not described.is_file():
        raise ModelError(
            f"{file} was not exported by LandCue, so {described} must describe it: size, mean, "
            "std, and where needed layout, bands and output"
        )
    return OnnxTower(file, {"name": file.name, **_read(described)}, threads)


def restore_tower(
    settings: dict[str, Any], folder: Path, device: str, threads: int | None = None
) -> OnnxTower:
    """Read what :meth:`OnnxTower.save` wrote."""
    return OnnxTower(folder / _MODEL, settings, threads)


def _read(file: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{file} cannot be read ({first_line(error)}); write it as YAML") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds no keys and values: write size, mean and std")
    value = cast("dict[str, Any]", value)
    for key in value:
        if key not in _KNOWN:
            raise ModelError(f"{file} has the unknown key {key!r}{did_you_mean(str(key), _KNOWN)}")
    for key in ("size", "mean", "std"):
        if key not in value:
            raise ModelError(f"{file} lacks {key}")
    layout = value.pop("layout", "nchw")
    if layout not in _LAYOUTS:
        raise ModelError(f"{file}: layout {layout!r} is unknown{did_you_mean(layout, _LAYOUTS)}")
    output, value_range = value.pop("output", None), value.pop("value_range", None)
    try:
        if value_range is not None and not float(value_range[0]) < float(value_range[1]):
            raise ValueError("value_range must hold two rising numbers")
        bands = [str(band) for band in value.pop("bands", _RGB)]
        value["size"] = int(value["size"])
        for key in ("mean", "std", "fill"):
            if key in value:
                value[key] = [float(one) for one in value[key]]
        if "fill" in value:
            value["fill"] = [int(one) for one in value["fill"]]
        preprocessing = Preprocessing.from_json(value)
    except (TypeError, ValueError, IndexError, LandcueError) as error:
        raise ModelError(f"{file}: {error}") from None
    if len(bands) != preprocessing.bands:
        raise ModelError(
            f"{file} names {len(bands)} bands, but mean and std have {preprocessing.bands} values"
        )
    return {
        "preprocessing": preprocessing.to_json(),
        "layout": layout,
        "bands": bands,
        "output": None if output is None else str(output),
        "value_range": value_range,
    }

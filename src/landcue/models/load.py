"""Open a trained model by its name, run folder or exported file, with the runtime that fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from landcue.errors import ModelError, UsageError, did_you_mean
from landcue.models.builtin import find_model
from landcue.types import Encoder

Runtime = Literal["auto", "torch", "onnx"]
RUNTIMES = ("auto", "torch", "onnx")
EXPORTED = "model.onnx"
"""Name of an exported file inside a run folder or an archive's model folder."""


@dataclass(frozen=True, slots=True)
class Model:
    """A trained encoder, ready to use.

    Attributes:
        encoder: A :class:`landcue.models.encoder.NeuralEncoder` or
            :class:`landcue.models.onnx.runtime.OnnxEncoder`.
        path: Where it was found.
        provenance: Whatever its training wrote.
        unfinished: Whether its training has not ended.
    """

    encoder: Encoder
    path: Path
    provenance: dict[str, Any]
    unfinished: bool = False


def load_model(name: str | Path, *, runtime: str = "auto", device: str = "cpu") -> Model:
    """Open a model.

    Args:
        name: ``builtin``, a run folder, an archive's model folder, or an exported ``.onnx`` file.
        runtime: ``torch``, ``onnx``, or ``auto``: onnx for an exported file and for a folder
            that holds nothing but one, else torch.
        device: Where torch runs: ``cpu``, ``cuda``, ``cuda:1`` …

    Raises:
        ModelError: There is no such model, or it is broken.
        UsageError: Unknown runtime or device, or one that does not fit the model.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}{did_you_mean(runtime, RUNTIMES)}")
    path = find_model(name)
    exported = path if path.suffix.lower() == ".onnx" else path / EXPORTED
    only_exported = exported == path or (exported.is_file() and not (path / "config.json").exists())
    if runtime == "onnx" or (runtime == "auto" and only_exported):
        if not exported.is_file():
            raise ModelError(
                f"{exported} does not exist; make it with: landcue export {name} {exported}"
            )
        if device != "cpu":
            raise UsageError("exported models run on the cpu: drop --device, or use torch")
        from landcue.models.onnx.runtime import OnnxEncoder

        encoder = OnnxEncoder(exported)
        return Model(encoder, exported, encoder.card.provenance)
    if only_exported:
        raise UsageError(f"{path} was exported: use it with --runtime onnx")
    import torch

    from landcue.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    try:
        encoder = checkpoint.encoder.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used ({first})") from None
    return Model(encoder, path, checkpoint.provenance, checkpoint.unfinished)

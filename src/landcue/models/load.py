"""Open a trained model by its name, run folder or exported file, with the runtime that fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landcue.errors import ModelError, UsageError, did_you_mean
from landcue.models.builtin import find_model
from landcue.types import Encoder

if TYPE_CHECKING:
    import torch

RUNTIMES = ("auto", "torch", "onnx")
EXPORTED = "model.onnx"
"""Name of an exported file inside a run folder or an archive's model folder."""


@dataclass(frozen=True, slots=True)
class Model:
    """A trained encoder, ready to use.

    Attributes:
        encoder: A :class:`landcue.models.encoder.NeuralEncoder` or
            :class:`landcue.models.onnx.runtime.OnnxEncoder`.
        path: Its run folder or exported file.
        provenance: Whatever its training wrote.
        image_size: Side in pixels of a prepared image.
        in_chans: Bands of an image.
        unfinished: Whether its training has not ended.
        on_cpu: Whether it computes on the CPU's cores.
    """

    encoder: Encoder
    path: Path
    provenance: dict[str, Any]
    image_size: int
    in_chans: int
    unfinished: bool = False
    on_cpu: bool = True


def load_model(
    name: str | Path, *, runtime: str = "auto", device: str = "cpu", threads: int | None = None
) -> Model:
    """Open a model.

    Args:
        name: ``builtin``, a run folder, an archive's model folder, or an exported ``.onnx`` file.
        runtime: ``torch``, ``onnx``, or ``auto``: onnx for an exported file and for a folder
            that holds nothing but one, else torch.
        device: Where torch runs: ``cpu``, ``cuda``, ``cuda:1`` …
        threads: Of an exported model, per call; torch has its own setting.

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

        encoder = OnnxEncoder(exported, threads=threads)
        settings = encoder.card.model
        bands = int(settings.get("in_chans", 3))
        return Model(encoder, exported, encoder.card.provenance, int(settings["image_size"]), bands)
    if only_exported:
        raise UsageError(f"{path} was exported: use it with --runtime onnx")
    from landcue.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    config = checkpoint.encoder.config
    return Model(
        checkpoint.encoder.to(find_device(device)),
        path,
        checkpoint.provenance,
        config.image_size,
        config.in_chans,
        checkpoint.unfinished,
        device == "cpu",
    )


def find_device(name: str) -> torch.device:
    """Return a device that is there.

    Raises:
        UsageError: There is no such device.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise UsageError(f"--device {name}: cannot be used ({line}); give cpu or cuda") from None
    return device

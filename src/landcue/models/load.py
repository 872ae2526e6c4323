"""Open a trained model by its name, run folder or exported file, with the runtime that fits."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from landcue.errors import ModelError, UsageError, did_you_mean, missing_extra
from landcue.types import Encoder

if TYPE_CHECKING:
    import torch

BUILTIN = "builtin"
"""Name of the encoder in this package; a folder of that name is reached as ``./builtin``."""
RUNTIMES = ("auto", "torch", "onnx")
EXPORTED = "model.onnx"
"""Name of an exported file inside a run folder or an archive's model folder."""
_PIN = "@sha256:"
_PREFIXES = ("onnx", "timm", "open_clip", "hf", "torchgeo")


class Model(Encoder, Protocol):
    """An encoder that was loaded, and what is known about it."""

    @property
    def path(self) -> Path:
        """Its run folder or exported file."""
        ...

    @property
    def provenance(self) -> dict[str, Any]:
        """Whatever its training wrote."""
        ...

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared image."""
        ...

    @property
    def in_chans(self) -> int:
        """Bands of an image."""
        ...

    @property
    def unfinished(self) -> bool:
        """Whether its training has not ended."""
        ...

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU's cores."""
        ...


def find_model(name: str | Path) -> Path:
    """Return the folder or file of a model: of ``builtin``, ``onnx:FILE``, or the path itself."""
    kind, rest = split_uri(name)
    if kind not in ("", "onnx"):
        raise UsageError(f"{name}: pass a run folder, an exported file or builtin")
    return Path(rest)


def split_uri(name: str | Path) -> tuple[str, str]:
    """Return the kind of a model, empty for a folder or file, and what is after the colon.

    >>> split_uri("timm:resnet18")
    ('timm', 'resnet18')
    """
    text = split_pin(name)[0]
    if text == BUILTIN:
        return "", str(Path(__file__).with_name(BUILTIN))
    prefix, colon, rest = text.partition(":")
    if not colon or len(prefix) == 1 or Path(text).exists():  # one letter is a drive of Windows
        return "", text
    if prefix not in _PREFIXES:
        raise UsageError(f"unknown kind of model {prefix!r}{did_you_mean(prefix, _PREFIXES)}")
    if not rest:
        raise UsageError(f"{text}: name a model after the colon")
    return prefix, rest


def split_pin(name: str | Path) -> tuple[str, str]:
    """Return a model's name, and what its fingerprint must start with; empty without a pin.

    >>> split_pin("timm:resnet18@sha256:0123456789ABCDEF")
    ('timm:resnet18', '0123456789abcdef')
    """
    text, colon, pin = str(name).partition(_PIN)
    if colon and not re.fullmatch(r"[0-9a-fA-F]{12,64}", pin):
        raise UsageError(
            f"{name}: after {_PIN} write 12 to 64 hexadecimal digits of the fingerprint that "
            "'landcue models show' prints"
        )
    return text, pin.lower()


def load_model(
    uri: str | Path, *, runtime: str = "auto", device: str = "cpu", threads: int | None = None
) -> Model:
    """Open a model.

    Args:
        uri: ``builtin``, a run folder, an archive's model folder, or an exported ``.onnx`` file
            (also as ``onnx:FILE``). Of others: ``timm:NAME[@FILE]``,
            ``open_clip:NAME[@FILE|TAG]``, ``hf:FOLDER|REPO``, ``torchgeo:WEIGHTS``, or
            ``onnx:FILE`` with a description ``.yaml`` beside it; see
            :class:`landcue.models.PretrainedEncoder`. Any of them ends in ``@sha256:DIGITS`` to
            accept only the model whose fingerprint starts so.
        runtime: ``torch``, ``onnx``, or ``auto``: onnx for an exported file and for a folder
            that holds nothing but one, else torch.
        device: Where torch runs: ``cpu``, ``cuda``, ``cuda:1`` …
        threads: Of an exported model, per call; torch has its own setting.

    Raises:
        ModelError: There is no such model, or it is broken or not the one that was pinned.
        UsageError: Unknown kind, runtime or device, or one that does not fit the model; or torch
            is needed and not installed.

    >>> encoder = load_model("builtin")
    >>> encoder.dim, encoder.n_bits, encoder.image_size
    (256, 64, 192)
    """
    from landcue.models.pretrained.encoder import is_pretrained, open_encoder, restore_encoder

    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}{did_you_mean(runtime, RUNTIMES)}")
    from landcue.models.fitted_codes import with_codes

    name, pin = split_pin(uri)
    if pin:
        loaded = load_model(name, runtime=runtime, device=device, threads=threads)
        if not loaded.fingerprint.startswith(pin):
            raise ModelError(
                f"{name} has the fingerprint {loaded.fingerprint[: len(pin)]}, not the pinned "
                f"{pin}: its weights or its preprocessing were changed; restore them, or pin "
                "the new ones"
            )
        return loaded
    kind, rest = split_uri(uri)
    path = Path(rest)
    if kind == "onnx" and path.is_file() and not _exported_here(path):
        return open_encoder(kind, rest, device=device, threads=threads)
    if kind not in ("", "onnx"):
        if runtime == "onnx":
            raise UsageError(f"--runtime onnx: {uri} runs on torch; leave it out")
        return open_encoder(kind, rest, device=device, threads=threads)
    if not path.exists():
        raise ModelError(
            f"{path} does not exist{did_you_mean(rest, (BUILTIN,))}; use a run folder that "
            "'landcue train' finished, an exported file, or a model of a library such as timm:NAME"
        )
    if is_pretrained(path):
        return restore_encoder(path, device=device, threads=threads)
    is_file = path.suffix.lower() == ".onnx"
    exported = path if is_file else path / EXPORTED
    only_exported = is_file or (exported.is_file() and not (path / "model.safetensors").exists())
    if runtime == "onnx" or (runtime == "auto" and only_exported):
        if not exported.is_file():
            raise ModelError(
                f"{exported} does not exist; make it with: landcue export {uri} {exported}"
            )
        if device != "cpu":
            raise UsageError(
                f"--device {device}: exported models run on the CPU; drop it or use --runtime torch"
            )
        from landcue.models.onnx import OnnxEncoder

        encoder = OnnxEncoder(exported, threads=threads)
        encoder.path = path if only_exported else exported
        return with_codes(encoder, path)
    if is_file:
        raise UsageError(f"{path} was exported: use it with --runtime onnx")
    try:
        from landcue.models.checkpoint import load_checkpoint
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("landcue"):
            raise
        raise missing_extra("train", f"the torch model {path}") from None
    return with_codes(load_checkpoint(path).encoder.to(find_device(device)), path)


def is_builtin(model: Model) -> bool:
    """Return whether a model is the one that comes with this package, or a copy of it."""
    config = json.loads((find_model(BUILTIN) / "config.json").read_text(encoding="utf-8"))
    return model.fingerprint == config["fingerprint"]


def _exported_here(file: Path) -> bool:
    from landcue.models.onnx import carries_card

    return carries_card(file)


def describe_model(uri: str | Path) -> tuple[str, dict[str, Any]]:
    """Return a model's card, and its fingerprint, settings and provenance as JSON values.

    >>> describe_model("builtin")[1]["model"]["backbone"]
    'mobilenetv2_efficientnet_lite0'
    """
    from landcue.models.fitted_codes import FittedCodes, describe_codes
    from landcue.models.onnx import OnnxEncoder, describe
    from landcue.models.pretrained.encoder import PretrainedEncoder

    loaded: Any = load_model(uri)
    facts: dict[str, Any] = {"fingerprint": loaded.fingerprint}
    if isinstance(loaded, PretrainedEncoder):
        return loaded.card(), facts | loaded.facts()
    extra = ""
    if isinstance(loaded, FittedCodes):
        line = describe_codes(loaded)
        extra = f"\n{line[0].upper()}{line[1:]}.\n"
        facts["codes"] = {"n_bits": loaded.n_bits, **loaded.space.facts}
        loaded = loaded.base
    card = find_model(uri) / "README.md"
    if isinstance(loaded, OnnxEncoder):
        facts |= asdict(loaded.card)
    else:
        facts |= {"model": asdict(loaded.config), "provenance": loaded.provenance}
    if card.is_file():
        return card.read_text(encoding="utf-8") + extra, facts
    return (describe(loaded.card) if isinstance(loaded, OnnxEncoder) else "") + extra, facts


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of models that match a pattern.

    A pattern without a colon lists ``builtin`` and, where the packages of training are installed,
    the backbones that can be trained: ours, and the architectures of timm. With one, such as
    ``timm:vit*``, ``open_clip:*`` or ``torchgeo:*``, it lists pretrained encoders of a library.

    >>> list_models("built*")
    ['builtin']
    """
    kind, colon, rest = pattern.partition(":")
    if colon:
        if kind not in ("timm", "open_clip", "torchgeo"):
            known = did_you_mean(kind, ("timm", "open_clip", "torchgeo"))
            raise UsageError(f"there is no list of models of kind {kind!r}{known}")
        from landcue.models.pretrained.encoder import list_encoders

        return [f"{kind}:{name}" for name in list_encoders(kind) if fnmatch.fnmatch(name, rest)]
    names = [BUILTIN]
    try:
        import timm

        from landcue.models.backbones import OWN

        names += [*OWN, *timm.list_models()]
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("landcue"):
            raise
    return [name for name in names if fnmatch.fnmatch(name, pattern)]


def find_device(name: str) -> torch.device:
    """Return a device that is there."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise UsageError(f"--device {name}: cannot be used ({line}); use cpu or cuda") from None
    return device

"""Run folders: ``model.safetensors``, ``config.json`` and a model card. Never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from landcue import __version__
from landcue.errors import LandcueError, ModelError, UsageError, missing_extra
from landcue.files import read_json, write_atomic
from landcue.models.encoder import ModelConfig, NeuralEncoder
from landcue.models.onnx import COMPACT, SCALE, OnnxEncoder

_NOT_RECORDED = "not recorded"


def model_card(config: dict[str, Any], n_parameters: int) -> str:
    """Render the card of a checkpoint's ``config.json``."""
    model: dict[str, Any] = config["model"]
    made: dict[str, Any] = config["provenance"]
    labels, bands = ", ".join(model["label_names"]) or "none", model.get("in_chans", 3)
    lines = [
        "# LandCue encoder",
        "",
        f"- Fingerprint: `{config['fingerprint']}`",
        f"- Backbone: `{model['backbone']}`, `{model['pooling']}` pooling, "
        f"{n_parameters:,} parameters with its heads",
        f"- Input: {'RGB' if bands == 3 else f'{bands} bands'}, "
        f"resized to {model['image_size']} x {model['image_size']} pixels",
        f"- Searched space: {model['retrieval']} ({model['projection']} projection, "
        f"{model['dim']} dimensions)",
        f"- Hash code: {model['n_bits']} bits",
        f"- Labels: {labels}",
        *_calibration(model, made.get("calibration")),
        f"- Trained on: {made.get('dataset', _NOT_RECORDED)}, "
        f"split `{made.get('split', _NOT_RECORDED)}`, seed {made.get('seed', _NOT_RECORDED)}",
        f"- Loss: {made.get('loss', _NOT_RECORDED)}",
        f"- LandCue {config['landcue']}",
    ]
    scores = made.get("scores")
    if isinstance(scores, dict) and scores:
        lines += ["", "## Scores on the validation part", "", "| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value:.4f} |" for name, value in scores.items()]
    test = made.get("test")
    if isinstance(test, dict):
        lines += _test_scores(test)
    lines += [
        "",
        "The model was chosen on the validation part. Scores on images that were trained on say "
        "nothing about new places: run `landcue evaluate` on a test part.",
    ]
    return "\n".join(lines) + "\n"


def _calibration(model: dict[str, Any], found: object) -> list[str]:
    """Say what the label probabilities are worth."""
    if not model["label_names"]:
        return []
    if not model.get("label_temperatures") or not isinstance(found, dict):
        return ["- Label probabilities: not calibrated"]
    before, after = ("{:.4f}".format(found[key]["gap"]) for key in ("before", "after"))
    kind = "one temperature" if model["exclusive_labels"] else "a temperature per label"
    return [
        f"- Label probabilities: calibrated with {kind} on the {found['part']} part "
        f"({found['images']} images); their mean gap to the frequencies there was {before} and is "
        f"{after}"
    ]


def _test_scores(test: dict[str, Any]) -> list[str]:
    """Render ``about`` (one line) and ``spaces`` (metrics and chance by space)."""
    spaces: dict[str, dict[str, float]] = test["spaces"]
    names = list(next(iter(spaces.values())))
    lines = ["", "## Scores on the test part", "", str(test["about"]), ""]
    lines += ["| space | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for space, values in spaces.items():
        lines.append(f"| {space} | " + " | ".join(f"{values[name]:.4f}" for name in names) + " |")
    return lines


FORMAT = 1
_LATER = {
    "pooling": "avg",
    "channel_order": "rgb",
    "exclusive_labels": False,
    "in_chans": 3,
    "average_views": 1,
    "label_temperatures": (),
}
"""Settings that the first checkpoints do not have, and what they mean there."""
_HINT = "use a run folder that 'landcue train' finished"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained encoder and what is known about its making.

    Attributes:
        encoder: On CPU, in evaluation mode.
        provenance: ``dataset``, ``split``, ``seed``, ``label_statistics``, ``training``,
            ``scores``; whatever the training wrote.
    """

    encoder: NeuralEncoder
    provenance: dict[str, Any]

    @property
    def unfinished(self) -> bool:
        """Whether this is the best epoch so far of a training that has not ended."""
        return self.encoder.unfinished


def fingerprint(config: ModelConfig, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 (hex) over configuration, tensor names, shapes and bytes.

    Settings that came later are left out at their default, so that old fingerprints stay valid.
    """
    settings = asdict(config)
    for name, default in _LATER.items():
        if settings[name] == default:
            del settings[name]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(
    folder: str | Path, encoder: NeuralEncoder, provenance: Mapping[str, Any]
) -> str:
    """Write a checkpoint folder and return its fingerprint.

    Each file is replaced atomically, the weights first: a crash in between leaves a mismatch that
    loading names, never a silent mixture.

    Raises:
        LandcueError: The folder cannot be written.

    >>> from landcue.models import NeuralEncoder, build_config
    >>> encoder = NeuralEncoder(build_config("resnet18", dim=8))
    >>> fingerprint = save_checkpoint("model", encoder, {"dataset": "photos"})
    >>> load_checkpoint("model").encoder.fingerprint == fingerprint
    True
    """
    folder = Path(folder)
    tensors = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    mark = fingerprint(encoder.config, tensors)
    config = {
        "format": FORMAT,
        "landcue": __version__,
        "fingerprint": mark,
        "model": asdict(encoder.config),
        "provenance": dict(provenance),
    }
    write_atomic(folder / "model.safetensors", save(tensors))
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_atomic(folder / "README.md", model_card(config, sum(t.numel() for t in tensors.values())))
    encoder.fingerprint = mark
    return mark


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint folder and check that weights and configuration belong together.

    Raises:
        ModelError: Missing or broken files, a pickle, an unknown format version, or weights whose
            fingerprint is not the recorded one.

    >>> load_checkpoint("runs/marc").provenance["dataset"]               # doctest: +SKIP
    'ucmerced'
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {what}; {_HINT}")
    if not (folder / "model.safetensors").exists() and (folder / "model.onnx").is_file():
        return _from_onnx(folder / "model.onnx")
    raw = read_json(folder / "config.json", ModelError, _HINT)
    if raw.get("format") != FORMAT:
        raise ModelError(
            f"{folder}/config.json has format {raw.get('format')!r}, this LandCue reads {FORMAT}"
        )
    config = _model_config(raw.get("model"), folder)
    file = folder / "model.safetensors"
    try:
        tensors = load(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{file} is missing; {_HINT}") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{file} is broken ({error}); train or copy it again") from None
    if fingerprint(config, tensors) != raw.get("fingerprint"):
        raise ModelError(
            f"{folder}: weights and config.json do not belong together (fingerprint differs); "
            "train or copy the folder again"
        )
    encoder = NeuralEncoder(config)
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise ModelError(f"{file} does not fit its config.json: {line}") from None
    encoder.fingerprint, encoder.path = str(raw["fingerprint"]), folder
    provenance = raw.get("provenance")
    encoder.provenance = provenance if isinstance(provenance, dict) else {}
    return Checkpoint(encoder.eval(), encoder.provenance)


def _model_config(value: object, folder: Path) -> ModelConfig:
    known = {field.name for field in fields(ModelConfig)}
    if not isinstance(value, dict) or not known - set(_LATER) <= set(value) <= known:
        raise ModelError(f"{folder}/config.json does not describe a model; {_HINT}")
    settings: dict[str, Any] = {
        str(key): tuple(item) if isinstance(item, list) else item for key, item in value.items()
    }
    try:
        return ModelConfig(**settings)
    except (LandcueError, TypeError) as error:
        raise ModelError(f"{folder}/config.json: {error}; {_HINT}") from None


def _from_onnx(file: Path) -> Checkpoint:
    """Read the weights of an exported file that holds them unchanged, as the built-in does."""
    card = OnnxEncoder(file).card
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise missing_extra("train", f"torch weights from {file}") from None
    graph = onnx.load(file).graph
    found = {
        tensor.name.removeprefix("encoder."): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    config = _model_config(card.model, file)
    encoder = NeuralEncoder(config)
    wanted = encoder.state_dict()
    if not wanted.keys() <= found.keys():
        raise UsageError(f"{file.parent} was exported: use it with --runtime onnx")
    tensors = {name: found[name] for name in wanted}
    if card.precision == COMPACT:
        for name, tensor in tensors.items():
            scale = found.get(name + SCALE)
            tensors[name] = tensor.float() if scale is None else tensor.float() * scale
    if fingerprint(config, tensors) != card.source:
        raise ModelError(f"{file} does not hold the weights of {card.source[:12]}; {_HINT}")
    encoder.load_state_dict(tensors)
    encoder.fingerprint, encoder.path, encoder.provenance = (
        card.source,
        file.parent,
        card.provenance,
    )
    return Checkpoint(encoder.eval(), card.provenance)

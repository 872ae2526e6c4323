"""``landcue export``: write an encoder as one ONNX file, in float32 or int8, and check it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landcue.data.images import read_image
from landcue.errors import DataError, LandcueError, ModelError, UsageError
from landcue.files import write_atomic
from landcue.models.checkpoint import Checkpoint
from landcue.models.encoder import NeuralEncoder
from landcue.models.onnx.fidelity import compare_encodings
from landcue.models.onnx.graph import INPUT, float32_outputs, to_onnx
from landcue.models.onnx.runtime import METADATA, OnnxCard, OnnxEncoder
from landcue.types import ByteArray, Encoding, Record

_TOLERANCE = 1e-3
_CALIBRATION_IMAGES = 128
_CALIBRATION_PERCENTILE = 99.9
"""Of the activations of a tensor: a range that holds the outliers too would coarsen all others."""
_CHECKED_IMAGES = 2048
_BATCH = 32
_CHIPS = ("harbor", "city", "forest", "farmland")

Say = Callable[[str], object]


def export(
    checkpoint: Checkpoint,
    out: Path,
    *,
    int8: bool = False,
    records: Sequence[Record] = (),
    label_names: Sequence[str] = (),
    say: Say = print,
) -> OnnxCard:
    """Write a checkpoint as one ONNX file that carries its description and what it loses.

    The float32 graph is first compared with torch on real images (on rendered ones without
    ``records``) and refused if an output differs by more than 0.001. For int8, weights (per
    channel) and activations of convolutions and their sums are quantized, heads stay float32; one
    part of ``records`` calibrates, another measures.

    Args:
        checkpoint: What to export.
        out: The file to write, ``.onnx``; replaced atomically.
        int8: Whether to quantize; needs ``records``.
        records: Images to calibrate with and to measure on.
        label_names: Labels of the images; with them the loss of retrieval is measured.
        say: Called with progress.

    Raises:
        UsageError: ``out`` does not end in .onnx, or int8 without images.
        DataError: Fewer than 2 readable images.
        ModelError: The backbone cannot be exported, or the export computes something else.
    """
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"{out}: name the exported file NAME.onnx")
    if int8 and not records:
        raise UsageError("int8 needs images to calibrate with: give --calibrate SOURCE")
    encoder = checkpoint.encoder.eval()
    calibration, chosen, pixels = _images(encoder, records, say)
    say("exporting")
    proto = to_onnx(encoder)
    _check(proto, encoder, pixels if len(pixels) else _rendered(encoder))
    with tempfile.TemporaryDirectory() as folder:
        if int8:
            say(f"quantizing, calibrated on {len(calibration)} images")
            proto = _quantize(proto, calibration, Path(folder))
        card = _card(checkpoint, "int8" if int8 else "float32", {})
        if len(pixels):
            say(f"measuring on {len(pixels)} images")
            exported = _opened(_with_card(proto, card), Path(folder) / "measured.onnx")
            found = compare_encodings(
                _encode(encoder, pixels), _encode(exported, pixels), chosen, label_names
            )
            card = _card(checkpoint, card.precision, found)
    write_atomic(out, _with_card(proto, card))
    return card


def _images(
    encoder: NeuralEncoder, records: Sequence[Record], say: Say
) -> tuple[ByteArray, list[Record], ByteArray]:
    """Return pixels to calibrate with, and records and pixels to measure on; evenly spread."""
    if not records:
        return np.empty((0,), np.uint8), [], np.empty((0,), np.uint8)
    every = max(1, len(records) // _CALIBRATION_IMAGES)
    first = list(itertools.islice(records, 0, None, every))[:_CALIBRATION_IMAGES]
    used = {record.id for record in first}
    rest = [record for record in records if record.id not in used] or first
    step = -(-len(rest) // _CHECKED_IMAGES)
    _, calibration = _read(encoder, first, say)
    chosen, pixels = _read(encoder, rest[::step], say)
    if len(calibration) < 2 or len(pixels) < 2:
        raise DataError("fewer than 2 images can be read: calibrate with more images")
    return calibration, chosen, pixels


def _read(
    encoder: NeuralEncoder, records: Sequence[Record], say: Say
) -> tuple[list[Record], ByteArray]:
    kept: list[Record] = []
    pixels: list[ByteArray] = []
    for record in records:
        try:
            pixels.append(encoder.prepare(read_image(record.path)))
            kept.append(record)
        except LandcueError as error:
            say(f"skipped {error}")
    return kept, np.stack(pixels) if pixels else np.empty((0,), np.uint8)


def _rendered(encoder: NeuralEncoder) -> ByteArray:
    if encoder.config.in_chans != 3:
        size = (_BATCH, encoder.config.image_size, encoder.config.image_size)
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (*size, encoder.config.in_chans), np.uint8)
    from landcue.demo.scenes import render_chip

    return np.stack([encoder.prepare(render_chip(i, t)[0]) for i, t in enumerate(_CHIPS)])


def _check(proto: Any, encoder: NeuralEncoder, pixels: ByteArray) -> None:
    """Refuse a graph that computes something else than torch in float32."""
    import onnxruntime as ort

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    few = np.ascontiguousarray(pixels[:_BATCH])
    ours = float32_outputs(encoder, torch.from_numpy(few))
    theirs = session.run(None, {INPUT: few})
    names = [output.name for output in session.get_outputs()]
    for name, mine, exported in zip(names, ours, theirs, strict=True):
        gap = float(np.abs(mine.numpy() - exported).max(initial=0))
        if not gap <= _TOLERANCE:
            raise ModelError(
                f"the exported {encoder.config.backbone} differs from torch: {name} by {gap:.3g}, "
                f"more than {_TOLERANCE}; export another backbone"
            )


def _quantize(proto: Any, calibration: ByteArray, folder: Path) -> Any:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Hands the calibration images over, a few at a time."""

        def __init__(self) -> None:
            self._batches: Iterator[ByteArray] = iter(
                [calibration[i : i + _BATCH] for i in range(0, len(calibration), _BATCH)]
            )

        def get_next(self) -> Any:
            """Return the next batch, or ``None``."""
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: np.ascontiguousarray(batch)}

    raw, ready, done = (folder / name for name in ("raw.onnx", "ready.onnx", "int8.onnx"))
    onnx.save(proto, raw)
    quant_pre_process(str(raw), str(ready), skip_symbolic_shape=True)
    with contextlib.redirect_stdout(io.StringIO()):  # the calibrator reports its steps
        quantize_static(
            str(ready),
            str(done),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu", "Clip", "Add", "MaxPool"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": _CALIBRATION_PERCENTILE},
        )
    return onnx.load(done)


def _card(checkpoint: Checkpoint, precision: str, fidelity: dict[str, Any]) -> OnnxCard:
    encoder = checkpoint.encoder
    settings = json.loads(json.dumps(asdict(encoder.config)))  # lists, as when read back
    return OnnxCard(settings, precision, encoder.fingerprint, checkpoint.provenance, fidelity)


def _with_card(proto: Any, card: OnnxCard) -> bytes:
    import onnx

    onnx.helper.set_model_props(proto, {METADATA: card.to_json()})
    return proto.SerializeToString()


def _opened(data: bytes, file: Path) -> OnnxEncoder:
    file.write_bytes(data)
    return OnnxEncoder(file)


def _encode(encoder: NeuralEncoder | OnnxEncoder, pixels: ByteArray) -> Encoding:
    parts = [encoder.encode(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
    return Encoding(
        np.concatenate([part.embedding for part in parts]),
        np.concatenate([part.code for part in parts]),
        encoder.n_bits,
        np.concatenate([part.label_scores for part in parts]),
    )

"""``landcue export``: write an encoder as one ONNX file, in float32 or int8, and check it."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.data.images import read_image
from landcue.errors import DataError, LandcueError, ModelError, UsageError, first_line
from landcue.files import write_atomic
from landcue.models.checkpoint import Checkpoint, load_checkpoint
from landcue.models.encoder import NeuralEncoder
from landcue.models.fidelity import compare_encodings
from landcue.models.load import find_model
from landcue.models.locations import feature_map, locations_of
from landcue.models.onnx import (
    COMPACT,
    FEATURES,
    INPUT,
    LOCATIONS,
    METADATA,
    OUTPUTS,
    SCALE,
    WITH_LOCATIONS,
    OnnxCard,
    OnnxEncoder,
)
from landcue.types import ByteArray, Encoding, Record

_OPSET = 18
_MOST_IMAGES = 4096
_WORTH_PACKING = 3


class _Graph(nn.Module):
    """An encoder with its normalization: what ``NeuralEncoder.encode`` computes, in float32."""

    def __init__(self, encoder: NeuralEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor, with_locations: Tensor | None = None) -> tuple[Tensor, ...]:
        encoder = self.encoder
        x = encoder.normalize(pixels.permute(0, 3, 1, 2))
        out = encoder(x)
        searched = out.embedding
        if encoder.config.retrieval == "features":
            searched = F.normalize(out.features, dim=1)
        outputs = searched, out.hash, encoder.label_scores(out.logits)
        if with_locations is None:
            return outputs

        def asked(maps: Tensor) -> Tensor:
            return locations_of(encoder, maps)

        def not_asked(maps: Tensor) -> Tensor:
            return maps.new_zeros(len(maps), *maps.shape[2:], encoder.config.dim)

        # The runtime computes all outputs, also those that are not fetched.
        found = torch.cond(with_locations, asked, not_asked, (feature_map(encoder, x),))
        return *outputs, found, out.features


def to_onnx(encoder: NeuralEncoder, *, locations: bool = False) -> Any:
    """Return the encoder as an ``onnx.ModelProto`` for any number of images.

    With ``locations`` there are two more outputs. One is for :func:`.locations.similar_regions`,
    float32 ``[n, h, w, d]``, and its mean points where the embedding does: for average pooling and
    a linear projection only. It is zero unless the input ``with_locations`` is true; that one may
    be left out. The other is the pooled ``features`` ``[n, F]``, to adapt the encoder.

    Input: ``pixels``, uint8 ``[n, s, s, bands]``, prepared images. Outputs: ``embedding`` float32
    ``[n, d]``, unit norm; ``hash`` ``[n, K]`` in (-1, 1), whose sign is the code; ``label_scores``
    ``[n, C]``.
    """
    inputs = {INPUT: torch.zeros(2, *_image_shape(encoder), dtype=torch.uint8)}
    shapes: dict[str, Any] = {INPUT: {0: torch.export.Dim("n", min=1, max=_MOST_IMAGES)}}
    if locations:
        inputs[WITH_LOCATIONS], shapes[WITH_LOCATIONS] = torch.tensor(False), None
    chatter = io.StringIO()  # the exporter reports each of its steps
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(chatter),
            contextlib.redirect_stderr(chatter),
            torch.no_grad(),  # with gradients, strided convolutions are computed densely
        ):
            program = torch.onnx.export(
                _Graph(encoder).eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=[*OUTPUTS, *([LOCATIONS, FEATURES] if locations else [])],
                dynamic_shapes=shapes,
                opset_version=_OPSET,
                dynamo=True,
            )
    except Exception as error:  # the exporter raises whatever its stages raise
        raise ModelError(
            f"backbone {encoder.config.backbone} cannot be exported to ONNX: {first_line(error)}"
        ) from error
    finally:
        log.setLevel(level)
    if program is None:
        raise ModelError(f"backbone {encoder.config.backbone} cannot be exported to ONNX")
    proto = program.model_proto
    if locations:
        from onnx import numpy_helper

        default = numpy_helper.from_array(np.array(False), WITH_LOCATIONS)
        proto.graph.initializer.append(default)
    return proto


def float32_outputs(encoder: NeuralEncoder, pixels: Tensor) -> tuple[Tensor, ...]:
    """Return what torch computes in float32 for prepared uint8 images ``[n, s, s, 3]``."""
    with torch.inference_mode():
        return _Graph(encoder).eval()(pixels)


def _image_shape(encoder: NeuralEncoder) -> tuple[int, int, int]:
    config = encoder.config
    return config.image_size, config.image_size, config.in_chans


_TOLERANCE = 1e-3
_CALIBRATION_PERCENTILE = 99.9
"""Of the activations of a tensor: a range that holds the outliers too would coarsen all others."""
_CHECKED_IMAGES = 2048
_BATCH = 32
_CHIPS = ("harbor", "city", "forest", "farmland")

Message = Callable[[str], object]


def export_onnx(
    model: str | Path | Checkpoint,
    out: str | Path,
    *,
    int8: bool = False,
    records: Sequence[Record] = (),
    label_names: Sequence[str] = (),
    calibration_images: int = 128,
    message: Message = print,
) -> OnnxCard:
    """Write a trained model as one ONNX file that carries its description and what it loses.

    >>> export_onnx("runs/marc", "marc.onnx").precision                        # doctest: +SKIP
    'float32'

    The float32 graph is first compared with torch on real images (on rendered ones without
    ``records``) and refused if an output differs by more than 0.001. For int8, weights (per
    channel) and activations of convolutions and their sums are quantized, heads stay float32; one
    part of ``records`` calibrates, another measures.

    Args:
        model: Folder of a run, or the checkpoint itself.
        out: The file to write, ``.onnx``; replaced atomically.
        int8: Whether to quantize; needs ``records``.
        records: Images to calibrate with and to measure on.
        label_names: Labels of the images; with them the loss of retrieval is measured.
        calibration_images: Most images to calibrate with.
        message: Called with one line per step.

    Raises:
        UsageError: ``out`` does not end in .onnx, or int8 without images.
        DataError: Fewer than 2 readable images.
        ModelError: There is no such model, it cannot be exported, or the export computes something
            else.
    """
    out = Path(out)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"{out}: name the exported file NAME.onnx")
    if int8 and not records:
        raise UsageError("int8 needs images to calibrate with: use --calibrate SOURCE")
    checkpoint = model if isinstance(model, Checkpoint) else load_checkpoint(find_model(model))
    encoder = checkpoint.encoder.eval()
    calibration, chosen, pixels = _images(encoder, records, calibration_images, message)
    message("exporting")
    proto = to_onnx(encoder)
    _check(proto, encoder, pixels if len(pixels) else _rendered(encoder))
    with tempfile.TemporaryDirectory() as folder:
        if int8:
            message(f"quantizing, calibrated on {len(calibration)} images")
            proto = _quantize(proto, calibration, Path(folder))
        card = _card(checkpoint, "int8" if int8 else "float32", {})
        if len(pixels):
            message(f"measuring on {len(pixels)} images")
            exported = _opened(_with_card(proto, card), Path(folder) / "measured.onnx")
            found = compare_encodings(
                _encode(encoder, pixels), _encode(exported, pixels), chosen, label_names
            )
            card = _card(checkpoint, card.precision, found)
    write_atomic(out, _with_card(proto, card))
    return card


def _images(
    encoder: NeuralEncoder, records: Sequence[Record], calibration_images: int, message: Message
) -> tuple[ByteArray, list[Record], ByteArray]:
    """Return pixels to calibrate with, and records and pixels to measure on; evenly spread."""
    if not records:
        return np.empty((0,), np.uint8), [], np.empty((0,), np.uint8)
    every = max(1, len(records) // calibration_images)
    first = list(itertools.islice(records, 0, None, every))[:calibration_images]
    used = {record.id for record in first}
    rest = [record for record in records if record.id not in used] or first
    step = -(-len(rest) // _CHECKED_IMAGES)
    _, calibration = _read(encoder, first, message)
    chosen, pixels = _read(encoder, rest[::step], message)
    if len(calibration) < 2 or len(pixels) < 2:
        raise DataError("fewer than 2 images can be read: calibrate with more images")
    return calibration, chosen, pixels


def _read(
    encoder: NeuralEncoder, records: Sequence[Record], message: Message
) -> tuple[list[Record], ByteArray]:
    kept: list[Record] = []
    pixels: list[ByteArray] = []
    for record in records:
        try:
            pixels.append(encoder.prepare(read_image(record.path)))
            kept.append(record)
        except LandcueError as error:
            message(f"skipped {error}")
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

    quiet = ort.SessionOptions()
    quiet.log_severity_level = 3  # it warns about inputs that may be left out
    session = ort.InferenceSession(
        proto.SerializeToString(), quiet, providers=["CPUExecutionProvider"]
    )
    few = np.ascontiguousarray(pixels[:_BATCH])
    ours = float32_outputs(encoder, torch.from_numpy(few))
    names = list(OUTPUTS)
    theirs = session.run(names, {INPUT: few})
    for name, mine, exported in zip(names, ours, theirs, strict=True):
        gap = float(np.abs(mine.numpy() - exported).max(initial=0))
        if not gap <= _TOLERANCE:
            raise ModelError(
                f"the exported {encoder.config.backbone} differs from torch: {name} by {gap:.3g}, "
                f"more than {_TOLERANCE}; export another backbone"
            )


def write_compact(checkpoint: Checkpoint, out: Path, fidelity: dict[str, Any]) -> OnnxCard:
    """Write a checkpoint whose weights fit 8 bits, with the outputs for regions and adaptation.

    Args:
        checkpoint: What to export: average pooling, a linear projection, and weights as
            :func:`round_weights` leaves them.
        out: The file to write, ``.onnx``; replaced atomically.
        fidelity: What was measured, for the card.
    """
    proto = compact_weights(to_onnx(checkpoint.encoder.eval(), locations=True))
    _check(proto, checkpoint.encoder, _rendered(checkpoint.encoder))
    card = _card(checkpoint, COMPACT, fidelity)
    write_atomic(out, _with_card(proto, card))
    return card


def round_weights(encoder: NeuralEncoder) -> None:
    """Round weights in place to 255 levels per output channel, and biases to 16 bits."""
    state = encoder.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel() >= _WORTH_PACKING:
            levels, scale = _levels(tensor) if tensor.ndim > 1 else (tensor.half(), None)
            state[name] = levels.float() if scale is None else levels.float() * scale
    encoder.load_state_dict(state)


def _levels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 and the float32 scale ``[c, 1, ...]`` of each output channel."""
    largest = weight.abs().amax(tuple(range(1, weight.ndim)), keepdim=True)
    scale = largest.clamp_min(1e-12) / 127
    return (weight / scale).round().to(torch.int8), scale


def compact_weights(proto: Any) -> Any:
    """Store weights as int8 with a scale per output channel, biases as float16.

    All is computed in float32: the runtime restores the weights when it opens the file. Nothing is
    lost where they were rounded before by :func:`round_weights`.
    """
    import onnx
    from onnx import numpy_helper

    graph, nodes = proto.graph, []
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < _WORTH_PACKING:
            continue
        name, full = tensor.name, f"{tensor.name}.float32"
        for node in _all_nodes(graph):
            for i, source in enumerate(node.input):
                if source == name:
                    node.input[i] = full
        value = numpy_helper.to_array(tensor)
        if value.ndim == 1:
            tensor.CopyFrom(numpy_helper.from_array(value.astype("f2"), name))
            nodes.append(onnx.helper.make_node("Cast", [name], [full], to=onnx.TensorProto.FLOAT))
            continue
        levels, scale = (part.numpy() for part in _levels(torch.from_numpy(value.copy())))
        tensor.CopyFrom(numpy_helper.from_array(levels, name))
        graph.initializer.append(numpy_helper.from_array(scale, name + SCALE))
        wide = f"{name}.wide"
        nodes.append(onnx.helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.FLOAT))
        nodes.append(onnx.helper.make_node("Mul", [wide, name + SCALE], [full]))
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.checker.check_model(proto)
    return proto


def _all_nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the branches in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


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
        """Hands the calibration images over, a few at a time.

        All batches have one size: the calibrator stacks what it collects.
        """

        def __init__(self) -> None:
            count = len(calibration)
            size = max(n for n in range(1, min(count, _BATCH) + 1) if count % n == 0)
            self._batches: Iterator[ByteArray] = iter(
                [calibration[i : i + size] for i in range(0, count, size)]
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

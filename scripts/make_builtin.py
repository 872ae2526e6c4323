"""Train the encoder that comes with LandCue and store it in the package as ONNX.

    python scripts/make_builtin.py --data-root DATA/uc_merced \
        --init DATA/weights/mobilenet_v2_1.0_224_imagenet_folded.npz --out runs/builtin

Settings: ``scripts/builtin.yaml``. The same command resumes after a crash. ``--from RUN-half``
stores a model trained before. The test part is measured with the stored file, and with torch in
float32 to tell what the export loses.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landcue import __version__
from landcue.cli.console import Reporter
from landcue.codes import pack_bits
from landcue.data.datasets import detect_source
from landcue.data.images import read_image
from landcue.data.splits import apply_split
from landcue.files import write_atomic
from landcue.models.checkpoint import Checkpoint, load_checkpoint, model_card, save_checkpoint
from landcue.models.export import float32_outputs, write_half
from landcue.models.fidelity import compare_encodings
from landcue.models.load import BUILTIN, EXPORTED, find_model
from landcue.models.onnx import OnnxEncoder
from landcue.training.config import make_config, read_values, save_config
from landcue.training.loop import train
from landcue.types import Encoding

_MOST_BYTES = 8_000_000
_BATCH = 32


def float_encoding(made: Checkpoint, pixels: Any) -> Encoding:
    """Encode with torch in float32: what the stored file is compared with."""
    parts = [
        float32_outputs(made.encoder, torch.from_numpy(pixels[i : i + _BATCH]))
        for i in range(0, len(pixels), _BATCH)
    ]
    embedding, hashed, scores = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Encoding(embedding, pack_bits(hashed > 0), made.encoder.n_bits, scores)


def store(made: Checkpoint, data_root: Path, folder: Path) -> None:
    """Write the model file and its card; both say what was lost on the test part."""
    images = apply_split(detect_source(data_root), made.provenance["split"])
    records = [record for record in images.records if record.part == "test"]
    pixels = np.stack([made.encoder.prepare(read_image(record.path)) for record in records])
    file = folder / EXPORTED
    write_half(made, file, {})
    exported = OnnxEncoder(file)
    found = compare_encodings(
        float_encoding(made, pixels), exported.encode(pixels), records, images.label_names
    )
    write_half(made, file, found)
    size = file.stat().st_size
    if size >= _MOST_BYTES:
        raise SystemExit(f"{file} has {size:,} bytes, limit {_MOST_BYTES:,}")
    stored = OnnxEncoder(file)
    config = {
        "format": 1,
        "landcue": __version__,
        "fingerprint": stored.fingerprint,
        "model": stored.card.model,
        "provenance": made.provenance,
    }
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_atomic(folder / "README.md", card(config, made, found))
    print(f"{file}: {size:,} bytes, {found}")


def card(config: dict[str, Any], made: Checkpoint, found: dict[str, Any]) -> str:
    """Render the card, with what the export loses."""
    count = sum(tensor.numel() for tensor in made.encoder.state_dict().values())
    lines = [
        "",
        "## What the stored file loses",
        "",
        f"Weights are stored in 16 bits and computed with in 32 by ONNX Runtime. Beside torch in "
        f"float32, on the {found['images']} images of the test part: least cosine of two "
        f"embeddings {found['cosine']['least']:.6f}, bits that differ {found['flipped_bits']:.4%}, "
        f"recall@20 {found['recall@20']:.4f}.",
        "",
        "| space | nDCG@100, torch float32 | nDCG@100, stored file | lost |",
        "| --- | --- | --- | --- |",
    ]
    for space, values in found["retrieval"].items():
        lines.append(
            f"| {space} | {values['original']:.4f} | {values['exported']:.4f} | "
            f"{values['loss']:.3%} |"
        )
    return model_card(config, count) + "\n".join(lines) + "\n"


def main() -> None:
    """Train, round to half precision, export, measure, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="UC Merced's folder")
    parser.add_argument("--init", type=Path, help="folded MobileNetV2 weights")
    parser.add_argument("--out", type=Path, default=Path("runs/builtin"), help="run folder")
    parser.add_argument("--from", dest="made", type=Path, help="a trained, rounded checkpoint")
    args = parser.parse_args()
    half = args.made
    if half is None:
        if args.init is None:
            parser.error("give --init to train, or --from to store a trained model")
        values = read_values(Path(__file__).with_name("builtin.yaml"))
        values["data"]["root"] = str(args.data_root.resolve())
        values["model"]["init"] = str(args.init.resolve())
        half = args.out.with_name(args.out.name + "-half")
        with Reporter() as reporter:
            train(
                make_config(values), args.out, message=reporter.message, progress=reporter.progress
            )
        made = load_checkpoint(args.out)
        provenance = made.provenance | {
            "made_by": "scripts/make_builtin.py with scripts/builtin.yaml",
            "initial_weights": args.init.name,
        }
        save_checkpoint(half, made.encoder, provenance, half=True)
        save_config(make_config(values), half / "config.yaml")
    store(load_checkpoint(half), args.data_root, find_model(BUILTIN))


if __name__ == "__main__":
    main()

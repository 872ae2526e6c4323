"""Train the encoder that comes with LandCue and store it in the package.

    python scripts/make_builtin.py --data-root DATA/uc_merced \
        --init DATA/weights/mobilenet_v2_1.0_224_imagenet_folded.npz --out runs/builtin

Settings: ``scripts/builtin.yaml``. The same command resumes after a crash, and does nothing once
the model is stored: the test part is measured once, with the rounded weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from landcue.cli.console import Reporter
from landcue.models.builtin import BUILTIN, find_model
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.training.config import make_config, read_values, save_config
from landcue.training.evaluation import study_run
from landcue.training.loop import train

_SHOWN = ("nDCG@100", "WAP@100", "mAP", "mAP@20")
_MOST_BYTES = 8_000_000


def fingerprint_of(folder: Path) -> str | None:
    """Return the fingerprint of a stored model, if there is one."""
    return load_checkpoint(folder).encoder.fingerprint if folder.is_dir() else None


def main() -> None:
    """Train, store in half precision, measure on the test part, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="UC Merced's folder")
    parser.add_argument("--init", type=Path, required=True, help="folded MobileNetV2 weights")
    parser.add_argument("--out", type=Path, required=True, help="run folder")
    args = parser.parse_args()
    values = read_values(Path(__file__).with_name("builtin.yaml"))
    values["data"]["root"] = str(args.data_root.resolve())
    values["model"]["init"] = str(args.init.resolve())
    half = args.out.with_name(args.out.name + "-half")
    with Reporter() as reporter:
        train(make_config(values), args.out, message=reporter.say, progress=reporter.tick)
        made = load_checkpoint(args.out)
        save_checkpoint(half, made.encoder, made.provenance, half=True)
        save_config(make_config(values), half / "config.yaml")
        size = (half / "model.safetensors").stat().st_size
        if size >= _MOST_BYTES:
            raise SystemExit(f"{half} has {size:,} bytes of weights, limit {_MOST_BYTES:,}")
        if fingerprint_of(find_model(BUILTIN)) == fingerprint_of(half):
            raise SystemExit(f"{half} is the built-in encoder already; nothing to do")
        found = study_run(half, resamples=0, message=reporter.say, progress=reporter.tick)
    counts = found.scores["embedding"].counts
    about = (
        f"{counts['n_query']} images of split {found.about['split']}, leave-one-out, protocol "
        f"{found.scores['embedding'].protocol.name}; not seen in training, measured once"
    )
    spaces = {
        name: {metric: scores.metrics[metric] for metric in _SHOWN}
        for name, scores in found.scores.items()
    }
    spaces["chance"] = {m: found.scores["embedding"].chance[m] for m in _SHOWN}
    made = load_checkpoint(half)
    provenance = made.provenance | {
        "made_by": "scripts/make_builtin.py with scripts/builtin.yaml",
        "initial_weights": args.init.name,
        "test": {"about": about, "spaces": spaces},
    }
    folder = find_model(BUILTIN)
    mark = save_checkpoint(folder, made.encoder, provenance, half=True)
    print(f"{folder}: {size:,} bytes, model {mark[:12]}")


if __name__ == "__main__":
    main()

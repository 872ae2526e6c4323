"""The model card a checkpoint carries, written by code from what was recorded."""

from __future__ import annotations

from typing import Any

_NOT_RECORDED = "not recorded"


def model_card(config: dict[str, Any], n_parameters: int) -> str:
    """Render the card of a checkpoint's ``config.json``.

    Args:
        config: The content of ``config.json``.
        n_parameters: Number of weights.
    """
    model: dict[str, Any] = config["model"]
    made: dict[str, Any] = config["provenance"]
    labels = ", ".join(model["label_names"]) or "none"
    lines = [
        "# LandCue encoder",
        "",
        f"- Fingerprint: `{config['fingerprint']}`",
        f"- Backbone: `{model['backbone']}`, `{model['pooling']}` pooling, "
        f"{n_parameters:,} parameters with its heads",
        f"- Input: RGB, resized to {model['image_size']} x {model['image_size']} pixels",
        f"- Searched space: {model['retrieval']} ({model['projection']} projection, "
        f"{model['dim']} dimensions)",
        f"- Hash code: {model['n_bits']} bits",
        f"- Labels: {labels}",
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


def _test_scores(test: dict[str, Any]) -> list[str]:
    """Render ``about`` (one line) and ``spaces`` (metrics and chance by space)."""
    spaces: dict[str, dict[str, float]] = test["spaces"]
    names = list(next(iter(spaces.values())))
    lines = ["", "## Scores on the test part", "", str(test["about"]), ""]
    lines += ["| space | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for space, values in spaces.items():
        lines.append(f"| {space} | " + " | ".join(f"{values[name]:.4f}" for name in names) + " |")
    return lines

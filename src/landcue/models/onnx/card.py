"""An exported model's card in words."""

from __future__ import annotations

from typing import Any

from landcue.models.onnx.runtime import OnnxCard


def describe(card: OnnxCard) -> str:
    """Return what an exported model is and what it loses, one fact per line."""
    model, found = card.model, card.fidelity
    lines = [
        f"exported from {card.source[:12]} in {card.precision}",
        f"{model['backbone']}, {model['image_size']} px, {model['dim']} dimensions, "
        f"{model['n_bits']} bits, {len(model['label_names'])} labels",
    ]
    if not found:
        return "\n".join([*lines, "checked against torch on rendered images only"])
    cosine = found["cosine"]
    lines.append(
        f"beside the original on {found['images']} images: cosine {cosine['mean']:.4f} "
        f"(least {cosine['least']:.4f}), recall@20 {found['recall@20']:.3f}"
    )
    if "flipped_bits" in found:
        lines.append(f"bits that differ: {found['flipped_bits']:.2%}")
    spaces: dict[str, dict[str, float]] = found.get("retrieval", {})
    for space, values in spaces.items():
        lines.append(
            f"nDCG@100 of the {space}: {values['original']:.4f}, exported "
            f"{values['exported']:.4f}, {_loss(values)}"
        )
    return "\n".join(lines)


def _loss(values: dict[str, Any]) -> str:
    share = values["loss"]
    return f"{share:.2%} lost" if share >= 0 else f"{-share:.2%} gained"

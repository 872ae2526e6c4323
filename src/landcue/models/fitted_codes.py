"""An own encoder whose codes, and for the built-in its embeddings, were fitted to an archive.

Codes that were learned with an encoder do not hold on images of other kinds as its embedding does,
and some encoders have none. :func:`fit_codes` fits iterative quantization to the embeddings of a
sample of the images that are searched; :class:`FittedCodes` is the encoder with those codes. With
``centered`` it also turns and stretches the embeddings so that the directions are damped in which
nearest neighbors differ. That can be undone, so that archives of one encoder stay comparable
(:meth:`landcue.models.Space.invert`). Label scores stay what they are. In a model folder all that
is one small file beside the encoder's own.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landcue.codes.hashers import itq_rotation
from landcue.codes.packing import pack_bits
from landcue.errors import ModelError, UsageError
from landcue.files import write_atomic
from landcue.models.fitting import (
    BITS,
    DAMPED_BY,
    LEAST_NEIGHBORS,
    RECALL,
    damping,
    principal,
    recall_of_codes,
    shortlist_of,
)
from landcue.models.probe import Matrix, fit_probe
from landcue.models.space import Space, describe_space, unit_rows
from landcue.types import ByteArray, Encoding, Images

if TYPE_CHECKING:
    from landcue.models.load import Model

CODES = "codes.safetensors"
"""Name of their file in a model folder."""
LEAST_IMAGES = 128
"""Images below which an encoder's own codes are not compared with fitted ones."""


class FittedCodes:
    """Implements :class:`landcue.types.Encoder`; whatever else the encoder has is its own.

    Attributes:
        base: The encoder.
        space: Maps the encoder's embeddings to those of the archive (or keeps them, with ``dim``
            0), to bits and, where the encoder has no labels, to logits of labels.
        path: The folder that it was loaded from; empty if it was not saved.
        fitted_from: Fingerprint of the encoder, if its embeddings are not those of the archive.
    """

    def __init__(self, base: Model, space: Space, path: Path | None = None) -> None:
        """Take an encoder and what was fitted to its embeddings."""
        fits = space.n_features == base.dim and space.dim in (0, base.dim)
        if not fits or (space.label_names and base.label_names):
            raise ModelError(f"{CODES} was not fitted to this encoder; restore the model's folder")
        self.base, self.space = base, space
        self.path = path or Path()
        self.n_bits = space.n_bits
        self.label_names = base.label_names or space.label_names
        self.fingerprint = hashlib.sha256(
            f"{base.fingerprint} {space.fingerprint}".encode()
        ).hexdigest()
        self.fitted_from = base.fingerprint if space.dim else ""
        self.dim, self.in_chans, self.image_size = base.dim, base.in_chans, base.image_size
        self.on_cpu, self.unfinished = base.on_cpu, base.unfinished
        self.provenance: dict[str, Any] = {**base.provenance, "fitted": dict(space.facts)}

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the encoder."""
        if name == "base":  # not yet set
            raise AttributeError(name)
        return getattr(self.base, name)

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize one decoded image, uint8 ``[h, w, C]``, to ``[s, s, C]``."""
        return self.base.prepare(image)

    def encode(self, images: Images) -> Encoding:
        """Encode image files, Pillow images or uint8 arrays ``[h, w, C]`` of any sizes.

        Raises:
            LandcueError: As the encoder.
        """
        return self.recode(self.base.encode(images))

    def recode(self, encoding: Encoding) -> Encoding:
        """Replace what was fitted, and absent label scores, of what the encoder returned."""
        found = self.space.encode(encoding.embedding)
        scores = encoding.label_scores if self.base.label_names else found.label_scores
        embedding = found.embedding if self.space.dim else encoding.embedding
        return Encoding(embedding, found.code, self.n_bits, scores, model=self.fingerprint)

    def save(self, folder: Path) -> None:
        """Write a model folder that :func:`landcue.load_model` reads."""
        copy_without_codes(self.base.path, folder)
        write_atomic(folder / CODES, self.space.to_bytes())


def copy_without_codes(source: Path, folder: Path) -> None:
    """Copy an encoder's files into a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copyfile(source, folder / "model.onnx")
            return
        for name in ("config.json", "model.safetensors", "README.md", "model.onnx"):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    except OSError as error:
        raise ModelError(f"cannot write {folder}: {error.strerror}; free space") from None


def with_codes(base: Model, folder: Path) -> Model:
    """Return an encoder with the codes that were fitted for a folder, if it holds any."""
    file = folder / CODES
    if not file.is_file():
        return base
    space = Space.from_bytes(file.read_bytes(), str(file))
    return FittedCodes(base, space, folder)


def fit_codes(
    encoding: Encoding,
    n_bits: int | None = None,
    *,
    centered: int | None = None,
    labels: npt.NDArray[Any] | None = None,
    label_names: Sequence[str] = (),
    seed: int = 0,
) -> Space | None:
    """Fit codes to the embeddings of a sample; ``None`` if the encoder's own are not worse.

    Bits are signs of the principal components after iterative quantization (Gong and Lazebnik, CVPR
    2011). Recall is that of codes fitted to one half of the sample, measured on the other half.

    Args:
        encoding: What the encoder returns of m images.
        n_bits: Bits of a code, 0 for none. By default as many as the encoder has, which then keeps
            its own if the sample has fewer than 128 images or if their recall is as high; without
            own codes the fewest of 64, 128 and 256 whose recall reaches 0.95.
        centered: Also fit the embeddings, if there are 256 images or more: damp the directions in
            which nearest neighbors differ, and center the first so many values. The others keep
            their mean, or as much of it as can be undone, and both parts get half of the squared
            length.
        labels: For an encoder without labels: truth ``[m, C]``, NaN where an image is not
            annotated; see :func:`landcue.models.fit_space`.
        label_names: Names of the C labels.
        seed: Of the halves and of the first rotation.
    """
    x = encoding.embedding.astype(np.float64)
    m, width = x.shape
    if n_bits is not None and not 0 <= n_bits <= width:
        raise UsageError(f"--bits {n_bits}: the model's embedding allows 0 to {width} bits")
    fitted = None if centered is None or m < LEAST_NEIGHBORS else _damped(x, centered)
    turn, shift = (np.eye(width), np.zeros(width)) if fitted is None else fitted
    y = x @ turn + shift
    keeps = n_bits is None and encoding.n_bits > 0
    if keeps and m < LEAST_IMAGES:
        return None
    facts: dict[str, Any] = {"images": m, "features": width, "seed": seed, "codes": {}}
    if fitted is not None:
        facts["neighbors"] = DAMPED_BY
    chosen = n_bits
    if n_bits != 0:
        order = np.random.default_rng(seed).permutation(m)
        fit, kept = order[::2], order[1::2]
        known = unit_rows(y[kept])
        recall: dict[str, float] = {}
        codes_facts: dict[str, Any] = {
            "images": len(kept),
            "shortlist": shortlist_of(len(kept)),
            "recall": recall,
        }
        facts["codes"] = codes_facts
        sizes = tuple(bits for bits in BITS if bits <= width) or (width,)
        for bits in (n_bits or encoding.n_bits,) if n_bits or keeps else sizes:
            weight, bias = _quantized(y[fit], bits, seed)
            codes = pack_bits(y[kept] @ weight + bias > 0)
            recall[str(bits)] = round(recall_of_codes(known, codes), 4)
            chosen = bits
            if recall[str(bits)] >= RECALL:
                break
        if encoding.n_bits:
            own = round(recall_of_codes(known, encoding.code[kept]), 4)
            codes_facts["own"] = {"bits": encoding.n_bits, "recall": own}
            if keeps and fitted is None and own >= recall[str(chosen)]:
                return None
    weight, bias = _quantized(y, chosen or 0, seed)
    maps, biases = [turn @ weight], [shift @ weight + bias]
    if fitted is not None:
        maps, biases = [turn, *maps], [shift, *biases]
    names: tuple[str, ...] = ()
    if labels is not None:
        try:
            probe = fit_probe(x, labels, label_names)
        except UsageError as error:  # codes alone are useful, too
            facts["no_labels"] = str(error)
        else:
            maps, biases = [*maps, probe.weight], [*biases, probe.bias]
            names, facts["probe"] = probe.names, probe.facts
    return Space(
        np.hstack(maps).astype(np.float32),
        np.concatenate(biases).astype(np.float32),
        0 if fitted is None else width,
        chosen or 0,
        names,
        facts=facts,
    )


def _damped(x: Matrix, centered: int) -> tuple[Matrix, Matrix] | None:
    """Return weight ``[d, d]`` and bias ``[d]`` of the embeddings of an archive; see fit_codes."""
    mean = x.mean(axis=0)
    weight = damping(x - mean)
    if weight is None:
        return None
    first = np.arange(len(mean)) < centered
    kept = np.where(first, 0, mean)
    # A unit vector can be computed from its embedding if what is added to it is shorter than 1.
    limit = max(0.999, (1 + np.linalg.norm(mean)) / 2)
    while np.linalg.norm(np.linalg.solve(weight, kept) - mean) > limit:  # weight is symmetric
        kept = kept / 2
    squares = np.square((x - mean) @ weight + kept).mean(axis=0)
    if 0 < centered < len(mean):  # each part half of the squared length
        scale = np.where(first, squares[first].sum(), squares[~first].sum()) ** -0.5
        weight, kept = weight * scale, kept * scale
    return weight, kept - mean @ weight


def _quantized(x: Matrix, n_bits: int, seed: int) -> tuple[Matrix, Matrix]:
    """Return weight ``[d, n_bits]`` and bias ``[n_bits]`` whose signs are the bits."""
    if not n_bits:
        return np.empty((x.shape[1], 0)), np.empty(0)
    axes, mean = principal(x)
    rotation, _ = itq_rotation((x - mean) @ axes[:, :n_bits], seed)
    weight = axes[:, :n_bits] @ rotation
    return weight, -mean @ weight


def describe_codes(encoder: Model, images: int | None = None) -> str:
    """Return one line about an encoder's codes: fitted, or its own.

    Args:
        encoder: It.
        images: Of the sample that codes could have been fitted to.
    """
    if isinstance(encoder, FittedCodes):
        facts = encoder.space.facts
        line = "codes " + describe_space(encoder.space).replace("0 dimensions, ", "")
        if own := facts.get("codes", {}).get("own"):
            line += f"; the encoder's own {own['bits']} bits: {own['recall']:.3f}"
        return line + (f"; {facts['no_labels']}" if "no_labels" in facts else "")
    if not encoder.n_bits:
        return "no codes"
    line = f"the encoder's own codes, {encoder.n_bits} bits"
    if images is None:
        return line
    if images < LEAST_IMAGES:
        return f"{line}: {LEAST_IMAGES} images or more are needed to fit codes to them"
    return f"{line}: codes fitted to {images} images have no higher recall"

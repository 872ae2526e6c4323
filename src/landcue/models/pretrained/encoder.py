"""A pretrained encoder and the space that was fitted to its features.

A :class:`Tower` turns prepared images into features; each library has one, in a file of its own.
:class:`PretrainedEncoder` maps the features to embeddings, codes and label scores, and is what
archives see. Its folder holds ``config.json``, ``space.safetensors`` and the tower's own files
below ``tower/``, all that is needed offline.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import logging
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from landcue import __version__
from landcue.errors import ModelError, UsageError, explain_missing, first_line, missing_extra
from landcue.files import read_json, write_atomic
from landcue.models.resize import AT_ONCE, as_pixels
from landcue.models.space import Space, describe_space, identity_space, unit_rows
from landcue.types import ByteArray, Encoding, FloatArray, Images

CONFIG, SPACE, TOWER = "config.json", "space.safetensors", "tower"
KIND = "pretrained"
FORMAT = 1
ADAPTERS = {
    "timm": "landcue.models.pretrained.timm_models",
    "open_clip": "landcue.models.pretrained.open_clip_models",
    "hf": "landcue.models.pretrained.hf_models",
    "torchgeo": "landcue.models.pretrained.torchgeo_models",
    "onnx": "landcue.models.pretrained.onnx_file",
    "landcue": "landcue.models.pretrained.own_models",
}
"""The module of each kind: ``open_tower(name, device, threads)`` opens what a user named,
``restore_tower(settings, folder, device, threads)`` what :meth:`Tower.save` wrote."""
NOTICE_AFTER = 3.0
"""Seconds of loading after which a line says what is waited for."""
_HINT = "restore it from a copy of the model"


class Tower(Protocol):
    """Turns prepared images, and for some models texts, into features."""

    @property
    def name(self) -> str:
        """What it is, without folders of this machine: ``timm:resnet18``."""
        ...

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared image."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of an image, in order."""
        ...

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The stored values that bytes 0 and 255 stand for; ``None``: of any image."""
        ...

    @property
    def n_features(self) -> int:
        """Length F of the features."""
        ...

    @property
    def has_text(self) -> bool:
        """Whether texts can be encoded."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over weights and preprocessing."""
        ...

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU's cores."""
        ...

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize and crop one image uint8 ``[h, w, C]`` as the library does, ``[s, s, C]``."""
        ...

    def features(self, pixels: ByteArray) -> FloatArray:
        """Return features float32 ``[n, F]`` of prepared images uint8 ``[n, s, s, C]``."""
        ...

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Return features float32 ``[n, F]`` of texts."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write all files that it needs; return settings as JSON values."""
        ...


PROMPTS = (
    "{}",
    "a satellite image of {}.",
    "an aerial photograph of {}.",
    "a satellite photo with {} in it.",
    "an overhead view of {}.",
    "a remote sensing image of {}.",
    "a top-down view of {} from above.",
)
"""The features of a query are averaged over these."""

VOCABULARY = (
    *("water", "a river", "a lake", "the sea", "a beach", "a harbor with boats", "a ship"),
    *("an airport", "an airplane", "a runway", "a road", "an intersection", "a bridge"),
    *("a railway station", "a parking lot with cars", "buildings", "a dense residential area"),
    *("a sparse residential area", "an industrial area", "storage tanks", "a power plant"),
    *("a school", "a church", "a stadium", "a tennis court", "a golf course", "a park"),
    *("trees", "a forest", "grassland", "farmland", "a circular field", "a greenhouse"),
    *("bare soil", "a desert", "mountains", "rocks", "snow and ice", "clouds", "a wetland"),
    *("a construction site", "a mine", "solar panels", "wind turbines", "a village"),
)
"""The mean of their features is subtracted from that of a query, as images are centered too."""


class PretrainedEncoder:
    """A tower and a space; implements :class:`landcue.types.Encoder`.

    Without a fitted space the embedding is the tower's features, scaled to length 1, and there are
    neither codes nor labels.

    Attributes:
        tower: Turns pixels and texts into features.
        space: Maps features to all that is searched.
        path: The folder that it was loaded from; empty if it was not saved.
        fingerprint: SHA-256 (hex) over weights, preprocessing and space.
        provenance: How the space was fitted.
        has_text: Whether texts can be queries.
        text_weight: Weight of a text beside images, so that both spread the records equally.
        fitted_from: Fingerprint of the tower, if embeddings are in a space that was fitted to an
            archive.
    """

    unfinished = False

    def __init__(self, tower: Tower, space: Space | None = None) -> None:
        """Take a tower and what was fitted to its features."""
        self.tower = tower
        self.fitted = space is not None
        self.space = space or identity_space(tower.n_features, text=tower.has_text)
        if self.space.n_features != tower.n_features:
            raise ModelError(
                f"{tower.name} returns {tower.n_features} features, its space maps "
                f"{self.space.n_features}; use the model that the space was fitted for"
            )
        self.path = Path()
        self.provenance: dict[str, Any] = {"encoder": tower.name, "space": dict(self.space.facts)}
        space = self.space
        self.dim, self.n_bits, self.label_names = space.dim, space.n_bits, space.label_names
        self.image_size, self.in_chans = tower.image_size, len(tower.bands)
        self.on_cpu, self.has_text = tower.on_cpu, tower.has_text and space.text_bias is not None
        self.text_weight = float(space.facts.get("text", {}).get("weight", 1.0))
        self.fingerprint = tower.fingerprint
        if self.fitted:
            both = f"{tower.fingerprint} {space.fingerprint}"
            self.fingerprint = hashlib.sha256(both.encode()).hexdigest()
        to_archive = self.fitted and "adapted" not in space.facts
        self.fitted_from = tower.fingerprint if to_archive else ""

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize and crop one decoded image, uint8 ``[h, w, C]``, to ``[s, s, C]``.

        What has that size already is returned as it is: it counts as prepared.
        """
        if image.shape == (self.image_size, self.image_size, self.in_chans):
            return image
        return self.tower.prepare(image)

    def features(self, images: Images) -> FloatArray:
        """Return the tower's features float32 ``[n, F]`` of images of any kind and size.

        Raises:
            UsageError: No image, or one of another type or number of bands.
            DataError: A file cannot be read.
            ModelError: The model does not return one vector per image.
        """
        prepared = np.stack(
            [self.prepare(one) for one in as_pixels(images, self.image_size, self.in_chans)]
        )
        return self._run(prepared)

    def encode(self, images: Images) -> Encoding:
        """Encode image files, Pillow images or uint8 arrays ``[h, w, C]`` of any sizes.

        Raises:
            LandcueError: As :meth:`features`.
        """
        return replace(self.space.encode(self.features(images)), model=self.fingerprint)

    def encode_text(self, text: str) -> FloatArray:
        """Return the embedding of a text, float32 ``[1, d]``, unit norm: a mean over prompts.

        Raises:
            UsageError: The model has no text tower, or the text is empty.
        """
        return self.encode_texts([text]).embedding

    def encode_texts(self, texts: Sequence[str]) -> Encoding:
        """Return embeddings and codes of n texts, each a mean over prompts; no label scores.

        Raises:
            UsageError: The model has no text tower, or a text is empty.
        """
        self._check_text()
        if not all(text.strip() for text in texts):
            raise UsageError("the text is empty: describe a place in a few words")
        found = self.space.encode_text(self._averaged([text.strip() for text in texts]))
        return replace(found, model=self.fingerprint)

    @property
    def general_encoding(self) -> Encoding | None:
        """Embeddings and codes of general descriptions, if they were kept with the space."""
        return None if self.space.texts is None else self.space.encode_text(self.space.texts)

    def general_texts(self) -> FloatArray:
        """Return the features ``[t, F]`` of general descriptions, to center those of queries."""
        self._check_text()
        return self._averaged(VOCABULARY)

    def _averaged(self, texts: Sequence[str]) -> FloatArray:
        prompts = [prompt.format(text) for text in texts for prompt in PROMPTS]
        parts = [self.tower.text_features(prompts[i : i + 64]) for i in range(0, len(prompts), 64)]
        every = unit_rows(np.concatenate(parts)).reshape(len(texts), len(PROMPTS), -1)
        return unit_rows(every.mean(axis=1))

    def _check_text(self) -> None:
        if not self.tower.has_text:
            raise UsageError(
                f"the model {self.tower.name} has no text tower: search with an image, or filter "
                "by labels"
            )

    def _run(self, prepared: ByteArray) -> FloatArray:
        parts = range(0, len(prepared), AT_ONCE)
        found = np.concatenate([self.tower.features(prepared[i : i + AT_ONCE]) for i in parts])
        if found.shape != (len(prepared), self.tower.n_features):
            raise ModelError(
                f"{self.tower.name} returned {list(found.shape)} for {len(prepared)} images, not "
                f"one vector of {self.tower.n_features} each; name another output"
            )
        return found

    def save(self, folder: str | Path) -> None:
        """Write the folder that :func:`restore_encoder` reads.

        Raises:
            LandcueError: The folder cannot be written.
        """
        folder = Path(folder)
        try:
            (folder / TOWER).mkdir(parents=True, exist_ok=True)
            settings = self.tower.save(folder / TOWER)
        except OSError as error:
            raise ModelError(f"cannot write {folder}: {error.strerror}; free space") from None
        config = {
            "format": FORMAT,
            "landcue": __version__,
            "kind": KIND,
            "fingerprint": self.fingerprint,
            "tower": settings,
            **self.facts(),
        }
        if self.fitted:
            write_atomic(folder / SPACE, self.space.to_bytes())
        write_atomic(folder / "README.md", self.card())
        write_atomic(folder / CONFIG, json.dumps(config, indent=2) + "\n")

    def facts(self) -> dict[str, Any]:
        """Return its settings and how its space was fitted, as JSON values."""
        settings = {
            "backbone": self.tower.name,
            "dim": self.dim,
            "n_bits": self.n_bits,
            "label_names": list(self.label_names),
            "image_size": self.image_size,
            "in_chans": self.in_chans,
            "bands": list(self.tower.bands),
            "text": self.has_text,
        }
        return {"model": settings, "provenance": self.provenance}

    def card(self) -> str:
        """Return what the encoder is, as Markdown."""
        bands = ", ".join(self.tower.bands)
        lines = [
            f"# {self.tower.name}",
            "",
            f"{self.tower.n_features} features of images of {self.image_size} pixels a side "
            f"({bands}); {describe_space(self.space)}.",
            "",
            f"Texts can be queries: {'yes' if self.has_text else 'no'}. "
            f"Fingerprint {self.fingerprint[:12]}.",
            "",
        ]
        return "\n".join(lines)


def open_encoder(
    kind: str, name: str, *, device: str = "cpu", threads: int | None = None
) -> PretrainedEncoder:
    """Open an encoder of a library by name; see :func:`landcue.load_model`."""
    return PretrainedEncoder(_adapter(kind).open_tower(name, device, threads))


def list_encoders(kind: str) -> list[str]:
    """Return the names of a library's pretrained models."""
    return sorted(_adapter(kind).list_names())


def is_pretrained(folder: Path) -> bool:
    """Return whether a folder is one that :meth:`PretrainedEncoder.save` wrote."""
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def restore_encoder(
    folder: Path, *, device: str = "cpu", threads: int | None = None
) -> PretrainedEncoder:
    """Read a folder that :meth:`PretrainedEncoder.save` wrote."""
    config = read_json(folder / CONFIG, ModelError, _HINT)
    if config.get("format") != FORMAT:
        raise ModelError(
            f"{folder / CONFIG} has format {config.get('format')!r}, this LandCue reads {FORMAT}"
        )
    settings = config.get("tower")
    if not isinstance(settings, Mapping) or settings.get("kind") not in ADAPTERS:
        raise ModelError(f"{folder / CONFIG} names no known kind of encoder; {_HINT}")
    space = None
    if (folder / SPACE).is_file():
        space = Space.from_bytes((folder / SPACE).read_bytes(), str(folder / SPACE))
    adapter = _adapter(str(settings["kind"]))
    try:
        tower = adapter.restore_tower(dict(settings), folder / TOWER, device, threads)
    except (KeyError, TypeError, OSError) as error:
        raise ModelError(f"{folder} is broken ({error}); {_HINT}") from None
    encoder = PretrainedEncoder(tower, space)
    if encoder.fingerprint != config.get("fingerprint"):
        raise ModelError(
            f"{folder}: weights, space and config.json do not belong together (fingerprint "
            f"differs); {_HINT}"
        )
    encoder.path = folder
    return encoder


def same_tower(folder: Path, encoder: PretrainedEncoder) -> bool:
    """Return whether a folder holds the encoder's tower, with whatever space."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["tower"]
        return settings["fingerprint"] == encoder.tower.fingerprint
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _adapter(kind: str) -> Any:
    try:
        return importlib.import_module(ADAPTERS[kind])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("landcue"):
            raise
        raise explain_missing(error) or missing_extra("hub", f"models of {kind}") from None


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Keep another library from logging, and from printing where results are printed."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def fetching(
    name: str,
    instead: str,
    what: str = "its weights cannot be fetched",
    *,
    notice_after: float = NOTICE_AFTER,
) -> Generator[None]:
    """Load weights from a hub, quietly; whatever its client raises becomes one line.

    After ``notice_after`` seconds one line on stderr says what is waited for: without a network, a
    client tries again for almost a minute.

    Raises:
        ModelError: They cannot be loaded.
    """
    message = f"loading {name}: waiting for its hub or its files"
    notice = threading.Timer(notice_after, print, [message], {"file": sys.stderr, "flush": True})
    notice.daemon = True
    notice.start()
    try:
        with quiet():
            yield
    except Exception as error:
        raise ModelError(f"{name}: {what} ({first_line(error)[:200]}); {instead}") from None
    finally:
        notice.cancel()

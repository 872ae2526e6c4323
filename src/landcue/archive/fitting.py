"""Fit what an encoder lacks for an archive, or the built-in's space, to a sample of its images."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from landcue.archive.encoding import EncodingOptions
from landcue.archive.layout import CODES, model_fingerprint
from landcue.archive.plan import SourceImages, make_plan
from landcue.archive.reading import Known, ReadImage, reading_ahead
from landcue.data.imageset import label_matrix
from landcue.errors import DataError, ModelError, UsageError
from landcue.types import ByteArray, Encoding, Problem, Record

if TYPE_CHECKING:
    from landcue.models.load import Model
    from landcue.models.pretrained.encoder import PretrainedEncoder
    from landcue.models.space import Space

SAMPLE = 2048
"""Most images, and most annotated images, that a space is fitted to."""


class Prepared(NamedTuple):
    """The encoder of an archive, and the images that were encoded while it was fitted.

    Attributes:
        encoder: It.
        known: Those images, so that they need not be read and encoded again.
        codes: One line about its codes.
        seconds: Time of reading and encoding.
    """

    encoder: Model
    known: Known = {}  # noqa: RUF012 - never changed
    codes: str = ""
    seconds: float = 0.0


def prepare_encoder(
    loaded: Model,
    own: Path | None,
    parts: Sequence[SourceImages],
    *,
    dim: int | None,
    bits: int | None,
    fit: bool = True,
    regions: int = 0,
    options: EncodingOptions,
    refit: bool = False,
    progress: Callable[[int, int], object] | None = None,
    notify: Callable[[str], object] | None = None,
) -> Prepared:
    """Return the encoder of an archive: what it lacks, or the built-in's space, fitted to a sample.

    Models of others get a space (:func:`landcue.models.fit_space`), and so do our own with ``dim``.
    The built-in encoder gets codes and, from 256 images on, embeddings in which differences of
    nearest neighbors are damped (:func:`landcue.models.fitted_codes.fit_codes`); our own without
    codes get codes, our others only with ``bits``.

    Args:
        own: The archive's copy of its model, if there is one: what was fitted is used again. With
            ``refit``, the copy of an interrupted call.
        parts: Images of the archive, by source.
        dim: Length of an embedding; chosen if ``None``.
        bits: Bits of a code; chosen if ``None``.
        fit: Whether to fit anything; else the model is used as it is.
        regions: Regions a side of each image. With any, the built-in's embeddings stay its own, in
            which the search of regions was measured.
        refit: Fit again although the encoder was fitted, unless ``landcue adapt`` trained it.
        progress: Called with the number of images done and their total.
        notify: Called with one line about what was fitted and measured.
    """
    from landcue.models.pretrained.encoder import (
        PretrainedEncoder,
        is_pretrained,
        restore_encoder,
        same_tower,
    )
    from landcue.models.pretrained.own_models import as_pretrained
    from landcue.models.space import describe_space

    if not fit:
        return _unfitted(loaded, own, dim, bits, refit)
    sample = _Sample(parts, options, progress)
    if not isinstance(loaded, PretrainedEncoder):
        if dim is None and not (own is not None and is_pretrained(own)):
            return _prepare_codes(loaded, own, sample, bits, not regions, refit, notify)
        loaded = as_pretrained(getattr(loaded, "base", loaded))
    if loaded.fitted and "adapted" in loaded.space.facts:
        refit = False  # what was learned from labels is not replaced
    device = None if loaded.on_cpu else "cuda"
    if own is not None and same_tower(own, loaded):
        if refit or not loaded.fitted:
            kept = restore_encoder(own, device=device or "cpu")
            if not refit and "adapted" in kept.space.facts:
                return Prepared(loaded)  # not what made the archive: refused when it is opened
            sizes = dim in (None, kept.dim) and bits in (None, kept.n_bits)
            if not refit or (sizes and kept.space.facts.get("records") == sample.records):
                loaded, refit = kept, False
        else:
            refit = False
    if loaded.fitted and not refit:
        _check_sizes(loaded, dim, bits)
        return Prepared(loaded, codes=describe_space(loaded.space))
    if own is not None and not refit:
        return Prepared(loaded)  # another model than the archive's: refused when it is opened
    fitted = _fit_space(loaded, sample, dim, bits)
    if notify is not None:
        notify(fitted.codes)
    return fitted


def _unfitted(
    loaded: Model, own: Path | None, dim: int | None, bits: int | None, refit: bool
) -> Prepared:
    """Return an encoder without what was fitted to any archive."""
    from landcue.models.fitted_codes import describe_codes
    from landcue.models.pretrained.encoder import PretrainedEncoder
    from landcue.models.space import describe_space

    if dim is not None or bits is not None:
        raise UsageError("--no-fit keeps the model's own embeddings and codes: leave out --dim "
                         "and --bits")  # fmt: skip
    bare: Any = getattr(loaded, "base", loaded)
    if isinstance(bare, PretrainedEncoder):
        bare = bare if "adapted" in bare.space.facts else PretrainedEncoder(bare.tower)
    if own is not None and not refit and model_fingerprint(own) != bare.fingerprint:
        raise UsageError("--no-fit: the archive was fitted to its images; leave it out, or undo "
                         "that with landcue archive reembed --no-fit")  # fmt: skip
    pretrained = isinstance(bare, PretrainedEncoder)
    return Prepared(bare, codes=describe_space(bare.space) if pretrained else describe_codes(bare))


def _prepare_codes(
    loaded: Model,
    own: Path | None,
    sample: _Sample,
    bits: int | None,
    damps: bool,
    refit: bool,
    notify: Callable[[str], object] | None,
) -> Prepared:
    """Return an encoder of ours with the codes, and for the built-in the space, of an archive."""
    from landcue.models.fitted_codes import (
        LEAST_IMAGES,
        FittedCodes,
        describe_codes,
        fit_codes,
        with_codes,
    )
    from landcue.models.load import is_builtin

    base: Model = getattr(loaded, "base", loaded)
    if own is not None:
        mark = model_fingerprint(own)
        kept = base if mark == base.fingerprint else with_codes(base, own)
        named = loaded is base or refit or mark == loaded.fingerprint
        wanted = not refit or _is_same_fit(kept, sample, bits, damps and is_builtin(base))
        if named and wanted and mark == kept.fingerprint:
            _check_sizes(kept, None, bits)
            return Prepared(kept, codes=describe_codes(kept))
        if not refit:
            return Prepared(loaded)  # another model than the archive's: refused when it is opened
    if loaded is not base and not refit:
        _check_sizes(loaded, None, bits)
        return Prepared(loaded, codes=describe_codes(loaded))
    if bits is None and base.n_bits and not is_builtin(base):
        return Prepared(base, codes=describe_codes(base))
    if bits == base.n_bits == 0:
        return Prepared(base)
    chosen = sample.chosen()
    found = Prepared(base, codes=describe_codes(base, len(chosen)))
    if bits is None and len(chosen) < (LEAST_IMAGES if base.n_bits else 2):
        return found
    made = sample.encode(base, base.encode, least=0 if bits is None else 2)
    if made is None:
        return found
    names, labels = ([], None) if base.label_names else made.labels
    damps = damps and is_builtin(base)
    centered = int(base.provenance["recipe"]["general"]) if damps else None
    space = fit_codes(made.encoding, bits, centered=centered, labels=labels, label_names=names)
    space = None if space is None else sample.noted(space)
    encoder: Any = base if space is None else FittedCodes(base, space)
    found = Prepared(
        encoder,
        made.known(made.encoding if space is None else encoder.recode(made.encoding)),
        describe_codes(encoder, len(made.images)),
        made.seconds,
    )
    if notify is not None:
        notify(found.codes)
    return found


def _is_same_fit(kept: Any, sample: _Sample, bits: int | None, damps: bool) -> bool:
    """Return whether the model of an interrupted call was fitted as is asked for now."""
    from landcue.models.fitted_codes import FittedCodes
    from landcue.models.fitting import LEAST_NEIGHBORS

    if not isinstance(kept, FittedCodes) or kept.space.facts.get("records") != sample.records:
        return False
    damped = damps and kept.space.facts["images"] >= LEAST_NEIGHBORS
    asked = (kept.base.n_bits or kept.n_bits) if bits is None else bits
    return kept.n_bits == asked and bool(kept.space.dim) == damped


def _check_sizes(encoder: Model, dim: int | None, bits: int | None) -> None:
    for name, asked, has in (("dim", dim, encoder.dim), ("bits", bits, encoder.n_bits)):
        if asked is not None and asked != has:
            raise UsageError(
                f"--{name} {asked}: the archive has {has}; leave it out, or change it with "
                "landcue archive reembed"
            )


def outgrown(encoder: Model, archive: str, records: int, regions: int = 0) -> str:
    """Return one line if an archive has so many records now that it should be fitted again.

    That is with 4 times as many as it was fitted to, or with 256 for the first time.

    Args:
        encoder: Its encoder.
        archive: How it is named on the command line.
        records: Records that it has now.
        regions: Regions a side of each image; with any, embeddings are not fitted.
    """
    from landcue.models.fitted_codes import FittedCodes
    from landcue.models.fitting import LEAST_NEIGHBORS
    from landcue.models.load import is_builtin

    base: Any = getattr(encoder, "base", encoder)
    facts: dict[str, Any] = getattr(getattr(encoder, "space", None), "facts", {})
    size = ""
    if facts and "adapted" not in facts:
        # A space of an earlier version does not say how many records its images were drawn from.
        before = int(facts.get("records", facts.get("images", SAMPLE)))
        unknown = "records" not in facts and before >= SAMPLE
        damps = is_builtin(base) and not regions
        first = damps and before < LEAST_NEIGHBORS <= records
        if unknown or not (first or records >= 4 * before):
            return ""
        line = f"the archive was fitted when it had {before:,} records and has {records:,} now"
        if isinstance(encoder, FittedCodes) and base.n_bits:
            kept = is_builtin(base) and encoder.n_bits == base.n_bits
            size = "" if kept else f" --bits {encoder.n_bits}"
    elif not facts and is_builtin(encoder) and not regions and records >= LEAST_NEIGHBORS:
        line = f"the archive was not fitted to its images and has {records:,} records now"
    else:
        return ""
    return f"{line}: fit it again with landcue archive reembed {archive}{size}"


@contextlib.contextmanager
def saved(encoder: Model) -> Any:
    """Yield the folder or file of a model; one that has none is written to a temporary folder."""
    from landcue.models.fitted_codes import FittedCodes, copy_without_codes

    other = (encoder.path / CODES).is_file() and not isinstance(encoder, FittedCodes)
    if encoder.path != Path() and not other:
        yield encoder.path
        return
    with tempfile.TemporaryDirectory(prefix="landcue-model-") as folder:
        if other:  # its folder holds codes, too
            copy_without_codes(encoder.path, Path(folder))
        else:
            made: Any = encoder
            made.save(Path(folder))
        yield Path(folder)


def _fit_space(
    encoder: PretrainedEncoder, sample: _Sample, dim: int | None, bits: int | None
) -> Prepared:
    from landcue.models.fitting import fit_space
    from landcue.models.pretrained.encoder import PretrainedEncoder
    from landcue.models.space import describe_space, unit_rows

    bare = PretrainedEncoder(encoder.tower)

    def features(images: Sequence[ByteArray]) -> Encoding:
        found = unit_rows(bare.features(images))
        none = np.empty((len(found), 0))
        return Encoding(found, none.astype(np.uint8), 0, none.astype(np.float32))

    made = sample.encode(bare, features)
    assert made is not None  # at least 2 images
    names, labels = made.labels
    space = fit_space(
        made.encoding.embedding,
        dim=dim,
        n_bits=bits,
        labels=labels,
        label_names=names,
        text_features=bare.general_texts() if encoder.tower.has_text else None,
        neighbors=not encoder.tower.has_text,  # not measured with texts
    )
    space = sample.noted(space)
    fitted = PretrainedEncoder(encoder.tower, space)
    known = made.known(space.encode(made.encoding.embedding))
    return Prepared(fitted, known, describe_space(space), made.seconds)


class _Sample(NamedTuple):
    """How a sample of the images is read and encoded."""

    parts: Sequence[SourceImages]
    options: EncodingOptions
    progress: Callable[[int, int], object] | None

    def chosen(self) -> list[Record]:
        """Return its records."""
        return choose_sample([record for part in self.parts for record in part.records])

    def noted(self, space: Space) -> Space:
        """Return a space that says how many records the sample was drawn from."""
        return replace(space, facts={**space.facts, "records": self.records})

    @property
    def records(self) -> int:
        """How many there are."""
        return sum(len(part.records) for part in self.parts)

    def encode(
        self,
        encoder: Model,
        encode: Callable[[Sequence[ByteArray]], Encoding],
        least: int = 2,
    ) -> _Made | None:
        """Read the sample and encode it.

        Returns:
            It; ``None`` if fewer than 2 images can be read and ``least`` is 0.

        Raises:
            DataError: Fewer than ``least`` images can be read.
            ModelError: Most outputs are not finite.
        """
        started = time.perf_counter()
        chosen = self.chosen()
        ids = {record.id for record in chosen}
        size = self.options.batch_size
        images: list[ReadImage] = []
        tasks: list[Record] = []
        outputs: list[Encoding] = []
        skipped: list[Problem] = []
        broken = done = 0
        for part in self.parts:
            taken = [record for record in part.records if record.id in ids]
            plan = make_plan(replace(part, records=taken))
            skipped += plan.problems
            with reading_ahead(
                plan.tasks, encoder, part.scenes, self.options.threads, 2 * size,
                beside_encoder=not encoder.on_cpu,
            ) as (read, held):  # fmt: skip
                pairs = zip(plan.tasks, read, strict=True)
                while batch := list(itertools.islice(pairs, size)):
                    skipped += [item for _, item in batch if isinstance(item, Problem)]
                    good = [(task, item) for task, item in batch if isinstance(item, ReadImage)]
                    done += len(batch)
                    if good:
                        with held():
                            out = encode([item.pixels for _, item in good])
                        finite = np.isfinite(out.embedding).all(axis=1)
                        finite &= np.isfinite(out.label_scores).all(axis=1)
                        broken += int((~finite).sum())
                        kept = [good[i] for i in np.flatnonzero(finite).tolist()]
                        images += [replace(item, pixels=_NO_PIXELS) for _, item in kept]
                        tasks += [task.record for task, _ in kept]
                        outputs.append(_rows(out, finite))
                    if self.progress is not None:
                        self.progress(done, len(chosen))
        if not least and len(images) < 2:
            return None
        if broken > len(images):
            name = getattr(getattr(encoder, "tower", None), "name", str(encoder.path))
            raise ModelError(
                f"{name} returns values that are not finite for {broken} of "
                f"{broken + len(images)} images; its weights are broken or of another model"
            )
        if len(images) < 2:
            first = f" (first: {skipped[0]})" if skipped else ""
            raise DataError(
                f"no space can be fitted: {len(images)} readable images among {len(chosen)} "
                f"records{first}; 2 are needed"
            )
        joined = Encoding(
            np.concatenate([out.embedding for out in outputs]),
            np.concatenate([out.code for out in outputs]),
            outputs[0].n_bits,
            np.concatenate([out.label_scores for out in outputs]),
        )
        return _Made(tasks, images, joined, time.perf_counter() - started)


class _Made(NamedTuple):
    """Records of a sample, what was read of them, and what an encoder returned."""

    records: list[Record]
    images: list[ReadImage]
    encoding: Encoding
    seconds: float

    @property
    def labels(self) -> tuple[list[str], Any]:
        """Label names and their truth ``[m, C]``, NaN where an image is not annotated."""
        known = [record.labels for record in self.records]
        names = sorted({label for labels in known for label in labels or ()})
        if not names:
            return [], None
        truth = label_matrix([labels or () for labels in known], names).astype(np.float64)
        truth[[labels is None for labels in known]] = np.nan
        return names, truth

    def known(self, encoding: Encoding) -> Known:
        """Return the images with their encodings, for the ingest."""
        return {
            (record.path, record.window): replace(image, encoding=_rows(encoding, slice(i, i + 1)))
            for i, (record, image) in enumerate(zip(self.records, self.images, strict=True))
        }


_NO_PIXELS = np.empty((0, 0, 0), np.uint8)


def _rows(out: Encoding, which: Any) -> Encoding:
    return Encoding(out.embedding[which], out.code[which], out.n_bits, out.label_scores[which])


def choose_sample(records: Sequence[Record], n: int = SAMPLE) -> list[Record]:
    """Return n records at random, and n annotated ones, in their order; always the same.

    Records of the parts ``val`` and ``test`` are left out, if there are others.
    """
    usable = [r for r in records if r.part not in ("val", "test")] or list(records)
    order = np.random.default_rng(0).permutation(len(usable)).tolist()
    annotated = [i for i in order if usable[i].labels is not None]
    return [usable[i] for i in sorted({*order[:n], *annotated[:n]})]

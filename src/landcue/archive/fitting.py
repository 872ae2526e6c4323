"""Fit the space of an encoder that others trained to a sample of an archive's images."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from landcue.archive.plan import make_plan
from landcue.archive.reading import ReadImage, reading_ahead
from landcue.data.imageset import label_matrix
from landcue.data.scenes import SceneOptions
from landcue.errors import DataError, ModelError, UsageError
from landcue.files import core_count
from landcue.types import Problem, Record

if TYPE_CHECKING:
    from landcue.models.load import Model
    from landcue.models.pretrained.encoder import PretrainedEncoder

SAMPLE = 2048
"""Most images, and most annotated images, that a space is fitted to."""


class Part(NamedTuple):
    """Records of one source.

    Attributes:
        records: Its images or chips.
        root: Folder that paths are relative to.
        scenes: How rasters are read.
    """

    records: Sequence[Record]
    root: Path
    scenes: SceneOptions | None


def prepare_encoder(
    loaded: Model,
    own: Path | None,
    parts: Sequence[Part],
    *,
    dim: int | None,
    bits: int | None,
    batch_size: int = 64,
    workers: int | None = None,
    refit: bool = False,
    progress: Callable[[int, int], object] | None = None,
    notify: Callable[[str], object] | None = None,
) -> Model:
    """Return the encoder of an archive: fitted to a sample of its images, where it has no heads.

    Args:
        loaded: What the user named.
        own: The archive's copy of its model, if there is one: its space is used again. With
            ``refit``, the copy of an interrupted call.
        parts: Images of the archive, by source.
        dim: Length of an embedding; chosen if ``None``.
        bits: Bits of a code; chosen if ``None``.
        batch_size: Images per call.
        workers: Reading threads.
        refit: Fit again although the encoder has a space.
        progress: Called with the number of images done and their total.
        notify: Called with one line about what was fitted and measured.

    Raises:
        UsageError: Sizes that the encoder does not allow, or that are not the archive's.
        DataError: Fewer than 2 images can be read.
        ModelError: The encoder returns values that are not finite.
    """
    from landcue.models.pretrained.encoder import (
        PretrainedEncoder,
        restore_encoder,
        same_tower,
    )
    from landcue.models.pretrained.own_models import as_pretrained
    from landcue.models.space import describe_space

    if not isinstance(loaded, PretrainedEncoder):
        if dim is None and bits is None:
            return loaded
        loaded = as_pretrained(loaded)
    device = None if loaded.on_cpu else "cuda"
    if own is not None and same_tower(own, loaded):
        if refit or not loaded.fitted:
            loaded = restore_encoder(own, device=device or "cpu")
        refit = False
    if loaded.fitted and not refit:
        _check_sizes(loaded, dim, bits)
        return loaded
    if own is not None and not refit:
        return loaded  # another model than the archive's: refused when it is opened
    fitted = _fit(loaded, parts, dim, bits, batch_size, workers, progress)
    if notify is not None:
        notify(describe_space(fitted.space))
    return fitted


def _check_sizes(encoder: PretrainedEncoder, dim: int | None, bits: int | None) -> None:
    for name, asked, has in (("dim", dim, encoder.dim), ("bits", bits, encoder.n_bits)):
        if asked is not None and asked != has:
            raise UsageError(
                f"--{name} {asked}: the archive has {has}; leave it out, or change it with "
                "landcue archive reembed"
            )


@contextlib.contextmanager
def saved(encoder: Model) -> Any:
    """Yield the folder or file of a model; one that has none is written to a temporary folder."""
    if encoder.path != Path():
        yield encoder.path
        return
    with tempfile.TemporaryDirectory(prefix="landcue-model-") as folder:
        pretrained: Any = encoder
        pretrained.save(Path(folder))
        yield Path(folder)


def _fit(
    encoder: PretrainedEncoder,
    parts: Sequence[Part],
    dim: int | None,
    bits: int | None,
    batch_size: int,
    workers: int | None,
    progress: Callable[[int, int], object] | None,
) -> PretrainedEncoder:
    from landcue.models.pretrained.encoder import PretrainedEncoder
    from landcue.models.space import fit_space

    chosen = choose_sample([record for part in parts for record in part.records])
    ids = {record.id for record in chosen}
    bare = PretrainedEncoder(encoder.tower)
    workers = workers or min(4, core_count())
    kept: list[str] = []
    features: list[Any] = []
    skipped: list[Problem] = []
    broken = done = 0
    for part in parts:
        taken = [record for record in part.records if record.id in ids]
        plan = make_plan(taken, {}, "", part.root)
        skipped += plan.problems
        with reading_ahead(
            plan.tasks, bare, part.scenes, workers, 2 * batch_size, beside_encoder=not bare.on_cpu
        ) as (read, held):
            while batch := list(itertools.islice(read, batch_size)):
                images = [item for item in batch if isinstance(item, ReadImage)]
                skipped += [item for item in batch if isinstance(item, Problem)]
                if images:
                    with held():
                        found = bare.features([image.pixels for image in images])
                    good = np.isfinite(found).all(axis=1)
                    broken += int((~good).sum())
                    bare.remember([image.pixels for image in images], found)
                    kept += [images[i].metadata.id for i in np.flatnonzero(good).tolist()]
                    features.append(found[good])
                done += len(batch)
                if progress is not None:
                    progress(done, len(chosen))
    if broken > len(kept):
        raise ModelError(
            f"{encoder.tower.name} returns values that are not finite for {broken} of "
            f"{broken + len(kept)} images; its weights are broken or of another model"
        )
    if len(kept) < 2:
        first = f" (first: {skipped[0]})" if skipped else ""
        raise DataError(
            f"no space can be fitted: {len(kept)} readable images among {len(chosen)} "
            f"records{first}; 2 are needed"
        )
    names, labels = _labels(chosen, kept)
    space = fit_space(
        np.concatenate(features),
        dim=dim,
        n_bits=bits,
        labels=labels,
        label_names=names,
        text_features=bare.general_texts() if encoder.tower.has_text else None,
    )
    fitted = PretrainedEncoder(encoder.tower, space)
    fitted.recall_from(bare)
    return fitted


def choose_sample(records: Sequence[Record], n: int = SAMPLE) -> list[Record]:
    """Return n records at random, and n annotated ones, in their order; always the same.

    Records of the parts ``val`` and ``test`` are left out, if there are others.
    """
    usable = [r for r in records if r.part not in ("val", "test")] or list(records)
    order = np.random.default_rng(0).permutation(len(usable)).tolist()
    annotated = [i for i in order if usable[i].labels is not None]
    return [usable[i] for i in sorted({*order[:n], *annotated[:n]})]


def _labels(records: Sequence[Record], ids: Sequence[str]) -> tuple[list[str], Any]:
    """Return label names and their truth ``[m, C]``, NaN where an image is not annotated."""
    known = {record.id: record.labels for record in records}
    names = sorted({label for labels in known.values() for label in labels or ()})
    if not names:
        return [], None
    truth = label_matrix([known[id_] or () for id_ in ids], names).astype(np.float64)
    truth[[known[id_] is None for id_ in ids]] = np.nan
    return names, truth

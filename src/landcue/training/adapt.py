"""``landcue adapt``: heads trained on the features of a frozen encoder, kept if they help.

Features are computed once, and :mod:`landcue.training.heads` trains heads on them. These are
compared with what an archive of the encoder would have without labels. Cross-validation decides:
the heads of a fold see neither images nor labels that the fold is measured on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landcue.archive import storage
from landcue.archive.manifest import MANIFEST
from landcue.archive.plan import make_plan
from landcue.archive.reading import ReadImage, reading_ahead
from landcue.archive.rebuild import check_images, stored_parts
from landcue.archive.sources import stored_scene_options
from landcue.data.datasets import dataset_warnings
from landcue.data.images import read_image
from landcue.data.imageset import ImageSet, label_matrix, labeled_by_group
from landcue.data.marks import Given, Marks, as_marks
from landcue.data.objects import shown
from landcue.data.sources import open_source
from landcue.errors import DataError, LandcueError, ModelError, UsageError, did_you_mean
from landcue.files import core_count, write_atomic
from landcue.metrics import annotate, evaluate, evaluate_codes
from landcue.models.fitting import fit_space
from landcue.models.load import BUILTIN, Model, load_model
from landcue.models.pretrained.encoder import PretrainedEncoder
from landcue.models.pretrained.own_models import as_pretrained
from landcue.models.space import unit_rows
from landcue.search.opened import is_collection, open_storage
from landcue.training.heads import AdaptOptions, fit_heads
from landcue.training.images import Message, Progress, ignore
from landcue.types import ByteArray, Encoder, FloatArray, Problem, Record

if TYPE_CHECKING:
    from landcue.search.backend import Storage

METRIC = "nDCG@100"
_BATCH = 64
_LEAST_IMAGES = 20


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What cross-validation says of an adaptation, and where it was written.

    Attributes:
        folder: The adapted encoder; ``None`` if it was not kept.
        scores: nDCG@100 of images left out, mean over folds: ``unadapted`` (the encoder's own
            embedding), ``centered`` (what is fitted without labels), ``adapted`` and
            ``adapted code``.
        gain: ``adapted`` less the better of the first two, per fold.
        n_images: Annotated images that could be read.
        label_names: What was learned.
        problems: Images that were left out, and why.
        seconds: For features, and for all heads.
    """

    folder: Path | None
    scores: dict[str, float]
    gain: tuple[float, ...]
    n_images: int
    label_names: tuple[str, ...]
    problems: tuple[str, ...]
    seconds: tuple[float, float]

    @property
    def kept(self) -> bool:
        """Whether the mean gain is more than its standard error over the folds."""
        return is_gain(self.gain)


def is_gain(gain: Sequence[float]) -> bool:
    """Return whether the mean of the folds' gains is more than its standard error.

    >>> is_gain([0.03, 0.02, 0.04]), is_gain([0.05, -0.06, 0.03])
    (True, False)
    """
    return float(np.mean(gain)) > float(np.std(gain, ddof=1)) / len(gain) ** 0.5


def adapt(
    source: Path | str | ImageSet,
    out: Path | str,
    *,
    model: str | Path | Model | None = None,
    labels: str | Path | None = None,
    marks: Marks | Given | Path | str | None = None,
    collection: str | None = None,
    options: AdaptOptions | None = None,
    cache: str | Path | None = None,
    message: Message = ignore,
    progress: Progress = ignore,
) -> Adaptation:
    """Train heads on a frozen encoder's features and write the adapted encoder if it is better.

    Args:
        source: Images with labels: a folder of scene classes, a folder with ``labels.csv``, a
            label table, an image set, or an archive in a folder, below ``s3://`` or at
            ``milvus://``, whose images and chips are read again from their sources. Without labels,
            the scene classes are learned.
        out: Folder to write: a model for ``index``, ``search`` and ``serve``.
        model: As :func:`landcue.load_model` takes it, or a model; by default that of the archive,
            or the built-in one.
        labels: A label table for the images of a folder.
        marks: Learn from these instead: a file of collections, an exported collection, a table, or
            marks by id; see :func:`landcue.data.read_marks`. Its labels count; without any, whether
            an image is marked good.
        collection: Name or id of a collection in a file of collections.
        options: How heads are trained and judged.
        cache: Folder in which features are kept for the next call.
        message: Called with one line per image that is left out.
        progress: Called with a stage's name, what is done and the total.

    Raises:
        DataError: Fewer than 20 annotated images can be read, or only one label.
        UsageError: ``out`` is not empty, bad options, or a model that has no features.
        ModelError: The model cannot be loaded.

    Example:
        >>> adapt("photos", "models/mine", model="builtin").kept  # doctest: +SKIP
        True
    """
    options, out = options or AdaptOptions(), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty; choose a new --out folder")
    if labels is not None and marks is not None:
        raise UsageError("learn from a label table or from marks, not from both")
    if marks is None and collection is not None:
        raise UsageError("a collection needs the file that holds it")
    given = None if marks is None else as_marks(marks, collection)
    stored = _open_archive(source, model)
    if stored is not None:
        if labels is not None:
            raise UsageError(f"{source} is an archive: pass the label table as marks")
        loaded, images = stored.model, stored.images
    else:
        model = model or BUILTIN
        loaded = load_model(model) if isinstance(model, str | Path) else model
        images = source if isinstance(source, ImageSet) else open_source(Path(source), labels)
    for line in dataset_warnings(images.name, images):
        message(f"warning: {line}")
    if given is not None:
        images = _labeled_by_marks(images, given, message)
    elif not any(record.labels for record in images.records):
        images = labeled_by_group(images)
    records = [record for record in images.records if record.labels is not None]
    encoder = as_pretrained(loaded)
    started = time.perf_counter()
    features, own, read, problems = _features(encoder, loaded, records, stored, cache, progress)
    for problem in problems:
        message(f"skipped {problem}")
    computed = time.perf_counter()
    truth = label_matrix([record.labels for record in read], images.label_names)
    names = tuple(images.label_names)
    _check(truth, names)
    scores, gain = cross_validate(features, own, truth, options, progress)
    adaptation = Adaptation(
        out if is_gain(gain) else None, scores, gain, len(read), names, tuple(problems),
        (computed - started, time.perf_counter() - computed),
    )  # fmt: skip
    if adaptation.kept:
        progress("training heads", 0, 1)
        facts = {
            "adapted": {
                "loss": options.loss.name,
                "images": len(read),
                "folds": len(gain),
                "scores": scores,
                "gain": list(gain),
                "base": loaded.fingerprint,
            }
        }
        space = fit_heads(features, truth, names, options, facts)
        _save(PretrainedEncoder(encoder.tower, space), out)
        progress("training heads", 1, 1)
    return adaptation


def _save(encoder: PretrainedEncoder, out: Path) -> None:
    """Write a model whole or not at all, so that a command that was killed can be run again."""
    stage = out.with_name(f".{out.name}.tmp")
    try:
        shutil.rmtree(stage, ignore_errors=True)
        encoder.save(stage)
        if out.exists():
            out.rmdir()  # it is empty
        stage.rename(out)
    except OSError as error:
        raise ModelError(f"cannot write {out}: {error.strerror}; free space") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


class _ArchiveImages:
    """The images and chips of an archive's records, read again from their sources.

    Attributes:
        model: The model that was passed, or the archive's own.
        images: The records.
    """

    def __init__(self, archive: Storage, model: str | Path | Model | None = None) -> None:
        """Read the records; the model decides at which size chips are read.

        Raises:
            ArchiveError: The archive is broken, or holds no images; it is another model's.
            UsageError: It is a collection whose model is not on this machine.
            ModelError: The model cannot be loaded.
        """
        check_images(archive.folder, archive.manifest)
        chosen = archive.model_folder if model is None else model
        if chosen is None:
            where = shown(archive.folder)
            raise UsageError(f"the model of {where} is not on this machine; add --model")
        self.model = load_model(chosen) if isinstance(chosen, str | Path) else chosen
        if model is None:
            archive.manifest.check_encoder(self.model, archive.folder)
        options = partial(stored_scene_options, self.model, {})
        self._parts = stored_parts(archive.manifest, archive.stored(), options)
        records = [record for part in self._parts for record in part.records]
        names = sorted({name for record in records for name in record.labels or ()})
        self.images = ImageSet("archive", archive.folder, tuple(records), tuple(names))

    def prepared(
        self, encoder: Encoder, ids: Collection[str]
    ) -> Iterator[tuple[str, ByteArray | str]]:
        """Yield the id and the prepared pixels of each of these records, or why there are none."""
        for part in self._parts:
            taken = [record for record in part.records if record.id in ids]
            plan = make_plan(replace(part, records=taken))
            planned = {task.record.id for task in plan.tasks}
            where = {record.id: str(record.path) for record in taken if record.id not in planned}
            for id_, path in where.items():
                yield id_, f"{shown(Path(path))}: the image is missing or cannot be read"
            with reading_ahead(
                plan.tasks, encoder, part.scenes, core_count(), 128, beside_encoder=True
            ) as (read, _):
                for task, item in zip(plan.tasks, read, strict=True):
                    pixels = item.pixels if isinstance(item, ReadImage) else None
                    what = str(item) if isinstance(item, Problem) else f"{task.record.id}: no data"
                    yield task.record.id, what if pixels is None else pixels


def _open_archive(
    source: Path | str | ImageSet, model: str | Path | Model | None
) -> _ArchiveImages | None:
    """Return the images of a source that is an archive, else ``None``."""
    if isinstance(source, ImageSet):
        return None
    path = Path(source)
    if not is_collection(path) and not storage.exists(path / MANIFEST):
        return None
    with contextlib.closing(open_storage(path)) as archive:
        return _ArchiveImages(archive, model)


def _labeled_by_marks(images: ImageSet, marks: Marks, message: Message) -> ImageSet:
    sets = marks.label_sets()
    if len({frozenset(names) for names in sets.values()}) == 1:
        # Labels that are the same everywhere say what is good: what is bad has none of them.
        sets |= {id_: () for id_, good in marks.relevant.items() if not good and id_ not in sets}
    records = [
        replace(record, labels=sets[record.id]) for record in images.records if record.id in sets
    ]
    missing = sorted(sets.keys() - {record.id for record in records})
    if not records:
        if not missing:
            raise DataError(f"{marks.name}: no record is marked or labeled")
        near = did_you_mean(missing[0], [record.id for record in images.records])
        raise DataError(f"{marks.name}: no image has the id {missing[0]!r}, or any other of the "
                        f"{len(sets):,} marked ids{near}")  # fmt: skip
    if missing:
        message(f"{len(missing):,} of {len(sets):,} marked ids are not among the images, such as "
                f"{missing[0]!r}")  # fmt: skip
    names = tuple(sorted({name for record in records for name in record.labels or ()}))
    return replace(images, records=tuple(records), label_names=names)


def cross_validate(
    features: FloatArray,
    own: FloatArray,
    truth: npt.NDArray[Any],
    options: AdaptOptions,
    progress: Progress = ignore,
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Return mean scores over the folds, and the gain of each fold; see :class:`Adaptation`.

    Args:
        features: Of n images, floats ``[n, F]``.
        own: Their embeddings by the unadapted encoder, ``[n, d]``.
        truth: Labels ``[n, C]``.
        options: How heads are trained and judged.
        progress: Called with a stage's name, what is done and the total.
    """
    names = tuple(str(i) for i in range(truth.shape[1]))
    fold_of = assign_folds(features, truth, options.folds, options.seed)
    found: list[dict[str, float]] = []
    for fold in range(options.folds):
        progress("cross-validation", fold, options.folds)
        kept, left = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        space = fit_heads(features[kept], truth[kept], names, options)
        dim = min(options.dim, features.shape[1])
        plain = fit_space(features[kept], dim=dim, n_bits=0, neighbors=True).encode(features[left])
        made = space.encode(features[left])
        known = annotate([str(i) for i in left], truth[left], names)
        scores = {
            "unadapted": _score(evaluate(unit_rows(own[left]), known)),
            "centered": _score(evaluate(plain.embedding, known)),
            "adapted": _score(evaluate(made.embedding, known)),
        }
        if space.n_bits:
            scores["adapted code"] = _score(evaluate_codes(made.code, space.n_bits, known))
        found.append(scores)
    progress("cross-validation", options.folds, options.folds)
    gain = tuple(s["adapted"] - max(s["unadapted"], s["centered"]) for s in found)
    return {name: float(np.mean([s[name] for s in found])) for name in found[0]}, gain


def _score(report: Any) -> float:
    value = float(report.metrics[METRIC])
    return value if np.isfinite(value) else 0.0


def assign_folds(
    features: FloatArray, truth: npt.NDArray[Any], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold of each image: every label set is spread, equal images stay together."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in features]
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    leader = np.array([first[digest] for digest in digests])
    single = np.unique(leader)
    shuffled = np.random.default_rng(seed).permutation(single)
    keys = [truth[i].tobytes() for i in shuffled]
    order = sorted(range(len(shuffled)), key=lambda i: keys[i])  # stable: shuffled within a set
    fold_of = np.empty(len(features), np.int64)
    fold_of[shuffled[order]] = np.arange(len(order)) % folds
    return fold_of[leader]


def _check(truth: npt.NDArray[Any], names: Sequence[str]) -> None:
    if len(truth) < _LEAST_IMAGES:
        raise DataError(
            f"{len(truth)} annotated images can be read; an adaptation needs {_LEAST_IMAGES}"
        )
    carried = truth.any(axis=0) & ~truth.all(axis=0)
    if not carried.any():
        shown = ", ".join(names) or "none"
        raise DataError(f"the labels ({shown}) do not tell images apart; annotate with two or more")


def _features(
    encoder: PretrainedEncoder,
    loaded: Model,
    records: Sequence[Record],
    stored: _ArchiveImages | None,
    cache: str | Path | None,
    progress: Progress,
) -> tuple[FloatArray, FloatArray, list[Record], list[str]]:
    """Return features, own embeddings and records of readable images, and the others' problems."""
    file = None if cache is None else Path(cache) / f"features-{_key(encoder, loaded, records)}.npz"
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            known = [records[i] for i in kept["rows"]]
            return kept["features"], kept["own"], known, kept["problems"].tolist()
    rows: list[int] = []
    problems: list[str] = []
    features: list[FloatArray] = []
    own: list[FloatArray] = []
    place = {record.id: i for i, record in enumerate(records)}
    read = _prepared(encoder, records) if stored is None else stored.prepared(encoder, place)
    done = 0
    while batch := list(itertools.islice(read, _BATCH)):
        progress("computing features", done, len(records))
        done += len(batch)
        problems += [what for _, what in batch if isinstance(what, str)]
        good = {place[id_]: what for id_, what in batch if not isinstance(what, str)}
        if good:
            pixels = np.stack(list(good.values()))
            rows += good
            features.append(encoder.tower.features(pixels))
            own.append(loaded.encode(pixels).embedding)
    progress("computing features", len(records), len(records))
    if not rows:
        why = f"; first: {problems[0]}" if problems else ""
        raise DataError(f"none of {len(records)} annotated images can be read{why}")
    both = np.concatenate(features), np.concatenate(own)
    if file is not None:
        import io

        held = io.BytesIO()
        np.savez(held, features=both[0], own=both[1], rows=rows, problems=np.array(problems, str))
        write_atomic(file, held.getvalue())
    return *both, [records[i] for i in rows], problems


def _prepared(
    encoder: PretrainedEncoder, records: Sequence[Record]
) -> Iterator[tuple[str, ByteArray | str]]:
    """Yield the id and the prepared pixels of each image, or why it cannot be read."""

    def prepare(record: Record) -> tuple[str, ByteArray | str]:
        try:
            return record.id, encoder.prepare(read_image(record.path))
        except LandcueError as error:
            return record.id, str(error)

    with ThreadPoolExecutor(max(2, core_count())) as pool:
        for first in range(0, len(records), _BATCH):
            yield from pool.map(prepare, records[first : first + _BATCH])


def _key(encoder: PretrainedEncoder, loaded: Model, records: Sequence[Record]) -> str:
    """Return what the features depend on: the model, and the files by name, size and time."""
    digest = hashlib.sha256(f"{encoder.tower.fingerprint} {loaded.fingerprint}".encode())
    for record in records:
        try:
            facts = record.path.stat()
            known = (facts.st_size, facts.st_mtime_ns)
        except OSError:
            known = None
        digest.update(repr((str(record.path), record.window, known)).encode())
    return digest.hexdigest()[:16]

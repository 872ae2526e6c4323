"""Index a source into an archive in one call, for ``landcue index`` and ``landcue.index``.

It is the only module of this package that loads models by name.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from landcue.archive import storage
from landcue.archive.archive import ArchiveFolder, own_model
from landcue.archive.encoding import EncodingOptions
from landcue.archive.fitting import Prepared, outgrown, prepare_encoder, saved
from landcue.archive.ingest import IngestReport, ingest
from landcue.archive.layout import check_free
from landcue.archive.manifest import MANIFEST, read_manifest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import ReembedReport, RepairReport, reembed, reembed_parts, repair
from landcue.archive.sources import Source, stored_scene_options
from landcue.codes.regions import region_boxes
from landcue.data.imageset import ImageSet
from landcue.data.objects import is_object, shown
from landcue.data.scenes import Length, Scale, SceneOptions, parse_bands
from landcue.errors import ArchiveError, LandcueError, ModelError, UsageError, counted
from landcue.types import Encoder

if TYPE_CHECKING:
    from landcue.archive.ray_encoding import RayEngine
    from landcue.models.load import Model

Progress = Callable[[str, int, int], object]
"""Called with (stage, done, total)."""

Notify = Callable[[str], object]
"""Called with one line about a problem or a warning."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How a source is read and encoded; every value has a default.

    >>> IndexOptions(chip="256px", bands="4,3,2").scale
    'auto'

    Attributes:
        labels: Label table for the images of a folder.
        chip: Side of the chips that images are cut into: ``256px``, ``120m``; ``None``:
            images are indexed whole.
        stride: Distance from one chip to the next; by default the side.
        grid: ``utm``: cut at the cells of a fixed grid, so that chips of several dates and scenes
            cover the same places (see :mod:`landcue.data.cells`); by default from the upper left
            corner of each scene.
        bands: Bands of rasters, from 1 or by name, in the model's order: ``4,3,2``; by default
            by the rule of :mod:`landcue.data.pictures`.
        scale: How stored values become bytes: ``auto``, ``percentile:2,98``, ``fixed:0,3000``.
        nodata: Largest share of a raster or chip without data, 0..1; by default 0.5 of a chip,
            and a raster that holds any is taken.
        asset: Asset of STAC items that is the image.
        batch_size: Images per model call.
        workers: Reading threads; by default the cores this process may use, up to 4.
        device: Device of the model: ``cpu``, ``cuda``, ``cuda:1``. By default ``cpu``; with Ray
            the GPUs, if there are any.
        runtime: ``torch``, ``onnx`` or ``auto``.
        prune: Remove records of this source whose file no longer exists.
        folder_labels: Whether folder names are labels: see
            :func:`landcue.data.sources.folder.read_folder`.
        source_name: Name of the source in the archive; by default that of its folder. Name the
            source again to index it from another folder.
        dim: Length of an embedding, for models of others: by default 128, or all features.
        bits: Bits of a code that is fitted to the images; 0 for none. By default the built-in
            encoder's number, and for models without codes the fewest of 64, 128 and 256 whose
            measured recall reaches 0.95.
        fit: Whether anything is fitted to the images: embeddings and codes of the built-in encoder,
            whatever models of others lack. Without, embeddings and codes are the model's own.
        regions: Regions a side that each image is divided into, 2 to 8, for mode ``regions``, which
            finds what is smaller than a chip: see :mod:`landcue.codes.regions`. By default those of
            the archive, and none for a new one. Each takes as long to encode as an image, and a
            byte for each value of an embedding.
        ray: Read and encode on a Ray cluster: ``local``, ``auto``, or its head's ``host:port``.
        ray_workers: Number of Ray workers; by default one per GPU, or else per core.

    Raises:
        UsageError: Options that contradict each other.
    """

    labels: str | Path | None = None
    chip: str | None = None
    stride: str | None = None
    grid: str | None = None
    bands: str | None = None
    scale: str = "auto"
    nodata: float | None = None
    asset: str | None = None
    batch_size: int = 64
    workers: int | None = None
    device: str | None = None
    runtime: str = "auto"
    prune: bool = False
    source_name: str | None = None
    folder_labels: bool | None = None
    dim: int | None = None
    bits: int | None = None
    fit: bool = True
    regions: int | None = None
    ray: str | None = None
    ray_workers: int | None = None

    def __post_init__(self) -> None:
        if self.ray is None and self.ray_workers is not None:
            raise UsageError("--ray-workers is for Ray; add its address: --ray local")
        if self.chip is None:
            if self.stride is not None:
                raise UsageError("--stride is for chips; add their size: --chip 256px")
            if self.grid is not None:
                raise UsageError("--grid is for chips; add their side: --chip 640m")
        elif self.labels is not None:
            raise UsageError("--labels is for whole images, not for chips; leave it out")

        if self.regions is not None:
            region_boxes(self.regions)

    def scene_options(self, model: Model) -> SceneOptions:
        """Return how rasters are read and cut for a model.

        Raises:
            UsageError: A value is not valid.
        """
        tower: Any = getattr(model, "tower", None)  # of a model of others
        named = None if tower is None or model.in_chans == 3 else tower.bands
        scale = self.scale
        if scale == "auto" and tower is not None and tower.value_range is not None:
            scale = "fixed:{:g},{:g}".format(*tower.value_range)
        return SceneOptions(
            chip=None if self.chip is None else Length.parse(self.chip, "--chip"),
            stride=None if self.stride is None else Length.parse(self.stride, "--stride"),
            grid=self.grid,
            bands=named if self.bands is None else parse_bands(self.bands),
            channels=model.in_chans,
            scale=Scale.parse(scale),
            nodata=self.nodata,
            side=model.image_size,
        )


_DEFAULTS = IndexOptions()
_SHOWN = 10


def index_source(
    source: str | Path,
    archive: str | Path,
    *,
    model: str | Path | None = None,
    options: IndexOptions = _DEFAULTS,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> IngestReport:
    """Add images, or chips of scenes, to an archive; only new and changed ones are encoded.

    Args:
        source: A folder, ``s3://bucket/prefix``, a table (.csv, .parquet), STAC items (.json) or a
            raster.
        archive: The archive to make or to update: a folder, or ``s3://bucket/prefix``.
        model: As :func:`landcue.load_model` takes it; by default the archive's own model, or the
            built-in one for a new archive. For a model of others, a new archive gets centered
            principal components, codes and, with labels, a label head that are fitted to a
            sample of its images.
        options: How the source is read and encoded.
        notify: Called with one line per problem or warning.

    Raises:
        UsageError: An option is not valid.
        DataError: The source is missing, or no image in it can be read.
        ModelError: There is no such model, or it is broken.
        ArchiveError: The archive is locked, broken, another model's, or cannot be written.

    >>> report = index_source("photos", "archives/new", options=IndexOptions(folder_labels=True))
    >>> report.added
    8
    """
    from landcue.data.datasets import detect_source
    from landcue.data.sources import open_source
    from landcue.data.sources.scenes import cut_scenes
    from landcue.models.load import BUILTIN, load_model

    source, archive = Path(source), Path(archive)
    report, log = progress or _ignore, notify or _ignore
    encoding = EncodingOptions(options.batch_size, workers=options.workers)
    if source.is_dir() and options.asset is None:
        images = detect_source(source, options.labels, folder_labels=options.folder_labels)
    else:
        images = open_source(
            source, options.labels, options.asset, folder_labels=options.folder_labels
        )
    one_scene = images.name == "scene"  # a part of its folder, which is the source
    with contextlib.ExitStack() as stack:
        own = own_model(archive)
        if own is None and not is_object(archive):
            with contextlib.suppress(OSError):  # named when the folder is locked
                if not (archive / MANIFEST).exists():
                    check_free(archive)
        here = (
            options.device if options.ray is None else None
        )  # with Ray it runs in other processes
        loaded = load_model(model or own or BUILTIN, runtime=options.runtime, device=here or "cpu")
        regions = _regions(archive, options.regions)
        scenes = options.scene_options(with_regions(loaded, regions))
        if scenes.chip is not None:
            images = cut_scenes(images, scenes, partial(report, "reading headers"))
        if loaded.unfinished:
            log(
                f"warning: the training of {loaded.path} has not finished; an archive keeps its "
                "model, so index into a new folder afterwards"
            )
        for problem in images.problems:
            log(f"problem: {problem}")
        unlabeled = images.name == "folder" and not images.label_names and not options.labels
        if unlabeled and options.folder_labels is None and any(r.group for r in images.records):
            log("folder names are not used as labels; add --folder-labels if they are classes")
        prepared = prepare_encoder(
            loaded, own, [SourceImages(images.records, images.root, scenes)],
            dim=options.dim, bits=options.bits, fit=options.fit, regions=regions, options=encoding,
            progress=partial(report, "fitting codes"), notify=log,
        )  # fmt: skip
        model_folder = stack.enter_context(saved(prepared.encoder))
        loaded = with_regions(prepared.encoder, regions)
        engine = None
        if options.ray is not None:
            engine = _ray_engine(options, loaded, model_folder, regions)
            # Ray reports dead workers on stdout, which is for results.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            stack.enter_context(engine.connection())
        report = ingest(
            SourceImages(
                with_parts(images, loaded.provenance).records,
                images.root,
                scenes,
                name=options.source_name,
                location=images.root if one_scene else source,
                unread=images.unread,
                only=source if one_scene else None,
            ),
            archive,
            loaded,
            options=replace(encoding, overlap=not loaded.on_cpu or is_object(source)),
            prune=options.prune,
            model_folder=model_folder,
            engine=engine,
            progress=partial(report, "indexing"),
            reuse=None if regions else prepared.known,
            spent=0.0 if engine is not None else prepared.seconds,
        )
        grown = ""
        if own is not None and options.fit and report.added:
            grown = outgrown(prepared.encoder, shown(archive), report.records, regions)
        report = replace(report, problems=images.problems, codes=prepared.codes, outgrown=grown)
        if grown:
            log(grown)
        for problem in report.skipped:
            log(f"skipped {problem}")
        for rule, files in report.assumed.items():
            log(f"{counted(files, 'raster')}: {rule}")
        for problem in report.warnings[:_SHOWN]:
            log(f"warning of {problem}")
        if len(report.warnings) > _SHOWN:
            log(f"{len(report.warnings) - _SHOWN:,} more warnings: see the report of --json")
        if engine is not None:
            for line in engine.summary():
                log(line)
            report = replace(report, ray=engine.to_json())
    return report


def index(
    source: str | Path,
    archive: str | Path,
    *,
    model: str | Path | None = None,
    options: IndexOptions = _DEFAULTS,
    progress: Progress | None = None,
) -> Any:
    """Add images to an archive and open it; see :func:`index_source` for the arguments.

    Saved searches of the archive are evaluated on the new records: see
    :attr:`landcue.Archive.watches`.

    >>> archive = landcue.index("photos", "archives/photos")       # doctest: +SKIP
    >>> archive.search("photos/a.jpg", k=12)                       # doctest: +SKIP

    Returns:
        The opened archive.

    Raises:
        LandcueError: As :func:`index_source`.
    """
    import landcue

    index_source(source, archive, model=model, options=options, progress=progress)
    opened: Any = getattr(landcue, "open", ArchiveFolder.open)(Path(archive))
    if not is_object(Path(archive)):
        for problem in opened.watches.run().problems:
            warnings.warn(str(problem), stacklevel=2)
    return opened


def reembed_archive(
    archive: str | Path,
    model: str | Path | None = None,
    *,
    drop_missing: bool = False,
    dim: int | None = None,
    bits: int | None = None,
    fit: bool = True,
    regions: int | None = None,
    bands: str | None = None,
    scale: str | None = None,
    nodata: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> ReembedReport:
    """Encode all records with another model; searches use the old one until it is complete.

    Args:
        model: As :func:`landcue.load_model` takes it. The codes and labels of a model of others
            are fitted again to the archive's images; by default the archive's own model's are.
        drop_missing: Drop records whose image cannot be read; otherwise the call fails.
        dim: Length of an embedding, as in :class:`IndexOptions`.
        bits: Bits of a code, likewise.
        fit: Whether anything is fitted to the images, likewise.
        regions: Regions a side, likewise; 0 removes them. By default those of the archive.
        bands: Bands of chips, as in :class:`IndexOptions`; by default as they were indexed.
        scale: How stored values of chips become bytes, likewise.
        nodata: Largest share of a chip without data, likewise.
        notify: Called with one line about what was fitted.

    Raises:
        LandcueError: As :func:`landcue.archive.rebuild.reembed`.

    >>> reembed_archive("archives/photos", "onnx:mine.onnx").records     # doctest: +SKIP
    """
    archive = Path(archive)
    from landcue.models.load import is_builtin, load_model

    encoding = EncodingOptions(batch_size, workers=workers)
    own = None if model is not None else own_model(archive)
    if model is None and own is None:
        raise ModelError("the archive holds no model; add --model")
    loaded = load_model(model or own or "", device=device)
    if regions:
        region_boxes(regions)
    stored = read_manifest(archive).regions
    regions = stored if regions is None else regions
    given = {"bands": bands and parse_bands(bands), "scale": scale, "nodata": nodata}
    changed = {name: value for name, value in given.items() if value is not None}
    scenes = partial(stored_scene_options, with_regions(loaded, regions), changed)
    report = progress or _ignore
    same = _same_training(archive, loaded.provenance)
    prepared = Prepared(loaded)
    fits = hasattr(loaded, "tower") or hasattr(loaded, "base")
    if fits or is_builtin(loaded) or not loaded.n_bits or dim is not None or bits is not None:
        parts, stage = reembed_parts(archive, scenes)
        prepared = prepare_encoder(
            loaded, stage, parts,
            dim=dim, bits=bits, fit=fit, regions=regions, options=encoding, refit=True,
            progress=partial(report, "fitting codes"), notify=notify,
        )  # fmt: skip
    loaded = prepared.encoder
    with saved(loaded) as model_folder:
        return reembed(
            archive,
            with_regions(loaded, regions),
            model_folder=model_folder,
            drop_missing=drop_missing,
            keep_parts=same,
            scenes=scenes,
            options=replace(encoding, overlap=not loaded.on_cpu),
            progress=partial(report, "encoding again"),
            reuse=None if regions else prepared.known,
        )


def repair_archive(
    archive: str | Path,
    *,
    apply: bool = False,
    model: str | Path | None = None,
) -> RepairReport:
    """Repair an archive; damaged records are encoded again from their images.

    Args:
        apply: Whether to change anything; else only report.
        model: The archive's model, to replace a damaged copy.

    Raises:
        LandcueError: As :func:`landcue.archive.rebuild.repair`.

    >>> repair_archive(folder).repaired
    []
    """
    archive = Path(archive)
    from landcue.models.load import load_model

    given = None if model is None else load_model(model)

    def load() -> tuple[Encoder, Callable[[Source], SceneOptions | None]]:
        own = own_model(archive)
        if given is None and own is None:
            raise ModelError("the archive holds no model; add --model")
        loaded = with_regions(given or load_model(own or ""), _regions(archive, None))
        return loaded, partial(stored_scene_options, loaded, {})

    return repair(
        archive,
        apply=apply,
        model=None if given is None else (given.path, with_regions(given, _regions(archive, None))),
        load_encoder=load,
    )


def with_parts(images: ImageSet, provenance: Mapping[str, Any]) -> ImageSet:
    """Mark each record as ``train``, ``val`` or ``test`` when these are the model's own images."""
    from landcue.data.splits import apply_split, data_id

    split = provenance.get("split")
    known = provenance.get("data_id")
    if not isinstance(split, str) or any(record.labels is None for record in images.records):
        return images
    divided = apply_split(images, split)
    return divided if data_id(divided) == known else images


def _ignore(*_: object) -> None:
    pass


def with_regions(model: Model, regions: int) -> Model:
    """Return a model that encodes regions of images, too, if there are to be any."""
    from landcue.models.regions import RegionEncoder

    return cast("Model", RegionEncoder(model, regions)) if regions else model


def _regions(archive: Path, asked: int | None) -> int:
    """Return the regions a side of an archive, or those asked for if it is new."""
    if not storage.exists(archive / MANIFEST):
        return asked or 0
    stored = read_manifest(archive).regions
    if asked is not None and asked != stored:
        has = f"{stored} a side" if stored else "none"
        raise ArchiveError(
            f"--regions {asked}: {shown(archive)} has {has}; leave it out, or change them with "
            f"landcue archive reembed --regions {asked}"
        )
    return stored


def _ray_engine(options: IndexOptions, model: Model, folder: Path, regions: int) -> RayEngine:
    from landcue.archive.ray_encoding import ModelFiles, RayEngine

    return RayEngine(
        options.ray or "",
        lambda device: ModelFiles.read(folder, partial(_load, options.runtime, device, regions)),
        model.fingerprint,
        workers=options.ray_workers,
        device=options.device,
        batch_size=options.batch_size,
    )


def _load(runtime: str, device: str, regions: int, folder: Path, threads: int) -> Encoder:
    from landcue.models.load import load_model

    loaded = load_model(folder, runtime=runtime, device=device, threads=threads)
    return with_regions(loaded, regions)


def _same_training(archive: Path, provenance: Mapping[str, Any]) -> bool:
    """Return whether a model was trained on the same part of the same images as the archive's."""
    from landcue.models.load import load_model

    keys, own = ("split", "data_id"), own_model(archive)
    if own is None or not all(provenance.get(key) for key in keys):
        return False  # without loading torch for a model that needs it
    try:
        old = load_model(own).provenance
    except LandcueError:  # a damaged copy does not prevent a new model
        return False
    return all(old.get(key) == provenance[key] for key in keys)

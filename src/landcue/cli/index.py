"""``landcue index``."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json
from landcue.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from landcue.data.imageset import ImageSet
    from landcue.data.scenes import SceneOptions
    from landcue.models.load import Model


def index(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder, s3://bucket/prefix, table (.csv, .parquet), STAC items (.json) or "
            "GeoTIFF; also as s3://bucket/key."
        ),
    ],
    archive: Annotated[
        Path, typer.Argument(help="Archive to make or to update: a folder, or s3://bucket/prefix.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Run folder, exported .onnx file, or builtin (default); an existing archive keeps "
            "its own."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table for a folder.")] = None,
    chip: Annotated[
        str | None,
        typer.Option(help="Cut GeoTIFF scenes into chips of this side: 256px, 120m."),
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="From one chip to the next; by default the side.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands of a scene, from 1, in the model's order: 4,3,2.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Stored values to bytes: auto, percentile:2,98, fixed:0,3000.")
    ] = "auto",
    nodata: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of a chip without data.")
    ] = 0.5,
    asset: Annotated[
        str | None, typer.Option(help="Asset of STAC items that is the image.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per model call.")] = 64,
    workers: Annotated[int | None, typer.Option(min=1, help="Reading threads.")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where the model runs: cpu, cuda, cuda:1. By default cpu; with --ray the GPUs, "
            "if there are any."
        ),
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="torch, onnx (the model.onnx of a run folder), or auto.")
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Read and encode on a Ray cluster: local, auto, or its head's host:port.",
        ),
    ] = None,
    ray_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Ray workers; by default one per GPU, or else per core."),
    ] = None,
    prune: Annotated[bool, typer.Option(help="Drop records whose file is gone.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Put images, or chips of scenes, into an archive; only new and changed ones are encoded."""
    from landcue.archive.archive import own_model
    from landcue.archive.ingest import ingest
    from landcue.archive.published import publishing
    from landcue.data.datasets import detect_source
    from landcue.data.objects import is_object, url
    from landcue.data.sources import open_source
    from landcue.data.sources.scenes import cut_scenes
    from landcue.models.builtin import BUILTIN
    from landcue.models.load import load_model

    if ray is None and ray_workers is not None:
        raise UsageError("--ray-workers is for Ray; give its address too: --ray local")
    if chip is None:
        given = {"--stride": stride, "--bands": bands}
        for option in (name for name, value in given.items() if value is not None):
            raise UsageError(f"{option} is for scenes; give the size of their chips: --chip 256px")
    elif labels is not None:
        raise UsageError("--labels are of whole images and say nothing of chips; leave them out")
    if source.is_dir() and asset is None:
        images = detect_source(source, labels)
    else:
        images = open_source(source, labels, asset)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(publishing(archive)) if is_object(archive) else archive
        reporter = stack.enter_context(Reporter())
        own = own_model(folder) if model is None else None
        here = device if ray is None else None  # with Ray, what is loaded here only describes
        loaded = load_model(own or model or BUILTIN, runtime=runtime, device=here or "cpu")
        scenes = _scene_options(loaded, chip, stride, bands, scale, nodata)
        if scenes is not None:
            looked = partial(reporter.tick, "reading headers")
            images = cut_scenes(images, scenes, looked if is_object(source) else None)
        if loaded.unfinished:
            reporter.say(
                f"warning: the training of {loaded.path} has not ended; an archive keeps its "
                "model, so index into a new folder once it has"
            )
        for problem in images.problems:
            reporter.say(f"problem: {problem}")
        engine = None
        if ray is not None:
            from landcue.ray.engine import RayEngine
            from landcue.ray.worker import ModelFiles

            engine = RayEngine(
                ray,
                lambda device: ModelFiles.read(loaded.path, runtime, device),
                loaded.encoder.fingerprint,
                workers=ray_workers,
                device=device,
                batch_size=batch,
                say=reporter.say,
            )
            # Ray tells of dead workers on stdout, which is for results.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            stack.enter_context(engine.connection())
        report = ingest(
            with_parts(images, loaded.provenance).records,
            folder,
            loaded.encoder,
            source_root=images.root,
            model_folder=loaded.path,
            batch_size=batch,
            prune=prune,
            overlap=not loaded.on_cpu or is_object(source),
            workers=workers,
            scenes=scenes,
            unread=images.unread,
            engine=engine,
            progress=lambda done, total: reporter.tick("indexing", done, total),
        )
        for problem in report.skipped:
            reporter.say(f"skipped {problem}")
        for line in engine.summary() if engine is not None else ():
            reporter.say(line)
    name = url(archive) if is_object(archive) else str(archive)
    if json_:
        spread = {} if engine is None else {"ray": engine.to_json()}
        print_json({"archive": name, **report.to_json(), **spread})
    else:
        print(f"{name}: {report.summary()}")


def _scene_options(
    model: Model,
    chip: str | None,
    stride: str | None,
    bands: str | None,
    scale: str,
    nodata: float,
) -> SceneOptions | None:
    from landcue.data.scenes import Length, Scale, SceneOptions, parse_bands

    scaling = Scale.parse(scale)
    if chip is None:
        if model.in_chans != 3:
            raise UsageError(
                f"the model takes {model.in_chans} bands, images have 3; give --chip and --bands "
                "to index scenes"
            )
        return None
    return SceneOptions(
        chip=Length.parse(chip, "--chip"),
        stride=None if stride is None else Length.parse(stride, "--stride"),
        bands=None if bands is None else parse_bands(bands),
        channels=model.in_chans,
        scale=scaling,
        nodata=nodata,
        side=model.image_size,
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

"""Read the images and chips of an archive's records again from their sources."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landcue.archive.plan import make_plan
from landcue.archive.reading import ReadImage, reading_ahead
from landcue.archive.rebuild import check_images, stored_parts
from landcue.archive.sources import Source
from landcue.data.imageset import ImageSet
from landcue.data.objects import shown
from landcue.data.scenes import SceneOptions
from landcue.errors import UsageError
from landcue.files import core_count
from landcue.types import ByteArray, Encoder, Problem

if TYPE_CHECKING:
    from landcue.models.load import Model
    from landcue.search.backend import Storage


class ArchiveImages:
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
        from landcue.models.load import load_model

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
            plan = make_plan(taken, {}, "", part.root)
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


def stored_scene_options(model: Model, changed: Mapping[str, Any], source: Source) -> SceneOptions:
    """Return how the rasters and chips of a source were read."""
    note = {**source.scenes, **changed}
    if not note:
        return SceneOptions(channels=model.in_chans, side=model.image_size)
    return SceneOptions.noted(note, channels=model.in_chans, side=model.image_size)

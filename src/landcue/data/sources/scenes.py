"""Scenes of a source, cut into chips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import starmap
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from landcue.data.cells import cell_windows
from landcue.data.geo import Place, window_places
from landcue.data.header import RasterFacts, read_facts
from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.objects import is_object, look_up, shown
from landcue.data.raster import RASTER_SUFFIXES
from landcue.data.scenes import MAX_SIDE, Length, SceneOptions, grid, pixel_meters, pixels_of
from landcue.errors import DataError, StoreError
from landcue.types import Problem, Record, Window

_AT_ONCE = 16
"""Headers that are asked for at once: a store answers each after a while."""
_SHARE = 256
"""Scenes after which a failing store ends the work."""


def cut_scenes(
    images: ImageSet,
    options: SceneOptions,
    progress: Callable[[int, int], object] | None = None,
) -> ImageSet:
    """Replace each image of a source by its chips; no pixel is read yet.

    A chip's id is that of its scene (without .tif), its first row and column, and its size, such as
    ``scene/r000256-c000512-256x256``, or the name of its cell, where ``options.grid`` is a fixed
    grid (see :mod:`landcue.data.cells`): ids sort row by row, as chips are read. The scene is
    its group. It takes time and sensor from the source or else from the file's tags. It has no
    labels: those of a whole scene say nothing of one chip.
    """
    problems = list(images.problems)
    unread: list[Path] = []
    records: list[Record] = []
    headers, names = _headers(images.records), _scene_names(images.records)
    for done, (scene, header) in enumerate(zip(images.records, headers, strict=True), start=1):
        if progress is not None:
            progress(done, len(images.records))
        try:
            scene, facts = _known(header)
            options.choose(facts)
            chips = list(_chips(scene, names[scene.id], facts, options))
        except DataError as error:
            what = str(error).removeprefix(f"{shown(scene.path)}: ")
            problems.append(Problem(scene.id, what))
            unread.append(scene.path)
            continue
        if facts.crs is None:
            what = "; ".join(("has no georeference", *facts.notes))
            problems.append(Problem(scene.id, f"{what}; its chips have no footprint"))
        elif any(chip.bbox is None for chip in chips):
            problems.append(Problem(scene.id, "reaches off the map; chips there have no footprint"))
        records += chips
    if not records:
        first = f" ({len(problems)} problems, first: {problems[0]})" if problems else ""
        raise DataError(f"{shown(images.root)} holds no scene to cut{first}")
    cut = make_image_set("scenes", images.root, records, (), problems)
    return replace(cut, unread=(*images.unread, *unread))


_Header = tuple[Record, RasterFacts] | DataError


def _headers(scenes: Sequence[Record]) -> Iterator[_Header]:
    """Read the headers of scenes, in order; those in a store several at once."""
    for first in range(0, len(scenes), _SHARE):
        part = scenes[first : first + _SHARE]
        if not any(is_object(scene.path) for scene in part):
            yield from map(_header, part)
            continue
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(_header, part)


def _header(scene: Record) -> _Header:
    try:
        if is_object(scene.path):
            scene = replace(scene, path=look_up(scene.path))
        return scene, read_facts(scene.path)
    except StoreError:
        raise
    except DataError as error:
        return error


def _known(header: _Header) -> tuple[Record, RasterFacts]:
    if isinstance(header, DataError):
        raise header
    return header


def _chips(scene: Record, name: str, facts: RasterFacts, options: SceneOptions) -> Iterator[Record]:
    for window, place, part in _cut(facts, options):
        yield Record(
            id=f"{name}/{part}",
            path=scene.path,
            group=name,
            bbox=None if place is None else place.bbox,
            datetime=scene.datetime or facts.time,
            window=window,
            sensor=scene.sensor or facts.sensor,
            geometry=None if place is None else place.geometry,
        )


def _cut(facts: RasterFacts, options: SceneOptions) -> Iterator[tuple[Window, Place | None, str]]:
    """Yield the windows of a scene with their places and the last parts of their ids."""
    steps = None
    side = options.chip or Length(MAX_SIDE, meters=False)
    if options.grid is not None:
        windows, names = cell_windows(facts, side.value, (options.stride or side).value)
        if windows[:, 2:].max() > MAX_SIDE:
            raise DataError(f"{side} are {windows[:, 2:].max()} of its pixels, over {MAX_SIDE}")
        places = _places(facts, windows)
        yield from zip(starmap(Window, windows.tolist()), places, names, strict=True)
        return
    if facts.crs is not None and (side.meters or (options.stride or side).meters):
        steps = pixel_meters(facts.crs, facts.transform, facts.width, facts.height)
    chip = pixels_of(side, steps)
    stride = chip if options.stride is None else pixels_of(options.stride, steps)
    if max(chip) > MAX_SIDE:
        raise DataError(f"{side} are {max(chip)} of its pixels, over {MAX_SIDE}")
    windows = grid(facts.width, facts.height, chip, stride)
    names = [f"r{row:06}-c{col:06}-{w}x{h}" for col, row, w, h in windows.tolist()]
    yield from zip(starmap(Window, windows.tolist()), _places(facts, windows), names, strict=True)


def _places(facts: RasterFacts, windows: np.ndarray[Any, Any]) -> list[Any]:
    if facts.crs is None:
        return [None] * len(windows)
    return list(window_places(facts.crs, facts.transform, windows))


def _scene_names(scenes: Sequence[Record]) -> dict[str, str]:
    """Return the names of scenes by their ids, without suffix unless another one has that name."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for scene in scenes:
        suffix = PurePosixPath(scene.id).suffix
        name = scene.id.removesuffix(suffix) if suffix.lower() in RASTER_SUFFIXES else scene.id
        names[scene.id] = scene.id if name in taken else name
        taken.add(names[scene.id])
    return names

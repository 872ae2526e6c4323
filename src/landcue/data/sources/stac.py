"""STAC items in a JSON file: an item collection or a single item."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from landcue.data.geo import place_of
from landcue.data.images import SUFFIXES
from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.label_table import parse_time
from landcue.data.names import clean_id
from landcue.data.sources.folder import NamedFiles, local_copy
from landcue.errors import DataError
from landcue.types import Problem, Record

_NOT_IMAGES = {"thumbnail", "overview", "metadata"}
_USUAL = ("visual", "image", "data")


def read_stac(path: Path, asset: str | None = None) -> ImageSet:
    """Read the images that STAC items name, each on the machine or in the store that they are on.

    Of an item come its id, ``datetime`` (or else ``start_datetime``), ``constellation`` or
    ``platform`` as sensor, ``collection`` as group, and ``bbox`` and ``geometry``.

    Args:
        path: A ``FeatureCollection`` of items, or one item.
        asset: Which asset is the image, for items with several; by default ``visual``, ``image`` or
            ``data``, or the only one that is an image.

    Raises:
        DataError: No STAC items, or none with an image there.
        StoreError: The store cannot be reached, or refuses.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    with local_copy(path) as copy:
        items = _items(copy)
    files = NamedFiles(path.parent, (name for item in items for name in _names(item)))
    for number, item in enumerate(items):
        where = f"{path.name} item {item.get('id') or number}"
        try:
            record = _record(item, files, asset)
            try:
                records.append(replace(record, **_where(item)))
            except DataError as error:
                problems.append(Problem(where, f"{error}; indexed without a place"))
                records.append(record)
        except DataError as error:
            problems.append(Problem(where, str(error)))
    return make_image_set("stac", path.parent, records, (), problems)


def _items(path: Path) -> list[dict[str, Any]]:
    hint = "give a JSON file with a STAC item collection (FeatureCollection)"
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); {hint}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object; {hint}")
    document = cast(dict[str, Any], value)
    kind = document.get("type")
    found = document.get("features") if kind == "FeatureCollection" else [document]
    if kind not in ("FeatureCollection", "Feature") or not isinstance(found, list):
        raise DataError(f"{path} is of type {kind!r}; {hint}")
    items = [item for item in cast(list[Any], found) if isinstance(item, dict)]
    return cast(list[dict[str, Any]], items)


def _record(item: Mapping[str, Any], files: NamedFiles, asset: str | None) -> Record:
    id_ = item.get("id")
    if not isinstance(id_, str) or not id_:
        raise DataError("has no id")
    properties = _mapping(item.get("properties"))
    path = _file(_choose(_mapping(item.get("assets")), asset), files)
    time = properties.get("datetime") or properties.get("start_datetime") or ""
    sensor = properties.get("constellation") or properties.get("platform")
    collection = item.get("collection")
    return Record(
        id=clean_id(id_),
        path=path,
        group=collection if isinstance(collection, str) else None,
        time=parse_time(str(time), "its datetime"),
        sensor=sensor if isinstance(sensor, str) else None,
    )


def _where(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return bounds and footprint of an item."""
    geometry, box = item.get("geometry"), item.get("bbox")
    place = place_of(geometry, cast("list[Any] | None", box if isinstance(box, list) else None))
    return {} if place is None else {"bounds": place.bounds, "footprint": place.footprint}


def _choose(assets: Mapping[str, Any], wanted: str | None) -> str:
    """Return the address of the asset that is the image."""
    if wanted is not None:
        if wanted not in assets:
            raise DataError(f"has no asset {wanted!r}, only {', '.join(sorted(assets)) or 'none'}")
        return str(_mapping(assets[wanted]).get("href") or "")
    images: dict[str, str] = {}
    for name, value in assets.items():
        entry = _mapping(value)
        href, roles = str(entry.get("href") or ""), entry.get("roles")
        other = isinstance(roles, list) and _NOT_IMAGES & {str(r) for r in cast(list[Any], roles)}
        if Path(href).suffix.lower() in SUFFIXES and not other and name not in _NOT_IMAGES:
            images[name] = href
    if len(images) == 1:
        return next(iter(images.values()))
    for name in _USUAL:
        if name in images:
            return images[name]
    if not images:
        raise DataError("has no asset that is an image (.tif, .jpg, .png, .webp)")
    raise DataError(f"has several images ({', '.join(sorted(images))}); choose with --asset")


def _names(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the addresses of an item's assets that may be images."""
    for asset in _mapping(item.get("assets")).values():
        href = str(_mapping(asset).get("href") or "")
        if Path(href).suffix.lower() in SUFFIXES:
            yield from _spellings(href)


def _spellings(href: str) -> Iterator[str]:
    yield from dict.fromkeys((href, unquote(href)))


def _file(href: str, files: NamedFiles) -> Path:
    href = href.removeprefix("file://")
    if not href:
        raise DataError("an empty href: name an image")
    for name in _spellings(href):
        if (found := files.find(name)) is not None:
            return found
    raise DataError(f"no image {href!r}")


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}

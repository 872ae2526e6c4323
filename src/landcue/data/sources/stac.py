"""STAC items: in item collections, lists, lines, and the files that catalogs link to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from landcue.data.images import READ, SUFFIXES
from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.label_table import parse_time
from landcue.data.names import clean_id
from landcue.data.objects import is_object, shown
from landcue.data.places import place_of
from landcue.data.sources.folder import NamedFiles, local_copy
from landcue.data.stacks import band_files
from landcue.errors import DataError
from landcue.types import Problem, Record

_NOT_IMAGES = {"thumbnail", "overview", "metadata"}
_MEDIA_TYPES = {
    *("image/tiff", "image/jpeg", "image/png", "image/webp", "image/jp2", "image/geotiff"),
    *("image/vnd.stac.geotiff", "image/bmp", "image/gif", "image/avif"),
    *("image/heic", "image/heif"),
}
LINES = {".ndjson", ".jsonl", ".geojsonl"}
"""Files that hold an item per line."""
_USUAL = ("visual", "image", "data")


def read_stac(path: Path, asset: str | None = None) -> ImageSet:
    """Read the images that STAC items name, each on the machine or in the store that they are on.

    Of an item come its id, ``datetime`` (or else ``start_datetime``), ``constellation`` or
    ``platform`` as sensor, ``collection`` as group, and ``geometry`` or else ``bbox``.

    Args:
        path: A ``FeatureCollection`` of items, one item, a list of items, items line by line
            (``.ndjson``, ``.jsonl``), or a Catalog or Collection whose links of kind ``child`` and
            ``item`` lead to local files.
        asset: Which asset is the image, for items with several; by default ``visual``, ``image`` or
            ``data``, or the only one that is an image by its media type or its name. Of an item
            with one asset a band (Sentinel-2, Landsat) all bands are stacked; the asset of the red
            band stands for them.

    Raises:
        DataError: No STAC items, or none with an image there.
        StoreError: The store cannot be reached, or refuses.
    """
    problems: list[Problem] = []
    with local_copy(path) as copy:
        found = _documents(copy, path)
    items = list(_follow(found, path, problems, {_real(path)}))
    return stac_images(path, items, asset, problems)


def stac_images(
    path: Path, items: Sequence[tuple[str, Path, Item]], asset: str | None, problems: list[Problem]
) -> ImageSet:
    """Return the images of items: for each where it stands, the folder of its file, and itself."""
    folders = {folder for _, folder, _ in items} or {path.parent}
    files = {
        root: NamedFiles(root, (n for _, at, item in items if at == root for n in _names(item)))
        for root in folders
    }
    records: list[Record] = []
    for where, folder, item in items:
        try:
            record = _record(item, files[folder], asset)
            try:
                records.append(replace(record, **_where(item)))
            except DataError as error:
                problems.append(Problem(where, f"{error}; indexed without a place"))
                records.append(record)
        except DataError as error:
            problems.append(Problem(where, str(error)))
    return make_image_set("stac", path.parent, records, (), problems)


Item = Mapping[str, Any]
_MOST_DEPTH = 20


def _follow(
    documents: list[Any], path: Path, problems: list[Problem], seen: set[Path], depth: int = 0
) -> Iterator[tuple[str, Path, Item]]:
    """Yield the items of documents, and of the files that catalogs link to."""
    for number, document in enumerate(documents):
        item = _mapping(document)
        where = f"{path.name} item {item.get('id') or number}"
        kind = item.get("type")
        if kind == "Feature":
            yield where, path.parent, item
            continue
        if kind not in ("Catalog", "Collection"):
            problems.append(Problem(where, f"is of type {kind!r}, no STAC item"))
            continue
        links = item.get("links")
        for link in map(_mapping, cast(list[Any], links) if isinstance(links, list) else []):
            if link.get("rel") not in ("child", "item", "items"):
                continue
            href = str(link.get("href") or "")
            try:
                file = _file(href, NamedFiles(path.parent, _spellings(href)))
                if _real(file) in seen or depth == _MOST_DEPTH:
                    continue
                seen.add(_real(file))
                with local_copy(file) as copy:
                    nested = _documents(copy, file)
            except DataError as error:
                problems.append(Problem(where, str(error)))
                continue
            yield from _follow(nested, file, problems, seen, depth + 1)


def _real(path: Path) -> Path:
    return path if is_object(path) else path.resolve()


def _documents(path: Path, name: Path) -> list[Any]:
    """Return the items and catalogs of a file."""
    hint = "use STAC items: a FeatureCollection, a list, one item per line, or a catalog"
    try:
        data = path.read_bytes()
        if path.suffix.lower() in LINES:
            return [json.loads(line) for line in data.splitlines() if line.strip()]
        value = json.loads(data)
    except OSError as error:
        raise DataError(f"cannot read {shown(name)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(name)} is not valid JSON ({error}); {hint}") from None
    if isinstance(value, list):
        return cast(list[Any], value)
    if not isinstance(value, dict):
        raise DataError(f"{shown(name)} holds no JSON object; {hint}")
    document = cast(dict[str, Any], value)
    kind, features = document.get("type"), document.get("features")
    if kind == "FeatureCollection" and isinstance(features, list):
        return cast(list[Any], features)
    if kind not in ("Feature", "Catalog", "Collection"):
        raise DataError(f"{shown(name)} is of type {kind!r}; {hint}")
    return [document]


def _record(item: Mapping[str, Any], files: NamedFiles, asset: str | None) -> Record:
    id_ = item.get("id")
    if not isinstance(id_, str) or not id_:
        raise DataError("has no id")
    properties = _mapping(item.get("properties"))
    path = _image(_mapping(item.get("assets")), asset, files)
    time = properties.get("datetime") or properties.get("start_datetime") or ""
    sensor = properties.get("constellation") or properties.get("platform")
    collection = item.get("collection")
    return Record(
        id=clean_id(str(properties.get("landcue:id") or id_)),
        path=path,
        group=clean_id(collection) if isinstance(collection, str) else None,
        datetime=parse_time(str(time), "its datetime"),
        sensor=clean_id(sensor) if isinstance(sensor, str) else None,
    )


def _where(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return bounds and footprint of an item."""
    geometry, box = item.get("geometry"), item.get("bbox")
    place = place_of(geometry, cast("list[Any] | None", box if isinstance(box, list) else None))
    return {} if place is None else {"bbox": place.bbox, "geometry": place.geometry}


def _image(assets: Mapping[str, Any], wanted: str | None, files: NamedFiles) -> Path:
    """Return the file of the asset that is the image, or of the red band of a scene of bands."""
    if wanted is not None:
        if wanted not in assets:
            raise DataError(f"has no asset {wanted!r}, only {', '.join(sorted(assets)) or 'none'}")
        return _file(str(_mapping(assets[wanted]).get("href") or ""), files)
    images: dict[str, str] = {}
    for name, value in assets.items():
        entry = _mapping(value)
        href, roles = str(entry.get("href") or ""), entry.get("roles")
        other = isinstance(roles, list) and _NOT_IMAGES & {str(r) for r in cast(list[Any], roles)}
        if _is_image(entry) and not other and name not in _NOT_IMAGES:
            images[name] = href
    if len(images) == 1:
        return _file(next(iter(images.values())), files)
    for name in _USUAL:
        if name in images:
            return _file(images[name], files)
    if not images:
        raise DataError(f"has no asset that is an image ({READ})")
    named: list[Path] = []
    for href in images.values():
        with contextlib.suppress(DataError):  # an asset that is elsewhere
            named.append(_file(href, files))
    red = [file for file in dict.fromkeys(named) if band_files(file)]
    if len(red) == 1:
        return red[0]
    raise DataError(f"has several images ({', '.join(sorted(images))}); choose with --asset")


def _names(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the addresses of an item's assets that may be images."""
    for asset in _mapping(item.get("assets")).values():
        if _is_image(_mapping(asset)):
            yield from _spellings(str(_mapping(asset).get("href") or ""))


def _is_image(asset: Mapping[str, Any]) -> bool:
    """Return whether an asset is an image by its media type, or by its name without a query."""
    kind = str(asset.get("type") or "").partition(";")[0].strip().lower()
    href = str(asset.get("href") or "")
    return Path(href.partition("?")[0]).suffix.lower() in SUFFIXES or kind in _MEDIA_TYPES


def _spellings(href: str) -> Iterator[str]:
    """Yield what a file may be called that a link names: as it is, unquoted, without a query."""
    plain = href.partition("?")[0].partition("#")[0]
    yield from dict.fromkeys((href, unquote(href), plain, unquote(plain)))


def _file(href: str, files: NamedFiles) -> Path:
    href = href.removeprefix("file://")
    if not href:
        raise DataError("an empty href: name an image")
    for name in _spellings(href):
        if name and (found := files.find(name)) is not None:
            return found
    raise DataError(f"no image {href!r}")


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}

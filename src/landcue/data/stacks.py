"""Scenes of one file a band, as Sentinel-2 and Landsat products have them, read as one raster.

Files of one folder whose names differ only in the band (``X_B02.tif``, ``X_B03.tif`` …; of a SAFE
product also in the resolution) are one scene if red, green and blue are among them. The file of the
red band stands for all of them; bands are enlarged to the finest one where they are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from landcue.data.objects import address, is_object, look_up, shown, store_of
from landcue.data.raster import RASTER_SUFFIXES, is_utf8, open_dataset, raster_options
from landcue.errors import DataError
from landcue.types import Record

_BAND = re.compile(r"^(.*?)((?:SR_)?)(B(?:\d{1,2}|8A))((?:_\d0m)?)(\.\w+)$", re.IGNORECASE)
_OTHER = re.compile(r"^(.*?)(?:TCI|SCL|AOT|WVP|PVI|QA_\w+|SR_QA_\w+|ST_\w+)(?:_\d0m)?\.\w+$", re.I)
_RESOLUTION = re.compile(r"R\d0m")
_LANDSAT = re.compile(r"L[COTEM]0?([4-9])", re.IGNORECASE)
_TIME = re.compile(r"_(\d{8})(?:T(\d{6}))?(?=_|$)")
_GDAL = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32",
    "int32": "Int32", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
_COLORS = ("Red", "Green", "Blue")


def _parts(path: Path) -> tuple[Path, str, str] | None:
    """Return the folder of a scene, the part of the name before the band, and the band."""
    match = _BAND.match(path.name)
    if match is None or path.suffix.lower() not in RASTER_SUFFIXES:
        return None
    folder = path.parent.parent if _RESOLUTION.fullmatch(path.parent.name) else path.parent
    return folder, match[1], match[3].upper()


def _colors(head: str) -> tuple[str, str, str]:
    """Return the numbers of the red, green and blue band."""
    found = _LANDSAT.match(head)
    return ("3", "2", "1") if found and int(found[1]) < 8 else ("4", "3", "2")


def _number(band: str) -> str:
    return band[1:].lstrip("0")


def _chosen(head: str, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Return a file for each band, the finest, red, green and blue first; empty if one lacks."""
    bands: dict[str, Path] = {}
    for band, path in sorted(files, key=lambda one: (one[1].parent.name, one[1].name)):
        bands.setdefault(band, path)  # R10m comes before R20m
    numbers = {_number(band): band for band in bands}
    first = [numbers.get(number) for number in _colors(head)]
    if None in first:
        return {}
    rest = sorted(set(bands) - set(first), key=lambda band: (int(re.sub(r"\D", "", band)), band))
    return {band: bands[band] for band in (*first, *rest) if band is not None}


def band_files(path: Path) -> dict[str, Path]:
    """Return the files of the scene that the file of a red band stands for, by band.

    Objects come with size, time and ETag.

    >>> band_files(Path("photo.tif"))
    {}
    """
    parts = _parts(path)
    if parts is None:
        return {}
    folder, head, band = parts
    if _number(band) != _colors(head)[0]:
        return {}
    _, prefix, token, size, suffix = re.findall(_BAND, path.name)[0]
    width = len(token) - 1
    tokens = {*(f"B{number:0{width}}" for number in range(1, 13)), "B8A"}
    named: list[tuple[str, Path]] = []
    for other in sorted(tokens):
        spelled = other if token[0] == "B" else other.lower()
        for res in ("10", "20", "60") if size else ("",):
            name = f"{head}{prefix}{spelled}{f'_{res}m' if size else ''}{suffix}"
            inner = (*folder.parts, f"R{res}m") if path.parent != folder else folder.parts
            named.append((other, Path(*inner, name)))
    files = _chosen(head, _existing(named))
    if not files or next(iter(files.values())) != path:
        return {}
    if is_object(path):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(files, pool.map(look_up, files.values()), strict=True))
    return files


_AT_ONCE = 16


def _existing(named: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    if not is_object(named[0][1]):
        return [one for one in named if one[1].is_file()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        there = pool.map(_is_there, (path for _, path in named))
        return [one for one, found in zip(named, there, strict=True) if found]


def _is_there(path: Path) -> bool:
    return store_of(path).exists(address(path))


def stack_records(records: Sequence[Record], root: Path) -> tuple[list[Record], int, int]:
    """Replace the band files of each scene by one record.

    Returns:
        The records, the number of band files that were stacked, and that of other layers of their
        scenes (masks, true color images), which are left out.
    """
    scenes: dict[tuple[Path, str], list[tuple[str, Path]]] = {}
    for record in records:
        if (parts := _parts(record.path)) is not None:
            scenes.setdefault(parts[:2], []).append((parts[2], record.path))
    red: dict[Path, str] = {}
    gone: set[Path] = set()
    heads: set[tuple[Path, str]] = set()
    for (folder, head), files in scenes.items():
        bands = _chosen(head, files)
        if not bands:
            continue
        heads.add((folder, head))
        gone |= {path for _, path in files}
        name = head.rstrip("_.-") or folder.name
        red[next(iter(bands.values()))] = (folder / name).relative_to(root).as_posix()
    kept: list[Record] = []
    layers = 0
    for record in records:
        if record.path in red:
            id_ = red[record.path]
            kept.append(replace(record, id=id_, datetime=record.datetime or _time(id_)))
        elif record.path not in gone:
            if heads and _layer(record.path) in heads:
                layers += 1
            else:
                kept.append(record)
    return kept, len(gone), layers


def _layer(path: Path) -> tuple[Path, str] | None:
    match = _OTHER.match(path.name)
    folder = path.parent.parent if _RESOLUTION.fullmatch(path.parent.name) else path.parent
    return None if match is None else (folder, match[1])


def _time(name: str) -> datetime | None:
    for day, hour in _TIME.findall(name):
        try:
            return datetime.strptime(day + (hour or "000000"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def open_scene(path: Path | bytes) -> tuple[Any, bool, tuple[Path, ...]]:
    """Open a raster like :func:`landcue.data.raster.open_dataset`; of a red band its whole scene.

    Returns:
        What that function returns, and the files of the bands, if there is one for each.
    """
    files = band_files(path) if isinstance(path, Path) else {}
    if not files:
        return (*open_dataset(path), ())
    import rasterio

    opened: dict[str, Any] = {}
    try:
        beside = False
        for band, file in files.items():
            opened[band], sidecars = open_dataset(file)
            beside |= sidecars
        with raster_options(beside, path):
            text = _virtual(files, opened)
    finally:
        for dataset in opened.values():
            with raster_options(False, path):
                dataset.close()
    with raster_options(beside, path):
        dataset = rasterio.open(text, driver="VRT", sharing=False)
    return dataset, beside, tuple(files.values())


def _gdal_name(file: Path) -> str:
    if is_object(file):
        return f"/vsis3/{address(file)}"
    if not is_utf8(file.resolve()):
        raise DataError(f"{shown(file)}: bands are stacked only of UTF-8 names; rename it")
    return str(file.resolve())


def _virtual(files: dict[str, Path], opened: dict[str, Any]) -> str:
    """Return the description of a raster of all bands at the size of the largest."""
    best = max(opened.values(), key=lambda one: one.width * one.height)
    kind = np.result_type(*(one.dtypes[0] for one in opened.values())).name
    if kind not in _GDAL:
        raise DataError(f"{shown(next(iter(files.values())))}: its bands are of different types")
    bands: list[str] = []
    for at, (band, file) in enumerate(files.items(), start=1):
        one = opened[band]
        apart = np.abs(np.subtract(one.bounds, best.bounds)) > np.abs(one.res[0])
        if one.crs != best.crs or (one.crs is not None and apart.any()):
            raise DataError(f"{shown(file)}: covers another area than the other bands of its scene")
        blank = one.nodatavals[0]
        bands.append(
            f'<VRTRasterBand dataType="{_GDAL[kind]}" band="{at}"><Description>{band}</Description>'
            + (f"<ColorInterp>{_COLORS[at - 1]}</ColorInterp>" if at <= 3 else "")
            + (f"<NoDataValue>{blank!r}</NoDataValue>" if blank is not None else "")
            + '<SimpleSource resampling="bilinear"><SourceFilename relativeToVRT="0">'
            + f"{escape(_gdal_name(file))}</SourceFilename><SourceBand>1</SourceBand>"
            + f'<SrcRect xOff="0" yOff="0" xSize="{one.width}" ySize="{one.height}"/>'
            + f'<DstRect xOff="0" yOff="0" xSize="{best.width}" ySize="{best.height}"/>'
            + "</SimpleSource></VRTRasterBand>"
        )
    place = ""
    if best.crs is not None:
        place = f"<SRS>{escape(best.crs.to_wkt())}</SRS>"
        numbers = ", ".join(map(repr, best.transform.to_gdal()))
        place += f"<GeoTransform>{numbers}</GeoTransform>"
    size = f'rasterXSize="{best.width}" rasterYSize="{best.height}"'
    return f"<VRTDataset {size}>{place}{''.join(bands)}</VRTDataset>"

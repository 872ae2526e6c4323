"""The rule of landcue.data.pictures once more, written plainly with rasterio and NumPy."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.warp import Resampling, reproject


def expected(path):
    """Return the picture of a raster as floats."""
    return expected_windows(path, [None])[0]


def expected_windows(path, windows):
    """Return pictures of windows (col, row, width, height) of a raster, for ``None`` of all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            picture = _picture(file)
            transform, turn = _transform(file), orientation(path)
    if transform is not None and is_rotated(transform):
        picture, transform = warped(picture, transform)
    found = []
    for window in windows:
        part = picture
        if window is not None:
            col, row, width, height = window
            part = picture[row : row + height, col : col + width]
        found.append(exif_turned(part, turn) if transform is None else north_up(part, transform))
    return found


def _picture(file):
    values = file.read()
    colors = [kind.name for kind in file.colorinterp]
    measured = [i for i in range(file.count) if colors[i] != "alpha"]
    alpha = next((values[i] for i in range(file.count) if colors[i] == "alpha"), None)
    if colors[0] == "palette":
        table = np.zeros((256, 4))
        for value, color in file.colormap(1).items():
            table[value] = color
        found = table[values[0], :3]
        blank = table[values[0], 3] == 0
        if file.nodata is not None:
            blank |= values[0] == file.nodata
        found[blank] = 0
        return found
    if {"red", "green", "blue"} <= set(colors):
        chosen = [colors.index(color) for color in ("red", "green", "blue")]
    else:
        chosen = measured[:3] if len(measured) > 1 else measured * 3
    bands = values[chosen]
    real_alpha = alpha is not None and np.isin(alpha, [0, alpha.max()]).mean() >= 0.9
    flags = {flag for i in chosen for flag in file.mask_flag_enums[i]}
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        valid = file.read_masks(chosen[0] + 1) > 0
    elif real_alpha:
        valid = alpha > 0
    elif file.nodata is not None:
        valid = np.any([~(np.isnan(b) if np.isnan(file.nodata) else b == file.nodata)
                        for b in bands], axis=0)  # fmt: skip
    elif (bands < 0).any():
        valid = np.ones(bands.shape[1:], bool)
    else:
        valid = np.any(bands != 0, axis=0)
    valid &= np.isfinite(bands).any(axis=0)
    if bands.dtype == np.uint8:
        bits = int(file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
        scaled = bands * (255 / (2**bits - 1))
    else:
        scaled = np.stack([_stretched(band.astype(np.float64), valid) for band in bands])
    if file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        scaled = 255 - scaled
    scaled[:, ~valid] = 0
    return np.nan_to_num(scaled, nan=0, posinf=0, neginf=0).transpose(1, 2, 0)


def _stretched(band, valid):
    known = band[valid & np.isfinite(band)]
    if not len(known):
        return np.zeros(band.shape)
    low, high = np.percentile(known, [2, 98])
    if low == high:
        low, high = known.min(), known.max()
    if low == high:
        low, high = low - 1, high + 1
    return np.where(np.isfinite(band), np.clip((band - low) / (high - low), 0, 1) * 255, 0)


def _transform(file):
    """Return the transform from pixels to coordinates, ``None`` without a place."""
    points, crs = file.gcps
    if points and crs is not None:
        return rasterio.transform.from_gcps(points)
    return None if file.crs is None or file.transform.is_identity else file.transform


def is_rotated(transform):
    """Whether a step of a column or of a row is off both axes by more than 1 in 50."""
    steps = np.abs([(transform.a, transform.d), (transform.b, transform.e)])
    return bool((steps.min(axis=1) > 0.02 * steps.max()).any())


def warped(picture, transform):
    """Resample a picture with rasterio to the north-up grid around it; black outside."""
    a, b, _, d, e, _ = tuple(transform)[:6]
    height, width = picture.shape[:2]
    x, y = np.transpose(
        [at(transform, *p) for p in ((0, 0), (width, 0), (0, height), (width, height))]
    )
    across = np.hypot(a, d) if abs(a * e) >= abs(b * d) else np.hypot(b, e)
    along = abs(a * e - b * d) / across
    shape = [int(np.ceil(np.ptp(v) / step - 1e-6)) for v, step in ((y, along), (x, across))]
    grid = rasterio.Affine(across, 0, x.min(), 0, -along, y.max())
    found = np.zeros((picture.shape[2], *shape))
    reproject(
        np.ascontiguousarray(picture.transpose(2, 0, 1), np.float64), found,
        src_transform=transform, dst_transform=grid, src_crs="EPSG:32633", dst_crs="EPSG:32633",
        resampling=Resampling.nearest, tolerance=1e-6, init_dest_nodata=False,
    )  # fmt: skip
    return found.transpose(1, 2, 0), grid


def at(transform, col, row):
    """Return the coordinates of a place in pixels, in any release of affine."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * col + b * row + c, d * col + e * row + f


def north_up(picture, transform):
    """Turn a picture by quarter turns and a flip until x grows to the right and y upward."""
    rows, cols = np.mgrid[: picture.shape[0] + 1, : picture.shape[1] + 1]
    x, y = at(transform, cols, rows)
    best, found = -np.inf, picture
    for flip in (False, True):
        for quarter in range(4):
            parts = [np.rot90(part[:, ::-1] if flip else part, quarter) for part in (x, y)]
            right = float(np.mean(np.diff(parts[0], axis=1))) / np.hypot(
                np.mean(np.diff(parts[0], axis=1)), np.mean(np.diff(parts[1], axis=1))
            )
            up = -float(np.mean(np.diff(parts[1], axis=0))) / np.hypot(
                np.mean(np.diff(parts[0], axis=0)), np.mean(np.diff(parts[1], axis=0))
            )
            if right + up > best:
                best = right + up
                found = np.rot90(picture[:, ::-1] if flip else picture, quarter)
    return found


def exif_turned(picture, tag):
    """Turn a picture as the EXIF standard says."""
    return {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: np.rot90(p, 2),
        4: lambda p: p[::-1],
        5: lambda p: np.swapaxes(p, 0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.swapaxes(p, 0, 1)[::-1, ::-1],
        8: lambda p: np.rot90(p),
    }[tag](picture)


def orientation(path):
    """Return the orientation tag of a classic TIFF."""
    data = path.read_bytes()
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (n,) = struct.unpack_from(f"{order}H", data, at)
    entries = [struct.unpack_from(f"{order}HHIHH", data, at + 2 + 12 * i) for i in range(n)]
    return next((value for tag, _, _, value, _ in entries if tag == 274), 1)


def set_orientation(path, value):
    """Add an orientation tag to a small little-endian classic TIFF."""
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, at)
    entries = [bytes(data[at + 2 + 12 * i : at + 14 + 12 * i]) for i in range(n)]
    after = bytes(data[at + 2 + 12 * n : at + 6 + 12 * n])
    entries = [e for e in entries if e[:2] != struct.pack("<H", 274)]
    entries.append(struct.pack("<HHIHH", 274, 3, 1, value, 0))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    data += b"\0" * (len(data) % 2)
    struct.pack_into("<I", data, 4, len(data))
    data += struct.pack("<H", len(entries)) + b"".join(entries) + after
    path.write_bytes(data)

"""Images of hostile shapes and sizes cost little memory, whole and in chips."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image

from landcue.data.images import read_image
from landcue.errors import DataError
from landcue.search import Chip
from landcue.search.scene import read_chip
from landcue.types import Window

resource = pytest.importorskip("resource")

WORK = """
import resource, sys
import numpy as np
from pathlib import Path
from landcue.data.images import read_picture
from landcue.data.scenes import SceneOptions
from landcue.errors import DataError
from landcue.models.resize import resize_square
resize_square(np.zeros((9, 9, 3), np.uint8), 160)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        resize_square(read_picture(Path(name), SceneOptions(side=160)).pixels, 160)
        print("read")
    except DataError as error:
        print(str(error).removeprefix(f"{name}: "))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def used(*paths):
    """Return what reading files to a model's size says, and its memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, *map(str, paths)], capture_output=True, text=True, check=True
    )
    *said, memory = done.stdout.splitlines()
    return said, int(memory)


def sparse(path, width, height, **options):
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True} | options
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, **options):
        pass
    return path


def test_long_and_large_images_are_refused_before_they_cost_memory(tmp_path):
    for name, size in {"line": (1, 4_000_000), "row": (30_000_000, 1)}.items():
        Image.new("L", size).save(tmp_path / f"{name}.png")
        Image.new("L", size).save(tmp_path / f"{name}.tif", compression="tiff_deflate")
    huge = {"count": 3, "dtype": "uint8", "compress": "deflate"}
    paths = sorted(tmp_path.iterdir())
    paths.append(sparse(tmp_path / "sparse.tif", 300_000, 300_000, **huge))
    said, memory = used(*paths)
    assert len(said) == 5
    assert all("over the limit of" in line and "cut it into chips" in line for line in said)
    assert memory < 100


def test_a_chip_of_a_sparse_raster_is_cheap(tmp_path):
    path = sparse(tmp_path / "a.tif", 300_000, 300_000, count=3, dtype="uint8", compress="lzw")
    assert path.stat().st_size < 20_000_000
    with pytest.raises(Exception, match="holds no data"):
        read_chip(Chip(path, Window(200_000, 100_000, 256, 256)), 160)


def test_large_blocks_are_refused(tmp_path):
    options = {"count": 3, "dtype": "float64", "compress": "deflate", "tiled": False}
    path = sparse(tmp_path / "a.tif", 8_000, 8_000, **options, blockxsize=8_000, blockysize=8_000)
    with pytest.raises(DataError, match=r"its pixels lie in pieces of .* MiB, too large to read"):
        read_image(path)


@pytest.mark.slow
def test_the_largest_images_stay_within_bounds(tmp_path):
    """64 million pixels of 8 bytes are read in strips, at the resolution that the model takes."""
    options = {"count": 3, "dtype": "float64", "compress": "deflate"}
    path = sparse(tmp_path / "a.tif", 8_000, 8_000, **options)
    with rasterio.open(path, "r+") as file:
        block = np.random.default_rng(0).normal(0, 1, (3, 512, 512))
        file.write(block, window=rasterio.windows.Window(512, 512, 512, 512))
    said, memory = used(path)
    assert said == ["read"]
    assert memory < 300

"""Chips of GeoTIFF scenes: the window's own pixels, from below the source root and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from PIL import Image

import scene_files as files
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.scenes import Length, Scale, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.models.load import find_model, load_model
from landcue.server.app import create_app
from landcue.server.archives import Catalog


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two scenes cut into chips of 96 pixels, their archive, and a client of it."""
    root = tmp_path_factory.mktemp("scenes") / "root"
    for i, name in enumerate(("deep/a.tif", "b.tif")):
        # Smooth colors, which a JPEG keeps.
        down, right = np.mgrid[0:220, 0:300] / 300
        values = np.stack([250 * down, 250 * right, np.full_like(down, 60 + 90 * i)])
        files.write_scene(root / name, values.astype(np.uint8), overviews=[2, 4])
    options = SceneOptions(Length(96, meters=False), side=192)
    cut = cut_scenes(open_source(root), options)
    folder, model = root.parent / "archive", find_model("builtin")
    ingest(SourceImages(cut.records, root, options), folder, load_model(model), model_folder=model)
    with TestClient(create_app(Catalog.open([folder])), "http://127.0.0.1") as client:
        yield root, ArchiveFolder.open(folder).columns().ids, client


def chip_of(client, id_, **query):
    answer = client.get(f"/v1/records/{id_}/chip", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def test_a_chip_holds_the_pixels_of_its_window_at_full_resolution(scenes):
    root, ids, client = scenes
    assert len(ids) >= 12
    for id_ in ids:
        record = client.get(f"/v1/records/{id_}").json()
        col, row, width, height = record["window"]
        with rasterio.open(root / f"{record['group']}.tif") as scene:
            window = rasterio.windows.Window(col, row, width, height)
            expected = scene.read(window=window).transpose(1, 2, 0).astype(int)
        shown = chip_of(client, id_)
        assert shown.shape == (height, width, 3)
        assert abs(shown - expected).max() <= 12
        assert abs(shown - expected).mean() < 2
    assert chip_of(client, ids[0], side=48).shape == (48, 48, 3)


def test_bands_and_scale_are_those_that_the_archive_was_made_with(tmp_path):
    down, right = np.mgrid[0:96, 0:96] / 96
    values = np.stack([3000 * down, 2000 + 0 * down, 3000 * right, 1000 * down]).astype(np.uint16)
    files.write_scene(tmp_path / "root" / "a.tif", values)
    options = SceneOptions(
        Length(96, meters=False), bands=(3, 2, 1), scale=Scale.parse("fixed:0,4000")
    )
    cut = cut_scenes(open_source(tmp_path / "root"), options)
    model = find_model("builtin")
    ingest(
        SourceImages(cut.records, tmp_path / "root", options),
        tmp_path / "archive",
        load_model(model),
        model_folder=model,
    )
    with TestClient(create_app(Catalog.open([tmp_path / "archive"])), "http://127.0.0.1") as client:
        (id_,) = ArchiveFolder.open(tmp_path / "archive").columns().ids
        shown = chip_of(client, id_)
    expected = values[[2, 1, 0]].transpose(1, 2, 0) * (255 / 4000)
    assert abs(shown - expected).max() <= 12
    assert abs(shown - expected).mean() < 3


def test_regions_of_chips_are_compared(scenes):
    _, ids, client = scenes
    answer = client.get(f"/v1/records/{ids[0]}/regions", params={"query": ids[1]}).json()
    parts = np.array(answer["record"]["parts"])
    assert parts.shape == (6, 6)
    assert parts.mean() == pytest.approx(answer["similarity"], abs=1e-3)


def test_a_scene_that_became_a_link_to_elsewhere_is_not_read(scenes, is_problem, tmp_path):
    root, ids, client = scenes
    id_ = next(id_ for id_ in ids if id_.startswith("b/"))
    secret = files.write_scene(tmp_path / "secret.tif", np.full((3, 220, 300), 7, np.uint8))
    (root / "b.tif").rename(root / "kept.tif")
    try:
        (root / "b.tif").symlink_to(secret)
        for path in (f"/v1/records/{id_}/chip", f"/v1/records/{id_}/regions?query={ids[0]}"):
            assert "not available" in is_problem(client.get(path), 404)
        (root / "b.tif").unlink()
        is_problem(client.get(f"/v1/records/{id_}/chip"), 404)
        (root / "b.tif").write_bytes(b"no scene")
        detail = is_problem(client.get(f"/v1/records/{id_}/chip"), 400)
        assert str(root) not in detail
    finally:
        (root / "b.tif").unlink(missing_ok=True)
        (root / "kept.tif").rename(root / "b.tif")
    assert chip_of(client, id_).size

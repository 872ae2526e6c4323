"""Services of small archives: fixtures that test folders take over into their conftest."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest
import uvicorn
from PIL import Image

import made_archive
import pixel_encoder as tools
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.models.load import find_model, load_model
from landcue.search import Archive, open_archive
from landcue.server.app import create_app
from landcue.server.archives import Catalog, Served
from landcue.server.run import OPTIONS
from landcue.server.settings import Limits, Settings
from landcue.types import Bounds, Record

START = datetime(2024, 1, 1, tzinfo=UTC)
KINDS = ("field", "road")


def workers_of(pid):
    """Return the processes that serve for a command; one that ends meanwhile is left out."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Thirty images in two folders below a source root."""
    root = tmp_path_factory.mktemp("serve") / "source"
    names = [f"{'port' if i % 2 else 'farm'}/{i:02}.png" for i in range(30)]
    records = tools.write_images(root, names)
    for i, record in enumerate(records):
        labels = ("water", "ship") if i % 2 else ("field",)
        box = Bounds(i, 0, i + 0.5, 1) if i else Bounds(179, -1, -179, 1)
        records[i] = replace(
            record, labels=labels if i < 20 else None, bbox=box, datetime=START + timedelta(days=i)
        )
    return root, records


@pytest.fixture(scope="session")
def photos(source, tmp_path_factory):
    """An archive of real images, with the encoder that made it."""
    root, records = source
    folder = tmp_path_factory.mktemp("served") / "photos"
    ingest(SourceImages(records, root), folder, tools.PixelEncoder())
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """An archive of made-up records without images or a model."""
    folder = tmp_path_factory.mktemp("served2") / "made"
    made_archive.make_archive(folder, n=200).close()
    return folder


@pytest.fixture(scope="session")
def plain(photos):
    """The archive of real images, searched without a service."""
    return Archive(ArchiveFolder.open(photos), tools.PixelEncoder())


@pytest.fixture(scope="session")
def encoder():
    """The encoder that made the archive of real images."""
    return tools.PixelEncoder()


@pytest.fixture(scope="session")
def png():
    """Return an image file of a size, black or of seeded noise."""

    def png(width=40, height=30, seed=None):
        pixels = np.zeros((height, width, 3), np.uint8)
        if seed is not None:
            pixels = np.random.default_rng(seed).integers(0, 255, pixels.shape).astype(np.uint8)
        return file_of(pixels)

    return png


@pytest.fixture(scope="session")
def app(photos, made):
    """Return the application of both archives, or of the folders given, with the settings given."""

    def app(limits=None, folders=None, encoder=tools.PixelEncoder, **settings):
        served = [
            Served("made", open_archive(folder))
            if folder.name == "made"
            else Served("photos", open_archive(folder, model=encoder))
            for folder in folders or (photos, made)
        ]
        return application(Catalog(served), limits, **settings)

    return app


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """A folder of views, and their archive, made by the built-in encoder."""
    root = tmp_path_factory.mktemp("insight") / "views"
    root.mkdir()
    records = []
    for i in range(12):
        kind = KINDS[i % 2]
        (root / f"{kind}{i:02}.png").write_bytes(file_of(texture(kind, seed=i)))
        part = "test" if i < 8 else "train"
        records.append(Record(f"{kind}{i:02}.png", root / f"{kind}{i:02}.png", (kind,), part=part))
    for row, column in ((0, 0), (1, 1)):
        name = f"quarter{row}{column}.png"
        (root / name).write_bytes(file_of(quartered(row, column)))
        records.append(Record(name, root / name))
    folder = root.parent / "places"
    model = find_model("builtin")
    ingest(SourceImages(records, root), folder, load_model(model), model_folder=model)
    return root, folder


def texture(kind, size=160, seed=0):
    """Grass, or stripes as of a parking lot."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal((70, 110, 60), 12, (size, size, 3)), 0, 255).astype(np.uint8)
    if kind == "road":
        pixels[:] = 90
        pixels[:, (np.arange(size) + seed) % 8 < 2] = 240
        pixels[(np.arange(size) + seed) % 24 < 3] = 60
    return pixels


def quartered(row, column):
    """Grass with stripes in one quarter."""
    pixels = texture("field")
    pixels[80 * row : 80 * row + 80, 80 * column : 80 * column + 80] = texture("road", 80)
    return pixels


def file_of(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def application(catalog, limits=None, **settings):
    """Return the application of a catalog; processes of one each unless limits say more."""
    limits = Limits(**{"decoders": 1, "encoders": 1, **(limits or {})})
    return create_app(catalog, Settings(limits=limits, **settings))


@contextlib.contextmanager
def running(app, **options):
    """Run an application on a free port of loopback in a thread; gives the port."""
    config = uvicorn.Config(app, port=0, **{**OPTIONS, **options})
    sock = config.bind_socket()
    sock.listen(64)  # who asks before the server is there waits
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        sock.close()

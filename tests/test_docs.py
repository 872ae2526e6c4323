"""The Python examples of the documentation run as they are printed; public functions have one."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

import landcue
import services
from landcue.archive.indexing import index
from landcue.demo import render_chip
from landcue.server import create_app

DOCS = Path(__file__).parents[1] / "docs"


def examples(page):
    """Return the Python blocks of a page as one program; its lines keep their numbers."""
    lines, inside = [], False
    for line in (DOCS / page).read_text().splitlines():
        fence = line.startswith("```")
        inside = line == "```python" if fence else inside
        lines.append(line if inside and not fence else "")
    assert any(lines)
    return "\n".join(lines)


ROOMS = ("archive", "audit", "client", "codes", "data", "demo", "experiments", "losses", "metrics")
ROOMS += ("milvus", "models", "report", "search", "server", "training")


@pytest.mark.parametrize("room", ["landcue", *(f"landcue.{room}" for room in ROOMS)])
def test_public_functions_have_an_example(room):
    pytest.importorskip("torch")
    package = importlib.import_module(room)
    functions = [name for name in package.__all__ if inspect.isfunction(getattr(package, name))]
    assert [name for name in functions if ">>> " not in getattr(package, name).__doc__] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with photographs, a scene, and archives where the pages have archives and runs."""
    folder = tmp_path_factory.mktemp("docs")
    for theme, name in {"harbor": "harbor", "coast": "beach", "farmland": "farm"}.items():
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(8):
            image = Image.fromarray(render_chip(i, theme, 160)[0])
            image.save(folder / f"photos/{name}/{name}{i:02}.webp", lossless=True)
    (folder / "scenes").mkdir()
    place = rasterio.transform.from_origin(500_000, 5_000_000, 1, 1)
    with rasterio.open(
        folder / "scenes/a.tif", "w", driver="GTiff", width=512, height=512, count=3,
        dtype="uint8", crs="EPSG:32633", transform=place,
    ) as file:  # fmt: skip
        file.write(np.random.default_rng(0).integers(0, 255, (3, 512, 512), np.uint8))
    for name in ("archives/photos", "runs/supcon", "runs/marc"):
        index(folder / "photos", folder / name)
    return folder


@pytest.mark.parametrize(
    ("page", "printed", "written"),
    [
        ("index.md", "harbor/harbor00.webp 1.0 ('harbor',)", "similar.png"),
        ("reference/losses.md", "", None),
        ("reference/marc.md", "", None),
        ("how-to/index.md", "", "archives/scenes/manifest.json"),
        ("how-to/python.md", "(2, 256)", "similar.png"),
        ("how-to/search.md", "", "hits.png"),
        ("how-to/evaluate.md", "\n1.0 rare\n", None),
        ("how-to/evaluate.md", "\n0.625\n", None),
        ("reference/codes.md", "\n1000000 True\n", "codes.bin"),
    ],
)
def test_the_examples_of_a_page_run(page, printed, written, folder, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)
    given = {
        "landcue": landcue,
        "embeddings": torch.tensor(rng.normal(size=(8, 128)), dtype=torch.float32),
        "labels": torch.tensor(rng.random((8, 5)) < 0.5),
        "train_labels": torch.tensor(rng.random((40, 5)) < 0.5),
        "classes": torch.arange(8) % 3,
    }
    if written is not None:
        Path(written).unlink(missing_ok=True)
    run(examples(page), page, given)
    assert printed in capsys.readouterr().out
    assert written is None or Path(written).is_file()
    assert "value" not in given or torch.isfinite(given["value"])


def test_the_example_of_the_client_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    _, start, program = examples("how-to/serve.md").partition("from landcue.client")
    with services.running(create_app([folder / "archives/photos"])) as port:
        run((start + program).replace(":8000", f":{port}"), "serve.md", {})
    out = capsys.readouterr().out
    assert len(re.findall(r"^harbor/harbor0[0-6]\.webp 0\.\d+ \('harbor',\)$", out, re.M)) == 3
    assert "404: No record has the id 'harbor/harbor7.webp'" in out
    assert Path("hits.geojson").is_file()


def run(program, page, given):
    exec(compile(program, page, "exec"), given)

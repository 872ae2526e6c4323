# ruff: noqa: ANN001, ANN201, D103
"""The folder that examples in docstrings run in, with photos, and an ``archive`` at ``folder``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "tests" / "helpers"))


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory):
    from dataclasses import replace

    import numpy as np
    from PIL import Image

    import made_archive as made
    from landcue.archive import compact
    from landcue.demo import render_chip

    root, sizes = tmp_path_factory.mktemp("examples"), made.Sizes()
    angles = np.arccos([1.0, 0.996, 0.95, 0.1])
    embedding = np.zeros((4, sizes.dim))
    embedding[:, 0], embedding[:, 1] = np.cos(angles), np.sin(angles)
    encoding = replace(made.random_encoding(1, 4, sizes), embedding=embedding.astype(np.float32))
    labels = (("water",), ("water",), ("ships", "water"), ("grass",))
    rows = [
        replace(made.plain_record(i), id=f"{name}.png", path=f"{name}.png", labels=labels[i])
        for i, name in enumerate("abcd")
    ]
    made.make_archive(root / "archives/photos", 4, sizes=sizes, facts=rows, encoding=encoding)
    compact(root / "archives/photos")  # which writes its checksums
    for name, theme in {"harbor": "harbor", "beach": "coast"}.items():
        (root / "photos" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(render_chip(i, theme)[0]).save(
                root / f"photos/{name}/{name}{i:02}.webp"
            )
    return root


@pytest.fixture(autouse=True)
def example_archive(request):
    if isinstance(request.node, pytest.DoctestItem):
        import landcue

        root = request.getfixturevalue("example_folder")
        request.getfixturevalue("monkeypatch").chdir(root)
        folder = root / "archives/photos"
        names = request.getfixturevalue("doctest_namespace")
        names.update(folder=folder, archive=landcue.open(folder), landcue=landcue)

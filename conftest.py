# ruff: noqa: ANN001, ANN201, D103
"""The tiny archive that examples in docstrings search: ``archive``, and its ``folder``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "tests" / "helpers"))


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory):
    from dataclasses import replace

    import numpy as np

    import made_archive as made

    folder, sizes = tmp_path_factory.mktemp("examples") / "archive", made.Sizes()
    angles = np.arccos([1.0, 0.996, 0.95, 0.1])
    embedding = np.zeros((4, sizes.dim))
    embedding[:, 0], embedding[:, 1] = np.cos(angles), np.sin(angles)
    encoding = replace(made.random_encoding(1, 4, sizes), embedding=embedding.astype(np.float32))
    labels = (("water",), ("water",), ("ships", "water"), ("grass",))
    rows = [
        replace(made.plain_record(i), id=f"{name}.png", path=f"{name}.png", labels=labels[i])
        for i, name in enumerate("abcd")
    ]
    made.make_archive(folder, 4, sizes=sizes, facts=rows, encoding=encoding)
    return folder


@pytest.fixture(autouse=True)
def example_archive(request):
    if isinstance(request.node, pytest.DoctestItem):
        import landcue

        folder = request.getfixturevalue("example_folder")
        names = request.getfixturevalue("doctest_namespace")
        names.update(folder=folder, archive=landcue.open(folder))

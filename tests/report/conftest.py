"""A small evaluation with awkward names, and a reader of pages."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from landcue.codes.packing import pack_bits
from landcue.metrics.annotations import annotate
from landcue.metrics.protocol import DEFAULT
from landcue.report.evaluation import Evaluation, code_space, float_space, thumbnail
from standard_protocol import evaluate_codes, evaluate_embeddings

LABELS = ["a<b>&", "_under|bar", "$x_1$", 'q"uote', "rare"]
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Elements, their text, tables and ids of a page; whatever is not properly nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.errors: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        self.errors += [f"{tag} is not closed" for tag in self.open]

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"{tag} closes something else")

    def handle_data(self, data):
        self.words.append(data)
        if self.open and {"td", "th"} & set(self.open) and self.rows:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if "id" in attrs]

    def row(self, *start: str) -> list[str]:
        """Return the first table row that begins with these cells."""
        return next(row for row in self.rows if row[: len(start)] == list(start))


def build(
    name="run<1>",
    n=40,
    seed=0,
    noise=1.0,
    labels=None,
    n_gallery=None,
    part="test",
    split="per-class-70-10-20-seed1",
    protocol=DEFAULT,
    resamples=50,
    groups=4,
):
    """Return a subject whose embeddings follow its labels, more or less."""
    rng = np.random.default_rng(0)
    if labels is None:
        labels = rng.random((n, 5)) < (0.4, 0.3, 0.4, 0.2, 0.05)
    labels = np.asarray(labels)
    n = len(labels)
    vectors = labels @ np.eye(labels.shape[1], 8) + 0.1
    vectors = vectors + noise * np.random.default_rng(seed).normal(size=vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codes = pack_bits(vectors[:, :6] > 0.2)
    ids = [f"img<{i:02}>.png" for i in range(n)]
    group = [f"g&{i % groups}" for i in range(n)] if groups else ()
    names = LABELS[: labels.shape[1]]
    query = gallery = annotate(ids, labels, names, group)
    theirs, coded = vectors, codes
    if n_gallery is not None:
        gallery = annotate(ids[-n_gallery:], labels[-n_gallery:], names, group[-n_gallery:])
        theirs, coded = vectors[-n_gallery:], codes[-n_gallery:]
    rules = {"protocol": protocol, "resamples": resamples}
    spaces = {
        "embedding": float_space(
            evaluate_embeddings(query, vectors, gallery, theirs, **rules), vectors, theirs
        ),
        "code": code_space(
            evaluate_codes(query, codes, 6, gallery, coded, **rules), codes, 6, coded
        ),
    }
    about = {
        "run": name, "dataset": "folder", "split": split, "part": part, "gallery": part,
        "model": f"{seed:064x}", "searched": "embedding",
    }  # fmt: skip
    pixels = rng.integers(0, 255, (n, 20, 24, 3)).astype(np.uint8)

    def pictures(wanted):
        return {one: thumbnail(pixels[ids.index(one)]) for one in wanted}

    return Evaluation(name, about, query, gallery, spaces, pictures)


@pytest.fixture(scope="session")
def subject():
    return build()


@pytest.fixture(scope="session")
def make_subject():
    return build


@pytest.fixture(scope="session")
def read_page():
    return Page

from __future__ import annotations

import contextlib

import pytest

import services

source, photos, made = services.source, services.photos, services.made
app, plain, encoder = services.app, services.plain, services.encoder
png, views = services.png, services.views


@pytest.fixture(scope="session")
def start(app):
    """Return a context manager that serves both archives; gives the address."""

    @contextlib.contextmanager
    def start(limits=None, **options):
        with services.running(app(limits, **options)) as port:
            yield f"http://127.0.0.1:{port}"

    return start


@pytest.fixture(scope="module")
def url(start):
    with start() as url:
        yield url

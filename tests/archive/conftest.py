from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location(
    "pixel_encoder", Path(__file__).with_name("pixel_encoder.py")
)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture(scope="session")
def tools():
    """The encoder and the image makers of ``pixel_encoder.py``."""
    return module

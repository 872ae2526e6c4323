"""Where the real data lies, for tests marked ``real_data``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("LANDCUE_DATA")
    if not folder:
        pytest.skip("LANDCUE_DATA does not name the research data folder")
    path = Path(folder).resolve()
    if not (path / "uc_merced").is_dir():
        pytest.fail(f"LANDCUE_DATA={folder} holds no uc_merced folder")
    return path

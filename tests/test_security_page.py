"""Every test that SECURITY.md names as the proof of a claim exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tests_that_it_names_exist():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    known = {
        name
        for path in files.values()
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", page))
    paths = re.findall(r"`((?:tests/[\w/]*/)?test_\w+\.py)`", page)
    assert len(named) > 50
    assert named <= known, named - known
    for path in paths:
        assert (ROOT / path).is_file() if "/" in path else path in files, path

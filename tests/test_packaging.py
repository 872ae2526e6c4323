from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from landcue.server.page import FOLDER, Page

ROOT = Path(__file__).parents[1]


def build(kind, source, target):
    """Build a wheel or an sdist without asking any index; return the file."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", target],
        cwd=source, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(target.iterdir())


def page_of(names, root):
    """Return the paths of the page below ``root`` of an archive file."""
    inside = f"{root}landcue/server/page/"
    return {name.removeprefix(inside) for name in names if name.startswith(inside)}


@pytest.mark.slow
def test_wheels_and_sdists_carry_the_page(tmp_path):
    if not Page.load().built:
        pytest.skip("the page is not built: make page")
    built = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    built.discard(".built")
    assert any(re.fullmatch(r"assets/.+\.js", name) for name in built)
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as file:
        names = file.getnames()
        file.extractall(tmp_path / "unpacked", filter="data")
    assert page_of(names, f"{sdist.name.removesuffix('.tar.gz')}/src/") == built
    assert not any("node_modules" in name for name in names)
    # Where pip gets no wheel, it makes one from the sdist.
    source = next((tmp_path / "unpacked").iterdir())
    for name, folder in (("direct", ROOT), ("through the sdist", source)):
        with zipfile.ZipFile(build("wheel", folder, tmp_path / name)) as file:
            assert page_of(file.namelist(), "") == built, name
            assert "landcue/server/page.py" in file.namelist()


def test_the_built_page_is_not_committed():
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    run = [git, "-C", str(ROOT), "ls-files", "--", "src/landcue/server/page", "web/node_modules"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == ""

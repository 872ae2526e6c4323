"""Where helpers and real data lie, and how long tests that start something may take."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

BUDGETS = {
    **{"attack": 400, "browser": 800, "ddp": 300, "fuzz": 240, "milvus": 300, "ray": 300, "s3": 300}
}
"""Seconds that all tests of a mark should take together on 2 idle cores, fixtures included. No
single one of them may take as long, or as long as ``-o timeout`` says if that is more: then it
hangs, and is ended."""

LONG_GROUPS = ("milvus", "ray", "fuzz", "bare")
"""Marks whose tests one process runs one after another, in the order in which they begin."""

# For processes that tests start; for tests themselves pyproject.toml tells.
_paths = (str(Path(__file__).parent / "helpers"), os.environ.get("PYTHONPATH"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _paths))

# Ray demands a token of clusters as soon as one lies in the home folder, which its own local
# clusters write, and tests change homes: clusters of tests, on the loopback, need none.
os.environ["RAY_AUTH_MODE"] = "disabled"

# Ray's workers would run at low priority: on a busy machine they start after minutes.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # its name

# No test measures time: an example takes what a busy machine needs. Generated examples are the same
# in each run; --hypothesis-profile=random tries others.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", _untimed)
settings.register_profile("same", _untimed, derandomize=True)
settings.load_profile("same")

_spent: defaultdict[str, float] = defaultdict(float)


def _place(item):
    """Put groups first that take minutes each, so that no process is left with one at the end."""
    marks = {marker.name for marker in item.iter_markers()}
    return next(
        (place for place, mark in enumerate(LONG_GROUPS) if mark in marks), len(LONG_GROUPS)
    )


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config, items):
    asked = float(config.getini("timeout"))
    items.sort(key=_place)
    for item in items:
        # One process runs a file's tests. All tests that start Ray clusters run one after another,
        # since two clusters on one machine compete for ports and memory; those of Milvus share one
        # server, which takes long to start.
        shared = [name for name in ("ray", "milvus") if item.get_closest_marker(name)]
        group = shared[0] if shared else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
        for mark in BUDGETS.keys() & {marker.name for marker in item.iter_markers()}:
            item.add_marker(pytest.mark.timeout(max(BUDGETS[mark], asked)))


def pytest_make_parametrize_id(val):
    """Shorten the ids of long parameters."""
    if isinstance(val, str | bytes) and len(val) > 80:
        return f"{val[:30]!r}... ({len(val)})"
    return None


def pytest_runtest_logreport(report):
    for mark in BUDGETS.keys() & set(report.keywords):
        _spent[mark] += report.duration


def pytest_terminal_summary(terminalreporter):
    for mark, seconds in sorted(_spent.items()):
        terminalreporter.write_line(f"{mark}: {seconds:.0f} s of {BUDGETS[mark]} s")


@pytest.fixture(scope="session")
def tools():
    """The encoder and the image makers of ``helpers/pixel_encoder.py``."""
    import pixel_encoder

    return pixel_encoder


@pytest.fixture(scope="session")
def made():
    """The makers of ``helpers/made_archive.py``."""
    import made_archive

    return made_archive


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("LANDCUE_DATA")
    if not folder:
        pytest.skip("LANDCUE_DATA does not name the research data folder")
    path = Path(folder).resolve()
    if not (path / "uc_merced").is_dir():
        pytest.fail(f"LANDCUE_DATA={folder} holds no uc_merced folder")
    return path

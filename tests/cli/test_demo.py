from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from PIL import Image

from landcue.cli.demo import has_display
from landcue.client import Client
from landcue.server.page import Page

LANDCUE = [sys.executable, "-m", "landcue.cli.main"]
SMALL = ("--images", "140", "--epochs", "2")

pytestmark = pytest.mark.slow


def environment(tmp_path, **more):
    """Return an environment whose browser only writes down what it was asked to open."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "BROWSER": str(browser), **more}


def run(*words, **options):
    done = subprocess.run(
        [*LANDCUE, *map(str, words)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo that ran once, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    # Not a terminal: without --no-serve it must end, too.
    return folder, json.loads(run("demo", folder, *SMALL, "--json", input="").stdout)


class OnATerminal:
    """A command with a terminal of its own."""

    def __init__(self, *words, env, start=LANDCUE):
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*start, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs,
            env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.text = ""

    def read_until(self, pattern):
        """Return what a pattern finds in the output."""
        while (found := re.search(pattern, self.text)) is None:
            self._more(pattern)
        return found

    def read_on(self):
        """Return everything, once the command ended."""
        while self._read():
            pass
        return self.text

    def _more(self, pattern):
        assert self._read(), f"ended before {pattern!r}: {self.text}"

    def _read(self):
        try:
            data = os.read(self.ours, 65_536)
        except OSError:  # so Linux tells that the other side is closed
            data = b""
        self.text += data.decode()
        return data

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


@pytest.fixture
def on_a_terminal():
    started = []

    def start(*words, **options):
        started.append(OnATerminal(*words, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def test_it_runs_end_to_end(demo):
    folder, found = demo
    assert found["about"]["part"] == "test"
    assert "embedding (built-in)" in found["scores"]
    assert found["scores"]["embedding"]["nDCG@100"] > found["scores"]["embedding"]["chance nDCG"]
    assert len(found["search"]["hits"]) == 12
    assert Image.open(folder / "hits.png").size[0] > 600


def test_on_a_terminal_it_shows_the_page_until_ctrl_c(demo, on_a_terminal, tmp_path):
    folder, _ = demo
    env = environment(tmp_path, DISPLAY=":99")
    shown = on_a_terminal("demo", folder, *SMALL, "--port", "0", env=env)
    url = shown.read_until(r"open (http://127\.0\.0\.1:\d+) in a browser; press Ctrl-C to stop")[1]
    assert json.loads(get(f"{url}/v1/archive"))["archives"] == ["archive", "archive-builtin"]
    if Page.load().built:
        assert b"<!doctype html>" in get(url)
    while Client(url).health() != "ready":
        time.sleep(0.1)
    reported = len(shown.text)
    os.killpg(shown.process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    assert shown.process.wait(60) == 0
    assert (tmp_path / "opened").read_text() == f"{url}\n"
    # The terminal shows what was pressed, and the end of the line's color may come late.
    assert re.sub(r"\^C|\x1b\[[0-9;]*m", "", shown.read_on()[reported:]).split() == []


def test_again_without_serving_it_finds_the_same_and_ends(demo, on_a_terminal, tmp_path):
    folder, found = demo
    again = on_a_terminal("demo", folder, *SMALL, "--no-serve", env=environment(tmp_path))
    again.read_until(r"landcue serve ")
    assert again.process.wait(120) == 0
    assert "already trained" in again.text
    for name, scores in found["scores"].items():
        shown = re.search(rf"^{re.escape(name)}  +(.*)$", again.text, re.MULTILINE)[1].split()
        assert shown == [f"{value:.3f}" for value in scores.values()]
    assert "in a browser" not in again.text


def test_without_a_display_no_browser_is_opened(demo, on_a_terminal, tmp_path):
    folder, _ = demo
    code = (
        "import sys; from pathlib import Path; from landcue.cli.demo import show; "
        "folder = Path(sys.argv[1]); show([folder / 'archive'], None, folder / 'picks.db')"
    )
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # the port is in use, which serves as well
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        shown = on_a_terminal(folder, start=[sys.executable, "-c", code], env=environment(tmp_path))
        url = shown.read_until(r"open (http://127\.0\.0\.1:\d+) in")[1]
        assert not url.endswith(":8000")
        get(f"{url}/healthz")
    assert not (tmp_path / "opened").exists()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there always is a display")
def test_displays(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert not has_display()
        monkeypatch.setenv(name, ":0")
        assert has_display()

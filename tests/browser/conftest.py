"""One Chromium and one real server per run; a page that fails its test on any complaint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import expect, sync_playwright

import visitor
from landcue.demo import write_demo_archive
from landcue.server.page import Page as BuiltPage
from ports import free_port

LANDCUE = [sys.executable, "-m", "landcue.cli.main"]
FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    # Without a graphics card: the map's WebGL is drawn in software, and nothing else goes that way.
    "--disable-gpu-compositing",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
TIMEOUT = 30_000
"""Milliseconds until something that should appear is missing: machines may be busy."""

KEEP_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violation: ${event.violatedDirective} by ${event.blockedURI}`));
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium():
    """The path of Chromium; ``LANDCUE_BROWSER`` names one that must be there."""
    if not BuiltPage.load().built:
        pytest.skip("the page is not built: make page")
    named = os.environ.get("LANDCUE_BROWSER")
    found = shutil.which(named or "chromium")
    if named and not found:
        pytest.fail(f"LANDCUE_BROWSER={named} is no program")
    if not found:
        pytest.skip("chromium is missing: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def browser(chromium):
    """One browser a file: while it is there, an event loop runs that others cannot do with."""
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """Images and their archive, made once for all processes of a run."""
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / "browser-shared"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            landcue("index", write_demo_archive(folder / "data", n=140), folder / "places")
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="session")
def images(shared):
    """Synthetic georeferenced images with labels, groups and times; not to be changed."""
    return shared / "data"


@pytest.fixture(scope="session")
def places(shared):
    """Their archive, made with the built-in encoder; not to be changed."""
    return shared / "places"


def landcue(*words):
    """Run a command that must succeed."""
    done = subprocess.run(
        [*LANDCUE, *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


class Server:
    """``landcue serve`` as a process of its own, at an address that outlives it."""

    def __init__(self, *words):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.words = [str(word) for word in words]
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [*LANDCUE, "serve", *self.words, "--port", str(self.port)],
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stderr.readline()
        assert line.startswith("serving "), line + self.process.stderr.read()
        # A log that nobody reads would stop the server.
        self.log = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.log.start()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.join()
        self.process.stderr.close()


@pytest.fixture(scope="session")
def server(places, chromium, tmp_path_factory):
    """The server of the images that every test but those that stop one shares."""
    server = Server(places, "--collections", tmp_path_factory.mktemp("browser") / "kept.sqlite")
    yield server
    server.stop()


def started_servers():
    """Yield a call that starts servers; they end when the fixture does."""
    started = []

    def serve(*words):
        started.append(Server(*words))
        return started[-1]

    yield serve
    for server in started:
        server.stop()


@pytest.fixture
def serve(chromium):
    """Start a server of one's own; it ends with the test."""
    yield from started_servers()


@pytest.fixture(scope="module")
def serve_all(chromium):
    """Start a server for the tests of a file."""
    yield from started_servers()


@pytest.fixture
def visit(browser, serve, request):  # after serve, so that pages are closed before their servers
    """Open the page in a fresh profile; at the end the test fails on whatever went wrong in it."""
    opened = []

    def visit(path="", url=None, width=1280, height=860, **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **options
        )
        context.set_default_timeout(TIMEOUT)
        context.add_init_script(KEEP_VIOLATIONS)
        guest = visitor.Visitor(context, url or request.getfixturevalue("server").url)
        opened.append(guest)
        guest.open(path)
        return guest

    yield visit
    for guest in opened:
        guest.page.unroute_all(behavior="ignoreErrors")  # of answers that the page still waits for
        guest.context.close()
    for guest in opened:
        assert guest.complaints() == []


@pytest.fixture
def guest(visit):
    """A visitor at the start of the page."""
    return visit()

"""How long the page takes from navigation to the first results that can be clicked.

    python benchmarks/page.py [ARCHIVE] [--runs 7]

Each run is a fresh profile of headless Chromium without a cache, on an address that holds a
search. Without an archive, the synthetic one of 600 images is rendered and indexed first. The goal
is 1.5 s; read the number together with the machine's load, which is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright

from landcue.demo import write_demo_archive

LANDCUE = [sys.executable, "-m", "landcue.cli.main"]
FLAGS = ["--no-sandbox", "--no-first-run", "--disable-background-networking"]
GOAL = 1.5

WATCH = """
window.interactive = new Promise((done) => {
  const look = () => {
    const card = document.querySelector(".grid:not(.waiting) > .card .card-image");
    if (!card) return requestAnimationFrame(look);
    const box = card.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    // Drawn, with nothing above it, and the thread free to answer a click.
    if (box.width && card.contains(top)) setTimeout(() => done(performance.now()));
    else requestAnimationFrame(look);
  };
  look();
});
"""


def measure(browser: Browser, url: str) -> tuple[float, float]:
    """Return seconds from the start of navigation to first paint and to clickable results."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(url)
    ready = page.evaluate("window.interactive")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    context.close()
    return paint / 1000, ready / 1000


def address_in(log: Path, server: subprocess.Popen[bytes]) -> str:
    """Return the address that a server says it listens at, once it does."""
    while server.poll() is None:
        found = re.search(r"serving .* on (http://\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    sys.exit(f"error: {log.read_text()}")


def main() -> None:
    """Print the times of several loads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("error: chromium is missing: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        archive = options.archive
        if archive is None:
            data, archive = Path(folder, "data"), Path(folder, "places")
            write_demo_archive(data)
            subprocess.run([*LANDCUE, "index", str(data), str(archive)], check=True)
        log = Path(folder, "log")
        with log.open("w") as file:
            words = [*LANDCUE, "serve", str(archive), "--port", "0"]
            server = subprocess.Popen(words, stderr=file)
        try:
            address = address_in(log, server)
            with urllib.request.urlopen(f"{address}/v1/facets") as answer:
                first = json.load(answer)["examples"][0]
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                url = f"{address}/?id={quote(first)}"
                measure(browser, url)  # the browser's own start, and the server's first search
                times = [measure(browser, url) for _ in range(options.runs)]
                version = browser.version
                browser.close()
        finally:
            server.terminate()
            server.wait()
    paints, readies = zip(*times, strict=True)
    print(f"Chromium {version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, found in (("first paint", paints), ("first results clickable", readies)):
        middle, least, most = statistics.median(found), min(found), max(found)
        print(f"{name:24} median {middle:.2f} s, {least:.2f} to {most:.2f} s")
    print(f"goal {GOAL} s: {'met' if statistics.median(readies) <= GOAL else 'missed'}")


if __name__ == "__main__":
    main()

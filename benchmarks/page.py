"""How long the page takes from navigation to results that can be clicked, and to a drawn map.

    python benchmarks/page.py [ARCHIVE] [--runs 7]

Each run is a fresh profile of headless Chromium without a cache, on an address that holds a
search, or the map of all records where the archive has places. Without an archive, the synthetic
one of 600 images is rendered and indexed first. The goals are 1 and 2 s; read the numbers together
with the machine's load, which is printed beside them.
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
GOALS = {"first results clickable": 1.0, "map drawn with all records": 2.0}

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

WATCH_MAP = """
window.interactive = new Promise((done) => {
  const look = () => {
    const note = document.querySelector(".map-note")?.textContent ?? "";
    const drawing = document.querySelector(".map-hint");
    const drawn = note.includes("matching records in view") && !drawing;
    if (drawn) setTimeout(() => done(performance.now()));
    else requestAnimationFrame(look);
  };
  look();
});
"""


def measure(browser: Browser, url: str, watch: str = WATCH) -> tuple[float, float]:
    """Return seconds from the start of navigation to first paint and to what is watched for."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.add_init_script(watch)
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
                facets = json.load(answer)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                url = f"{address}/?id={quote(facets['examples'][0])}"
                first = measure(browser, url)  # the browser's own start, and the first search
                times = [measure(browser, url) for _ in range(options.runs)]
                maps: list[tuple[float, float]] = []
                if facets["bbox"]:
                    url = f"{address}/?view=map"
                    maps = [measure(browser, url, WATCH_MAP) for _ in range(options.runs + 1)]
                version = browser.version
                browser.close()
        finally:
            server.terminate()
            server.wait()
    paints, readies = zip(*times, strict=True)
    print(f"Chromium {version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"results at the first search of the server {first[1]:.2f} s")
    if maps:
        print(f"map at the first request of the server {maps[0][1]:.2f} s")
    drawn = tuple(ready for _, ready in maps[1:])
    for name, found in zip(("first paint", *GOALS), (paints, readies, drawn), strict=True):
        if not found:
            continue
        middle, goal = statistics.median(found), GOALS.get(name)
        result = "" if goal is None else f"; goal {goal} s: {'met' if middle <= goal else 'missed'}"
        print(f"{name:26} median {middle:.2f} s, {min(found):.2f} to {max(found):.2f} s{result}")


if __name__ == "__main__":
    main()

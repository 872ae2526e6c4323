"""Take the pictures of the page that the docs show, of the synthetic archive alone.

    python scripts/screenshots.py            # those in the docs, into docs/images
    python scripts/screenshots.py --all DIR  # every view, wide and narrow, light and dark

Needs Chromium and the built page (make page).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from landcue.demo import write_demo_archive

ROOT = Path(__file__).resolve().parents[1]
LANDCUE = [sys.executable, "-m", "landcue.cli.main"]
FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
PORT = 8093
URL = f"http://127.0.0.1:{PORT}/"
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
QUERY = "images/harbor/harbor_0007.tif"
MOST_BYTES = 300_000

IN_DOCS = (
    ("landing", "wide", "light"),
    ("results", "wide", "light"),
    ("map", "wide", "dark"),
    ("detail", "wide", "light"),
    ("model", "wide", "light"),
    ("results", "narrow", "dark"),
)


def wait_until_idle(page: Page) -> None:
    """Wait until everything that is shown is there."""
    page.mouse.move(0, 0)
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        """() => [...document.images].every((one) => {
          const box = one.getBoundingClientRect();
          const away = box.bottom < 0 || box.top > innerHeight || !box.width;
          return away || (one.complete && one.naturalWidth);
        }) && [...document.querySelectorAll(".example, .grid .card-image")].every((one) => {
          const box = one.getBoundingClientRect();
          return box.bottom < 0 || box.top > innerHeight || one.querySelector(".sharp");
        })"""
    )
    page.wait_for_timeout(700)


def results(page: Page) -> None:
    """Results of a record after a refinement, with new marks."""
    page.goto(f"{page.url}?id={QUERY}")
    cards = page.locator(".grid:not(.waiting) > .card .card-image")
    expect(cards.first).to_be_visible()
    for place, key in ((0, "+"), (1, "+"), (6, "-")):
        cards.nth(place).focus()
        page.keyboard.press(key)
    page.get_by_role("button", name="Refine").click()
    expect(page.get_by_label("Before and after")).to_contain_text("after refining")
    for place, key in ((2, "+"), (4, "-")):
        cards.nth(place).focus()
        page.keyboard.press(key)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def landing(page: Page) -> None:
    """The start."""
    expect(page.locator(".example img").first).to_be_visible()


def place_map(page: Page) -> None:
    """Results beside the map."""
    page.goto(f"{page.url}?id={QUERY}&k=48&view=both&open=images/harbor/harbor_0003.tif")
    page.get_by_role("button", name="Close details").click()
    ready_map(page)
    page.locator(".card").nth(1).hover()


def detail(page: Page) -> None:
    """A result beside the query, with the regions that are alike."""
    page.goto(f"{page.url}?id={QUERY}")
    page.locator(".grid:not(.waiting) > .card .card-image").nth(1).click()
    page.get_by_role("button", name="Similar regions").click()
    expect(page.locator("canvas.heat")).to_have_count(2)


def model(page: Page) -> None:
    """The Model page, down to its scores where there is room."""
    page.set_viewport_size({"width": page.evaluate("innerWidth"), "height": 1440})
    page.goto(f"{page.url}?page=model")
    expect(page.locator("table.bars")).to_be_visible()
    expect(page.locator(".flat canvas")).to_be_visible()


def ready_map(page: Page) -> None:
    """Wait until the map is drawn."""
    expect(page.locator(".map-holder canvas")).to_be_visible()
    expect(page.get_by_text("Drawing the map …")).to_have_count(0)


VIEWS: dict[str, Callable[[Page], None]] = {
    "landing": landing,
    "results": results,
    "map": place_map,
    "detail": detail,
    "model": model,
}


def take(browser: Browser, url: str, view: str, size: str, scheme: str, folder: Path) -> None:
    """Write one picture."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto(url)
    VIEWS[view](page)
    wait_until_idle(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    path = folder / f"page-{view}-{size}-{scheme}.png"
    picture.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        # Photographs fill 256 colors well enough at this size.
        small = picture.quantize(256, kmeans=1, dither=Image.Dither.FLOYDSTEINBERG)
        small.save(path, optimize=True)
    print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    """Serve a synthetic archive and photograph its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="DIR")
    parser.add_argument(
        "--archive", type=Path, help="One that is made of synthetic images already."
    )
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("error: chromium is missing: apt-get install chromium")
    every = [
        (view, size, scheme) for view in VIEWS for size in SIZES for scheme in ("light", "dark")
    ]
    folder = options.all or ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        archive = options.archive
        if archive is None:
            data, archive = Path(made, "data"), Path(made, "places")
            write_demo_archive(data, n=154)
            subprocess.run([*LANDCUE, "index", str(data), str(archive)], check=True)
        with Path(made, "log").open("w+") as log:
            words = [*LANDCUE, "serve", str(archive), "--port", str(PORT)]
            server = subprocess.Popen(words, stderr=log)
            try:
                wait_for(URL, server)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                    for view, size, scheme in every if options.all else IN_DOCS:
                        take(browser, URL, view, size, scheme, folder)
                    browser.close()
            finally:
                server.terminate()
                server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    while server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}readyz"):
            return
        time.sleep(0.2)
    sys.exit("error: the server ended: is its port taken?")


if __name__ == "__main__":
    main()

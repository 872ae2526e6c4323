"""Names with control characters and markup, which archives of others may hold, in all output."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import landcue.cli as landcue_cli
from commands import landcue
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.types import Bounds

ESC = "\x1b[2J\x9b31m\u202e"
LABELS = (f"water{ESC}", "a|b\n<img src=x onerror=alert(1)> [c](javascript:d)")
IDS = [f"{i}{ESC}\n<b>|{i}" for i in range(8)]


@pytest.fixture(scope="module")
def archives(tools, tmp_path_factory):
    """Two archives of the same places at two dates; ids are stored as a hostile writer would."""
    folder = tmp_path_factory.mktemp("names")
    encoder = tools.PixelEncoder()
    model = tools.write_model(folder / "model", encoder)
    found = []
    for year in (2020, 2021):
        root = folder / f"images{year}"
        records = [
            replace(
                record, id=f"{year} {IDS[i]}", labels=LABELS[: 1 + i % 2], group=f"g{ESC}",
                part="test", sensor=f"s{ESC}", datetime=datetime(year, 1, 1, tzinfo=UTC),
                bbox=Bounds(i, 0, i + 0.5, 0.5),
            )
            for i, record in enumerate(tools.write_images(root, [f"{i}.png" for i in range(8)]))
        ]  # fmt: skip
        archive = folder / f"archive{year}"
        ingest(SourceImages(records, root), archive, encoder, model_folder=model)
        found.append(archive)
    return found


COMMANDS = {
    "search": ("search", "{0}", IDS[0], "--explain", "-k", 3),
    "list": ("search", "{0}", "--labels", f"'{LABELS[0]}'"),
    "no such id": ("search", "{0}", f"none{ESC}\n"),
    "no such label": ("search", "{0}", "--labels", f"'none{ESC}'"),
    "info": ("archive", "info", "{0}"),
    "verify": ("archive", "verify", "{0}"),
    "delete": ("archive", "delete", "{0}", f"none{ESC}\n", "--yes"),
    "change": (
        *("change", "{0}", "--other", "{1}", "--before", "2020/2020", "--after", "2021/2021"),
        *("--scoring", "measured", "--alpha", 1, "--lost", f"none{ESC}"),
    ),
    "changes": (
        *("change", "{0}", "--other", "{1}", "--before", "2020/2020", "--after", "2021/2021"),
        *("--scoring", "measured", "--alpha", 1),
    ),
    "evaluate": ("evaluate", "{0}", "--part", "all"),
    "watch add": ("watch", "add", "{0}", f"w{ESC}\n", "--labels", f"'{LABELS[0]}'"),
    "watch list": ("watch", "list", "{0}"),
    "watch remove": ("watch", "remove", "{0}", f"none{ESC}\n"),
    "no such file": ("index", f"none{ESC}\n", "{0}"),
}


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_name_reaches_the_terminal_as_it_is(archives, words, json_):
    args = [word.format(*archives) if str(word).startswith("{") else word for word in words]
    if args[1] == archives[0].as_posix() and args[2:3] == [IDS[0]]:
        args[2] = f"2020 {IDS[0]}"
    done = landcue(*args, *(["--json"] if json_ and args[1] != "remove" else []))
    shown = (done.stdout + done.stderr).replace("\n", "")
    assert shown.isprintable(), ascii(done.stdout + done.stderr)
    if json_ and done.stdout and done.returncode == 0:
        json.loads(done.stdout)
    elif done.returncode:
        assert len(done.stderr.splitlines()) == 1


def test_a_name_stays_on_its_line(archives):
    done = landcue("search", archives[0], f"2020 {IDS[0]}", "-k", 3)
    assert len(done.stdout.splitlines()) == 4  # a heading, and a line for each hit
    assert "\\x1b[2J" in done.stdout


def test_reports_hold_no_markup_of_names(archives, tmp_path):
    outputs = {kind: tmp_path / f"report.{kind}" for kind in ("html", "md", "tex")}
    options = ("--report", outputs["html"], "--markdown", outputs["md"], "--latex", outputs["tex"])
    assert landcue("evaluate", archives[0], "--part", "all", *options).returncode == 0
    for file in outputs.values():
        text = file.read_text(encoding="utf-8")
        assert "<img src=x" not in text, file
        if file.suffix != ".html":  # HTML gives them no meaning
            assert not set("\x1b\x9b\u202e") & set(text), file
    markdown = outputs["md"].read_text(encoding="utf-8")
    assert r"a\|b\n&lt;img src=x onerror=alert(1)> \[c](javascript:d)" in markdown
    for table in markdown.split("\n\n"):
        if table.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_commands_print_through_the_functions_that_escape():
    for file in Path(landcue_cli.__file__).parent.glob("*.py"):
        if file.name in ("console.py", "main.py"):  # which define them, and print errors
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                inner = ast.unparse(node.args[0]) if node.args else ""
                assert node.func.id != "print" or "write_json_lines" in inner, (file, node.lineno)

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from commands import landcue
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.cli import main as cli
from landcue.cli.main import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name):
    command = typer.main.get_command(app).commands[name]
    assert command.name == name
    assert command.help
    if name in ("archive", "models", "datasets"):
        assert command.commands


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_values_and_no_types_of_python(name):
    inner = getattr(typer.main.get_command(app).commands[name], "commands", {})
    for words in ([name], *([name, one] for one in inner)):
        text = landcue(*words, "--help").stdout
        assert text.startswith(f"Usage: landcue {' '.join(words)} [OPTIONS]")
        assert not re.search(r"list\[|<[a-z ]+>|%Y", text), text


def test_every_file_of_a_command_is_one():
    def holds(file):
        text = file.read_text()
        return f"\ndef {file.stem}(" in text or f"\n{file.stem}_app =" in text

    files = Path(cli.__file__).parent.glob("*.py")
    assert {file.stem for file in files if holds(file)} - {"main"} == set(COMMANDS)


def test_a_first_search_by_image_loads_neither_a_compiler_nor_a_catalog_client(tmp_path):
    from PIL import Image

    for n in range(3):
        noise = np.random.default_rng(n).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{n}.png")
    code = (
        "import sys, landcue\n"
        "archive = landcue.open(sys.argv[1])\n"
        "assert archive.search(sys.argv[2], k=1).ids == ('1.png',)\n"
        "unused = {'numba', 'scipy', 'lance_namespace_urllib3_client.api', 'torch'}\n"
        "assert not unused & set(sys.modules), unused & set(sys.modules)\n"
        "from lance_namespace_urllib3_client import ApiClient, models\n"  # for other users of it
        "assert ApiClient.__module__ in sys.modules\n"
    )
    assert landcue("index", tmp_path, tmp_path / "archive").returncode == 0
    words = [sys.executable, "-c", code, str(tmp_path / "archive"), str(tmp_path / "1.png")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_of_all_fits_and_loads_no_command():
    code = (
        "import sys\nfrom landcue.cli.main import main\nsys.argv = ['landcue', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*(m for m in sys.modules if m.startswith('landcue.cli.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) == {"landcue.cli.main"}
    lines = done.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split(None, 1) for line in lines] == [list(one) for one in COMMANDS.items()]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["index", "", "archive"], "SOURCE is empty; pass: "),
        (["index", " ", "archive"], "SOURCE is empty; pass: "),
        (["index", "source", ""], "ARCHIVE is empty; pass: "),
        (["search", "", "a.png"], "ARCHIVE is empty; pass: "),
        (["search", "ARCHIVE", ""], "QUERY is empty; pass: "),
        (["serve", "ARCHIVE", ""], "ARCHIVES is empty; pass: "),
        (["archive", "info", ""], "ARCHIVE is empty; pass: "),
        (["index", "https://a.b/c.tif", "x"], "https://a.b/c.tif: only files on this machine"),
        (["search", "ARCHIVE", "--labels", "dark", "--rule", "foo"], "unknown rule 'foo'"),
        (["search", "ARCHIVE", "--rule", "rochio"], "did you mean 'rocchio'?"),
        (["search", "ARCHIVE", "--part", "tset"], "unknown part 'tset' (did you mean 'test'?)"),
        (["evaluate", "ARCHIVE", "--part", "tset"], "unknown part 'tset' (did you mean 'test'?)"),
    ],
)
def test_values_that_are_refused(tmp_path, tools, args, message):
    records = tools.write_images(tmp_path / "source", ["a.png", "b.png"])
    archive = tmp_path / "made"
    ingest(SourceImages(records, tmp_path / "source"), archive, tools.PixelEncoder())
    args = [str(archive) if arg == "ARCHIVE" else arg for arg in args]
    result = CliRunner().invoke(app, args)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "usage", "message"),
    [
        (["search"], "search [OPTIONS] ARCHIVE [QUERY]", "missing argument 'ARCHIVE'"),
        (["evaluate", "--prt", "test"], "evaluate [OPTIONS] TARGET...", "no such option: --prt"),
        (["archive", "infos"], "archive [OPTIONS] COMMAND [ARGS]...", "no such command 'infos'"),
        (["search", "a", "-k", "x"], "search [OPTIONS] ARCHIVE [QUERY]", "invalid value for '-k'"),
    ],
)
def test_wrong_usage_has_the_form_of_other_errors(args, usage, message):
    done = landcue(*args)
    assert done.returncode == 2
    first, hint, last = done.stderr.splitlines()
    assert first == f"Usage: landcue {usage}"
    assert hint == f"Try 'landcue {args[0]} --help'."
    assert last.startswith(f"error: {message}")
    assert not last.endswith(".")


def test_an_interrupted_command_prints_how_to_go_on(tmp_path):
    code = (
        "import signal; from landcue.archive import indexing; from landcue.cli.main import app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "indexing.index_source = lambda *_, **__: signal.raise_signal(signal.SIGINT)\n"
        "app(prog_name='landcue')"
    )
    words = ["index", str(tmp_path), str(tmp_path / "an archive")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == f"interrupted; continue with: {shlex.join(['landcue', *words])}\n"

"""Defaults of options from landcue.toml, and completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from commands import error_line, landcue


@pytest.fixture(scope="module")
def archive(made, tmp_path_factory):
    return made.make_archive(tmp_path_factory.mktemp("defaults") / "archive", 40)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the file; commands run in a folder below it."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.delenv("LANDCUE_CONFIG", raising=False)
    return (tmp_path / "landcue.toml").write_text


def count(archive, *args, **options):
    done = landcue("search", archive.folder, "--labels", "water or not water", *args, **options)
    return len(json.loads(done.stdout)["hits"])


def test_the_command_line_comes_before_the_file_before_the_built_in_defaults(
    archive, write, tmp_path
):
    assert count(archive, "--json") == 20
    write('[search]\nk = 3\njson = true\ngroup = ["scene1", "scene2"]\n')
    assert count(archive) == 3
    assert count(archive, "-k", 5) == 5
    (tmp_path / "a" / "landcue.toml").write_text("[search]\nk = 4\njson = true\n")
    assert count(archive) == 4  # the nearest file alone counts
    assert count(archive, env={"LANDCUE_CONFIG": str(tmp_path / "landcue.toml")}) == 3
    assert count(archive, "--json", env={"LANDCUE_CONFIG": ""}) == 20


def test_commands_of_groups_take_defaults(archive, write):
    write("[archive.info]\njson = true\n")
    assert json.loads(landcue("archive", "info", archive.folder).stdout)["records"] == 40


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[serch]", "'serch' is no command (did you mean 'search'"),
        ("[search]\nmodes = 'code'", "[search]: 'modes' is no option (did you mean 'mode'"),
        ("[search]\njson_ = true", "[search]: 'json_' is no option (did you mean 'json'"),
        ("[search.deep]\nk = 1", "[search]: 'deep' is no option"),
        ("search = 3", "write a table of options"),
        ("[search", "cannot be read as TOML"),
    ],
)
def test_mistakes_are_one_line_with_the_file(archive, write, tmp_path, text, word):
    write(text)
    line = error_line(2, "search", archive.folder)
    assert str(tmp_path / "landcue.toml") in line
    assert word in line


def test_a_wrong_name_in_the_environment(archive, write, tmp_path):
    line = error_line(2, "search", archive.folder, env={"LANDCUE_CONFIG": str(tmp_path / "no")})
    assert "LANDCUE_CONFIG: there is no file" in line


@pytest.mark.parametrize(
    ("words", "found"), [("landcue arch", "archive"), ("landcue search --poly", "--polygon")]
)
def test_shells_complete_commands_and_options(write, words, found):
    code = "import sys; sys.argv = ['landcue']; from landcue.cli.main import main; main()"
    env = {"_LANDCUE_COMPLETE": "complete_bash", "COMP_WORDS": words,
           "COMP_CWORD": str(words.count(" "))}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.stdout.split() == [found], done.stderr

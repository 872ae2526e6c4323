"""The ``landcue`` command in this process, which loads its libraries once for all tests."""

from __future__ import annotations

import subprocess

from typer.testing import CliRunner

from landcue.cli.main import app


def landcue(*args, stdin="", env=None):
    """Run a command; what is no plain error message (a traceback) is raised.

    Args:
        args: Words after ``landcue``.
        stdin: What the command can read.
        env: Environment variables by name; ``None`` removes one.

    Returns:
        Status, output and errors, as of a process (:class:`subprocess.CompletedProcess`).
    """
    words = [str(arg) for arg in args]
    environment = {"COLUMNS": "100", **(env or {})}
    done = CliRunner().invoke(app, words, input=stdin, env=environment, prog_name="landcue")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def error_line(status, *args, **options):
    """Run a command that must fail with one line, and nothing else; return the line."""
    done = landcue(*args, **options)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")

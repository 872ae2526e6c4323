"""Defaults of options from ``landcue.toml``.

A table per command, with options as they are written on the command line::

    [index]
    model = "timm:resnet18.a1_in1k"
    batch = 32

    [search]
    k = 50

    [archive.export]
    no-vectors = true

The file is the one that ``LANDCUE_CONFIG`` names (empty for none), or else the first
``landcue.toml`` in the working directory and the folders above it. The command line takes
precedence over the file, the file over the built-in defaults.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from landcue.errors import UsageError, did_you_mean

NAME = "landcue.toml"
VARIABLE = "LANDCUE_CONFIG"


def find_file() -> Path | None:
    """Return the file of defaults, if there is one."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        if named and not Path(named).is_file():
            raise UsageError(f"{VARIABLE}: there is no file {named}")
        return Path(named) if named else None
    here = Path.cwd()
    return next((f for f in (p / NAME for p in (here, *here.parents)) if f.is_file()), None)


def read_defaults(commands: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Read the name of the file of defaults and its tables by command; empty without a file."""
    file = find_file()
    if file is None:
        return "", {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as TOML ({error})") from None
    _check(tables, list(commands), str(file), "command")
    return str(file), tables


def named_defaults(command: Any, values: object, where: str) -> dict[str, Any]:
    """Return defaults by the names of a command's parameters, as typer takes them."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: write a table of options, as [index]")
    table = cast("Mapping[str, Any]", values)
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    options: dict[str, str] = {}
    for parameter in command.params:
        names = [name.lstrip("-") for name in parameter.opts if name.startswith("-")]
        options |= dict.fromkeys(names, parameter.name)
    options.pop("help", None)
    _check(table, [*inner, *options], where, "option")
    return {
        options.get(key, key): named_defaults(inner[key], value, f"{where} {key}")
        if key in inner
        else value
        for key, value in table.items()
    }


def _check(keys: Iterable[str], known: list[str], where: str, what: str) -> None:
    for key in keys:
        if key not in known:
            raise UsageError(f"{where}: {key!r} is no {what}{did_you_mean(key, known)}")

"""The ``landcue`` command. A subcommand is imported when it is called, so ``--help`` is fast."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer
from typer.core import TyperGroup

from landcue import __version__
from landcue.errors import LandcueError, UsageError, did_you_mean, explain_missing

COMMANDS = {
    "demo": "Run everything once on a synthetic archive.",
    "train": "Train an encoder; run the same command again to resume.",
    "adapt": "Train heads on a frozen encoder; keep them if they help.",
    "index": "Add images, or chips cut from scenes, to an archive.",
    "search": "Find similar records in an archive.",
    "change": "Find places that changed between two dates.",
    "watch": "Save searches; report each new record that matches once.",
    "collection": "List, export and import collections of marked records.",
    "suggest": "Suggest which records to label next.",
    "map": "Write the similarity to a query as a raster.",
    "serve": "Serve archives over HTTP: web page and REST API.",
    "evaluate": "Measure the retrieval quality of an archive or a model.",
    "audit": "Find duplicates, leakage between parts, and broken files.",
    "experiment": "Train and compare methods over several seeds.",
    "export": "Export a model to one ONNX file and check its outputs.",
    "archive": "Manage archives.",
    "models": "List models and show their cards.",
    "datasets": "List data sets and check local copies.",
}
"""Commands and their help; module ``landcue.cli.NAME`` defines ``NAME`` or ``NAME_app``."""


_BOX = "W,S,E,N"
_METAVARS = {
    "bbox": _BOX,
    "chip_bbox": _BOX,
    "window": "COL,ROW,WIDTH,HEIGHT",
    "score": "LABEL=SCORE",
    "basemap": "URL",
    "allow_origin": "URL",
}
_METAVARS_OF_TYPES: dict[Any, str] = {
    str: "TEXT",
    int: "INTEGER",
    float: "NUMBER",
    Path: "PATH",
    datetime: "TIME",
}


def _no_type(ctx: Any) -> str:
    return ""


def _usage_pieces(param: Any, ctx: Any) -> list[str]:
    """Return an argument as usage lines commonly show it; typer puts it in braces."""
    name = param.metavar.removesuffix("...")
    return [(name if param.required else f"[{name}]") + "..." * (param.nargs != 1)]


def _refuse_empty(param: Any) -> None:
    """Refuse an empty argument, of a variable that is not set: a path would mean this folder."""
    process = param.process_value

    def checked(ctx: Any, value: Any) -> Any:
        words: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        if any(isinstance(word, str) and not word.strip() for word in words):
            raise UsageError(f"{param.name.upper()} is empty; pass: {param.help}")
        return process(ctx, value)

    param.process_value = checked


def _with_metavars(command: Any) -> Any:
    """Name the value of each option by its kind; typer prints types such as ``list[str]``."""
    for inner in getattr(command, "commands", {}).values():
        _with_metavars(inner)
    hints = get_type_hints(command.callback) if command.callback else {}
    for param in command.params:
        if param.param_type_name == "argument":
            param.display_type = _no_type  # the help text says it
            param.metavar = param.metavar or param.name.upper().strip("_")
            param.get_usage_pieces = functools.partial(_usage_pieces, param)
            _refuse_empty(param)
        elif param.metavar is None and not param.is_flag:
            hint: Any = hints.get(param.name)
            while inner := [one for one in get_args(hint) if one is not NoneType]:
                hint = inner[0]
            param.metavar = _METAVARS.get(param.name) or _METAVARS_OF_TYPES.get(hint)
    return command


def _find_defaults() -> Path | None:
    """Return the file of defaults, if there is one.

    It is the one that ``LANDCUE_CONFIG`` names (empty for none), or else the first
    ``landcue.toml`` in the working directory and the folders above it.
    """
    named = os.environ.get("LANDCUE_CONFIG")
    if named is not None:
        if named and not Path(named).is_file():
            raise UsageError(f"LANDCUE_CONFIG: there is no file {named}")
        return Path(named) if named else None
    here = Path.cwd()
    return next(
        (f for f in (p / "landcue.toml" for p in (here, *here.parents)) if f.is_file()), None
    )


def _read_defaults(commands: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Read the name of the file of defaults and its tables by command; empty without a file.

    A table per command, with options as they are written on the command line::

        [index]
        model = "timm:resnet18.a1_in1k"
        batch = 32

        [archive.export]
        no-vectors = true

    The command line takes precedence over the file, the file over the built-in defaults.
    """
    file = _find_defaults()
    if file is None:
        return "", {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as TOML ({error})") from None
    _check_names(tables, list(commands), str(file), "command")
    return str(file), tables


def _named_defaults(command: Any, values: object, where: str) -> dict[str, Any]:
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
    _check_names(table, [*inner, *options], where, "option")
    return {
        options.get(key, key): _named_defaults(inner[key], value, f"{where} {key}")
        if key in inner
        else value
        for key, value in table.items()
    }


def _check_names(keys: Iterable[str], known: list[str], where: str, what: str) -> None:
    for key in keys:
        if key not in known:
            raise UsageError(f"{where}: {key!r} is no {what}{did_you_mean(key, known)}")


class _LazyCommands(Mapping[str, Any]):
    """Commands by name, imported on access."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module = importlib.import_module(f"landcue.cli.{name}")
        single = typer.Typer(rich_markup_mode=None)
        several = getattr(module, f"{name}_app", None)
        if several is None:
            single.command(name)(getattr(module, name))
        else:
            single.add_typer(several)
        return _with_metavars(typer.main.get_group(single).commands[name])

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class CommandGroup(TyperGroup):
    """All commands; each is imported only when it is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        commands: Any = _LazyCommands()
        self.commands = commands

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command, and take the defaults of its options from ``landcue.toml``."""
        found = super().resolve_command(ctx, args)
        name, command = found[0], found[1]
        if name is not None and command is not None and not ctx.resilient_parsing:
            file, tables = _read_defaults(COMMANDS)
            if name in tables:
                table = _named_defaults(command, tables[name], f"{file} [{name}]")
                ctx.default_map = {name: table}
        return found

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the words before the command; wrong usage is one line of our form."""
        with _usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; when it is interrupted, print how to go on (status 130)."""
        try:
            with _usage_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:  # typer itself would exit without a word
            command = _printable(shlex.join(["landcue", *sys.argv[1:]]))
            print(f"interrupted; continue with: {command}", file=sys.stderr)
            sys.exit(130)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the command names in the order of the help."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the command table without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command: one-line errors, status 1 for failures and 2 for wrong usage."""
        try:
            return super().main(*args, **options)
        except LandcueError as error:
            print(f"error: {_printable(str(error))}", file=sys.stderr)
            sys.exit(error.exit_code)
        except ModuleNotFoundError as error:
            known = explain_missing(error)
            if known is None:
                raise
            print(f"error: {known}", file=sys.stderr)
            sys.exit(known.exit_code)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                # The reader of the output closed it, as `head` does.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(1)
            named = f"{error.filename}: " if error.filename else ""
            print(f"error: {_printable(f'{named}{error.strerror or error}')}", file=sys.stderr)
            sys.exit(1)


@contextlib.contextmanager
def _usage_errors() -> Generator[None]:
    """Print wrong usage that typer finds as our own errors: in lower case, without a period."""
    try:
        yield
    except Exception as error:  # typer names its class of errors in a private module only
        wrong: Any = error
        ctx = getattr(error, "ctx", None)
        shows_help = type(error).__name__ == "NoArgsIsHelpError"
        if ctx is None or shows_help or not hasattr(error, "format_message"):
            raise
        text = _printable(wrong.format_message())
        text = re.sub(r"\.? Did you mean (.*)\?$", r" (did you mean \1?)", text).removesuffix(".")
        print(ctx.get_usage(), f"Try '{ctx.command_path} --help'.", sep="\n", file=sys.stderr)
        print(f"error: {text[:1].lower()}{text[1:]}", file=sys.stderr)
        sys.exit(wrong.exit_code)


def _printable(text: str) -> str:
    from landcue.data.names import printable

    return printable(text)


app = typer.Typer(
    name="landcue",
    cls=CommandGroup,
    help="Find look-alike places in an Earth-observation archive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"landcue {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find look-alike places in an Earth-observation archive."""


_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}


def _wait_passively() -> None:
    """Let idle OpenMP threads sleep instead of spin, unless the environment sets their wait policy.

    Must run before torch or numba is loaded. Spinning threads occupy cores that other processes
    need.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ.update(_WAITING)


def main() -> None:
    """Run the command line."""
    _wait_passively()
    app()


if __name__ == "__main__":
    main()

"""``landcue evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json
from landcue.errors import UsageError

if TYPE_CHECKING:
    from landcue.evaluation.evaluate import Scores

_ARCHIVE_FILE = "manifest.json"
_RUN_FILE = "config.yaml"


def evaluate(
    target: Annotated[Path, typer.Argument(help="A run folder, or an archive.")],
    part: Annotated[
        str, typer.Option(help="test, val, train; or all records of an archive: all.")
    ] = "test",
    protocol: Annotated[str, typer.Option(help="What is measured.")] = "ml-retrieval-v1",
    data_root: Annotated[Path | None, typer.Option(help="Images of a run, if they moved.")] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Bootstrap resamples for the 95 % intervals.")
    ] = 1000,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure retrieval: each image of a part queries all others of that part."""
    with Reporter() as reporter:
        if (target / _ARCHIVE_FILE).is_file():
            from landcue.search.assess import assess_archive

            about, spaces = assess_archive(
                target, part=part, protocol=protocol, resamples=resamples, say=reporter.say
            )
        elif (target / _RUN_FILE).is_file():
            from landcue.training.assess import assess_run

            found = assess_run(
                target,
                part=part,
                data_root=data_root,
                protocol=protocol,
                resamples=resamples,
                say=reporter.say,
                tick=reporter.tick,
            )
            about, spaces = found.about, found.spaces
        else:
            raise UsageError(
                f"{target} is neither a run ({_RUN_FILE}) nor an archive ({_ARCHIVE_FILE})"
            )
    if json_:
        print_json(_as_json(about, spaces))
    else:
        print(_as_text(about, spaces))


def _as_json(about: dict[str, Any], spaces: dict[str, Scores]) -> dict[str, Any]:
    from landcue.evaluation.report import to_json

    searched = to_json(spaces[about["searched"]])
    return {**about, **searched, "spaces": {name: to_json(s) for name, s in spaces.items()}}


def _as_text(about: dict[str, Any], spaces: dict[str, Scores]) -> str:
    from landcue.evaluation.side_by_side import side_by_side

    facts = [f"{name}: {value}" for name, value in about.items()]
    return "\n".join(facts) + "\n\n" + side_by_side(spaces, about["searched"])

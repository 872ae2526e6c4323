"""``landcue evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json
from landcue.errors import UsageError

if TYPE_CHECKING:
    from landcue.metrics.protocol import Protocol
    from landcue.report.comparison import Contest
    from landcue.report.subject import Subject
    from landcue.search.feedback_rounds import FeedbackReport

_ARCHIVE_FILE = "manifest.json"
_RUN_FILE = "config.yaml"


def evaluate(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="TARGET...",
            help="A run or archive folder, or milvus://…; two to compare; or a TREC run file.",
        ),
    ],
    part: Annotated[
        str, typer.Option(help="test, val, train; or all records of an archive: all.")
    ] = "test",
    protocol: Annotated[
        str | None,
        typer.Option(help="What is measured; ml-retrieval-v1, or run-v1 for a run file."),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="TREC file of gains: the target is then a TREC run file.")
    ] = None,
    gallery: Annotated[
        int | None, typer.Option(min=1, help="Items a run file was searched in, for chance.")
    ] = None,
    ragged: Annotated[
        bool, typer.Option("--ragged", help="Allow result lists of any length in a run file.")
    ] = False,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Drop results with the query's id (run file).")
    ] = False,
    data_root: Annotated[Path | None, typer.Option(help="Images of a run, if they moved.")] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="Bootstrap resamples for the 95 % intervals.")
    ] = 1000,
    compare: Annotated[
        bool, typer.Option("--compare", help="Test two targets against each other, by query.")
    ] = False,
    feedback: Annotated[
        int, typer.Option(min=0, help="Simulate so many rounds of relevance feedback (archives).")
    ] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write a self-contained page (.html).")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write tables in Markdown (.md).")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write tables in LaTeX (.tex).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure retrieval: each image of a part queries all others of that part."""
    if len(targets) != 1 + compare:
        wanted = "two targets, --compare A B" if compare else "one target, or two with --compare"
        raise UsageError(f"{len(targets)} targets: give {wanted}")
    from landcue.metrics import find_protocol

    if qrels is None and (gallery or ragged or exclude_self):
        raise UsageError("--gallery, --ragged and --exclude-self are for run files: give --qrels")
    if qrels is not None and (compare or feedback or report or markdown or latex):
        raise UsageError("--qrels prints a table or --json, and takes one run file: leave the rest")
    if qrels is not None:
        return _evaluate_run_file(
            targets[0],
            qrels,
            json_=json_,
            n_gallery=gallery,
            ragged=ragged,
            exclude_self=exclude_self,
            protocol=protocol or "run-v1",
            resamples=resamples,
        )
    rules = find_protocol(protocol or "ml-retrieval-v1")
    contests: list[Contest] = []
    with Reporter() as reporter:
        found = [_study(t, part, rules, data_root, resamples, reporter) for t in targets]
        if compare:
            from landcue.report.comparison import compare_subjects

            contests = compare_subjects(found[0], found[1])
        if report or markdown or latex:
            from landcue.report.write import write_report

            second = found[1] if compare else None
            outputs = {"page": report, "markdown": markdown, "latex": latex}
            for file in write_report(found[0], second, contests, **outputs):
                reporter.say(f"wrote {file}")
    rounds = [_rounds(target, part, feedback) for target in targets] if feedback else []
    if json_:
        value = _as_json(found, contests)
        print_json({**value, "feedback": [r.to_json() for r in rounds]} if rounds else value)
    else:
        print("\n\n".join([_as_text(found, contests), *(r.to_text() for r in rounds)]))


def _evaluate_run_file(run: Path, qrels: Path, *, json_: bool, **options: Any) -> None:
    from landcue.metrics import evaluate_run, read_qrels, read_run

    report = evaluate_run(read_run(run), read_qrels(qrels), band=True, **options)
    if json_:
        print_json(report.to_json())
    else:
        print(report.to_text(), end="")


def _study(
    target: Path,
    part: str,
    protocol: Protocol,
    data_root: Path | None,
    resamples: int,
    reporter: Reporter,
) -> Subject:
    if _is_archive(target):
        from landcue.milvus.opening import open_archive
        from landcue.search.assess import study_archive

        return study_archive(
            target,
            part=part,
            protocol=protocol,
            resamples=resamples,
            say=reporter.say,
            opening=open_archive,
        )
    if (target / _RUN_FILE).is_file():
        from landcue.training.evaluation import study_run

        return study_run(
            target,
            part=part,
            data_root=data_root,
            protocol=protocol,
            resamples=resamples,
            message=reporter.say,
            progress=reporter.tick,
        )
    raise UsageError(f"{target} is neither a run ({_RUN_FILE}) nor an archive ({_ARCHIVE_FILE})")


def _rounds(target: Path, part: str, rounds: int) -> FeedbackReport:
    if not _is_archive(target):
        raise UsageError(f"--feedback needs archives; index the images of {target} first")
    from landcue.milvus.opening import open_archive
    from landcue.search.feedback_rounds import simulate_feedback

    with Reporter() as reporter:
        return simulate_feedback(
            target, rounds, part=part, tick=reporter.tick, opening=open_archive
        )


def _is_archive(target: Path) -> bool:
    from landcue.milvus.address import is_address

    return is_address(target) or (target / _ARCHIVE_FILE).is_file()


def _as_json(found: list[Subject], contests: list[Contest]) -> dict[str, Any]:
    from landcue.codes.packing import code_statistics

    first = found[0]
    spaces = {name: scores.to_json() for name, scores in first.scores.items()}
    for name, space in first.spaces.items():
        if space.codes is not None:
            spaces[name]["codes"] = code_statistics(space.codes, space.n_bits).to_json()
    value = {**first.about, **first.main.scores.to_json(), "spaces": spaces}
    if contests:
        from landcue.report.comparison import to_json as comparison_json

        value["comparison"] = {"with": found[1].about, "contests": comparison_json(contests)}
    return value


def _as_text(found: list[Subject], contests: list[Contest]) -> str:
    from landcue.metrics.report import aligned, side_by_side

    first = found[0]
    if not contests:
        facts = [f"{name}: {value}" for name, value in first.about.items()]
        return "\n".join(facts) + "\n\n" + side_by_side(first.scores, first.searched)
    from landcue.report.comparison import column_names, label_cells, metric_cells, verdict
    from landcue.report.queries import deciding_metric

    names = column_names(found[0], found[1])
    metric = deciding_metric(first.main.scores.protocol).name
    blocks = [[verdict(contests[0], metric, names)]]
    for contest in contests:
        blocks.append([contest.title, *aligned(metric_cells(contest, *names))])
    blocks.append(["mean AP by label", *aligned(label_cells(contests[0], *names))])
    blocks.append(first.main.scores.rules())
    return "\n\n".join("\n".join(block) for block in blocks)

"""``landcue evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json, print_text
from landcue.errors import UsageError, counted

if TYPE_CHECKING:
    from landcue.report.comparison import Contest
    from landcue.report.evaluation import Evaluation
    from landcue.search.feedback import FeedbackReport


def evaluate(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="TARGET...",
            help="Run folder, archive folder, milvus:// address, or TREC run file; two with "
            "--compare.",
        ),
    ],
    part: Annotated[
        str,
        typer.Option(
            help="Part to evaluate: test, val or train; all for all records of an archive."
        ),
    ] = "test",
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocol; by default ml-retrieval-v1, or run-v1 for a run file."),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="TREC qrels file; the target is then a TREC run file.")
    ] = None,
    gallery: Annotated[
        int | None, typer.Option(min=1, help="Gallery size of a run file, for the chance level.")
    ] = None,
    ragged: Annotated[
        bool,
        typer.Option("--ragged", help="Allow result lists of different lengths in a run file."),
    ] = False,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Drop hits with the query's id (run files only).")
    ] = False,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of a run's images, if they were moved.")
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(min=0, help="Bootstrap resamples for 95 % confidence intervals; 0 for none."),
    ] = 1000,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare two targets with a paired significance test.")
    ] = False,
    feedback: Annotated[
        int, typer.Option(min=0, help="Rounds of relevance feedback to simulate (archives only).")
    ] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Self-contained HTML report to write.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown tables to write (.md).")] = None,
    latex: Annotated[Path | None, typer.Option(help="LaTeX tables to write (.tex).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure retrieval quality: each image of a part is a query against all others."""
    if len(targets) != 1 + compare:
        wanted = "two targets, --compare A B" if compare else "one target, or two with --compare"
        raise UsageError(f"{counted(len(targets), 'target')}: expected {wanted}")
    from landcue.metrics import find_protocol

    if qrels is None and (gallery or ragged or exclude_self):
        raise UsageError("--gallery, --ragged and --exclude-self are for run files: add --qrels")
    if qrels is not None and (compare or feedback or report or markdown or latex):
        raise UsageError(
            "--qrels takes one run file and prints a table or JSON: leave the other options out"
        )
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
    from landcue.evaluation import evaluate as evaluate_source

    contests: list[Contest] = []
    with Reporter() as reporter:
        found = [
            evaluate_source(
                target,
                part=part,
                protocol=find_protocol(protocol or "ml-retrieval-v1"),
                resamples=resamples,
                data_root=data_root,
                message=reporter.message,
                progress=reporter.progress,
            )
            for target in targets
        ]
        if compare:
            from landcue.report import compare_evaluations

            contests = compare_evaluations(found[0], found[1])
        if report or markdown or latex:
            from landcue.report import write_report

            second = found[1] if compare else None
            outputs = {"page": report, "markdown": markdown, "latex": latex}
            for file in write_report(found[0], second, contests=contests, **outputs):
                reporter.message(f"wrote {file}")
    rounds = [_simulate_feedback(target, part, feedback) for target in targets if feedback]
    if json_:
        value = _as_json(found, contests)
        print_json({**value, "feedback": [r.to_json() for r in rounds]} if rounds else value)
    else:
        print_text("\n\n".join([_as_text(found, contests), *(r.to_text() for r in rounds)]))


def _evaluate_run_file(run: Path, qrels: Path, *, json_: bool, **options: Any) -> None:
    from landcue.metrics import evaluate_run, read_qrels, read_run

    report = evaluate_run(read_run(run), read_qrels(qrels), band=True, **options)
    if json_:
        print_json(report.to_json())
    else:
        print_text(report.to_text().rstrip("\n"))


def _simulate_feedback(target: Path, part: str, rounds: int) -> FeedbackReport:
    from landcue.evaluation import is_archive
    from landcue.search import simulate_feedback

    if not is_archive(target):
        raise UsageError(f"--feedback needs archives; index the images of {target} first")
    with Reporter() as reporter:
        return simulate_feedback(target, rounds, part=part, progress=reporter.progress)


def _as_json(found: list[Evaluation], contests: list[Contest]) -> dict[str, Any]:
    from landcue.report.comparison import to_json

    if not contests:
        return found[0].to_json()
    comparison = {"with": found[1].about, "contests": to_json(contests)}
    return {**found[0].to_json(), "comparison": comparison}


def _as_text(found: list[Evaluation], contests: list[Contest]) -> str:
    from landcue.report.comparison import to_text

    return to_text(found[0], found[1], contests) if contests else found[0].to_text()

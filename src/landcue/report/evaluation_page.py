"""The page of one evaluation: everything a reader needs to trust or doubt a score."""

from __future__ import annotations

from landcue.codes.packing import code_statistics
from landcue.metrics.curves import compute_curves
from landcue.metrics.report import Report
from landcue.report import parts
from landcue.report.charts import (
    bits_figure,
    curve_figures,
    label_figure,
    map_figure,
)
from landcue.report.embedding_map import categories, make_map
from landcue.report.failures import failure_section
from landcue.report.grids import query_grids
from landcue.report.html import Html, join, page, paragraph, section, table
from landcue.report.queries import deciding_metric, extremes, retrieve
from landcue.report.subject import Subject
from landcue.report.tables import number, span

_EXAMPLES = 4
_HITS = 10

_SECTIONS = (
    ("scores", "Scores"),
    ("curves", "Curves"),
    ("labels", "Labels"),
    ("queries", "Best and worst queries"),
    ("failures", "Failure cases"),
    ("codes", "Codes"),
    ("map", "Map"),
    ("protocol", "Protocol"),
    ("provenance", "Provenance"),
)


def evaluation_page(subject: Subject, made: str, seed: int = 0) -> str:
    """Return a self-contained HTML page.

    The same subject, day and seed give the same bytes.

    Args:
        subject: What was evaluated.
        made: The day of the evaluation, ISO 8601.
        seed: Of the map.
    """
    body = join(
        [
            _summary(subject),
            parts.contents(_SECTIONS),
            _scores(subject),
            _curves(subject),
            _labels(subject),
            _queries(subject),
            failure_section(subject),
            _codes(subject),
            _map(subject, seed),
            parts.protocol_section(subject.main.scores.protocol, subject),
            parts.provenance_section([(subject.name, subject)], made),
        ]
    )
    return page(f"Retrieval report: {subject.name}", body, parts.STYLE)


def _summary(subject: Subject) -> Html:
    scores = subject.main.scores
    metric = deciding_metric(scores.protocol).name
    facts = [
        (f"{metric}, {name}", number(found.metrics[metric]), _beside(found, metric))
        for name, found in subject.scores.items()
    ]
    asked, held = scores.counts["n_query"], scores.counts["n_gallery"]
    facts.append(("queries", f"{asked:,}", f"search {held:,} gallery images"))
    about = ", ".join(
        str(subject.about[key]) for key in ("dataset", "split") if key in subject.about
    )
    where = f"{about}; " if about else ""
    said = f"{where}part {subject.about['part']}; protocol {scores.protocol.name}."
    return join([paragraph(said, kind="muted"), parts.facts_box(facts)])


def _beside(scores: Report, metric: str) -> str:
    chance = f"chance {number(scores.chance[metric])}"
    if metric not in scores.intervals:
        return chance
    return f"95 % interval {span(scores.intervals[metric])}; {chance}"


def _scores(subject: Subject) -> Html:
    found: list[Html] = []
    for name, scores in subject.scores.items():
        head = ["metric", "value"]
        head += ["95 % interval"] if scores.intervals else []
        head += ["ties, worst .. best"] if scores.bands else []
        rows: list[list[object]] = []
        for metric in scores.protocol.metrics():
            remark = " (lower is better)" if metric.family.falling else ""
            line: list[object] = [metric.name + remark, scores.metrics[metric.name]]
            line += [span(scores.intervals[metric.name])] if scores.intervals else []
            line += [span(scores.bands[metric.name])] if scores.bands else []
            rows.append([*line, scores.chance[metric.name]])
        remark = " (searched)" if name == subject.searched and len(subject.spaces) > 1 else ""
        found.append(table([*head, "chance"], rows, name + remark))
    return section(
        "Scores",
        paragraph(
            "Intervals: bootstrap over queries. Chance: a random order of the gallery. "
            "Ties: the mean if every tie fell in the worst or the best order; the value is the "
            "mean over all orders. A dash: no query defines the score.",
            kind="muted",
        ),
        Html(f'<div class="grid">{join(found)}</div>'),
        anchor="scores",
    )


def _curves(subject: Subject) -> Html:
    protocol = subject.main.scores.protocol
    found = {
        name: compute_curves(
            subject.query, subject.gallery, subject.spaces[name].distances, protocol
        )
        for name in subject.scores
    }
    return section("Curves", curve_figures(found, subject.main.scores), anchor="curves")


def _labels(subject: Subject) -> Html:
    scores = subject.scores
    main = subject.main.scores
    ordered = sorted(main.per_label.items(), key=lambda item: (item[1].n_gallery, item[0]))
    rows: list[list[object]] = [
        [
            name,
            label.third or "–",
            label.n_query,
            label.n_gallery,
            *(other.per_label[name].mean for other in scores.values()),
            label.chance,
        ]
        for name, label in ordered
    ]
    macro: list[list[object]] = [
        [f"mean of {third} labels", *("", "", ""), *(s.macro[third] for s in scores.values()), ""]
        for third in main.macro
    ]
    head = ["label", "third", "queries", "in gallery", *(f"mAP, {name}" for name in scores)]
    return section(
        "Labels",
        label_figure(scores),
        table([*head, "chance"], rows + macro),
        anchor="labels",
    )


def _queries(subject: Subject) -> Html:
    space, protocol = subject.main, subject.main.scores.protocol
    metric = deciding_metric(protocol)
    values = space.scores.per_query[metric.name]
    falling = metric.family.falling
    best, worst = extremes(values, subject.query, _EXAMPLES, falling=falling)
    shown = [
        Html("<h3>Best</h3>"),
        query_grids(subject, space, retrieve(subject, space, best, _HITS, values), metric.name),
        Html("<h3>Worst</h3>"),
        query_grids(subject, space, retrieve(subject, space, worst, _HITS, values), metric.name),
    ]
    if not best:
        shown = [paragraph("No query has a relevant image, so none is best or worst.")]
    kind = "Hamming distance in bits" if space.n_bits else "cosine distance"
    return section(
        "Best and worst queries",
        paragraph(
            f"By {metric.name} in the space {subject.searched}, no two with the same labels while "
            f"others are left. Each row: the query (double frame) and its first {_HITS} hits with "
            f"rank and {kind}. Labels that a hit shares with the query are checked and "
            "underlined; a hit that is not relevant has a dashed frame.",
            kind="muted",
        ),
        *shown,
        anchor="queries",
    )


def _codes(subject: Subject) -> Html:
    coded = {name: space for name, space in subject.spaces.items() if space.codes is not None}
    shown: list[Html] = []
    for name, space in coded.items():
        if space.codes is None:
            continue
        found = code_statistics(space.codes, space.n_bits)
        shared = round(found.collision_rate * found.n_codes)
        rows = [
            ["gallery images", f"{found.n_codes:,}"],
            ["bits of a code", f"{found.n_bits}"],
            ["different codes", f"{found.n_distinct:,}"],
            [
                "images whose code another one has",
                f"{shared:,} ({100 * found.collision_rate:.1f} %)",
            ],
            ["imbalance (0: every bit half 1; 1: constant bits)", f"{found.imbalance:.3f}"],
        ]
        shown += [table([f"codes: {name}", ""], rows), bits_figure(found, f"bits-{len(shown)}")]
    if not shown:
        shown = [paragraph("This model makes no hash codes.")]
    return section("Codes", *shown, anchor="codes")


def _map(subject: Subject, seed: int) -> Html:
    found = make_map(subject.main, seed)
    if found is None:
        shown = paragraph("Too few images for a map.")
    else:
        shown = map_figure(found, *categories(subject.gallery))
    return section("Map", shown, anchor="map")

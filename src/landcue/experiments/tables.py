"""The outcome of an experiment as JSON, Markdown and LaTeX."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.experiments.measure import CLUSTER, Measured
from landcue.experiments.spec import BEST
from landcue.metrics.distances import RetrievalTime
from landcue.metrics.intervals import compare, compare_over_splits, holm, mean_over_runs
from landcue.metrics.report import finite
from landcue.report.tables import Cells, latex, latex_escape, markdown, markdown_escape

if TYPE_CHECKING:
    from landcue.experiments.runner import Results, Row


def part_of(results: Results) -> str:
    """Return the part that the tables show: ``test``, or ``val`` for an ablation."""
    return "test" if results.spec.test else "val"


def scores_of(row: Row, part: str) -> dict[int, Measured]:
    """Return a row's measurements of a part by seed."""
    return row.test if part == "test" else row.validation


def best_rival(results: Results, row: Row, metric: str) -> Row | None:
    """Return the row of other models, with as many stored bits, with the best mean of a metric."""
    spec, part = results.spec, part_of(results)
    own = spec.trained_by(row.method)
    others = [
        other
        for other in results.rows
        if _stored(other, part) == _stored(row, part)
        and other.bits == row.bits
        and spec.trained_by(other.method) != own
        and metric in _means(other, part)
    ]
    return max(others, key=lambda other: _means(other, part)[metric], default=None)


def rivals(results: Results, metric: str) -> list[tuple[Row, Row]]:
    """Return the pairs of rows that the specification compares by a metric."""
    found: list[tuple[Row, Row]] = []
    for first, second in results.spec.pairs:
        for row in (row for row in results.rows if row.method == first):
            same = [r for r in results.rows if r.method == second and r.bits == row.bits]
            rival = best_rival(results, row, metric) if second == BEST else next(iter(same), None)
            if rival is not None and metric in _means(row, part_of(results)):
                found.append((row, rival))
    return found


def comparisons(results: Results) -> list[dict[str, Any]]:
    """Make the comparisons that the specification asks for, by metric and code length."""
    metrics = results.spec.metrics
    return _with_holm(
        [_compared(results, *pair, m) for m in metrics for pair in rivals(results, m)]
    )


def _compared(results: Results, row: Row, rival: Row, metric: str) -> dict[str, Any]:
    part = part_of(results)
    ours, theirs = scores_of(row, part), scores_of(rival, part)
    clusters = [m.per_query[CLUSTER] for m in ours.values() if CLUSTER in m.per_query]
    known = len(clusters) == len(ours)
    values = [[m[seed].per_query[metric] for seed in ours] for m in (ours, theirs)]
    if not _splits_vary(results):  # all models answer the same queries, which count once
        values, clusters = [[np.mean(v, axis=0)] for v in values], clusters[:1]
    by_query = compare(*values, clusters=clusters if known else None)
    by_seed = [finite(ours[s].metrics[metric] - theirs[s].metrics[metric]) for s in ours]
    return {
        "over_splits": _over_splits(results, ours, theirs, metric),
        "metric": metric,
        "bits": row.bits,
        "method": row.method,
        "rival": rival.method,
        **asdict(by_query),
        "by_seed": by_seed,
    }


def _over_splits(
    results: Results, ours: dict[int, Measured], theirs: dict[int, Measured], metric: str
) -> dict[str, Any] | None:
    """Test a difference over the seeds, which stand for splits where ``data.split`` names them."""
    pairs = [(ours[seed].metrics[metric], theirs[seed].metrics[metric]) for seed in ours]
    if not all(map(math.isfinite, sum(pairs, ()))):
        return None
    varied, facts = _splits_vary(results), next(iter(ours.values())).facts
    share = facts["n_query"] / facts["n_train"] if varied and facts.get("n_train") else 0.0
    found = compare_over_splits(*zip(*pairs, strict=True), test_share=share)
    low, high = map(finite, found.interval)
    return {
        "over": "splits" if varied else "training seeds of one split",
        "interval": [low, high],
        "p_value": finite(found.p_value),
        "n": found.n_split,
    }


def _splits_vary(results: Results) -> bool:
    """Return whether every seed has a split of its own."""
    spec = results.spec
    name = next(iter(spec.methods))
    bits = spec.trained_bits(name, spec.bits_of(name)[0])
    splits = {spec.training(spec.trained_by(name), seed, bits).data.split for seed in spec.seeds}
    return len(splits) == len(spec.seeds) > 1


def _with_holm(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add p values over splits that are corrected for the number of metrics."""
    for key in {(one["method"], one["rival"], one["bits"]) for one in found}:
        same = [
            o for o in found if (o["method"], o["rival"], o["bits"]) == key and o["over_splits"]
        ]
        raw = {o["metric"]: o["over_splits"]["p_value"] for o in same}
        adjusted = holm({name: math.nan if p is None else p for name, p in raw.items()})
        for one in same:
            one["over_splits"]["p_value_holm"] = finite(adjusted[one["metric"]])
    return found


def to_json(results: Results, compared: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return everything but the values per query as plain JSON types.

    Args:
        results: The experiment's outcome.
        compared: What :func:`comparisons` returned for it; made here without.

    >>> to_json(landcue.experiments.run("methods.yaml", "out"))                # doctest: +SKIP
    """
    part = part_of(results)
    return {
        "name": results.spec.name,
        "spec": _without_places(results.spec.model_dump(mode="json")),
        "part": part,
        "test_readings": results.readings,
        "failed": results.failed,
        "missing": results.missing,
        "rows": [_row_json(row, part) for row in results.rows],
        "comparisons": comparisons(results) if compared is None else list(compared),
    }


def _without_places(spec: dict[str, Any]) -> dict[str, Any]:
    """Keep the last part of paths only: where data lies on one machine says nothing elsewhere."""
    for section, key in (("data", "root"), ("model", "init")):
        values = spec["base"].get(section, {})
        if isinstance(values.get(key), str):
            values[key] = Path(values[key]).name
    return spec


def to_markdown(results: Results, compared: Sequence[dict[str, Any]] | None = None) -> str:
    """Return the tables for a page: scores, then the comparison with the best rival.

    Args:
        results: The experiment's outcome.
        compared: What :func:`comparisons` returned for it; made here without.

    >>> print(to_markdown(landcue.experiments.run("methods.yaml", "out")))     # doctest: +SKIP
    """
    lines = [f"# {results.spec.name}", "", *_facts(results), ""]
    lines += markdown(_score_cells(results, "**{}**".format, "{} ± {}"))
    found = comparisons(results) if compared is None else compared
    if found:
        lines += ["", _COMPARISON_NOTE, "", *markdown(_comparison_cells(found))]
    notes = [f"* `{n}`: {m.note}" for n, m in results.spec.methods.items() if m.note]
    if notes:
        lines += ["", *notes]
    if results.spec.assumptions:
        lines += ["", "Assumptions:", "", *(f"* {line}" for line in results.spec.assumptions)]
    if results.missing or results.failed:
        lines += ["", *(f"* not complete: {name}" for name in results.missing)]
        lines += [
            f"* failed: `{cell}`: {markdown_escape(why)}" for cell, why in results.failed.items()
        ]
    return "\n".join(lines) + "\n"


def to_latex(results: Results) -> str:
    """Return the table of scores as a LaTeX ``tabular`` (needs ``booktabs``).

    >>> print(to_latex(landcue.experiments.run("methods.yaml", "out")))        # doctest: +SKIP
    """
    cells = _score_cells(results, r"\textbf{{{}}}".format, r"{} $\pm$ {}", latex_escape)
    return latex(cells, len(cells[0]) - len(results.spec.metrics) - 1, _facts(results))


_COMPARISON_NOTE = (
    "Differences, first minus second. Over queries: bootstrap and permutation for these trained "
    "models, by scene class where images have one; models of one split count as one, by their mean "
    "for each query. Over splits: corrected resampled t test "
    "(Nadeau and Bengio) over the seeds, p after Holm over the metrics; whether a method is better "
    "is decided here. By seed: each difference."
)


def _facts(results: Results) -> list[str]:
    spec = results.spec
    seeds = ", ".join(str(seed) for seed in spec.seeds)
    part = part_of(results)
    gallery = "train part" if part == "test" and spec.gallery == "train" else f"{part} part"
    spread = " ± half of the 95 % Student interval over seeds" if len(spec.seeds) > 1 else ""
    facts = [
        f"Queries: the {part} part; gallery: the {gallery}; protocol `{spec.protocol}`; "
        f"seeds {seeds}; mean{spread}.",
        f"Chosen on the validation part: the ranking by {spec.metrics[0]}, the epoch by "
        f"{_chosen_by(results)}.",
    ]
    if results.rows and all(not row.considered for row in results.rows):
        facts[1] = "No validation part: the last epoch and the ranking named in the specification."
    timed = [m for row in results.rows for m in _timed(row, part)]
    if timed:
        first = RetrievalTime(**timed[0].facts["retrieval_time"])
        facts.append(f"ms per query: {first.describe()}; median over seeds.")
    if spec.test:
        models = sum(len(row.test) for row in results.rows)
        facts.append(
            f"The test part was measured {results.readings} times for {models} models and rankings."
        )
    return facts


def _chosen_by(results: Results) -> str:
    spec = results.spec
    trained = [name for name, method in spec.methods.items() if method.train is None]
    first, bits = spec.seeds[0], {name: spec.bits_of(name)[0] for name in trained}
    return " or ".join(
        dict.fromkeys(spec.training(name, first, bits[name]).choose_by for name in trained)
    )


def _score_cells(
    results: Results, bold: Callable[[str], str], spread: str, text: Callable[[str], str] = str
) -> Cells:
    part, metrics = part_of(results), results.spec.metrics
    has_bits = any(row.bits for row in results.rows)
    rows = sorted(results.rows, key=lambda row: row.bits or 0) if has_bits else results.rows
    best = {
        (stored, metric): max(
            (_means(r, part).get(metric, -math.inf) for r in rows if _stored(r, part) == stored),
            default=-math.inf,
        )
        for stored in {_stored(row, part) for row in rows}
        for metric in metrics
    }
    table = [["method", "ranking", "stored", *map(text, metrics), "ms per query"]]
    for row in rows:
        means = _means(row, part)
        line = [text(cell) for cell in (row.method, row.ranking, _any(row, part).facts["size"])]
        for metric in metrics:
            if metric not in means:
                line.append("-")
                continue
            values = [m.metrics[metric] for m in scores_of(row, part).values()]
            mean, half = mean_over_runs(values)
            shown = (
                f"{mean:.3f}" if math.isnan(half) else spread.format(f"{mean:.3f}", f"{half:.3f}")
            )
            is_best = means[metric] == best[_stored(row, part), metric]
            line.append(bold(shown) if is_best else shown)
        times = [m.facts["retrieval_time"]["median_ms"] for m in _timed(row, part)]
        table.append([*line, f"{statistics.median(times):.3f}" if times else "-"])
    if rows:
        chance = _chance(rows[0], part)
        table.append(
            ["chance", "", "", *(f"{chance[m]:.3f}" if m in chance else "" for m in metrics), ""]
        )
    return table


def _comparison_cells(found: Sequence[dict[str, Any]]) -> Cells:
    head = ["metric", "bits", "first", "second", "difference", "over queries", "p"]
    table = [[*head, "over splits", "p (Holm)", "by seed"]]
    for one in found:
        low, high = one["interval"]
        table.append(
            [
                one["metric"],
                str(one["bits"] or "-"),
                one["method"],
                one["rival"],
                f"{one['difference']:+.4f}",
                f"{low:+.4f} .. {high:+.4f}",
                f"{one['p_value']:.4f}",
                *_split_cells(one["over_splits"]),
                ", ".join("-" if v is None else f"{v:+.3f}" for v in one["by_seed"]),
            ]
        )
    return table


def _split_cells(found: dict[str, Any] | None) -> list[str]:
    if found is None or found["p_value_holm"] is None:
        return ["-", "-"]
    low, high = found["interval"]
    return [f"{low:+.4f} .. {high:+.4f}", f"{found['p_value_holm']:.3f}"]


def _row_json(row: Row, part: str) -> dict[str, Any]:
    measured = scores_of(row, part)
    names = list(_means(row, part))
    spread = {name: mean_over_runs([m.metrics[name] for m in measured.values()]) for name in names}
    return {
        "method": row.method,
        "bits": row.bits,
        "ranking": row.ranking,
        "validation_by_ranking": {name: finite(v) for name, v in row.considered.items()},
        "stored": _any(row, part).facts["size"],
        "imbalance": [m.facts["imbalance"] for m in measured.values()],
        "distinct": [m.facts["distinct"] for m in measured.values()],
        "mean": {name: mean for name, (mean, _) in spread.items()},
        "half_width_95": {name: finite(half) for name, (_, half) in spread.items()},
        "by_seed": {
            str(seed): {name: finite(m.metrics[name]) for name in m.metrics}
            for seed, m in measured.items()
        },
        "chance": _chance(row, part),
        "models": {str(seed): m.facts["fingerprint"] for seed, m in measured.items()},
        "retrieval_time": {str(s): m.facts.get("retrieval_time") for s, m in measured.items()},
    }


def _means(row: Row, part: str) -> dict[str, float]:
    measured = list(scores_of(row, part).values())
    if not measured:
        return {}
    sums = {n: sum(m.metrics[n] for m in measured) / len(measured) for n in measured[0].metrics}
    return {name: value for name, value in sums.items() if math.isfinite(value)}


def _chance(row: Row, part: str) -> dict[str, float]:
    measured = list(scores_of(row, part).values())
    names = [name for name in measured[0].chance if all(name in m.chance for m in measured)]
    return {name: sum(m.chance[name] for m in measured) / len(measured) for name in names}


def _timed(row: Row, part: str) -> list[Measured]:
    return [m for m in scores_of(row, part).values() if m.facts.get("retrieval_time")]


def _stored(row: Row, part: str) -> int | None:
    return _any(row, part).facts["bits"]


def _any(row: Row, part: str) -> Measured:
    return next(iter(scores_of(row, part).values()))

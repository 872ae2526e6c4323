"""Record what LandCue answers for fixed inputs, and compare a later LandCue with it.

    python scripts/replay.py record FILE.npz ARCHIVE
    python scripts/replay.py compare FILE.npz ARCHIVE

The inputs are synthetic and come from seeds, apart from the archive, which is kept beside the
recording. Each function below asks one package and returns its answers by name; where the package
changes its interface, that function follows, and the recording stays. Text and whole numbers, such
as ids, orders and distances of codes, must be equal; other numbers may differ by 1e-6.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

Answers = dict[str, Any]

TOLERANCE = 1e-6


# inputs ------------------------------------------------------------------------------------------
def unit(n: int, dim: int, seed: int, kinds: int | None = None) -> Any:
    """Return float32 unit vectors ``[n, dim]``; of few ``kinds`` they are often equal, and tie."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(kinds or n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    which = np.arange(n) if kinds is None else rng.integers(0, kinds, n)
    return vectors.astype(np.float32)[which]


def multi_hot(n: int, labels: int, seed: int, share: float = 0.3) -> Any:
    """Return labels uint8 ``[n, labels]``; some rows have none."""
    return (np.random.default_rng(seed).random((n, labels)) < share).astype(np.uint8)


def one_hot(n: int, labels: int, seed: int) -> Any:
    """Return labels uint8 ``[n, labels]`` with one label a row."""
    return np.eye(labels, dtype=np.uint8)[np.random.default_rng(seed).integers(0, labels, n)]


def random_bits(n: int, bits: int, seed: int, kinds: int | None = None) -> Any:
    """Return bool ``[n, bits]``, a few bits away from one of few ``kinds``."""
    rng = np.random.default_rng(seed)
    rows = rng.random((kinds or n, bits)) < 0.5
    if kinds is None:
        return rows
    return rows[rng.integers(0, kinds, n)] ^ (rng.random((n, bits)) < 0.05)


def names(n: int, first: str = "r") -> list[str]:
    """Return n ids that are not in the order of rows."""
    return [f"{first}{(i * 7919) % 10007:05}" for i in range(n)]


# landcue.metrics ---------------------------------------------------------------------------------
def report_answers(name: str, scores: Any) -> Answers:
    """Return all of a report: means, chance, intervals, bands, values per query and per label."""
    found: Answers = {
        f"{name} names": [
            re.sub(r"\bhit rate\b", "Recall", re.sub("^recall", "found", metric))
            for metric in scores.metrics
        ],
        f"{name} metrics": list(scores.metrics.values()),
        f"{name} chance": list(scores.chance.values()),
        f"{name} intervals": [*scores.intervals.values()],
        f"{name} bands": [*scores.bands.values()],
        f"{name} per query": np.stack(list(scores.per_query.values())),
        f"{name} macro": list(scores.macro.values()),
        f"{name} counts": [f"{key}={value}" for key, value in scores.counts.items()],
        f"{name} labels": [[s.mean, s.chance] for s in scores.per_label.values()],
        f"{name} thirds": [
            f"{label} {s.n_query} {s.n_gallery} {s.third}" for label, s in scores.per_label.items()
        ],
    }
    return found


def metric_answers() -> Answers:
    """Evaluate embeddings, codes, cue codes, matrices and runs under all protocols."""
    from landcue import metrics
    from landcue.codes.cue import CueCodes
    from landcue.codes.packing import pack_bits
    from landcue.metrics import Protocol, annotate

    out: Answers = {}
    n, m = 60, 25
    labels, other = multi_hot(n, 7, 1), multi_hot(m, 7, 2)
    single = one_hot(n, 6, 3)
    groups = [None if i % 9 == 0 else f"g{i % 8}" for i in range(n)]
    all_ = annotate(names(n), labels, [f"l{c}" for c in range(7)], groups)
    query = annotate(names(m, "q"), other, [f"l{c}" for c in range(7)], groups[:m])
    classes = annotate(names(n), single)
    vectors, theirs = unit(n, 10, 4, kinds=40), unit(m, 10, 5)
    codes, others = pack_bits(random_bits(n, 20, 6, 9)), pack_bits(random_bits(m, 20, 7, 9))

    for name, protocol in metrics.PROTOCOLS.items():
        if protocol.gain == "judged":
            continue
        which = classes if protocol.relevance == "same-class" else all_
        found = metrics.evaluate(vectors, which, protocol=name, resamples=50, seed=3)
        out |= report_answers(f"embeddings {name}", found)
    tools = "ml-retrieval-v1+tools"
    usual = "ml-retrieval-v1"
    out |= report_answers("tools", metrics.evaluate(vectors, all_, protocol=tools))
    found = metrics.evaluate(theirs, query, gallery=vectors, gallery_labels=all_, protocol=usual)
    out |= report_answers("two collections", found)
    found = metrics.evaluate_codes(codes, 20, all_, protocol=usual, resamples=50, seed=1)
    out |= report_answers("codes", found)
    found = metrics.evaluate_codes(
        others, 20, query, gallery=codes, gallery_labels=all_, protocol=usual
    )
    out |= report_answers("codes of two", found)
    by_id = Protocol("by id", ties="id", grades=("j0.5", "exact"), gain="jaccard")
    out |= report_answers("ties by id", metrics.evaluate_codes(codes, 20, all_, protocol=by_id))
    apart = Protocol("apart", exclude_group=True, map_ks=(3, 20), relevance="j0.4")
    out |= report_answers("own group", metrics.evaluate(vectors, all_, protocol=apart))
    cues = CueCodes(pack_bits(random_bits(n, 5, 8, 6)), codes, 5, 20)
    for weight in (0, 1, 3, 30):
        found = metrics.evaluate_cue_codes(cues, all_, weight, protocol=usual)
        out |= report_answers(f"cue {weight}", found)
    matrix = np.random.default_rng(9).integers(0, 12, (m, n))
    found = metrics.evaluate_distances(matrix, query, all_, protocol=usual, band=True)
    out |= report_answers("given", found)
    out["cosine rows"] = metrics.cosine(theirs, vectors).rows(slice(0, 5))

    rng = np.random.default_rng(10)
    scores = rng.integers(0, 15, (m, n)) / 4
    gains = rng.integers(0, 4, (m, n)) * (rng.random((m, n)) < 0.3)
    found = metrics.evaluate_scores(scores, gains, resamples=40, seed=2, band=True)
    out |= report_answers("arrays", found)
    order = np.argsort(-scores, axis=1, kind="stable")
    items, asked = names(n), names(m, "q")
    run = {
        q: [(items[c], float(s[c])) for c in o]
        for q, s, o in zip(asked, scores, order, strict=True)
    }
    qrels = {
        q: {items[c]: float(g[c]) for c in range(n) if g[c]}
        for q, g in zip(asked, gains, strict=True)
    }
    found = metrics.evaluate_run(run, qrels, resamples=40, seed=2, band=True)
    out |= report_answers("run", found)
    short = {q: results[: 3 + i] for i, (q, results) in enumerate(run.items())}
    graded = Protocol("graded", relevance="g2", gain="judged", ties="id")
    found = metrics.evaluate_run(short, qrels, ragged=True, n_gallery=500, protocol=graded)
    return out | report_answers("short run", found)


def comparison_answers() -> Answers:
    """Compute relevance, gains, intervals, paired tests and curves."""
    from landcue.metrics import (
        annotate,
        compare,
        compute_curves,
        cosine,
        find_protocol,
        gains,
        mean_intervals,
        mean_over_runs,
        relevant,
    )

    out: Answers = {}
    a, b = multi_hot(30, 9, 1), multi_hot(40, 9, 2)
    for kind in ("any", "j0.4", "j0.6", "j0.8", "exact"):
        out[f"relevant {kind}"] = relevant(a, b, kind)
    out["relevant same-class"] = relevant(one_hot(9, 4, 1), one_hot(8, 4, 2), "same-class")
    out["gain shared"], out["gain jaccard"] = gains(a, b), gains(a, b, "jaccard")
    values = np.random.default_rng(3).random((4, 50))
    values[1, :30] = np.nan
    out["intervals"] = mean_intervals(values, 200, 5)
    pairs = [values[0], values[1]], [values[2], values[3]]
    found = compare(*pairs, resamples=500, seed=1)
    out["paired"] = [found.difference, *found.interval, found.p_value, found.n_query]
    out["over runs"] = mean_over_runs([0.5, 0.6, 0.55])
    images = annotate(names(60), multi_hot(60, 7, 1))
    vectors = unit(60, 10, 4, kinds=40)
    drawn = compute_curves(images, images, cosine(vectors, vectors), find_protocol("ml-retrieval"))
    by_k = {"found" if name == "recall" else name: curve for name, curve in drawn.by_k.items()}
    for name, curve in {"recall": drawn.precision_recall, **by_k}.items():
        out[f"curve {name}"] = np.stack([curve.x, curve.mean, curve.chance])
    return out


# landcue.codes -----------------------------------------------------------------------------------
def code_answers() -> Answers:
    """Pack codes, search them under filters, and fit unlearned ones."""
    from landcue.codes import (
        CodeIndex,
        CueCodes,
        CueIndex,
        base2,
        code_statistics,
        fit_decoder,
        fit_hasher,
        hadamard,
        hamming_distances,
        pack_bits,
        unpack_bits,
    )
    from landcue.codes.hashers import quantization_error

    out: Answers = {}
    mask = np.random.default_rng(1).random(700) < 0.3
    for bits in (1, 20, 64, 130):
        codes, queries = (pack_bits(random_bits(n, bits, s, 30)) for n, s in ((700, 2), (6, 3)))
        out[f"packed {bits}"] = codes[:50]
        out[f"unpacked {bits}"] = unpack_bits(codes[:50], bits)
        out[f"hamming {bits}"] = hamming_distances(queries, codes)
        for engine in ("numba", "numpy"):
            index = CodeIndex(codes, bits, engine=engine)
            for name, filter_ in (("all", None), ("some", mask)):
                for k in (1, 30):
                    distances, rows = index.search(queries, k, filter_)
                    out[f"scan {bits} {engine} {name} {k}"] = np.stack([distances, rows])
        found = code_statistics(codes, bits)
        out[f"statistics {bits}"] = [found.imbalance, found.collision_rate, *found.bit_means]
        out[f"statistics {bits} counts"] = [found.n_codes, found.n_bits, found.n_distinct]
    for label, bits in ((5, 20), (9, 300), (4, 0), (0, 32)):
        gallery, queries = (
            CueCodes(
                pack_bits(random_bits(n, label, s, 8)),
                pack_bits(random_bits(n, bits, s + 1, 30)),
                label,
                bits,
            )
            for n, s in ((700, 4), (6, 6))
        )
        for weight in (0, 1, 2, bits + 1, bits + 9):
            if not weight * label + bits:
                continue
            name = f"cue {bits}+{label} weight {weight}"
            index = CueIndex(gallery)
            out[name] = np.stack(index.search(queries, 25, weight=weight))
            for which, filter_ in (("all", None), ("some", mask)):
                found = index.search(queries, 25, filter_, weight=weight)
                out[f"{name} pruned {which}"] = np.stack(found)
    for count in (1, 2, 7, 8, 21):
        out[f"base2 {count}"], out[f"hadamard {count}"] = base2(count), hadamard(count)
    out["hadamard longer"] = hadamard(5, 32)
    train, test = unit(300, 12, 8) * 2, unit(40, 12, 9)
    for method, bits in (("sign", 8), ("sign", 12), ("itq", 8), ("lsh", 24)):
        hasher = fit_hasher(method, train, bits, seed=4)
        out[f"{method} {bits}"] = hasher.encode(test)
        out[f"{method} {bits} values"] = hasher.project(test)
        out[f"{method} {bits} error"] = [quantization_error(hasher.project(test))]
    codes = fit_hasher("itq", train, 8).encode(train)
    decoder = fit_decoder(codes, train, 8)
    out["decoded"] = decoder.scores(test, codes[:60])
    scores = np.random.default_rng(3).random((50, 7)).astype(np.float32)
    out["cue of scores"] = CueCodes.from_label_scores(scores, codes[:50], 8, 0.6).joined(2)
    out["cue of classes"] = CueCodes.from_classes(scores, hadamard(7), codes[:50], 8).joined()
    return out


# landcue.losses ----------------------------------------------------------------------------------
MARC = {
    "plr": ("rarity_jaccard", "pairwise", "marginal", "off"),
    "weighting": ("none", "jaccard", "label"),
    "norm": ("weight", "count"),
    "mode": ("pair", "row"),
}
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("marc", {}),
    ("marc", {"alpha": 0.0, "beta": 0.0, "plr": "off", "weighting": "none"}),
    ("marc", {"beta": 0.5, "overlap": "share", "gamma": 1.0, "power": 2.0, "plr": "marginal"}),
    *(
        ("marc", dict(zip(MARC, values, strict=True)))
        for values in itertools.product(*MARC.values())
    ),
    ("supcon", {}),
    ("mulsupcon", {}),
    ("multisupcon", {}),
    ("similarity_dissimilarity", {}),
    ("msc", {}),
    ("proxy_anchor", {}),
    ("dhcl", {}),
    ("dhcl", {"negatives": "opposite", "scale": 16.0}),
]
SINGLE = ("triplet", "multi_similarity", "n_pair", "contrastive", "proxy_nca")


BEFORE: dict[str, Any] = {"plr": "off", "gamma": 0.5, "beta": 0.0, "weighting": "label"}
"""MARC's defaults before all of its parts were on; they lie below the options named here."""


def make_loss(name: str, options: dict[str, Any], train: Any, dim: int) -> Any:
    """Return a loss by its name in a config; its proxies, if any, have fixed values."""
    options = BEFORE | options if name == "marc" and options else options
    import torch

    from landcue.losses.registry import create_loss
    from landcue.losses.statistics import LabelStatistics

    loss = create_loss(name, options, LabelStatistics.from_labels(torch.from_numpy(train)), dim)
    with torch.no_grad():
        for number, parameter in enumerate(loss.parameters()):
            values = np.random.default_rng(20 + number).normal(size=tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))
    return loss


def label_losses() -> dict[str, Callable[..., Any]]:
    """Return losses of logits by name."""
    from landcue.losses.registry import create_classification

    names = ("bce", "asymmetric", "softmax")
    return {name: create_classification(name, {}) for name in names}


def loss_answers() -> Answers:
    """Compute every loss and its gradients, in float64 and in float32."""
    import torch

    out: Answers = {}
    train = multi_hot(200, 7, 1, 0.2)

    def measure(name: str, loss: Any, embeddings: Any, labels: Any) -> None:
        z = torch.from_numpy(embeddings).requires_grad_()
        value = loss(z, torch.from_numpy(labels).to(z.dtype))
        value.backward()
        out[f"{name} value"] = [value.detach().item()]
        out[f"{name} gradient"] = None if z.grad is None else z.grad.numpy()
        for number, parameter in enumerate(loss.parameters()):
            out[f"{name} gradient {number}"] = parameter.grad.numpy()

    vectors = unit(24, 6, 2).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for kind in (np.float64, np.float32):
        suffix = np.dtype(kind).name
        for name, options in LOSSES:
            loss = make_loss(name, options, train, 6).to(torch.from_numpy(vectors.astype(kind)))
            title = " ".join([name, *(f"{key}={value}" for key, value in options.items()), suffix])
            measure(title, loss, vectors.astype(kind), multi_hot(24, 7, 3))
            if kind is np.float64:
                measure(f"{title} none", loss, vectors[:3], np.eye(7, dtype=np.uint8)[:3])
        for name in SINGLE:
            loss = make_loss(name, {}, one_hot(200, 5, 1), 6).to(
                torch.from_numpy(vectors.astype(kind))
            )
            measure(f"{name} {suffix}", loss, vectors.astype(kind), one_hot(24, 5, 3))
        for name, loss in label_losses().items():
            labels = one_hot(24, 6, 4) if name == "softmax" else multi_hot(24, 6, 4)
            measure(f"{name} {suffix}", loss, (vectors * 4).astype(kind), labels)
    return out


# landcue.search ----------------------------------------------------------------------------------
class Searches:
    """Searches of one archive, by the words of the recording."""

    def __init__(self, folder: Path) -> None:
        """Open the archive."""
        import landcue

        self.archive = landcue.open(folder)

    def ids(self) -> list[str]:
        """Return all ids in their order."""
        return self.archive.ids()

    def where(self, **conditions: Any) -> Any:
        """Return a filter."""
        from landcue.search.filters import Filter

        return Filter(**conditions)

    def box(self, *edges: float) -> Any:
        """Return a box in degrees: west, south, east, north."""
        from landcue.types import Bounds

        return Bounds(*edges)

    def by_id(self, id_: str) -> Any:
        """Return the query by a record."""
        from landcue.search import ById

        return ById(id_)

    def by_vector(self, vector: Any) -> Any:
        """Return the query by an embedding."""
        return vector

    def by_encoding(self, vector: Any, bits: Any, scores: Any) -> Any:
        """Return the query by what an encoder gives."""
        from landcue.codes.packing import pack_bits
        from landcue.types import Encoding

        return Encoding(vector[None], pack_bits(bits[None]), len(bits), scores[None])

    def mix(self, positives: list[str], negatives: list[str], **options: Any) -> Any:
        """Return the query by examples for and against."""
        from landcue.search import Query

        one = self.by_id
        return Query(tuple(map(one, positives)), tuple(map(one, negatives)), **options)

    def ask(self, query: Any = None, **options: Any) -> Any:
        """Search; ``options`` are k, mode, where, cursor, min_score and so on."""
        from landcue.search import SearchOptions

        own = {name: options.pop(name) for name in ("k", "mode", "where") if name in options}
        return self.archive.search(query, **own, options=SearchOptions(**options))

    def ask_many(self, queries: list[Any], k: int, mode: str, weight: int) -> list[Any]:
        """Search for several queries at once."""
        from landcue.search import SearchOptions

        options = SearchOptions(label_weight=weight)
        return self.archive.search_many(queries, k=k, mode=mode, options=options)


def hits_answers(name: str, result: Any) -> Answers:
    """Return all of a result but its time and its cursor."""
    hits, plan = list(result.hits), result.plan
    facts = (plan.mode, plan.records, plan.allowed, plan.scanned, plan.reranked, plan.lists)
    return {
        f"{name} ids": [hit.id for hit in hits],
        f"{name} near": [hit.near for hit in hits],
        f"{name} distances": [hit.distance for hit in hits],
        f"{name} scores": [hit.score for hit in hits],
        f"{name} shared": [f"{'/'.join(hit.labels)}|{'/'.join(hit.shared)}" for hit in hits],
        f"{name} facts": [*map(str, facts), ",".join(result.labels), str(result.cursor is None)],
    }


def filters(at: Searches) -> dict[str, Any]:
    """Return filters of every kind by name."""
    from shapely.geometry import Polygon

    day = datetime(2024, 1, 20, tzinfo=UTC)
    shape = Polygon([(-120, -60), (100, -50), (60, 70), (-20, 20)])
    return {
        "all": None,
        "labels": at.where(labels=("water", "grass")),
        "any": at.where(any_labels=("ships", "bare soil")),
        "none": at.where(no_labels=("water",)),
        "expression": at.where(expression='water and not ships or "bare soil", trees'),
        "scores": at.where(scores=(("water", 0.5), ("trees", 0.2))),
        "bbox": at.where(bbox=at.box(-60, -50, 80, 60)),
        "antimeridian": at.where(bbox=at.box(120, -80, -100, 80)),
        "polygon": at.where(polygon=shape),
        "after": at.where(datetime=(day, None)),
        "before": at.where(datetime=(None, day - timedelta(microseconds=1))),
        "path": at.where(path="other/"),
        "group": at.where(groups=("scene1", "scene3")),
        "sensor": at.where(sensors=("S2A",)),
        "part": at.where(parts=("test", "val")),
        "several": at.where(no_labels=("ships",), datetime=(day, None), sensors=("S2A", "S2B")),
        "nothing": at.where(labels=("water",), no_labels=("water",)),
    }


def search_answers(folder: Path) -> Answers:
    """Search an archive in all modes, with all filters and examples, page by page."""
    at = Searches(folder)
    ids = at.ids()
    out: Answers = {"search ids": ids}
    modes = ("auto", "embedding", "code", "cue", "two-stage", "ann")
    query = at.by_id(ids[5])
    where = filters(at)
    for mode, (name, filter_) in itertools.product(modes, where.items()):
        out |= hits_answers(f"{mode} {name}", at.ask(query, k=7, mode=mode, where=filter_))
    for name, filter_ in where.items():
        out |= hits_answers(f"place or list {name}", at.ask(k=9, where=filter_))

    vector, scores = unit(1, 12, 3)[0], np.random.default_rng(4).random(5).astype(np.float32)
    examples = {
        "vector": at.by_vector(vector * 3),
        "encoding": at.by_encoding(vector, random_bits(1, 20, 5)[0], scores),
        "positives": at.mix(ids[3:6], []),
        "mean": at.mix(ids[3:5], ids[8:11]),
        "mean heavy": at.mix(ids[3:5], ids[8:11], negative_weight=1.5),
        "rocchio": at.mix(ids[3:6], ids[8:10], rule="rocchio"),
        "linear": at.mix(ids[3:6], ids[8:10], rule="linear"),
    }
    for name, example in examples.items():
        for mode in ("embedding", "two-stage", "ann", "code", "cue"):
            if name != "vector" or mode not in ("code", "cue"):
                out |= hits_answers(f"{mode} by {name}", at.ask(example, k=8, mode=mode))
    for weight in (0, 2, 50):
        found = at.ask(query, k=8, mode="cue", label_weight=weight)
        out |= hits_answers(f"cue weight {weight}", found)
    for mode, score in (("embedding", 0.6), ("code", 0.6), ("cue", 0.5), ("two-stage", 0.55)):
        found = at.ask(query, k=30, mode=mode, min_score=score)
        out |= hits_answers(f"{mode} least score", found)
    for limit in (0.0, 0.3, 0.8):
        for mode in ("embedding", "code"):
            found = at.ask(query, k=10, mode=mode, collapse=limit)
            out |= hits_answers(f"{mode} collapse {limit}", found)
    out |= hits_answers("few candidates", at.ask(query, k=5, mode="two-stage", shortlist=12))
    out |= hits_answers("more than there are", at.ask(query, k=500, mode="code"))

    for mode in (*modes, "list"):
        asked = None if mode == "list" else query
        cursor = None
        for page in range(4):
            found = at.ask(
                asked,
                k=6,
                mode="auto" if mode == "list" else mode,
                cursor=cursor,
                where=where["none"],
                collapse=0.05,
            )
            out |= hits_answers(f"{mode} page {page}", found)
            cursor = found.cursor
            if cursor is None:
                break
            cursor = cursor if isinstance(cursor, str) else cursor.encode()
    for mode in ("embedding", "code", "cue"):
        for number, found in enumerate(at.ask_many([query, examples["mean"]], 6, mode, 2)):
            out |= hits_answers(f"many {mode} {number}", found)
    return out


# comparing ---------------------------------------------------------------------------------------
def answers(folder: Path, only: str | None = None) -> Answers:
    """Return the answers of all packages, or of one."""
    asked: list[tuple[str, Callable[[], Answers]]] = [
        ("metrics", metric_answers),
        ("metrics", comparison_answers),
        ("codes", code_answers),
        ("losses", loss_answers),
        ("search", lambda: search_answers(folder)),
    ]
    return {
        f"{package}: {name}": value
        for package, ask in asked
        if only in (None, package)
        for name, value in ask().items()
        if value is not None
    }


def as_array(value: Any) -> Any:
    """Return an answer as it is stored: numbers, or text as bytes of UTF-8."""
    if isinstance(value, list) and value and isinstance(value[0], str):
        return np.frombuffer("\n".join(value).encode(), np.uint8)
    array = np.asarray(value)
    return array if array.dtype.kind != "f" or array.itemsize < 8 else array.astype(np.float64)


def differences(recorded: Any, now: Answers) -> list[str]:
    """Return one line for each answer that is missing or differs."""
    lines: list[str] = []
    for name in recorded:
        if name not in now:
            lines.append(f"{name}: no answer")
            continue
        old, new = recorded[name], as_array(now[name])
        if old.size == new.size == 0:
            continue
        if old.shape != new.shape:
            lines.append(f"{name}: {list(old.shape)} were recorded, {list(new.shape)} now")
        elif old.dtype.kind != "f":
            if not np.array_equal(old, new):
                lines.append(f"{name}: differs in {np.count_nonzero(old != new)} places")
        elif not np.allclose(old, new, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            worst = float(np.nanmax(np.abs(old.astype(np.float64) - new)))
            lines.append(f"{name}: differs by up to {worst:g}")
    return lines


def main() -> int:
    """Record or compare."""
    if len(sys.argv) != 4 or sys.argv[1] not in ("record", "compare"):
        print(__doc__)
        return 2
    file, folder = Path(sys.argv[2]), Path(sys.argv[3])
    now = answers(folder)
    if sys.argv[1] == "record":
        np.savez_compressed(file, **{name: as_array(value) for name, value in now.items()})
        print(f"{len(now)} answers, {file.stat().st_size:,} bytes")
        return 0
    with np.load(file) as recorded:
        lines = differences(recorded, now)
        print(*lines, f"{len(recorded.files)} answers compared, {len(lines)} differ", sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

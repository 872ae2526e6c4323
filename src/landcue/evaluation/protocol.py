"""What is measured and how: a named protocol that can print every definition it uses."""

from __future__ import annotations

from dataclasses import dataclass

from landcue.errors import UsageError, did_you_mean
from landcue.evaluation.relevance import GAINS, jaccard_threshold

TIES = ("expectation", "id")
DEFAULT = "ml-retrieval-v1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of metrics.

    Attributes:
        title: Name without cut-off and relevance.
        formula: Definition with ``{k}`` for the cut-off, R = relevant items in the gallery.
        needs: ``relevance`` (relevant or not), ``gain`` or ``exponential`` (``2**gain - 1``).
        zero: Whether a query without any relevant item counts as 0; else it is left out.
        falling: Whether smaller is better.
    """

    title: str
    formula: str
    needs: str = "relevance"
    zero: bool = False
    falling: bool = False


KINDS: dict[str, Kind] = {
    "AP": Kind("mAP", "mean of AP = sum over ranks r of rel_r * Prec@r / R"),
    "AP@k": Kind("mAP", "mean of AP@{k} = sum over r <= {k} of rel_r * Prec@r / min({k}, R)"),
    "P": Kind("P", "share of relevant items in the first {k}; always divided by {k}", zero=True),
    "R-precision": Kind("R-precision", "share of relevant items in the first R"),
    "hit": Kind("Recall", "share of queries with a relevant item in the first {k} (hit rate)"),
    "found": Kind("found", "share of the R relevant items that are in the first {k}"),
    "MRR": Kind("MRR", "mean of 1 / rank of the first relevant item"),
    "ANMRR": Kind(
        "ANMRR",
        "mean normalized modified retrieval rank, ranks beyond K = 2R counted as 1.25 K; "
        "0 is best, 1 worst",
        falling=True,
    ),
    "nDCG": Kind(
        "nDCG",
        "DCG@{k} = sum over r <= {k} of (2^gain_r - 1) / log2(1 + r), over the DCG@{k} of the "
        "best order of the whole gallery",
        needs="exponential",
    ),
    "ACG": Kind("ACG", "mean gain of the first {k}; always divided by {k}", "gain", zero=True),
    "WAP": Kind(
        "WAP",
        "mean of ACG@r over the ranks r <= {k} with gain_r > 0; 0 if there is none; "
        "no percentage: the most is the mean number of labels",
        needs="gain",
        zero=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: a kind, a cut-off, and what counts as relevant or as gain."""

    kind: str
    k: int | None
    relevance: str

    @property
    def family(self) -> Kind:
        """What the metric has in common with others of its kind."""
        return KINDS[self.kind]

    @property
    def name(self) -> str:
        """The name in tables, such as ``mAP@20`` or ``mAP(J>=0.4)``."""
        cut = "" if self.k is None else f"@{self.k}"
        return f"{self.family.title}{cut}{suffix(self.relevance)}"

    @property
    def definition(self) -> str:
        """The definition in one line."""
        formula = self.family.formula.format(k=self.k)
        empty = "queries without a relevant item count as 0"
        if not self.family.zero:
            empty = "queries without a relevant item are left out"
        return f"{formula}; {_MEANING.get(self.relevance) or _jaccard(self.relevance)}; {empty}"


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which metrics are computed, and under which rules.

    A query never finds the image with its own id. Averages run over queries.

    Attributes:
        name: The name to print with every table.
        relevance: What counts as relevant: see :func:`landcue.evaluation.relevance.relevant`.
        grades: Further relevances, for mAP only.
        gain: Graded gain: ``shared`` labels or ``jaccard`` overlap.
        ties: ``expectation`` over all orders of equal distances, or ``id`` for the order of ids.
        exclude_group: Whether a query must not find images of its own group.
        map_ks: Cut-offs of mAP, besides the one over the whole ranking.
        precision_ks: Cut-offs of precision.
        hit_ks: Cut-offs of the hit rate (Recall@k).
        found_ks: Cut-offs of the share of relevant items found.
        ndcg_ks: Cut-offs of nDCG.
        gain_ks: Cut-offs of ACG and WAP.
    """

    name: str
    relevance: str = "any"
    grades: tuple[str, ...] = ()
    gain: str = "shared"
    ties: str = "expectation"
    exclude_group: bool = False
    map_ks: tuple[int, ...] = (20,)
    precision_ks: tuple[int, ...] = (1, 5, 10, 20, 100)
    hit_ks: tuple[int, ...] = (1, 5, 10)
    found_ks: tuple[int, ...] = (100,)
    ndcg_ks: tuple[int, ...] = (10, 100)
    gain_ks: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        for kind in (self.relevance, *self.grades):
            jaccard_threshold(kind)
        if self.gain not in GAINS:
            raise UsageError(f"unknown gain {self.gain!r}{did_you_mean(self.gain, GAINS)}")
        if self.ties not in TIES:
            raise UsageError(f"unknown tie rule {self.ties!r}{did_you_mean(self.ties, TIES)}")
        for k in self._cutoffs():
            if isinstance(k, bool) or not isinstance(k, int) or k < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(f"cut-off {k!r} of a metric: give a whole number of 1 or more")

    @property
    def depth(self) -> int:
        """The largest cut-off."""
        return max(self._cutoffs(), default=1)

    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics in the order of a table."""
        main, gain = self.relevance, self.gain
        cut = {
            "AP@k": (self.map_ks, main),
            "P": (self.precision_ks, main),
            "hit": (self.hit_ks, main),
            "found": (self.found_ks, main),
            "nDCG": (self.ndcg_ks, gain),
            "ACG": (self.gain_ks, gain),
            "WAP": (self.gain_ks, gain),
        }
        whole = [Metric("AP", None, kind) for kind in dict.fromkeys((main, *self.grades))]
        whole += [Metric(kind, None, main) for kind in ("R-precision", "MRR", "ANMRR")]
        return (
            *whole,
            *(Metric(kind, k, what) for kind, (ks, what) in cut.items() for k in dict.fromkeys(ks)),
        )

    def definitions(self) -> dict[str, str]:
        """Return the definition of every metric by its name."""
        return {metric.name: metric.definition for metric in self.metrics()}

    def describe(self) -> list[str]:
        """Return the rules that hold for all metrics, one per line."""
        ties = {
            "expectation": "equal distances: mean over all their orders",
            "id": "equal distances: in the order of ids",
        }
        lines = [f"protocol {self.name}", "a query does not find itself (the same id)"]
        if self.exclude_group:
            lines.append("a query does not find images of its own group")
        return [*lines, ties[self.ties], "chance: mean over all orders of the gallery"]

    def _cutoffs(self) -> tuple[int, ...]:
        shallow = self.map_ks + self.precision_ks + self.hit_ks + self.found_ks
        return shallow + self.ndcg_ks + self.gain_ks


PROTOCOLS: dict[str, Protocol] = {
    DEFAULT: Protocol(DEFAULT, grades=("j0.4", "j0.6", "j0.8", "exact")),
    "sl-retrieval-v1": Protocol("sl-retrieval-v1", relevance="same-class", gain_ks=()),
}

_MEANING = {
    "any": "relevant: at least one shared label",
    "exact": "relevant: the same labels, at least one",
    "same-class": "relevant: the same class",
    "shared": "gain: number of shared labels",
    "jaccard": "gain: shared labels over labels of either",
}


def find_protocol(name: str) -> Protocol:
    """Return the protocol of this name.

    Raises:
        UsageError: There is none.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def suffix(relevance: str) -> str:
    """Return what a relevance adds to a metric's name: nothing for the usual ones."""
    if relevance in ("any", "same-class", "shared"):
        return ""
    threshold = None if relevance == "jaccard" else jaccard_threshold(relevance)
    return f"({relevance})" if threshold is None else f"(J>={threshold:g})"


def _jaccard(relevance: str) -> str:
    return f"relevant: shared labels over labels of either >= {jaccard_threshold(relevance):g}"

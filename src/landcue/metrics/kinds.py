"""The families of metrics, their definitions, and the names that they have in tables."""

from __future__ import annotations

from dataclasses import dataclass

from landcue.metrics.relevance import cut_of

OWN_DENOMINATOR = "min(k,R)"
DENOMINATORS = (OWN_DENOMINATOR, "R", "hits", "k")
"""What AP@k is divided by: LandCue's own, and those of other tools."""

DCG_GAINS = ("exponential", "linear")
"""What a gain g is worth in DCG: ``2**g - 1``, LandCue's own, or g as in other tools."""

_FOREIGN = "not the protocol's own definition, for comparison with other tools"


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of metrics.

    Attributes:
        title: Name without cut-off and relevance.
        formula: Definition with ``{k}`` for the cut-off, R = relevant items in the gallery.
        needs: ``relevance`` (relevant or not), ``gain`` or ``exponential`` (``2**gain - 1``).
        zero: Whether a query without any relevant item counts as 0; else it is left out.
        falling: Whether smaller is better.
        mark: What tells the name from the usual definition's.
    """

    title: str
    formula: str
    needs: str = "relevance"
    zero: bool = False
    falling: bool = False
    mark: str = ""


KINDS: dict[str, Kind] = {
    "AP": Kind("mAP", "mean of AP = sum over ranks r of rel_r * Prec@r / R"),
    "AP@k": Kind("mAP", "mean of AP@{k} = sum over r <= {k} of rel_r * Prec@r / min({k}, R)"),
    "AP@k/R": Kind(
        "mAP", f"mean of sum over r <= {{k}} of rel_r * Prec@r / R; {_FOREIGN}", mark="(/R)"
    ),
    "AP@k/hits": Kind(
        "mAP",
        "mean of sum over r <= {k} of rel_r * Prec@r / relevant items in the first {k}, 0 if "
        f"there is none; {_FOREIGN}",
        mark="(/hits)",
    ),
    "AP@k/k": Kind(
        "mAP", f"mean of sum over r <= {{k}} of rel_r * Prec@r / {{k}}; {_FOREIGN}", mark="(/k)"
    ),
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
    "nDCG-linear": Kind(
        "nDCG",
        "sum over r <= {k} of gain_r / log2(1 + r), over the same of the best order of the whole "
        f"gallery; {_FOREIGN}",
        needs="gain",
        mark="(linear)",
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

_MEANING = {
    "any": "relevant: at least one shared label",
    "exact": "relevant: the same labels, at least one",
    "same-class": "relevant: the same class",
    "shared": "gain: number of shared labels",
    "jaccard": "gain: shared labels over labels of either",
    "given": "relevant: judged with a gain above 0",
    "judged": "gain: as judged",
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
        return f"{self.family.title}{cut}{self.family.mark}{suffix(self.relevance)}"

    @property
    def definition(self) -> str:
        """The definition in one line."""
        formula = self.family.formula.format(k=self.k)
        empty = "queries without a relevant item count as 0"
        if not self.family.zero:
            empty = "queries without a relevant item are left out"
        return f"{formula}; {_MEANING.get(self.relevance) or _above(self.relevance)}; {empty}"


def suffix(relevance: str) -> str:
    """Return what a relevance adds to a metric's name: nothing for the usual ones."""
    if relevance in ("any", "same-class", "shared", "given", "judged"):
        return ""
    cut = None if relevance == "jaccard" else cut_of(relevance)
    if cut is None:
        return f"({relevance})"
    return f"({'J' if cut.jaccard else 'g'}>={cut.least:g})"


def _above(relevance: str) -> str:
    cut = cut_of(relevance)
    if cut is None:
        return relevance
    what = "shared labels over labels of either" if cut.jaccard else "judged with a gain"
    return f"relevant: {what} >= {cut.least:g}"

"""What is measured and how: the metrics by name, and protocols that print every definition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase

import numpy as np

from landcue.errors import UsageError, did_you_mean
from landcue.metrics.relevance import GAINS, cut_of

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
        mark: What distinguishes the name from that of the usual definition.
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
    "hit rate": Kind("hit rate", "share of queries with a relevant item in the first {k}"),
    "recall": Kind("recall", "share of the R relevant items that are in the first {k}"),
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


PARTS = ("train", "val", "test")
TARGETS = {"labels": "annotated labels", "group": "scene class as the only label"}


@dataclass(frozen=True, slots=True)
class Roles:
    """The dataset of a protocol, its split, and the parts that query and are searched.

    Attributes:
        dataset: Name of a reader in ``landcue.data.datasets``.
        split: Split id; ``*`` stands for anything, such as the seed, which is then part of the
            result.
        target: What is relevant: the annotated ``labels``, or the ``group`` (scene class) as the
            only label.
        query: The part whose images query.
        gallery: The part that is searched; if it is the same one, each image searches the others.
    """

    dataset: str
    split: str
    target: str = "labels"
    query: str = "test"
    gallery: str = "test"

    def __post_init__(self) -> None:
        for word, known in (
            (self.query, PARTS),
            (self.gallery, PARTS),
            (self.target, tuple(TARGETS)),
        ):
            if word not in known:
                raise UsageError(f"unknown role {word!r}{did_you_mean(word, known)}")

    def describe(self) -> list[str]:
        """Return the roles, one line each."""
        gallery = f"the {self.gallery} part"
        if self.gallery == self.query:
            gallery = "the same part (leave-one-out)"
        return [
            f"dataset {self.dataset} ({TARGETS[self.target]}), split {self.split}",
            f"queries: the {self.query} part; gallery: {gallery}",
        ]

    def check(self, protocol: str, *, dataset: str, split: str, target: str, part: str) -> None:
        """Refuse images that the protocol does not cover.

        Args:
            protocol: Its name.
            dataset: The dataset that was read.
            split: The id of the split that was applied.
            target: ``labels`` or ``group``.
            part: The part that is to query.

        Raises:
            UsageError: One of them differs; names all that do.
        """
        wrong = [
            f"{what} {asked} (not {given})"
            for what, asked, given, fits in (
                ("dataset", self.dataset, dataset, dataset == self.dataset),
                ("split", self.split, split, fnmatchcase(split, self.split)),
                ("target", self.target, target, target == self.target),
                ("query part", self.query, part, part == self.query),
            )
            if not fits
        ]
        if wrong:
            raise UsageError(
                f"protocol {protocol} asks for {', '.join(wrong)}: evaluate what it names, or use "
                "ml-retrieval-v1 or sl-retrieval-v1, which fit any images"
            )


TIES = ("expectation", "id")
DEFAULT = "ml-retrieval-v1"
RUNS = "run-v1"
TOOLS = "+tools"

_PUBLISHED = frozenset(
    {"roles", "relevance", "grades", "gain", "ties", "exclude_group", "map_ks", "precision_ks"}
    | {"hit_ks", "recall_ks", "ndcg_ks", "gain_ks", "denominators", "dcg_gains"}
)
"""Rules that are part of every fingerprint, also with their default; the name is none."""
_RULES = 1  # part of the fingerprint: count up when a definition changes its meaning


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which metrics are computed, and under which rules.

    Averages run over queries. Whether a query may retrieve itself is not a matter of the protocol:
    it depends on whether queries and gallery are one collection, see
    :func:`landcue.metrics.evaluate`.

    Attributes:
        name: The name to print with every table; it ends with a version.
        roles: The dataset, its split and the parts that query and are searched; ``None`` for
            rules that fit any images.
        relevance: What counts as relevant: see :func:`landcue.metrics.relevance.relevant`;
            ``given`` or ``g<t>`` for runs that come with their own gains.
        grades: Further relevances, for mAP only.
        gain: Graded gain: ``shared`` labels, ``jaccard`` overlap, or as ``judged``.
        ties: ``expectation`` over all orders of equal distances, or ``id`` for the order of ids.
        exclude_group: Whether a query must not find images of its own group.
        map_ks: Cut-offs of mAP, besides the one over the whole ranking.
        precision_ks: Cut-offs of precision.
        hit_ks: Cut-offs of the hit rate.
        recall_ks: Cut-offs of recall.
        ndcg_ks: Cut-offs of nDCG.
        gain_ks: Cut-offs of ACG and WAP.
        denominators: What AP@k is divided by: ``min(k,R)``, and after it those of other tools,
            ``R``, ``hits`` or ``k``, whose scores are shown under names that say so.
        dcg_gains: ``exponential``, and after it ``linear`` as in other tools.
        more_gains: Further gains for nDCG, ACG and WAP, such as ``jaccard`` beside ``shared``.
    """

    name: str
    roles: Roles | None = None
    relevance: str = "any"
    grades: tuple[str, ...] = ()
    gain: str = "shared"
    ties: str = "expectation"
    exclude_group: bool = False
    map_ks: tuple[int, ...] = (20,)
    precision_ks: tuple[int, ...] = (1, 5, 10, 20, 100)
    hit_ks: tuple[int, ...] = (1, 5, 10)
    recall_ks: tuple[int, ...] = (100,)
    ndcg_ks: tuple[int, ...] = (10, 100)
    gain_ks: tuple[int, ...] = (100,)
    denominators: tuple[str, ...] = (OWN_DENOMINATOR,)
    dcg_gains: tuple[str, ...] = DCG_GAINS[:1]
    more_gains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in (self.relevance, *self.grades):
            cut_of(kind)
        for gain in (self.gain, *self.more_gains):
            if gain not in (*GAINS, "judged"):
                raise UsageError(f"unknown gain {gain!r}{did_you_mean(gain, GAINS)}")
        if self.ties not in TIES:
            raise UsageError(f"unknown tie rule {self.ties!r}{did_you_mean(self.ties, TIES)}")
        for given, known in ((self.denominators, DENOMINATORS), (self.dcg_gains, DCG_GAINS)):
            if given[:1] != known[:1] or not set(given) <= set(known):
                raise UsageError(
                    f"protocol {self.name}: {list(given)} must start with {known[0]!r}, the "
                    f"definition of the plain name, and go on with any of {list(known[1:])}"
                )
        for k in self._cutoffs():
            if isinstance(k, bool) or not isinstance(k, int) or k < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise UsageError(f"cut-off {k!r} of a metric: pass a whole number of 1 or more")

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits over all rules but the name: the same rules give the same."""
        defaults = {field.name: field.default for field in fields(self)}
        rules = {
            name: value
            for name, value in asdict(self).items()
            if name != "name"
            # A rule that is added later changes no fingerprint while it has its default.
            and (name in _PUBLISHED or value != defaults[name])
        }
        rules["rules"] = _RULES
        rules["found_ks"] = rules.pop("recall_ks")  # its name when fingerprints were published
        text = json.dumps(rules, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def at(cls, ks: Sequence[int], relevance: str = "any") -> Protocol:
        """Return the protocol with all metrics at the same cut-offs.

        Args:
            ks: Cut-offs, each 1 or more.
            relevance: What counts as relevant.

        >>> Protocol.at((5, 20)).name
        'any@5,20'
        """
        cut = tuple(int(k) if isinstance(k, np.integer) else k for k in ks)
        return cls(
            f"{relevance}@{','.join(map(str, cut))}",
            relevance=relevance,
            map_ks=cut,
            precision_ks=cut,
            hit_ks=cut,
            recall_ks=cut,
            ndcg_ks=cut,
            gain_ks=cut,
        )

    @property
    def depth(self) -> int:
        """The largest cut-off."""
        return max(self._cutoffs(), default=1)

    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics in the order of a table."""
        main, gain = self.relevance, self.gain
        cut = {
            "AP@k": (self.map_ks, main),
            **{f"AP@k/{by}": (self.map_ks, main) for by in self.denominators[1:]},
            "P": (self.precision_ks, main),
            "hit rate": (self.hit_ks, main),
            "recall": (self.recall_ks, main),
            "nDCG": (self.ndcg_ks, gain),
            **{f"nDCG-{worth}": (self.ndcg_ks, gain) for worth in self.dcg_gains[1:]},
            "ACG": (self.gain_ks, gain),
            "WAP": (self.gain_ks, gain),
        }
        graded = {"nDCG": self.ndcg_ks, "ACG": self.gain_ks, "WAP": self.gain_ks}
        whole = [Metric("AP", None, kind) for kind in dict.fromkeys((main, *self.grades))]
        whole += [Metric(kind, None, main) for kind in ("R-precision", "MRR", "ANMRR")]
        return (
            *whole,
            *(Metric(kind, k, what) for kind, (ks, what) in cut.items() for k in dict.fromkeys(ks)),
            *(
                Metric(kind, k, other)
                for other in self.more_gains
                for kind, ks in graded.items()
                for k in dict.fromkeys(ks)
            ),
        )

    def definitions(self) -> dict[str, str]:
        """Return the definition of every metric by its name."""
        return {metric.name: metric.definition for metric in self.metrics()}

    def describe(self, *, exclude_self: bool = True) -> list[str]:
        """Return the rules that hold for all metrics, one per line.

        Args:
            exclude_self: Whether the item with a query's own id was left out of its ranking.
        """
        ties = {
            "expectation": "equal distances: mean over all their orders",
            "id": "equal distances: in the order of ids",
        }
        lines = [f"protocol {self.name} (fingerprint {self.fingerprint})"]
        lines += self.roles.describe() if self.roles else []
        if exclude_self:
            lines.append("a query does not find itself (the same id)")
        else:
            lines.append("an item with the id of the query counts like any other")
        if self.exclude_group:
            lines.append("a query does not find images of its own group")
        return [*lines, ties[self.ties], "chance: mean over all orders of the gallery"]

    def _cutoffs(self) -> tuple[int, ...]:
        shallow = self.map_ks + self.precision_ks + self.hit_ks + self.recall_ks
        return shallow + self.ndcg_ks + self.gain_ks


_GRADES = ("j0.4", "j0.6", "j0.8", "exact")
_SHUFFLED = "per-class-70-10-20-seed*"


def _multi_label(name: str, dataset: str, split: str) -> Protocol:
    return Protocol(name, Roles(dataset, split), grades=_GRADES)


def _dhcl(name: str, dataset: str, split: str, gallery: str) -> Protocol:
    roles = Roles(dataset, split, target="group", gallery=gallery)
    return Protocol(name, roles, relevance="same-class", gain_ks=())


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(DEFAULT, grades=_GRADES),
        Protocol(
            "ml-papers-v1",
            grades=_GRADES,
            map_ks=(10, 20, 100),
            precision_ks=(1, 5, 10, 20, 50, 100),
            recall_ks=(10, 20, 100),
            ndcg_ks=(10, 20, 100),
            more_gains=("jaccard",),
        ),
        Protocol("sl-retrieval-v1", relevance="same-class", gain_ks=()),
        Protocol(RUNS, relevance="given", gain="judged"),
        _multi_label("ucm-ml-v1", "ucmerced", _SHUFFLED),
        _multi_label("dlrsd-v1", "dlrsd", _SHUFFLED),
        _multi_label("ml-aid-v1", "ml_aid", "published"),
        _multi_label("whdld-v1", "whdld", _SHUFFLED),
        _dhcl("ucmd-dhcl-v1", "ucmerced", "files-80-20", "test"),
        _dhcl("ucmd-dhcl-train-v1", "ucmerced", "files-80-20", "train"),
        _dhcl("aid-dhcl-v1", "aid", "files-50-50", "test"),
        _dhcl("aid-dhcl-train-v1", "aid", "files-50-50", "train"),
    )
}
"""All protocols by name. A published one never changes: its rules go on under the next version."""


def find_protocol(name: str | Protocol) -> Protocol:
    """Return the protocol of this name, or the protocol itself.

    A name without version means the newest one. ``NAME+tools`` adds the definitions of other tools
    to those of ``NAME``: mAP@k divided by R, by hits and by k, and nDCG with linear gains.

    Raises:
        UsageError: There is none.

    >>> find_protocol("ml-retrieval").name
    'ml-retrieval-v1'
    """
    if isinstance(name, Protocol):
        return name
    plain = name.removesuffix(TOOLS)
    versions = [known for known in PROTOCOLS if known.rpartition("-v")[0] == plain]
    found = plain if plain in PROTOCOLS else max(versions, key=_version, default=None)
    if found is None:
        raise UsageError(f"unknown protocol {name!r}{did_you_mean(name, PROTOCOLS)}")
    protocol = PROTOCOLS[found]
    if plain == name:
        return protocol
    return replace(
        protocol, name=protocol.name + TOOLS, denominators=DENOMINATORS, dcg_gains=DCG_GAINS
    )


def _version(name: str) -> int:
    return int(name.rpartition("-v")[2])

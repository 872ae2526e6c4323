"""What is measured and how: a named protocol that can print every definition it uses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from landcue.errors import UsageError, did_you_mean
from landcue.metrics.kinds import DCG_GAINS, DENOMINATORS, OWN_DENOMINATOR, Metric
from landcue.metrics.relevance import GAINS, cut_of
from landcue.metrics.roles import Roles

TIES = ("expectation", "id")
DEFAULT = "ml-retrieval-v1"
RUNS = "run-v1"
TOOLS = "+tools"

_RULES = 1  # part of the fingerprint: count up when a definition changes its meaning


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which metrics are computed, and under which rules.

    A query never finds the image with its own id. Averages run over queries.

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
        hit_ks: Cut-offs of the hit rate (Recall@k).
        found_ks: Cut-offs of the share of relevant items found.
        ndcg_ks: Cut-offs of nDCG.
        gain_ks: Cut-offs of ACG and WAP.
        denominators: What AP@k is divided by: ``min(k,R)``, and after it those of other tools,
            ``R``, ``hits`` or ``k``, whose scores are shown under names that say so.
        dcg_gains: ``exponential``, and after it ``linear`` as in other tools.
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
    found_ks: tuple[int, ...] = (100,)
    ndcg_ks: tuple[int, ...] = (10, 100)
    gain_ks: tuple[int, ...] = (100,)
    denominators: tuple[str, ...] = (OWN_DENOMINATOR,)
    dcg_gains: tuple[str, ...] = DCG_GAINS[:1]

    def __post_init__(self) -> None:
        for kind in (self.relevance, *self.grades):
            cut_of(kind)
        if self.gain not in (*GAINS, "judged"):
            raise UsageError(f"unknown gain {self.gain!r}{did_you_mean(self.gain, GAINS)}")
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
                raise UsageError(f"cut-off {k!r} of a metric: give a whole number of 1 or more")

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits over all rules but the name: the same rules give the same."""
        rules = {**asdict(self), "rules": _RULES}
        del rules["name"]
        text = json.dumps(rules, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

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
            "hit": (self.hit_ks, main),
            "found": (self.found_ks, main),
            "nDCG": (self.ndcg_ks, gain),
            **{f"nDCG-{worth}": (self.ndcg_ks, gain) for worth in self.dcg_gains[1:]},
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
        lines = [f"protocol {self.name} (fingerprint {self.fingerprint})"]
        lines += self.roles.describe() if self.roles else []
        lines.append("a query does not find itself (the same id)")
        if self.exclude_group:
            lines.append("a query does not find images of its own group")
        return [*lines, ties[self.ties], "chance: mean over all orders of the gallery"]

    def _cutoffs(self) -> tuple[int, ...]:
        shallow = self.map_ks + self.precision_ks + self.hit_ks + self.found_ks
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


def find_protocol(name: str) -> Protocol:
    """Return the protocol of this name.

    A name without version means the newest one. ``NAME+tools`` adds the definitions of other tools
    to those of ``NAME``: mAP@k divided by R, by hits and by k, and nDCG with linear gains.

    Raises:
        UsageError: There is none.
    """
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

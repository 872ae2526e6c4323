"""An audit as one JSON document: ids, counts and thresholds, no paths of this machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from landcue import __version__
from landcue.audit.audit import Audit
from landcue.audit.counts import PairCounts, part_order
from landcue.audit.findings import findings
from landcue.audit.phash import FORMS
from landcue.data.splits import data_id

FORMAT = 1


def to_json(audit: Audit) -> dict[str, Any]:
    """Return everything in an audit; rows become record ids."""
    images = len(audit.parts)
    return {
        "format": FORMAT,
        "landcue": __version__,
        "dataset": audit.images.name,
        "data_id": data_id(audit.images),
        "split": audit.split,
        "images": images,
        "parts": {part: audit.parts.count(part) for part in part_order(audit.parts)},
        "encoder": audit.encoder,
        "limits": asdict(audit.limits),
        "findings": [asdict(finding) for finding in findings(audit)],
        "leaks": audit.leaks,
        "identical": _identical(audit),
        "near": _near(audit),
        "overlap": None if audit.encoder is None else _overlap(audit),
        "alike": None if audit.encoder is None else _alike(audit),
        "labels": None if audit.labels is None else asdict(audit.labels),
        "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in audit.sizes.items()],
        "odd_sizes": [
            {"id": _id(audit, row), "height": h, "width": w}
            for row, (h, w) in audit.odd_sizes.items()
        ],
        "bands": [{"mode": m, "bands": b, "images": n} for (m, b), n in audit.kinds.items()],
        "odd_bands": [
            {"id": _id(audit, row), "mode": m, "bands": b}
            for row, (m, b) in audit.odd_kinds.items()
        ],
        "undecodable": [
            {"id": _id(audit, row), "reason": why} for row, why in audit.unreadable.items()
        ],
        "blank": [_id(audit, row) for row in audit.blank],
        "problems": _problems(audit),
    }


def _problems(audit: Audit) -> list[dict[str, str]]:
    root = f"{audit.images.root}/"
    found = audit.images.problems
    return [{"where": p.where.removeprefix(root), "what": p.what} for p in found]


def _identical(audit: Audit) -> dict[str, Any]:
    differing = set(audit.conflicts["identical"])
    return {
        **_counts(audit.counts["identical"]),
        "groups": [
            {
                "ids": [_id(audit, row) for row in group.rows],
                "parts": dict(Counter(audit.parts[row] for row in group.rows)),
                "same_bytes": group.same_bytes,
                "contradictory": place in differing,
            }
            for place, group in enumerate(audit.identical)
        ],
    }


def _near(audit: Audit) -> dict[str, Any]:
    differing = set(audit.conflicts["near"])
    return {
        **_counts(audit.counts["near"]),
        "complete": "near" not in audit.cut,
        "pairs": [
            {
                **_pair(audit, pair.first, pair.second),
                "distance": pair.distance,
                "form": FORMS[pair.form],
                "correlation": round(pair.correlation, 4),
                "contradictory": place in differing,
            }
            for place, pair in enumerate(audit.near)
        ],
    }


def _overlap(audit: Audit) -> dict[str, Any]:
    pairs = [
        {
            **_pair(audit, pair.first, pair.second),
            "down": pair.down,
            "right": pair.right,
            "shared": round(pair.shared, 4),
            "correlation": round(pair.correlation, 4),
        }
        for pair in audit.overlap
    ]
    return {**_counts(audit.counts["overlap"]), "pairs": pairs}


def _alike(audit: Audit) -> dict[str, Any]:
    pairs = [
        {**_pair(audit, pair.first, pair.second), "cosine": round(pair.cosine, 6)}
        for pair in audit.alike
    ]
    complete = "alike" not in audit.cut
    return {**_counts(audit.counts["alike"]), "complete": complete, "pairs": pairs}


def _counts(counts: PairCounts) -> dict[str, Any]:
    return {"count": counts.total, "within": counts.within, "across": counts.across}


def _pair(audit: Audit, first: int, second: int) -> dict[str, Any]:
    rows = (first, second)
    return {
        "ids": [_id(audit, row) for row in rows],
        "parts": [audit.parts[row] for row in rows],
    }


def _id(audit: Audit, row: int) -> str:
    return audit.images.records[row].id

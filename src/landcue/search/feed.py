"""Hits of saved searches, written as JSON lines and as an Atom feed."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import asdict, dataclass

_ATOM = "http://www.w3.org/2005/Atom"


@dataclass(frozen=True, slots=True)
class WatchHit:
    """A new record that a saved search found.

    Attributes:
        number: Grows with every hit of an archive.
        watch: Name of the saved search.
        id: Of the record.
        score: Cosine to the query; ``None`` for a filter alone.
        time: When it was found, UTC, ISO 8601.
        version: Of the archive.
    """

    number: int
    watch: str
    id: str
    score: float | None
    time: str
    version: int


def write_json_lines(hits: Iterable[WatchHit]) -> str:
    """Return hits as JSON lines.

    >>> write_json_lines([])
    ''
    """
    return "".join(json.dumps(asdict(hit)) + "\n" for hit in hits)


def write_feed(hits: Iterable[WatchHit], title: str) -> bytes:
    """Return hits as an Atom feed (RFC 4287), the newest first.

    >>> write_feed([], "new harbors").splitlines()[0]
    b"<?xml version='1.0' encoding='utf-8'?>"
    """
    newest = sorted(hits, key=lambda hit: -hit.number)
    feed = ET.Element("feed", xmlns=_ATOM)
    base = f"urn:landcue:{title.encode().hex()}"
    updated = newest[0].time if newest else "1970-01-01T00:00:00Z"
    for tag, text in (("id", base), ("title", _xml(title)), ("updated", updated)):
        ET.SubElement(feed, tag).text = text
    ET.SubElement(ET.SubElement(feed, "author"), "name").text = "LandCue"
    for hit in newest:
        entry = ET.SubElement(feed, "entry")
        score = "" if hit.score is None else f" (score {hit.score:.3f})"
        facts = {
            "id": f"{base}:{hit.number}", "title": _xml(f"{hit.watch}: {hit.id}"),
            "updated": hit.time, "content": _xml(f"{hit.id}{score}"),
        }  # fmt: skip
        for tag, text in facts.items():
            ET.SubElement(entry, tag).text = text
    return ET.tostring(feed, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    """Replace what XML 1.0 cannot hold."""
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
        else "\ufffd"
        for c in text
    )  # fmt: skip

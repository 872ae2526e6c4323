"""The web page: the build of ``web/``, read once and served from memory.

A request names a key of a table, never a file: there is nothing to traverse, and links are not
followed when the table is made.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from landcue.errors import UsageError

FOLDER = Path(__file__).with_name("page")
"""Where `make page` builds, and wheels carry, the page."""

INDEX = "/"
NOT_BUILT = (
    "LandCue's page is not built. In a clone run: make page. "
    "The REST API answers below /v1; /openapi.json describes it.\n"
)

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Files of other kinds are no part of the page."""

_COMPRESSED = {"br": ".br", "gzip": ".gz"}
"""Codings with the suffix of the files made by the build, the smallest first."""

_INCOMPRESSIBLE = {".ico", ".png", ".woff2"}
_SMALL = 512
_PLACES = ("{z}", "{x}", "{y}")
_LONGEST = 500
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page.

    Attributes:
        media_type: Of the content.
        digest: Of the content; ETags are made of it.
        forms: The bytes by content coding; ``identity`` is always there.
        immutable: Whether another content would have another name.
    """

    media_type: str
    digest: str
    forms: Mapping[str, bytes]
    immutable: bool

    def coding(self, accepted: str) -> str:
        """Return the best coding that a client accepts, by its ``Accept-Encoding``."""
        weights: dict[str, float] = {}
        for one in accepted.split(","):
            name, _, rest = one.partition(";")
            weights[name.strip().lower()] = _weight(rest)
        for coding in (*_COMPRESSED, "identity"):
            if coding in self.forms and weights.get(coding, weights.get("*", 0)) > 0:
                return coding
        return "identity"

    def etag(self, coding: str) -> str:
        """Return the ETag of one form."""
        return f'"{self.digest}-{coding}"'


class Page:
    """The files of the page by the path that they are asked by."""

    def __init__(self, files: Mapping[str, PageFile]) -> None:
        self._files = dict(files)

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Page:
        """Read a built page; an absent one has no files.

        Links are skipped, wherever they lead, and so are files of unknown kinds.
        """
        files: dict[str, PageFile] = {}
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                path = Path(parent, name)
                if path.suffix in _MEDIA_TYPES and path.is_file() and not path.is_symlink():
                    files[f"/{path.relative_to(folder).as_posix()}"] = _read(path)
        index = files.pop("/index.html", None)
        return cls({} if index is None else {INDEX: index, **files})

    @property
    def built(self) -> bool:
        """Whether there is a page."""
        return INDEX in self._files

    @property
    def paths(self) -> frozenset[str]:
        """Every path that has a file, and the page's own."""
        return frozenset({INDEX, *self._files})

    def get(self, path: str) -> PageFile | None:
        """Return the file of a path."""
        return self._files.get(path)


def content_policy(basemap: str | None) -> str:
    """Return the content security policy of the page; a basemap adds its origin to two lists."""
    origin = None if basemap is None else origin_of(basemap)
    also = f" {origin}" if origin else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' data: blob:{also}; connect-src 'self'{also}; worker-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def origin_of(basemap: str) -> str | None:
    """Return the one origin that an address template loads from; ``None``: the service's own."""
    if basemap.startswith("/") and not basemap.startswith("//"):
        return None
    try:
        parts = urlsplit(basemap)
        good = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc) is not None
    except ValueError:
        good, parts = False, urlsplit("")
    if not good:
        raise UsageError(
            f"basemap {basemap[:200]!r}: use one address such as "
            "https://tiles.example.org/{z}/{x}/{y}.png, without a name or password in it"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def check_basemap(address: str) -> str:
    """Return an address template of raster tiles, such as ``https://host/{z}/{x}/{y}.png``.

    The page's content security policy is opened to its origin and to nothing else.
    """
    origin_of(address)
    missing = [place for place in _PLACES if place not in address]
    if missing or len(address) > _LONGEST or not address.isprintable():
        what = f"lacks {', '.join(missing)}" if missing else "is too long or not plain text"
        raise UsageError(
            f"--basemap {address[:80]!r}: {what}; use an address such as "
            "https://tiles.example.org/{z}/{x}/{y}.png"
        )
    return address


def _read(path: Path) -> PageFile:
    data = path.read_bytes()
    forms = {"identity": data}
    if path.suffix not in _INCOMPRESSIBLE and len(data) >= _SMALL:
        for coding, suffix in _COMPRESSED.items():
            made = path.with_name(path.name + suffix)
            if made.is_file() and not made.is_symlink():
                forms[coding] = made.read_bytes()
        if "gzip" not in forms:
            forms["gzip"] = gzip.compress(data, 6, mtime=0)
    return PageFile(
        media_type=_MEDIA_TYPES[path.suffix],
        digest=hashlib.sha256(data).hexdigest()[:32],
        forms=forms,
        immutable=path.parent.name == "assets",
    )


def _weight(parameters: str) -> float:
    for one in parameters.split(";"):
        name, _, value = one.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0

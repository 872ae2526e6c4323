"""The tiles below the page's map: one address, given by the operator, that browsers load from."""

from __future__ import annotations

from landcue.errors import UsageError
from landcue.server.page import origin_of

_PLACES = ("{z}", "{x}", "{y}")
_LONGEST = 500


def check_basemap(address: str) -> str:
    """Return an address template of raster tiles, such as ``https://host/{z}/{x}/{y}.png``.

    The page's content security policy is opened to its origin and to nothing else.

    Raises:
        UsageError: It is no plain address, or lacks a place for zoom, column or row.
    """
    origin_of(address)
    missing = [place for place in _PLACES if place not in address]
    if missing or len(address) > _LONGEST or not address.isprintable():
        what = f"lacks {', '.join(missing)}" if missing else "is too long or not plain text"
        raise UsageError(
            f"--basemap {address[:80]!r}: {what}; give an address such as "
            "https://tiles.example.org/{z}/{x}/{y}.png"
        )
    return address

"""Self-contained HTML pages: one file each, inline style, images as data URIs, no network.

Pages are Jinja templates that escape whatever they are given, so a name such as ``<script>`` in a
folder of images can never become markup. A page's own policy forbids scripts and any outside
address.
"""

from __future__ import annotations

import base64
import functools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

# Okabe and Ito's palette: apart for the color-blind, and in gray by their lightness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def render(template: str, **values: object) -> str:
    """Return a page.

    Args:
        template: A file in ``report/templates``.
        values: What it shows; text is escaped, ``markupsafe.Markup`` is not.
    """
    return _environment().get_template(template).render(**values)


def data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    """Return bytes as a ``data:`` address of the media type ``kind``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def shown(value: object) -> object:
    """Return floats with four digits, or a dash for NaN; other values as they are."""
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else "–"
    return value


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("landcue.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters["shown"] = shown
    return environment

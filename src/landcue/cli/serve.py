"""``landcue serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    archives: Annotated[
        list[Path],
        typer.Argument(help="Archive folders or milvus:// collections; the first is the default."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback requires --token-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 for any free port.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with lines 'read TOKEN' or 'feedback TOKEN'; only its owner may read "
            "it (chmod 600)."
        ),
    ] = None,
    collections: Annotated[
        Path | None, typer.Option(help="SQLite file for collections of marked records.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Web origin whose pages may send requests; repeatable.")
    ] = None,
    max_upload_mb: Annotated[
        int, typer.Option(min=1, max=1_024, help="Maximum size of an upload in MiB.")
    ] = 32,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Maximum mean requests per second of each client."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy whose X-Forwarded-For header is trusted; "
            "repeatable."
        ),
    ] = None,
    basemap: Annotated[
        str | None,
        typer.Option(help="Map tiles for the page: https://host/{z}/{x}/{y}.png; by default none."),
    ] = None,
    basemap_credit: Annotated[
        str | None, typer.Option(help="Attribution of the map tiles; by default their host.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model folder of milvus:// collections, for image queries.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "--processes",
            min=1,
            max=256,
            help="Server processes; each has its own models and limits.",
        ),
    ] = 1,
) -> None:
    """Serve archives over HTTP: web page and REST API."""
    from landcue.server import Limits, Settings
    from landcue.server import serve as serve_archives
    from landcue.server.settings import is_loopback

    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()
    settings = Settings(
        archives=tuple(map(str, archives)),
        model=None if model is None else str(model),
        hosts=tuple({"127.0.0.1", "localhost", "[::1]", shown}) if is_loopback(host) else (),
        token_file=token_file,
        proxies=tuple(trusted_proxy or ()),
        origins=tuple(allow_origin or ()),
        basemap=basemap,
        basemap_credit=basemap_credit,
        collections_file=collections,
        limits=Limits(upload_bytes=max_upload_mb << 20, per_second=rate),
    )
    serve_archives(settings, host, port, workers)

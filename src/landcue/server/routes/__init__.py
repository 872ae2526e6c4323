"""The paths of the service, one file per resource."""

from __future__ import annotations

from fastapi import FastAPI

from landcue.server.routes import (
    archives,
    feedback,
    insight,
    operations,
    page,
    records,
    search,
)
from landcue.server.service import Service


def add_routes(app: FastAPI, service: Service) -> None:
    """Add every path to an application."""
    # A record's regions come before the record: an id may hold slashes.
    for resource in (search, insight, records, archives, feedback, operations, page):
        resource.add(app, service)

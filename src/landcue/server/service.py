"""What the routes share: archives, pools, decoders, counters."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.responses import Response

from landcue.search.result import SearchResult
from landcue.server import export, metrics
from landcue.server.catalog import Catalog
from landcue.server.decoding import Decoders
from landcue.server.feedback import FeedbackFile
from landcue.server.page import Page
from landcue.server.pool import Pool
from landcue.server.quick import QuickSearches, is_quick
from landcue.server.searching import run_search
from landcue.server.served import Served
from landcue.server.settings import Settings
from landcue.server.shared import Accounts
from landcue.server.uploads import Body

_log = logging.getLogger("landcue.server")


@dataclass(slots=True)
class Service:
    """What the routes share."""

    catalog: Catalog
    settings: Settings
    page: Page
    metrics: metrics.Metrics = field(default_factory=metrics.Metrics)
    ready: bool = False
    when_ready: Callable[[], None] | None = None
    encoders: Pool = field(init=False)
    searches: Pool = field(init=False)
    insights: Pool = field(init=False)
    quick: QuickSearches = field(default_factory=QuickSearches)
    decoders: Decoders = field(init=False)
    feedback: FeedbackFile = field(init=False)
    _accounts: Accounts | None = field(init=False)

    def __post_init__(self) -> None:
        limits = self.settings.limits
        self.encoders = Pool("encoding", limits.encoders, limits.encoders_waiting)
        self.searches = Pool("search", limits.searches, limits.searches_waiting)
        self.insights = Pool("insight", 1, limits.insights_waiting)
        self.decoders = Decoders(limits)
        self.feedback = FeedbackFile(self.settings.feedback_file, limits.feedback_bytes)
        shared = self.settings.shared
        self._accounts = None if shared is None else Accounts(shared)

    async def search(self, body: Body, kind: export.Format) -> Response:
        """Answer a search in one of the formats."""
        served = self.catalog.get(body.search.archive)
        if self.ready and kind == "json" and is_quick(served, body):
            return _written(served, body, kind, await self.quick.run(served, body.search))
        pool = self.encoders if body.any else self.searches
        return await pool.run(functools.partial(self._found, served, body, kind))

    def _found(self, served: Served, body: Body, kind: export.Format) -> Response:
        return _written(served, body, kind, run_search(served, body, self.decoders))

    @property
    def all_ready(self) -> bool:
        """Whether this process is ready, and all others that serve the same."""
        if self._accounts is None or not self.ready:
            return self.ready
        return all(account.ready for account in self._accounts.all())

    def tell(self) -> None:
        """Let other processes know how this one does, if there are any."""
        if self._accounts is not None:
            self._accounts.tell(self.ready, self._counters(), self._gauges())

    def told(self) -> str:
        """Return counters and gauges of all processes as Prometheus reads them."""
        counters, gauges, ready = self._counters(), self._gauges(), self.ready
        if self._accounts is not None:
            self.tell()
            accounts = self._accounts.all()
            counters = metrics.added(account.counters for account in accounts)
            gauges = metrics.added(account.gauges for account in accounts)
            ready = all(account.ready for account in accounts)
        archives = [
            ("landcue_archive_records", {"archive": one.name}, float(one.archive.count))
            for one in self.catalog
        ]
        same = metrics.families("gauge", [*archives, ("landcue_ready", {}, float(ready))])
        return metrics.text({**counters, **gauges, **same})

    def _counters(self) -> metrics.Families:
        refused = [
            ("landcue_pool_refused_total", {"pool": pool.name}, float(pool.refused))
            for pool in self._pools
        ]
        return {**self.metrics.counters(), **metrics.families("counter", refused)}

    def _gauges(self) -> metrics.Families:
        named: list[tuple[str, Callable[[Pool], float]]] = [
            ("landcue_pool_jobs", lambda pool: pool.jobs),
            ("landcue_pool_limit", lambda pool: pool.most),
        ]
        found = [
            (name, {"pool": pool.name}, of(pool)) for name, of in named for pool in self._pools
        ]
        return metrics.families("gauge", [*found, ("landcue_processes", {}, 1.0)])

    @property
    def _pools(self) -> tuple[Pool, ...]:
        return self.encoders, self.searches, self.insights

    async def warm(self) -> None:
        """Load models and vectors, then be ready."""
        for error in await self.encoders.run(self.catalog.warm):
            _log.warning("not warm", extra={"facts": {"error": str(error)}})
        if self.when_ready is not None:
            self.when_ready()
        self.ready = True
        self.tell()

    def close(self) -> None:
        """Finish what runs, and let go of everything."""
        self.ready = False
        self.tell()
        self.encoders.close()
        self.searches.close()
        self.insights.close()
        self.decoders.close()
        self.catalog.close()


def _written(served: Served, body: Body, kind: export.Format, result: SearchResult) -> Response:
    headers: dict[str, str] = {}
    if kind != "json":
        name = f"landcue-result.{export.SUFFIXES[kind]}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    data = export.write(served, result, kind, predicted=body.search.predicted)
    return Response(data, 200, headers, export.MEDIA_TYPES[kind])

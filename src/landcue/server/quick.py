"""Short searches by record, answered together by the thread that reads requests.

Another thread would cost several times what a short search takes when many ask, as both want the
interpreter's lock. One scan for all that have arrived costs less than one for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from landcue.search.queries import ById
from landcue.search.result import SearchResult
from landcue.server.schemas import SearchRequest
from landcue.server.served import Served
from landcue.server.uploads import Body

_BYTES = 8 << 20
"""That a scan reads in less than a millisecond."""
_HITS = 100
_TOGETHER = 32
_FIELDS = {"archive", "id", "mode", "k", "predicted", "label_weight"}


@dataclass(slots=True, eq=False)
class _Asked:
    served: Served
    search: SearchRequest
    future: asyncio.Future[SearchResult]

    @property
    def alike(self) -> tuple[str, str, int, int]:
        """What searches have in common that share a scan."""
        return self.served.name, self.search.mode, self.search.k, self.search.label_weight


class QuickSearches:
    """Searches that :func:`is_quick` lets through; for one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Asked] = []

    async def run(self, served: Served, search: SearchRequest) -> SearchResult:
        """Return the result of a search, once whatever else can be read now was read.

        Raises:
            ProblemError: 404: no record has the id.
            LandcueError: Whatever the search refuses.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(served, search, loop.create_future())
        self._waiting.append(asked)
        if len(self._waiting) == 1:
            loop.call_soon(self._answer, loop)
        return await asked.future

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        now, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
        if self._waiting:
            loop.call_soon(self._answer, loop)
        groups: dict[tuple[str, str, int, int], list[_Asked]] = {}
        for asked in now:
            groups.setdefault(asked.alike, []).append(asked)
        for group in groups.values():
            _search(group)


def is_quick(served: Served, body: Body) -> bool:
    """Tell whether a search takes about as long as reading its request."""
    search, manifest = body.search, served.archive.manifest
    if body.any or search.id is None or search.k > _HITS or not served.local:
        return False
    bits = {"code": manifest.n_bits, "cue": manifest.n_bits + len(manifest.label_names)}
    width = bits.get(search.mode, 32 * manifest.dim) // 8
    plain = search.mode not in ("ann", "two-stage") and search.model_fields_set <= _FIELDS
    return plain and width * len(served.searcher.records) <= _BYTES


def _search(group: Sequence[_Asked]) -> None:
    """Settle the futures of searches that share a scan."""
    served, search = group[0].served, group[0].search
    try:
        results = served.searcher.search_many(
            [ById(asked.search.id or "") for asked in group],
            search.k,
            search.mode,
            label_weight=search.label_weight,
        )
    except Exception as error:  # the caller's, whatever it is
        if len(group) == 1:
            _fail(group[0], error)
        else:  # one that cannot be answered must not keep the others from it
            for asked in group:
                _search([asked])
        return
    for asked, result in zip(group, results, strict=True):
        if not asked.future.done():
            asked.future.set_result(result)


def _fail(asked: _Asked, error: Exception) -> None:
    """Tell the caller; that there is no such record, if that is it."""
    try:
        asked.served.check_id(asked.search.id or "")
    except Exception as found:
        error = found
    if not asked.future.done():
        asked.future.set_exception(error)

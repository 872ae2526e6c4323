"""Short searches are answered together by the loop, as others are by a thread."""

from __future__ import annotations

import asyncio
import json

import pytest

from landcue.server.quick import is_quick
from landcue.server.schemas import SearchRequest
from landcue.server.uploads import Body

KIND = ((b"content-type", b"application/json"),)


@pytest.fixture
def searches(start, call):
    """Send searches at the same time; returns statuses and answers without their times."""
    with start() as client:
        service = client.app.state.service
        while not service.ready:
            client.get("/healthz")

        def searches(requests, ready=True):
            service.ready = ready  # until it is, threads answer all

            async def one(request):
                sent = False

                async def receive():
                    nonlocal sent
                    if sent:
                        await asyncio.sleep(60)
                    sent = True
                    return {"type": "http.request", "body": json.dumps(request).encode()}

                status, answer = await call(client.app, "/v1/search", receive, KIND)
                if status == 200:
                    answer["plan"].pop("milliseconds")
                return status, answer

            async def every():
                return await asyncio.gather(*map(one, requests))

            return asyncio.run(every())

        searches.service = service
        yield searches


def test_searches_at_once_answer_as_those_of_threads(searches):
    service = searches.service
    requests = []
    for served in service.catalog:
        for number, id_ in enumerate(served.searcher.records.ids()[:25]):
            one = {"archive": served.name, "id": id_, "k": 3 + number % 3}
            requests.append({**one, "mode": ("code", "cue", "auto")[number % 3]})
            requests.append({**one, "mode": "cue", "label_weight": 5, "predicted": True})
            assert is_quick(served, Body(SearchRequest.model_validate(requests[-1]), {}))
    requests.insert(7, {"id": "nowhere", "mode": "code"})
    requests.insert(9, {"archive": "none", "id": "nowhere", "mode": "code"})
    together = searches(requests)
    assert [status for status, _ in together].count(200) == len(requests) - 2
    assert [together[place][0] for place in (7, 9)] == [404, 404]
    assert "no record has the id 'nowhere'" in together[7][1]["detail"]
    assert together == searches(requests, ready=False)


def test_a_search_that_fails_answers_all_that_shared_it(searches, log_lines):
    served = next(iter(searches.service.catalog))
    request = {"id": served.searcher.records.id(0), "mode": "code", "archive": served.name}
    modes = served.searcher._modes
    del served.searcher._modes
    try:
        answers = searches([request] * 3)
    finally:
        served.searcher._modes = modes
    assert [status for status, _ in answers] == [500, 500, 500]
    assert sum("AttributeError" in line for line in log_lines) == 3
    assert searches([request])[0][0] == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"k": 101},
        {"mode": "two-stage"},
        {"mode": "ann"},
        {"filters": {"labels": "water"}},
        {"positives": ["x"]},
        {"negatives": ["x"]},
        {"collapse": 0.1},
        {"min_score": 0.5},
        {"cursor": "x"},
        {"recall": 0.5},
        {"rule": "mean"},
    ],
)
def test_what_may_take_long_is_left_to_threads(searches, changed):
    served = next(iter(searches.service.catalog))
    request = {"id": served.searcher.records.id(0), "k": 20, "mode": "code"}
    assert is_quick(served, Body(SearchRequest.model_validate(request), {}))
    asked = SearchRequest.model_validate(request | changed)
    assert not is_quick(served, Body(asked, {}))
    assert not is_quick(served, Body(SearchRequest.model_validate({"k": 5}), {}))


def test_images_are_left_to_threads(searches):
    served = next(iter(searches.service.catalog))
    asked = SearchRequest.model_validate({"id": served.searcher.records.id(0)})
    assert is_quick(served, Body(asked, {}))
    assert not is_quick(served, Body(asked, {"image": (b"x",)}))

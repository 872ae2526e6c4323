from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.errors import UsageError
from landcue.search.pages import Cursor
from landcue.server.errors import ProblemError, one_line, without_paths
from landcue.server.metrics import Metrics
from landcue.server.middleware import HEADERS, Rate
from landcue.server.routes.base import BoundedExecutor
from landcue.server.settings import Settings, Tokens, check_host, read_tokens
from made_archive import remove_archive

READ, FEEDBACK = "r" * 30, "f" * 30


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "127.0.0.1.nip.io"]
)
def test_other_hosts_need_a_token(host):
    with pytest.raises(UsageError, match="--token-file"):
        check_host(host, None)
    check_host(host, Tokens(read=(READ,)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_none(host):
    check_host(host, None)


def test_tokens_and_their_scopes(start, tmp_path, is_problem):
    tokens = Tokens(read=(READ,), feedback=(FEEDBACK,))
    given = {"name": "a", "members": [{"id": "port/01.png", "mark": "good"}]}
    with start(tokens=tokens, collections_file=tmp_path / "f") as client:
        for path in ("/v1/labels", "/v1/records/port/01.png", "/metrics", "/openapi.json", "/x"):
            answer = client.get(path)
            is_problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        bad = ("", READ[:-1], READ + "r", "é" * 30, READ.upper(), f"{READ} {READ}")
        for token in bad:
            header = {"Authorization": f"Bearer {token}".encode()}
            is_problem(client.get("/v1/labels", headers=header), 401)
        is_problem(client.get("/v1/labels", headers={"Authorization": f"Basic {READ}"}), 401)
        is_problem(client.get(f"/v1/labels?token={READ}"), 401)
        assert client.get("/v1/labels", headers=bearer(READ)).status_code == 200
        is_problem(client.post("/v1/collections", json=given, headers=bearer(READ)), 403)
        is_problem(client.post("/v1/collections", json=given), 401)
        answer = client.post("/v1/collections", json=given, headers=bearer(FEEDBACK))
        assert answer.status_code == 201
        assert client.get("/v1/labels", headers=bearer(FEEDBACK)).status_code == 200
        for act in (client.delete, client.post):
            is_problem(act("/v1/watches/a/feed", headers=bearer(READ)), 403)
        assert client.get("/healthz").status_code == 200


def test_token_files(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# ours\nread {READ}\n\nfeedback {FEEDBACK} # theirs\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        read_tokens(file)
    file.chmod(0o600)
    assert read_tokens(file) == Tokens(read=(READ,), feedback=(FEEDBACK,))
    for text in ("read hidden", f"write {READ}", READ, f"read {READ} x", "# none", f"read é{READ}"):
        file.write_text(text)
        with pytest.raises(UsageError) as caught:
            read_tokens(file)
        assert "hidden" not in str(caught.value)
        assert READ not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        read_tokens(tmp_path / "none")


def test_other_host_names_are_refused(client, is_problem):
    for host in ("evil.example", "127.0.0.1.evil.example", "", "evil.example:80"):
        is_problem(client.get("/v1/labels", headers={"Host": host}), 421)
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"):
        assert client.get("/v1/labels", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_may_not_send(client, is_problem):
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9"):
        answer = client.post("/v1/search", json={}, headers={"Origin": origin})
        is_problem(answer, 403)
        assert "access-control-allow-origin" not in answer.headers
    own = client.post("/v1/search", json={"k": 1}, headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


def test_cors_is_off_but_for_named_origins(client, start):
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/search", headers=ask).headers
    with start(origins=("https://a.example",)) as other:
        answer = other.post("/v1/search", json={"k": 1}, headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "X-Image-Size" in answer.headers["access-control-expose-headers"]
        answer = other.options("/v1/search", headers={**ask, "Origin": "https://b.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_security_headers_are_on_every_answer(client, start):
    answers = [
        client.get("/healthz"),
        client.get("/v1/labels"),
        client.get("/nowhere"),
        client.post("/v1/search", content=b"{", headers={"content-type": "application/json"}),
        client.get("/v1/labels", headers={"Host": "evil.example"}),
        client.delete("/v1/labels"),
    ]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("what", ["", "/thumbnail", "/chip"])
@pytest.mark.parametrize(
    "id_",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%252f..%252fetc%252fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "file:///etc/passwd",
        "port/01.png%00",
        "port/../port/01.png",
        "port//01.png",
        "manifest.json",
        "http://127.0.0.1/x.png",
        "/vsicurl/http://127.0.0.1/x.tif",
    ],
)
def test_traversal_is_an_unknown_id(client, call, id_, what):
    """Sent by hand, because clients tidy addresses up."""

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    for path in {id_, unquote(id_), unquote(unquote(id_))}:
        asked = call(client.app, f"/v1/records/{path}{what}", receive, method="GET")
        status, value = asyncio.run(asked)
        assert (status, value["title"]) == (404, "Not Found")


@pytest.fixture
def moved(tmp_path, source, encoder):
    """An archive in a place of its own, with its source root."""
    root = tmp_path / "source"
    shutil.copytree(source[0], root)
    (tmp_path / "outside").mkdir()
    shutil.copy(root / "port/01.png", tmp_path / "outside/secret.png")
    records = [replace(r, path=root / r.id) for r in source[1][:8]]
    records.append(
        replace(records[0], id="abroad.png", path=tmp_path / "outside/secret.png", labels=None)
    )
    ingest(SourceImages(records, root), tmp_path / "photos", encoder)
    return tmp_path


def test_chips_stay_inside_the_source_root(moved, start, is_problem):
    root, outside = moved / "source", moved / "outside"
    with start(folders=[moved / "photos"]) as client:
        get = client.get
        assert get("/v1/records/port/01.png/chip").status_code == 200
        is_problem(get("/v1/records/abroad.png/chip"), 404)  # indexed from elsewhere
        assert get("/v1/records/abroad.png/thumbnail").status_code == 200

        (root / "port/01.png").unlink()
        (root / "port/01.png").symlink_to(outside / "secret.png")
        is_problem(get("/v1/records/port/01.png/chip"), 404)
        (root / "port/03.png").unlink()
        (root / "port/03.png").symlink_to("../farm/00.png")
        assert get("/v1/records/port/03.png/chip").status_code == 200
        (root / "port/05.png").unlink()
        (root / "port/05.png").symlink_to("05.png")
        is_problem(get("/v1/records/port/05.png/chip"), 404)
        (root / "port/07.png").unlink()
        os.mkfifo(root / "port/07.png")
        is_problem(get("/v1/records/port/07.png/chip"), 404)
        shutil.rmtree(root / "farm")
        (root / "farm").symlink_to(outside)
        (outside / "02.png").symlink_to("secret.png")
        is_problem(get("/v1/records/farm/02.png/chip"), 404)


def test_answers_hold_no_paths(client, send, png, photos, source):
    asked = {"id": "port/01.png"}
    ids = {record.id for record in source[1]}
    answers = [
        client.post("/v1/search", json=asked),
        client.get("/v1/records/port/01.png"),
        client.get("/v1/archive"),
        *(
            client.get("/v1/export", params={"request": json.dumps(asked), "format": kind})
            for kind in ("json", "geojson", "csv")
        ),
        client.post("/v1/search", json={"cursor": "x"}),
        client.get("/v1/records/none"),
        send(client, ("image", b"none")),
    ]
    for answer in answers:
        assert str(photos.parent) not in answer.text
        assert str(source[0]) not in answer.text
        for path in re.findall(r'"path": ?"([^"]*)"', answer.text):
            assert path in ids  # relative to the source


def test_what_goes_wrong_inside_is_not_told(photos, start, is_problem, caplog):
    """The table's files vanish under the service."""
    folder = photos.parent / "doomed"
    shutil.copytree(photos, folder)
    with start(folders=[folder]) as client:
        while client.get("/readyz").status_code != 200:
            pass
        for data in folder.rglob("*.lance"):
            if data.is_file():
                data.unlink()
        answer = client.get("/v1/records/port/01.png")
        detail = is_problem(answer, answer.status_code)
        assert answer.status_code in (500, 503)
        assert str(folder.parent) not in answer.text
        assert ".lance" not in detail


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 0},
        {"k": 1001},
        {"k": 10**30},
        {"k": 1.5},
        {"k": "x"},
        {"k": float("nan")},
        {"negative_weight": float("nan")},
        {"negative_weight": float("inf")},
        {"negative_weight": -1},
        {"min_score": float("nan")},
        {"min_score": 2},
        {"min_percentile": -1},
        {"min_percentile": 100.5},
        {"min_percentile": "5"},
        {"collapse": float("inf")},
        {"collapse": 1},
        {"shortlist": 10**9},
        {"label_weight": 10**9},
        {"recall": 2},
        {"mode": "eval"},
        {"rule": "none"},
        {"id": ""},
        {"id": "x" * 2000},
        {"id": 7},
        {"positives": ["port/01.png"] * 101},
        {"crop": [0, 0, 1]},
        {"crop": [-1, 0, 1, 1]},
        {"cursor": "x" * 5000},
        {"url": "http://127.0.0.1/x.png"},
        {"image": "http://127.0.0.1/x.png"},
        {"vector": []},
        *(
            {"filters": filters}
            for filters in (
                {"bbox": [0, 0, 1]},
                {"bbox": [0, 0, 1, True]},
                {"bbox": ["0", 0, 1, 1]},
                {"datetime": 0.5},
                {"datetime": ["2024", "2025"]},
                {"datetime": "2024/2025" + " " * 100},
                {"before": "2024"},
                {"bbox": [0, 0, 1, float("nan")]},
                {"bbox": [0, 0, 1, float("inf")]},
                {"bbox": [-181, 0, 1, 1]},
                {"bbox": [0, -91, 1, 91]},
                {"after": "2024"},
                {"datetime": float("nan")},
                {"labels": "water " * 1000},
                {"scores": {"dark": float("nan")}},
                {"scores": {"dark": 2}},
                {"groups": ["x"] * 101},
                {"parts": ["secret"]},
                {"polygon": "/etc/passwd"},
                {"polygon": ["POLYGON"]},
                {"sql": "1 = 1"},
            )
        ),
    ],
    ids=lambda bad: json.dumps(bad)[:60],
)
def test_values_outside_the_schema_are_refused(client, is_problem, bad):
    text = json.dumps({"id": "port/01.png", **bad})
    headers = {"content-type": "application/json"}
    is_problem(client.post("/v1/search", content=text, headers=headers), 422)


@pytest.mark.parametrize(
    "filters",
    [
        {"bbox": [0, 10, 1, 1]},
        {"datetime": "0.5"},
        {"datetime": "yesterday"},
        {"datetime": ""},
        {"datetime": "../.."},
        {"datetime": "2024/2023"},
        {"datetime": "0000-01-01"},
        {"datetime": "0001-01-01T00:00:00+14:00"},
        {"path": "/etc"},
        {"path": "C:/"},
        {"path": "\\\\host\\share"},
        {"cql2": '{"op": "=", "args": [{"property": "id"}, "\\ud800"]}'},
    ],
)
def test_impossible_filters_are_refused(client, is_problem, filters):
    is_problem(client.post("/v1/search", json={"filters": filters}), 400)


@pytest.mark.parametrize(
    "polygon",
    [
        {},
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1e300, 1], [0, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": "file"},
    ],
)
def test_broken_polygons_are_problems(client, is_problem, polygon):
    is_problem(client.post("/v1/search", json={"filters": {"polygon": polygon}}), 400)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "1 = 1 or true", "'; drop table records; --", "lambda: 0"],
)
def test_filters_are_data(client, is_problem, text):
    for filters in ({"labels": text}, {"scores": {text: 0.5}}):
        is_problem(client.post("/v1/search", json={"filters": filters}), 400)
    for filters in ({"groups": [text]}, {"sensors": [text]}, {"path": text}):
        assert client.post("/v1/search", json={"filters": filters}).json()["hits"] == []


def test_deep_expressions_are_refused(client, is_problem):
    filters = {"labels": "(" * 900 + "water" + ")" * 900}
    is_problem(client.post("/v1/search", json={"filters": filters}), 400)


def test_filters_apply_before_ranking(client):
    """The farthest records are found when only they are allowed, however small k is."""
    whole = client.post("/v1/search", json={"id": "port/01.png", "k": 29}).json()["hits"]
    farms = [hit["id"] for hit in whole if "field" in hit["labels"]]
    for k in (1, len(farms)):
        asked = {"id": "port/01.png", "k": k, "filters": {"labels": "field"}}
        found = client.post("/v1/search", json=asked).json()["hits"]
        assert [hit["id"] for hit in found] == farms[:k]


def test_cursors_cannot_be_made_up(client, is_problem):
    first = client.post("/v1/search", json={"id": "port/01.png", "k": 3}).json()["cursor"]
    cursor = Cursor.decode(first)

    def ask(word, **more):
        asked = {"id": "port/01.png", "k": 3, "cursor": word, **more}
        return client.post("/v1/search", json=asked)

    assert ask(first).status_code == 200
    is_problem(ask(replace(cursor, seen=10**15).encode()), 400)
    is_problem(ask(replace(cursor, seen=10**15).encode(), collapse=0.1), 400)
    is_problem(ask(replace(cursor, shortlist=10**12).encode()), 400)
    is_problem(ask(replace(cursor, lists=10**12).encode()), 400)
    is_problem(ask(replace(cursor, mode="x").encode()), 400)
    for forged in (
        replace(cursor, seen=cursor.seen + 1),
        replace(cursor, distance=cursor.distance + 0.01),
        replace(cursor, id="port/29.png"),
    ):
        assert "another search" in is_problem(ask(forged.encode()), 400)
    assert "another search" in is_problem(ask(first, id="farm/02.png"), 400)
    is_problem(ask(replace(cursor, mark="other").encode()), 409)
    is_problem(ask(first, archive="made", id=None), 409)
    for word in ("x", "é", base64.urlsafe_b64encode(b"[" * 3000).decode()):
        is_problem(ask(word), 400)


def test_unknown_records_are_404(client, is_problem):
    for asked in ({"id": "none"}, {"positives": ["none"]}, {"negatives": ["none"]}):
        is_problem(client.post("/v1/search", json=asked), 404)


def test_rate_of_one_client(start, is_problem):
    with start({"per_second": 0.2}) as client:
        assert [client.get("/v1/labels").status_code for _ in range(3)] == [200, 200, 429]
        answer = client.get("/v1/labels")
        is_problem(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert client.get("/healthz").status_code == 200


def test_clients_have_rates_of_their_own():
    async def go():
        rate = Rate(0.2)  # two in ten seconds
        for i in range(1_000):
            await rate.check(str(i))
            await rate.check(str(i))
        for i in range(1_000):
            with pytest.raises(ProblemError) as caught:
                await rate.check(str(i))
            assert 1 <= int(caught.value.headers["Retry-After"]) <= 10

    asyncio.run(go())


def test_requests_under_way_are_limited(start, is_problem):
    with start({"requests": 0}) as client:
        answer = client.get("/v1/labels")
        is_problem(answer, 429)
        assert answer.headers["retry-after"]
        assert client.get("/healthz").status_code == 200


def test_files_that_are_being_downloaded_are_limited(app, call):
    """Each is on the disk of the service until its client has read it."""
    made = app({"files": 1, "decoders": 1})
    path = "/v1/export"

    async def nothing():
        await asyncio.Event().wait()

    async def download(hold):
        statuses, started = [], asyncio.Event()

        async def send(message):
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            started.set()
            await hold.wait()

        body = [{"type": "http.request", "body": b'{"filters": {}}', "more_body": False}]

        async def receive():
            return body.pop() if body else await nothing()

        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"},
            **{"method": "POST", "scheme": "http", "path": path, "raw_path": path.encode()},
            **{"query_string": b"all=true", "root_path": "", "headers": headers},
            **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)},
        }
        task = asyncio.create_task(made(scope, receive, send))
        await started.wait()
        return statuses[0], task

    async def go():
        at_once, hold = asyncio.Event(), asyncio.Event()
        at_once.set()
        first, held = await download(hold)
        second, _ = await download(at_once)
        hold.set()
        await held
        third, last = await download(at_once)
        await last
        return first, second, third

    assert asyncio.run(go()) == (200, 429, 200)
    made.state.service.close()


def test_a_client_that_leaves_does_not_free_its_place():
    async def go():
        pool, may = BoundedExecutor("p", 1, 0, Metrics()), threading.Event()
        task = asyncio.create_task(pool.run(may.wait))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert pool.jobs == 1
        with pytest.raises(ProblemError) as caught:
            await pool.run(may.wait)
        assert caught.value.status_code == 429
        may.set()
        while pool.jobs:
            await asyncio.sleep(0)
        pool.close()
        with pytest.raises(ProblemError) as caught:
            await pool.run(may.wait)
        assert caught.value.status_code == 503

    asyncio.run(go())


def test_a_writer_beside_the_service(moved, start, encoder, source):
    """Each answer is of one version, and names it; the newest one is shown soon."""
    asked = {"id": "port/01.png", "k": 50}
    with start(folders=[moved / "photos"], follow_seconds=0.05) as client:
        answer = client.post("/v1/search", json=asked)
        first = answer.headers["x-archive-version"]
        versions = {first: answer.json()["hits"]}
        records = [replace(r, path=moved / "source" / r.id) for r in source[1]]
        writer = threading.Thread(
            target=ingest,
            args=(SourceImages(records, moved / "source"), moved / "photos", encoder),
        )
        writer.start()
        while True:
            done = not writer.is_alive()
            answer = client.post("/v1/search", json=asked)
            assert answer.status_code == 200
            hits = answer.json()["hits"]
            assert versions.setdefault(answer.headers["x-archive-version"], hits) == hits
            about = client.get("/v1/archive")
            assert str(about.json()["version"]) == about.headers["x-archive-version"]
            if done and not about.json()["stale"]:
                break
        assert about.json()["records"] == ArchiveFolder.open(moved / "photos").count > 9
        answer = client.post("/v1/search", json=asked)
        assert answer.headers["x-archive-version"] != first
        assert len(answer.json()["hits"]) == about.json()["records"] - 1
        assert client.get("/v1/records/port/01.png/thumbnail").status_code == 200


def test_a_cursor_of_an_older_version_is_refused(moved, start, encoder, source, is_problem):
    with start(folders=[moved / "photos"], follow_seconds=0.05) as client:
        asked = {"id": "port/01.png", "k": 2}
        answer = client.post("/v1/search", json=asked)
        asked["cursor"] = answer.json()["cursor"]
        assert client.post("/v1/search", json=asked).status_code == 200
        records = [replace(r, path=moved / "source" / r.id) for r in source[1]]
        ingest(SourceImages(records, moved / "source"), moved / "photos", encoder)
        while client.get("/v1/archive").json()["stale"]:
            pass
        assert "search from the first page" in is_problem(
            client.post("/v1/search", json=asked), 409
        )


def test_request_ids_and_log_lines(client, log_lines):
    good = client.get("/v1/labels?archive=made", headers={"X-Request-ID": "a-b.c_1"})
    bad = client.get("/v1/x%0aforged", headers={"X-Request-ID": "a b" * 50})
    assert good.headers["x-request-id"] == "a-b.c_1"
    assert len(bad.headers["x-request-id"]) == 32
    assert len(log_lines) == 2
    assert all("\n" not in line for line in log_lines)
    first, second = (json.loads(line) for line in log_lines)
    assert first.items() >= {"request_id": "a-b.c_1", "status": 200, "path": "/v1/labels"}.items()
    assert second["path"] == "/v1/x\nforged"
    assert second["request_id"] == bad.headers["x-request-id"]


LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_."


@given(st.text(), st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=2))
def test_details_are_one_line_without_paths(text, names):
    path = "/" + "/".join(names)
    line = one_line(f"{text} {path}: broken")
    assert line.isprintable()
    assert len(line) <= 500
    assert path not in line


def test_details_keep_what_is_no_path():
    for text in ("port/01.png", "application/json or text/csv", "1 / 2 / 3", "see https://a.b/c/d"):
        assert one_line(text) == text


def test_details_name_an_archive_of_the_current_folder(start, made, monkeypatch, is_problem):
    monkeypatch.chdir(made.parent)
    with start(folders=(Path(made.name),)) as client:
        answer = client.post("/v1/search", json={"id": "no-record", "archive": made.name})
        assert "No record has the id 'no-record'" in is_problem(answer, 404)
        answer = client.post("/v1/search", json={"text": "a ship", "archive": made.name})
        assert f"rchive {made.name!r}" in is_problem(answer, 409)
    for name in (".", "a", ""):
        assert without_paths("an archive. /srv/a/b", [name]) == "an archive. …"
    assert without_paths("archives/a is locked", ["archives/a"]) == "… is locked"


def test_failed_tokens_count_toward_the_rate(start, is_problem):
    tokens = Tokens(read=("a" * 20,))
    with start({"per_second": 0.2}, tokens=tokens) as client:
        wrong = {"Authorization": "Bearer " + "b" * 20}
        assert [client.get("/v1/labels", headers=wrong).status_code for _ in range(2)] == [401, 401]
        is_problem(client.get("/v1/labels", headers=wrong), 429)


@pytest.mark.parametrize(
    ("proxies", "last"), [((), 429), (("192.168.0.0/16",), 429), (("10.0.0.0/8", "::1"), 200)]
)
def test_a_trusted_proxy_names_its_clients(start, proxies, last):
    app = start({"per_second": 0.2}, proxies=proxies).app
    with TestClient(app, base_url="http://127.0.0.1", client=("10.1.2.3", 5)) as client:
        codes = [
            client.get("/v1/labels", headers={"X-Forwarded-For": name}).status_code
            for name in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2")
        ]
    assert codes == [200, 200, last, last]


def test_proxies_are_addresses():
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/8"):
        Settings(proxies=("proxy.example",))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("LIMITS__SEARCHES", "many", "limits.searches: input should be a valid integer"),
        ("LIMITS__SEARCHES", "0", "limits.searches: input should be greater than or equal to 1"),
        ("LIMITS__PER_SECOND", "0", "limits.per_second: input should be greater than 0"),
        ("QUIET", "maybe", "quiet: input should be a valid boolean"),
        ("HOSTS", "a.example", 'field "hosts".*: write JSON'),
    ],
)
def test_settings_of_the_environment_are_checked(monkeypatch, name, value, says):
    monkeypatch.setenv(f"LANDCUE_SERVE_{name}", value)
    with pytest.raises(UsageError, match=says):
        Settings()


def test_a_forged_cursor_builds_no_index(plain, client, is_problem):
    first = client.post("/v1/search", json={"id": "port/01.png", "k": 3}).json()
    cursor = replace(Cursor.decode(first["cursor"]), mode="ann", lists=1).encode()
    for mode in ("auto", "ann"):
        request = {"id": "port/01.png", "k": 3, "mode": mode, "cursor": cursor}
        assert "approximate" in is_problem(client.post("/v1/search", json=request), 409)


def test_a_deleted_archive_is_not_ready(photos, start, tmp_path, is_problem):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    with start(folders=[folder]) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        remove_archive(folder)
        assert "photos" in is_problem(client.get("/readyz"), 503)
        assert client.get("/healthz").status_code == 200


def test_an_unknown_field_is_named_with_near_matches(client, is_problem):
    for request, what in (
        ({"kk": 3}, "Unknown field 'kk' (did you mean 'k'?)"),
        ({"filters": {"bboxx": []}}, "filters.bboxx: unknown field 'bboxx' (did you mean 'bbox'?)"),
    ):
        assert is_problem(client.post("/v1/search", json=request), 422) == what
    wrong = {"name": "a", "members": [{"id": "a.png", "lables": ["b"]}]}
    what = "members.0.lables: unknown field 'lables' (did you mean 'labels'?)"
    assert what in is_problem(client.post("/v1/collections", json=wrong), 422)

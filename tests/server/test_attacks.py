"""What strangers try, through the application: each attack ends in one plain problem."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import re
import signal
import struct
import threading
import time
import zlib
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from landcue.server.settings import Tokens

READ, FEEDBACK = "r" * 30, "f" * 30
FORM = {"content-type": "multipart/form-data; boundary=b"}

TRAVERSALS = [
    "../../../../etc/passwd",
    "..\\..\\..\\etc\\passwd",
    "\\\\127.0.0.1\\share\\x.png",
    "//127.0.0.1/share/x.png",
    "C:\\windows\\win.ini",
    "/etc/passwd",
    "file:///etc/passwd",
    "/vsicurl/http://127.0.0.1/x.tif",
    "port/01.png\0.txt",
    "\0",
    "port/../port/01.png",
    "./port/01.png",
    "~root/.ssh/id_rsa",
    "%2e%2e%2fetc%2fpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "....//....//etc/passwd",
    "port/01.png/../../manifest.json",
    "${HOME}",
    "x" * 1_000,
]


def paths_with_ids(client):
    """Every GET and POST path of the description that takes an id, as (method, path)."""
    found = [
        (method, path)
        for path, ways in client.get("/openapi.json").json()["paths"].items()
        for method in ways
        if "{id}" in path
    ]
    assert len(found) >= 3
    return found


@pytest.mark.parametrize("id_", TRAVERSALS, ids=lambda text: repr(text)[:40])
def test_traversal_on_every_path_that_takes_an_id(client, call, is_problem, id_):
    """Encoded once and twice, and sent as it is, which clients do not do."""

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    for method, path in paths_with_ids(client):
        path = path.replace("{n}", "0")
        for word in (quote(id_, safe=""), quote(quote(id_, safe=""), safe="")):
            url = path.replace("{id}", word) + "?query=farm/00.png"
            body = {} if "/collections/" in path else {"id": "farm/00.png"}
            answer = client.request(method.upper(), url, json=body)
            assert answer.status_code in (404, 405), (url, answer.text)
        kind = [(b"content-type", b"application/json")]
        raw = call(client.app, path.replace("{id}", id_), receive, kind, method.upper())
        status, value = asyncio.run(raw)
        assert status in (404, 405, 422), value
        assert "root:" not in json.dumps(value)


@pytest.fixture(scope="module")
def keeping(start, tmp_path_factory):
    """A client of a service with a file of collections."""
    with start(collections_file=tmp_path_factory.mktemp("kept") / "picks.db") as client:
        yield client


@pytest.mark.parametrize("id_", TRAVERSALS, ids=lambda text: repr(text)[:40])
def test_traversal_in_bodies_and_queries(keeping, is_problem, id_):
    client = keeping
    for asked in ({"id": id_}, {"positives": [id_]}, {"id": "port/01.png", "negatives": [id_]}):
        is_problem(client.post("/v1/search", json=asked), 404)
        is_problem(client.get("/v1/export", params={"request": json.dumps(asked)}), 404)
    given = {"name": "a", "members": [{"id": id_, "mark": "good"}]}
    is_problem(client.post("/v1/collections", json=given), 404)
    assert client.get(f"/v1/collections/{quote(id_, safe='')}").status_code in (404, 405)
    is_problem(client.post("/v1/search", json={"images_of": id_}), 404)
    for path in ("/v1/labels", "/v1/archive", "/v1/records/port/01.png"):
        answer = client.get(path, params={"archive": id_})
        assert answer.status_code in (404, 422), answer.text
    assert client.get("/v1/collections").json()["collections"] == []


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, *more):
    """A PNG that promises a size and holds a kilobyte of it, black."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1_000)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + body + chunk(b"IEND", b"")


def jpeg_of(width, height, png):
    """A small JPEG whose header lies about its size."""
    import io

    out = io.BytesIO()
    Image.open(io.BytesIO(png(16, 16))).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff_of(width, height):
    """A TIFF of two hundred bytes that promises a size."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1)]
    tags += [(278, height), (279, width * height % 2**32)]
    body = struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0)


def frames(kind, n):
    import io

    out = io.BytesIO()
    images = [Image.fromarray(np.full((8, 8, 3), (i + 40) % 256, np.uint8)) for i in range(n)]
    images[0].save(out, kind, save_all=True, append_images=images[1:])
    return out.getvalue()


def test_bombs_are_problems_and_the_next_image_works(client, send, png, is_problem):
    bombs = {
        "PNG of 4 gigapixels": png_of(65_000, 65_000),
        "PNG as wide as can be": png_of(2**31 - 1, 1),
        "PNG of no pixels": png_of(0, 0),
        "PNG with a bomb of text": png_of(
            8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20), 9))
        ),
        "PNG with a bomb of a color profile": png_of(
            8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 << 20), 9))
        ),
        "JPEG that lies": jpeg_of(65_500, 65_500, png),
        "TIFF of 16 exapixels": tiff_of(2**32 - 1, 2**32 - 1),
        "TIFF that lies": tiff_of(5_000, 5_000),
        "GIF of many frames": frames("GIF", 300),
    }
    for name, data in bombs.items():
        assert len(data) < 1 << 20, name
        answer = send(client, ("image", data))
        assert answer.status_code == 400, (name, answer.text[:300])
        is_problem(answer, 400)
    assert send(client, ("image", png())).status_code == 200


def test_only_the_first_of_many_pages_is_decoded(client, send):
    one, many = (send(client, ("image", frames("TIFF", n))) for n in (1, 500))
    assert one.status_code == many.status_code == 200
    assert one.json()["hits"] == many.json()["hits"]


def test_a_decoder_killed_at_work_costs_one_answer(start, send, png, is_problem, caplog):
    with start() as client:
        assert send(client, ("image", png())).status_code == 200
        decoders = client.app.state.service.decoders
        pid = decoders.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)  # it is at work for as long as the test wants
        answers = []
        asking = threading.Thread(target=lambda: answers.append(send(client, ("image", png()))))
        asking.start()
        while not client.app.state.service.encoders.jobs:
            pass
        time.sleep(0.5)  # until it has the image
        os.kill(pid, signal.SIGKILL)
        asking.join()
        is_problem(answers[0], 400)
        ended = [one for one in caplog.records if one.getMessage() == "a decoder was ended at work"]
        assert len(ended) == 1
        assert send(client, ("image", png())).status_code == 200
        assert client.get("/healthz").status_code == 200


@pytest.fixture(scope="module")
def guarded(start):
    """A client of a service that wants tokens."""
    with start(tokens=Tokens(read=(READ,), feedback=(FEEDBACK,))) as client:
        yield client


@pytest.mark.parametrize(
    "token",
    [b"", b" ", b"\x00" * 30, b"\xff" * 30, b"r" * 100_000, b"null", b"rrr\trrr", b"r" * 29 + b"*"],
    ids=lambda token: repr(token)[:20],
)
def test_bad_tokens(guarded, is_problem, token):
    client = guarded
    for value in (b"Bearer " + token, b"bearer" + token, token, b"Digest " + token):
        is_problem(client.get("/v1/labels", headers={"Authorization": value}), 401)
    both = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {READ}")]
    is_problem(client.get("/v1/labels", headers=both), 401)
    cookie = {"Cookie": f"Authorization=Bearer {READ}; token={READ}"}
    is_problem(client.get("/v1/labels", headers=cookie), 401)


def part(name, value=b"x", file=None):
    file = b"" if file is None else b'; filename="' + file + b'"'
    head = b'--b\r\nContent-Disposition: form-data; name="' + name + b'"' + file
    return head + b"\r\n\r\n" + value + b"\r\n"


def test_malformed_forms_are_problems(client, png, is_problem):
    end, image = b"--b--\r\n", png()
    good = part(b"request", b'{"k": 1}') + part(b"image", image, b"x.png") + end
    assert client.post("/v1/search", content=good, headers=FORM).status_code == 200
    bad = {
        "two requests": part(b"request", b"{}") * 2 + end,
        "an image as a field": part(b"image", b"x") + end,
        "a request as a file": part(b"request", b"{}", b"x.json") + end,
        "cut in the head": good[:30],
        "cut in the image": good[: len(good) // 2],
        "another boundary": good.replace(b"--b", b"--c"),
        "no name": good.replace(b'name="image"; ', b""),
        "a header without a colon": good.replace(b"Content-Disposition:", b"Content-Disposition"),
        "a line feed in the file name": part(b"image", b"x", b'a"\r\nX: y\r\n\r\n') + end,
        "a name of a megabyte": part(b"i" * (1 << 20), b"x", b"x") + end,
        "a thousand headers": b"--b\r\n" + b"A: b\r\n" * 1_000 + good[5:],
    }
    for name, body in bad.items():
        answer = client.post("/v1/search", content=body, headers=FORM)
        assert answer.status_code in (400, 413, 422), (name, answer.text[:200])
        is_problem(answer, answer.status_code)


@pytest.mark.parametrize("charset", ["zlib", "idna", "punycode", "utf-7", "rot13", "none", '"'])
def test_forms_come_in_utf_8(client, png, is_problem, charset):
    body = part(b"image", png(), b"x") + b"--b--\r\n"
    headers = {"content-type": f"{FORM['content-type']}; charset={charset}"}
    is_problem(client.post("/v1/search", content=body, headers=headers), 415)


@pytest.mark.parametrize("name", [b"../../x.png", b"a\r\nSet-Cookie: x=1", b"\0", b"x" * 4_000])
def test_file_names_go_nowhere(client, png, name):
    body = part(b"image", png(), name) + b"--b--\r\n"
    answer = client.post("/v1/search", content=body, headers=FORM)
    assert answer.status_code in (200, 400)
    assert "set-cookie" not in answer.headers
    assert "Set-Cookie" not in answer.text
    assert "x.png" not in answer.text


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.", "localhost.evil.example", "evil.example:127.0.0.1", "localhost@evil.example",
        "127.1", "2130706433", "0x7f.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1%25lo]",
        "localhost:80:80", "localhost:-1", "localhost, evil.example", "localhost#", "localhost/x",
    ],
)  # fmt: skip
def test_host_variants_are_refused(client, is_problem, host):
    is_problem(client.get("/v1/labels", headers={"Host": host}), 421)


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1.evil.example", "http://localhost", "http://127.0.0.1@evil.example", "",
        "HTTP://EVIL.EXAMPLE", "file://", "http://127.0.0.1:81", "//127.0.0.1/x", "null",
        "http://[", "http://[::1", "http://]",
    ],
)  # fmt: skip
def test_origin_variants_are_refused(client, origin):
    answer = client.post("/v1/search", json={"k": 1}, headers={"Origin": origin})
    own = origin == "//127.0.0.1/x"  # the same host: no page of another site can send this
    assert answer.status_code == (200 if own else 403)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "labels",
    [
        "not " * 490 + "water",
        "(" * 1_999,
        ")" * 50,
        "water and " * 190 + "water",
        "water or (ship and (",
        "__import__('os')",
        "water; import os",
        "f'{open(1)}'",
        "${water}",
        "water and True if 1 else 0",
        "\0",
        "\u202ewater",
        "'" * 100,
        '"water\\" or 1=1 --"',
    ],
    ids=lambda text: repr(text)[:30],
)
def test_expressions_are_never_evaluated(client, is_problem, labels):
    """A long one that is well formed is answered; all others are problems."""
    answer = client.post("/v1/search", json={"filters": {"labels": labels}, "k": 30})
    if answer.status_code == 200:
        assert set(labels.split()) <= {"water", "and", "not"}
        for hit in answer.json()["hits"]:
            assert ("water" in hit["labels"]) == (labels.count("not") % 2 == 0)
    else:
        is_problem(answer, 400)


def test_deep_json_is_a_problem(client, is_problem):
    for deep in ("[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500):
        for text in (
            '{"filters": {"polygon": {"type": "Polygon", "coordinates": DEEP}}}',
            '{"filters": DEEP}',
            '{"positives": DEEP}',
        ):
            headers = {"content-type": "application/json"}
            answer = client.post("/v1/search", content=text.replace("DEEP", deep), headers=headers)
            assert answer.status_code in (400, 422)
            is_problem(answer, answer.status_code)


@pytest.mark.parametrize("side", ["0", "15", "2049", "1e3", "-1", "nan", "9" * 5_000, "", "512.5"])
def test_sides_of_chips_are_limited(client, is_problem, side):
    is_problem(client.get("/v1/records/port/01.png/chip", params={"side": side}), 422)


def test_floods_are_answered_with_429_or_well(start, is_problem):
    limits = {"searches": 1, "searches_waiting": 1, "requests": 8}
    with start(limits) as client:

        def ask(_):
            return client.post("/v1/search", json={"id": "port/01.png"})

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(ask, range(300)))
        for answer in answers:
            if answer.status_code != 200:
                is_problem(answer, 429)
                assert int(answer.headers["retry-after"]) >= 1
        assert any(answer.status_code == 200 for answer in answers)
        service = client.app.state.service
        assert service.searches.jobs == 0
        assert ask(0).status_code == 200


_INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/tmp|/home|/usr|0x[0-9a-f]{6}|landcue\."
)


def test_no_answer_tells_of_the_inside(start, photos, source, send, png, tmp_path):
    """Every error answer that the routes can be made to give, and none with a path or a trace."""
    answers = []
    with start({"images": 2, "json_bytes": 20_000}) as client:
        described = client.get("/openapi.json").json()
        for path, ways in described["paths"].items():
            ids = ("none", "port/01.png", "../../etc/passwd", "%00", "x" * 3_000)
            for id_ in ids if "{id}" in path else ids[:1]:
                url = path.replace("{id}", quote(id_))
                for method in ways:
                    for query in ("", "?archive=none", "?side=x", "?format=exe", "?query=none"):
                        answers.append(client.request(method.upper(), url + query))
            url = path.replace("{id}", "port/01.png")
            for method in ("delete", "put", "patch", "trace", "propfind"):
                for query in ("", "?archive=none"):
                    answers.append(client.request(method.upper(), url + query))
        for body in (
            b"",
            b"{",
            b"null",
            b"[]",
            b'{"k": 0}',
            b'{"id": "x"}',
            b"\xff",
            b"x" * 30_000,
        ):
            for kind in ("application/json", FORM["content-type"], "text/plain", "", "a/b; c=\xe9"):
                headers = {"content-type": kind.encode("latin-1")}
                for path in ("/v1/search", "/v1/collections"):
                    answers.append(client.post(path, content=body, headers=headers))
        for data in (b"", b"x", png()[:90], png_of(60_000, 60_000), tiff_of(9, 9)):
            answers.append(send(client, ("image", data)))
            answers.append(send(client, ("image", png()), ("positive", data)))
        for asked in (
            {"cursor": "/etc/passwd"},
            {"filters": {"labels": "/etc/passwd"}},
            {"filters": {"labels": "C:\\secret\\x"}},
            {"filters": {"polygon": {"type": "Polygon", "coordinates": "/etc/passwd"}}},
            {"mode": "ann", "id": "port/01.png"},
            {"mode": "code", "archive": "made", "id": "none"},
        ):
            answers.append(client.post("/v1/search", json=asked))
    errors = [answer for answer in answers if answer.status_code >= 400]
    assert len(errors) > 500
    assert {400, 404, 405, 413, 415, 422} <= {answer.status_code for answer in errors}
    roots = {str(path) for path in (photos, photos.parent, source[0], source[0].parent)}
    for answer in errors:
        assert answer.status_code < 500, (answer.request.url, answer.text)
        assert answer.headers["x-request-id"]
        if answer.request.method != "HEAD" and answer.request.url.path != "/":
            assert answer.headers["content-type"] == "application/problem+json", answer.request.url
            assert not _INSIDE.search(answer.text), (answer.request.url, answer.text)
            assert not any(root in answer.text for root in roots)


def test_logs_carry_request_ids_and_no_tokens(start, log_lines, tmp_path):
    ids = []
    with start(
        tokens=Tokens(read=(READ,), feedback=(FEEDBACK,)), collections_file=tmp_path / "f"
    ) as client:
        for token in (READ, FEEDBACK, "w" * 30):
            headers = {"Authorization": f"Bearer {token}", "Cookie": f"t={token}"}
            for path in ("/v1/labels", "/v1/none", "/v1/records/none"):
                answer = client.get(f"{path}?token={token}&archive=none", headers=headers)
                ids.append(answer.headers["x-request-id"])
            given = {"name": "a", "members": [{"id": "port/01.png", "mark": "good"}]}
            answer = client.post("/v1/collections", json=given, headers=headers)
            ids.append(answer.headers["x-request-id"])
    logged = [json.loads(line).get("request_id") for line in log_lines]
    assert set(ids) <= set(logged)
    assert len(set(ids)) == len(ids)
    kept = (tmp_path / "f").read_bytes().decode("latin-1")
    for secret in (READ, FEEDBACK, "w" * 30):
        assert secret not in "".join(log_lines) + kept


def test_a_request_does_not_build_an_index(client):
    for _ in range(2):  # an index made for the first would serve the second
        answer = client.post("/v1/search", json={"id": "port/01.png", "mode": "ann"})
        assert answer.status_code == 409
        assert "has no approximate index" in answer.json()["detail"]
    assert "ann" not in client.get("/v1/facets").json()["modes"]

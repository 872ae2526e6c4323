from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import pathlib
import pickle
import resource
import threading
import time

import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import hostile
from landcue.errors import DataError
from landcue.models.load import load_model
from landcue.models.resize import resize_square
from landcue.search import open_archive
from landcue.server.app import create_app
from landcue.server.archives import Catalog, Served
from landcue.server.decoding import Decoders
from landcue.server.settings import Limits, Settings

MULTIPART = (b"content-type", b"multipart/form-data; boundary=b")
PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'


def test_declared_size_is_refused_before_reading(start, call):
    async def receive():
        raise AssertionError("the body was read")

    headers = [MULTIPART, (b"content-length", str(10 << 30).encode())]
    status, value = asyncio.run(call(start().app, "/v1/search", receive, headers))
    assert status == 413
    assert "33,554,432" in value["detail"]


@pytest.mark.parametrize("path", ["/v1/search", "/v1/collections/x"])
def test_a_stream_is_cut_at_the_cap(start, call, path):
    received = 0

    async def receive():
        nonlocal received
        body = PART if not received else b"x" * 1000
        received += len(body)
        return {"type": "http.request", "body": body, "more_body": True}

    limits = {"upload_bytes": 50_000, "json_bytes": 50_000}
    kind = MULTIPART if path == "/v1/search" else (b"content-type", b"application/json")
    status, _ = asyncio.run(call(start(limits).app, path, receive, [kind]))
    assert status == 413
    assert received <= 51_000


def test_other_bodies_have_a_cap_of_their_own(start, is_problem):
    client = start({"json_bytes": 1000})
    is_problem(client.post("/v1/collections", json={"name": "x" * 2000}), 413)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/collections/x"])
def test_a_slow_body_is_given_up(start, call, path):
    async def receive():
        await asyncio.Event().wait()

    app = start({"body_seconds": 0.01}).app
    headers = [(b"content-type", b"application/json"), (b"content-length", b"10")]
    status, _ = asyncio.run(call(app, path, receive, headers))
    assert status == 408


def test_many_parts_are_refused(client, send, png, is_problem):
    is_problem(send(client, *[("positive", png())] * 1000), 400)
    is_problem(send(client, *[("positive", png())] * 9), 400)
    fields = {f"field{i}": (None, "x") for i in range(1000)}
    is_problem(client.post("/v1/search", files=fields), 400)
    is_problem(send(client, ("image", png()), ("image", png())), 400)
    assert "upload" in is_problem(send(client, ("upload", png())), 400)


def test_a_large_json_part_is_refused(client, send, png, is_problem):
    is_problem(send(client, ("image", png()), id="x" * 300_000), 400)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", PART, 400),
        ("multipart/form-data; boundary=", PART, 400),
        ("multipart/form-data; boundary=b", b"no part at all", 400),
        ("multipart/form-data; boundary=b", PART.replace(b"; name", b"; game") + b"x", 400),
        ("multipart/form-data; boundary=" + "b" * 10_000, PART, 400),
        ("application/json", b"{", 422),
        ("application/json", b'"text"', 422),
        ("application/json", b"[" * 100_000, 422),
        ("application/json", b'{"id": "\xff"}', 422),
        ("application/x-www-form-urlencoded", b"id=port/01.png", 415),
        ("text/plain", b"{}", 415),
    ],
)
def test_broken_bodies_are_problems(client, is_problem, kind, body, status):
    answer = client.post("/v1/search", content=body, headers={"content-type": kind})
    is_problem(answer, status)


def images_of_other_formats():
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for kind in ("ICO", "PPM", "EPS", "PDF", "TGA"):
        out = io.BytesIO()
        image.save(out, kind)
        yield pytest.param(out.getvalue(), id=kind)
    yield pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', id="svg")
    yield pytest.param(b"", id="empty")
    yield pytest.param(pickle.dumps(image.tobytes()), id="pickle")
    yield pytest.param(b"http://127.0.0.1/image.png", id="address")


@pytest.mark.parametrize("data", list(images_of_other_formats()))
def test_only_allowed_formats_are_decoded(client, send, is_problem, data):
    is_problem(send(client, ("image", data)), 400)


def test_broken_images_are_problems(client, send, png, is_problem):
    data = png(seed=1)
    for broken in (data[:200], data[:60] + b"\0" * 50 + data[110:]):
        is_problem(send(client, ("image", broken)), 400)


def test_pixel_cap(start, send, png, is_problem):
    with start({"pixels": 10_000}) as client:
        assert send(client, ("image", png(100, 100))).status_code == 200
        assert "100 x 101" in is_problem(send(client, ("image", png(100, 101))), 400)


def test_memory_cap_and_the_next_image_works(start, send, png, is_problem):
    with start({"decode_bytes": 400 << 20, "pixels": 60_000_000}) as client:
        assert send(client, ("image", png())).status_code == 200
        is_problem(send(client, ("image", png(7000, 7000))), 400)
        assert send(client, ("image", png())).status_code == 200


def test_time_cap(png):
    decoders = Decoders(processes=1, seconds=1, memory=2 << 30, pixels=1 << 20)
    try:
        decoders.run(os.getpid)  # it has started
        with pytest.raises(DataError, match="too long"):
            decoders.run(time.sleep, 600)
    finally:
        decoders.close()


@pytest.fixture
def decoders():
    # A process that was killed while idle is noticed after seconds + grace.
    decoders = Decoders(processes=1, seconds=4, memory=2 << 30, pixels=1 << 20, grace=2)
    yield decoders
    decoders.close()


def test_a_dead_decoder_is_replaced(decoders, png):
    assert decoders.image(png(5, 4)).shape == (4, 5, 3)
    with pytest.raises(DataError, match="too long or too much memory"):
        decoders.run(os._exit, 1)
    process = psutil.Process(decoders.run(os.getpid))
    process.kill()  # while it is idle
    process.wait()
    with contextlib.suppress(DataError):  # which the first one may notice
        assert decoders.image(png(6, 4)).shape == (4, 6, 3)
    assert decoders.image(png(7, 4)).shape == (4, 7, 3)


def test_a_decoder_cannot_write_files_or_see_the_environment(monkeypatch, tmp_path, png):
    monkeypatch.setenv("LANDCUE_SECRET", "secret")
    decoders = Decoders(processes=1, seconds=60, memory=2 << 30, pixels=1 << 20)
    try:
        assert decoders.run(os.getenv, "LANDCUE_SECRET") is None
        for name, most in (
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_AS, 2 << 30),
        ):
            assert decoders.run(resource.getrlimit, name) == (most, most)
        with pytest.raises(DataError):  # the kernel ends it, or refuses
            decoders.run(pathlib.Path.write_bytes, tmp_path / "file", b"x")
        assert not (tmp_path / "file").exists() or (tmp_path / "file").stat().st_size == 0
        assert decoders.image(png()).shape == (30, 40, 3)
    finally:
        decoders.close()


def test_crops_outside_the_image_are_refused(client, send, png, is_problem):
    is_problem(send(client, ("image", png(40, 30)), crop=[30, 0, 11, 5]), 400)
    is_problem(send(client, ("image", png(40, 30)), crop=[0, 0, 0, 5]), 422)
    is_problem(client.post("/v1/search", json={"id": "port/01.png", "crop": [0, 0, 1, 1]}), 400)


def test_images_need_a_model(client, send, png, is_problem):
    is_problem(send(client, ("image", png()), archive="made"), 409)


def test_a_model_that_fails_is_told_without_its_path(photos, send, png, is_problem):
    load = functools.partial(load_model, "/secret/place/model")
    app = create_app(Catalog([Served("photos", open_archive(photos, model=load))]))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert "secret" not in is_problem(send(client, ("image", png())), 503)


class SlowEncoder:
    """Waits with the first image until it may go on."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.began, self.may = threading.Event(), threading.Event()
        self.fingerprint, self.dim = encoder.fingerprint, encoder.dim
        self.n_bits, self.label_names = encoder.n_bits, encoder.label_names

    def prepare(self, image):
        return self._encoder.prepare(image)

    def encode(self, pixels):
        self.began.set()
        self.may.wait()
        return self._encoder.encode(pixels)


def test_full_pool_answers_429_and_searches_go_on(photos, encoder, send, png, is_problem):
    encoder = SlowEncoder(encoder)
    limits = Limits(encoders=1, encoders_waiting=0, decoders=1)
    catalog = Catalog([Served("photos", open_archive(photos, model=lambda: encoder))])
    with TestClient(
        create_app(catalog, Settings(limits=limits)), base_url="http://[::1]"
    ) as client:
        while client.get("/readyz").status_code != 200:
            pass
        answers = []
        first = threading.Thread(target=lambda: answers.append(send(client, ("image", png()))))
        first.start()
        encoder.began.wait()
        refused = send(client, ("image", png()))
        is_problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post("/v1/search", json={"id": "port/01.png"}).status_code == 200
        encoder.may.set()
        first.join()
        assert answers[0].status_code == 200
        assert send(client, ("image", png())).status_code == 200
        assert 'landcue_pool_refused_total{pool="encoding"} 1.0' in client.get("/metrics").text


def test_sides_and_aspect_are_limited(client, send, is_problem):
    assert "a side" in is_problem(send(client, ("image", hostile.png(1, 40_000))), 400)
    assert "200 times" in is_problem(send(client, ("image", hostile.png(1, 201))), 400)
    assert send(client, ("image", hostile.png(1, 200))).status_code == 200
    huge = hostile.tiff(300_000, 300_000, tiled=True, blockxsize=512, blockysize=512)
    assert "cut it into chips" in is_problem(send(client, ("image", huge)), 400)


@pytest.mark.parametrize("crop", [None, (100, 50, 800, 800)])
def test_large_images_are_resized_where_they_are_decoded(decoders, png, crop):
    pixels = np.asarray(Image.open(io.BytesIO(data := png(1000, 900, seed=2))))
    if crop is not None:
        pixels = pixels[50:850, 100:900]
    assert np.array_equal(decoders.image(data, crop, 160), resize_square(pixels, 160))
    assert np.array_equal(decoders.image(data, crop), pixels)


def test_a_large_image_finds_what_the_library_finds(views, png, send):
    data = png(1900, 1700, seed=3)
    with open_archive(views[1]) as archive:
        wanted = [(hit.id, hit.distance) for hit in archive.search(data)]
    app = create_app([views[1]], Settings())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        hits = send(client, ("image", data)).json()["hits"]
    assert [(hit["id"], hit["distance"]) for hit in hits] == wanted


def test_a_malformed_answer_of_a_decoder_replaces_it(decoders, png, monkeypatch):
    process = psutil.Process(decoders.run(os.getpid))
    monkeypatch.setattr("landcue.server.decoding.decode_image", print)
    with pytest.raises(DataError, match="cannot be decoded"):
        decoders.image(b"")
    monkeypatch.undo()
    assert decoders.image(png(5, 4)).shape == (4, 5, 3)
    process.wait(60)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/records/port/01.png/regions"])
def test_json_is_limited_whatever_uploads_may_have(start, is_problem, path):
    with start({"json_bytes": 1000, "upload_bytes": 100_000}) as client:
        is_problem(client.post(path, json={"id": "port/01.png", "path": "x" * 2_000}), 413)


def test_wherever_images_may_be_sent_they_may_be_large(client, send, png):
    operations = [
        (path, way["post"]) for path, way in client.app.openapi()["paths"].items() if "post" in way
    ]
    forms = [
        path for path, one in operations
        if "multipart/form-data" in one.get("requestBody", {}).get("content", {})
    ]  # fmt: skip
    assert "/v1/raster/export" in forms
    for path in forms:
        answer = send(client, ("image", b"x" * 500_000), url=path.format(id="port/01.png"))
        assert answer.status_code in (400, 409, 422), (path, answer.text)


def test_bodies_under_way_are_limited_together(start, send, png, is_problem):
    with start({"bodies_bytes": 2_000}) as client:
        assert send(client, ("image", png())).status_code == 200
        answer = send(client, ("image", png(seed=1)))
        is_problem(answer, 429)
        assert answer.headers["retry-after"]
        assert send(client, ("image", png())).status_code == 200  # nothing is held any more


def test_corners_are_limited(client, is_problem):
    ring = [[i / 2_500 - 1, 0] for i in range(5_000)]
    polygon = {"type": "Polygon", "coordinates": [[*ring, [0, 1], ring[0]]]}
    answer = client.post("/v1/search", json={"filters": {"polygon": polygon}})
    assert "5,000 corners" in is_problem(answer, 400)
    polygon["coordinates"] = [[*ring[:2_000], [0, 1], ring[0]]]
    assert client.post("/v1/search", json={"filters": {"polygon": polygon}}).status_code == 200


def test_edges_at_one_latitude_are_limited(client, is_problem):
    comb = [[i / 10 - 100, i % 2] for i in range(1_000)]
    body = {"filters": {"polygon": {"type": "Polygon", "coordinates": [[*comb, [0, -1], comb[0]]]}}}
    assert "edges at one latitude" in is_problem(client.post("/v1/search", json=body), 400)
    for kind in ("LineString", "MultiPoint"):
        body = {"intersects": {"type": kind, "coordinates": comb}}
        assert "edges at one latitude" in is_problem(client.post("/stac/search", json=body), 400)
        body["intersects"]["coordinates"] = comb[:400]
        assert client.post("/stac/search", json=body).status_code == 200
    one = {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [0, 0, 1, 1]}]}
    area = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    one = {**one, "args": [one["args"][0], area]}
    for n, status in ((10, 200), (11, 400)):
        text = json.dumps({"op": "or", "args": [one] * n})
        answer = client.post("/v1/search", json={"filters": {"cql2": text}})
        assert answer.status_code == status, answer.text


def test_a_client_that_leaves_is_one_line_of_the_log(start, call, log_lines):
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive():
        return messages.pop() if messages else {"type": "http.disconnect"}

    app = start().app
    headers = [(b"content-type", b"application/json")]
    with pytest.raises(IndexError):  # nothing was sent
        asyncio.run(call(app, "/v1/search", receive, headers))
    (line,) = map(json.loads, log_lines)
    assert (line["level"], line["status"]) == ("info", 499)


@pytest.mark.slow
def test_the_largest_image_with_transparency_fits_into_a_decoder(tmp_path):
    """As many pixels as `landcue index` takes, within the memory that a decoder has by default."""
    limits = Limits()
    image = Image.new("RGBA", (8_000, limits.pixels // 8_000), (9, 8, 7, 255))
    image.save(tmp_path / "a.png", compress_level=1)
    decoders = Decoders(1, 60, limits.decode_bytes, limits.pixels)
    try:
        pixels = decoders.image((tmp_path / "a.png").read_bytes(), None, 160)
    finally:
        decoders.close()
    assert pixels.shape == (160, 160, 3)
    assert (pixels == (9, 8, 7)).all()

from __future__ import annotations

import asyncio
import gzip
import os
import re

import pytest
from fastapi.testclient import TestClient

from landcue.errors import UsageError
from landcue.search import open_archive
from landcue.server.app import create_app
from landcue.server.archives import Catalog, Served
from landcue.server.page import NOT_BUILT, Page, content_policy, origin_of
from landcue.server.settings import Settings, Tokens

SCRIPT = b"console.log('a script of the page');\n" * 40
HTML = b'<!doctype html><title>page</title><script src="./assets/index-abc.js"></script>'


@pytest.fixture
def folder(tmp_path):
    """A page as a build leaves it, with links that lead out of it."""
    secret = tmp_path / "outside"
    secret.mkdir()
    (secret / "secret.js").write_text("secret")
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(HTML)
    (folder / "icon.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "assets" / "index-abc.js").write_bytes(SCRIPT)
    (folder / "assets" / "index-abc.js.br").write_bytes(b"as if by brotli")
    (folder / "assets" / "index-abc.js.gz").write_bytes(gzip.compress(SCRIPT, 9, mtime=0))
    (folder / "assets" / "style-abc.css").write_bytes(b"a{color:red}\n" * 100)
    (folder / "assets" / "index-abc.js.map").write_text("{}")
    (folder / "assets" / "linked.js").symlink_to(secret / "secret.js")
    (folder / "assets" / "linked").symlink_to(secret)
    (folder / ".stamp").write_text("")
    return folder


@pytest.fixture
def serve(made, folder):
    """Return a client of a service with a page and the settings given."""

    def serve(page=folder, **settings):
        catalog = Catalog([Served("made", open_archive(made))])
        app = create_app(catalog, Settings(**settings), Page.load(page))
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    return serve


def test_the_page_and_its_files(serve):
    client = serve()
    page = client.get("/")
    assert page.content == HTML
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    script = client.get("/assets/index-abc.js", headers={"Accept-Encoding": "identity"})
    assert script.content == SCRIPT
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get("/icon.svg").headers["content-type"] == "image/svg+xml"
    head = client.head("/")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(HTML)))


def test_files_come_compressed_by_what_the_client_reads(serve):
    client = serve()

    def coding(accepted, path="/assets/index-abc.js"):
        request = client.build_request("GET", path, headers={"Accept-Encoding": accepted})
        answer = client.send(request, stream=True)
        assert answer.headers["vary"] == "Accept-Encoding"
        return answer.headers.get("content-encoding"), b"".join(answer.iter_raw())

    assert coding("gzip, deflate, br, zstd") == ("br", b"as if by brotli")
    name, data = coding("gzip, br;q=0")
    assert (name, gzip.decompress(data)) == ("gzip", SCRIPT)
    assert coding("br;q=0.0, gzip;q=0, *") == (None, SCRIPT)
    assert coding("") == (None, SCRIPT)
    assert coding("deflate;q=nonsense") == (None, SCRIPT)
    # Not compressed by the build: at start, if that pays.
    name, data = coding("gzip, br", "/assets/style-abc.css")
    assert (name, gzip.decompress(data)) == ("gzip", b"a{color:red}\n" * 100)
    assert coding("gzip, br", "/icon.svg")[0] is None


def test_a_client_that_has_a_file_is_told_so(serve, folder):
    client = serve()
    for path in ("/", "/assets/index-abc.js"):
        first = client.get(path, headers={"Accept-Encoding": "gzip"})
        etag = first.headers["etag"]
        for sent in (etag, f'"other", W/{etag}', "*"):
            again = client.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": sent})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == etag
        other = client.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": '"x"'})
        assert other.status_code == 200
    plain = client.get("/assets/index-abc.js", headers={"Accept-Encoding": "identity"})
    assert plain.headers["etag"] != etag
    (folder / "index.html").write_bytes(HTML + b" ")
    assert serve().get("/").headers["etag"] != client.get("/").headers["etag"]


def test_the_policy_allows_the_page_itself_and_one_basemap(serve):
    policy = serve().get("/").headers["content-security-policy"]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "worker-src": "'self'",
        "font-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    tiles = "https://Tiles.example.org:8443/{z}/{x}/{y}.png?key=a;script-src *"
    allowed = serve(basemap=tiles).get("/").headers["content-security-policy"]
    added = policy.replace(" data: blob:", " data: blob: https://tiles.example.org:8443")
    added = added.replace("connect-src 'self'", "connect-src 'self' https://tiles.example.org:8443")
    assert allowed == added
    answer = serve(basemap=tiles).get("/v1/labels")
    assert "example.org" not in answer.headers["content-security-policy"]


def test_headers_of_the_page_are_safe(serve):
    for path in ("/", "/assets/index-abc.js"):
        headers = serve().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize(
    "basemap",
    [
        "javascript:alert(1)",
        "ftp://tiles.example.org/{z}",
        "//tiles.example.org/{z}",
        "https://user:password@tiles.example.org/{z}",
        "https://{s}.tiles.example.org/{z}",
        "https://*/{z}",
        "https://tiles.example.org; script-src *",
        "https://tiles.example.org 'unsafe-inline'/",
        "https:///{z}",
        "https://[bad/{z}",
        "tiles/{z}",
        "",
    ],
)
def test_a_basemap_that_would_widen_the_policy_is_refused(basemap):
    with pytest.raises(UsageError, match="basemap"):
        content_policy(basemap)


def test_a_basemap_of_the_service_itself_adds_nothing():
    assert origin_of("/tiles/{z}/{x}/{y}.png") is None
    assert content_policy("/tiles/{z}/{x}/{y}.png") == content_policy(None)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../outside/secret.js",
        "/assets/../index.html",
        "/assets//index-abc.js",
        "/assets/./index-abc.js",
        "/assets/..\\..\\outside\\secret.js",
        "/assets//etc/passwd",
        "/assets/linked.js",
        "/assets/linked/secret.js",
        "/assets/index-abc.js.map",
        "/assets/index-abc.js.gz",
        "/assets/index-abc.js\0.html",
        "/assets/",
        "/assets",
        "/.stamp",
        "/index.html/..",
    ],
)
def test_nothing_but_files_of_the_page_is_served(serve, call, path):
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    status, answer = asyncio.run(call(serve().app, path, receive, method="GET"))
    assert (status, answer["status"]) == (404, 404)
    assert "secret" not in str(answer)


def test_the_page_needs_no_token_and_data_does(serve):
    client = serve(tokens=Tokens(read=("t" * 24,)))
    assert client.get("/").content == HTML
    assert client.get("/assets/index-abc.js").status_code == 200
    for path in ("/v1/labels", "/assets/none.js", "/openapi.json", "/metrics"):
        assert client.get(path).status_code == 401, path
    assert client.post("/").status_code == 405


def test_other_host_names_get_no_page(serve):
    assert serve().get("/", headers={"Host": "evil.example"}).status_code == 421


def test_without_a_page_one_line_tells_what_to_do(serve, tmp_path):
    (tmp_path / "half" / "assets").mkdir(parents=True)
    (tmp_path / "half" / "assets" / "index-abc.js").write_bytes(SCRIPT)
    for folder in (tmp_path / "none", tmp_path / "half"):
        client = serve(page=folder)
        answer = client.get("/")
        assert (answer.status_code, answer.text) == (404, NOT_BUILT)
        assert answer.headers["content-type"].startswith("text/plain")
        assert "make page" in NOT_BUILT
        assert len(NOT_BUILT.splitlines()) == 1
        assert client.get("/assets/index-abc.js").status_code == 404
        assert client.get("/v1/labels").status_code == 200


def test_metrics_count_the_page_by_route(serve):
    client = serve()
    client.get("/")
    for _ in range(2):
        client.get("/assets/index-abc.js")
    client.get("/assets/style-abc.css")
    text = client.get("/metrics").text
    assert 'route="/",status="200"} 1' in text
    assert 'route="/assets/{name}",status="200"} 3' in text


def test_the_description_of_the_service_leaves_the_page_out(serve):
    assert not re.search(r'"/(assets|icon|")', serve().get("/openapi.json").text)


def test_a_built_page_fits_its_policy():
    """The page that `make page` built: scripts and styles in files of their own, all there."""
    page = Page.load()
    if not page.built:
        pytest.skip("the page is not built: make page")
    index = page.get("/")
    html = index.forms["identity"].decode()
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:", html)
    named = re.findall(r'(?:src|href)="\./([^"]+)"', html)
    assert any(name.endswith(".js") for name in named)
    for name in named:
        assert f"/{name}" in page.paths, name
    assert not re.search(r'(?:src|href)="(?:https?:)?//', html)


def test_reading_a_page_twice_gives_the_same(folder):
    first, second = Page.load(folder), Page.load(folder)
    assert first.paths == second.paths == {"/", "/icon.svg", *_assets()}
    assert all(first.get(path) == second.get(path) for path in first.paths)
    assert os.path.lexists(folder / "assets" / "linked.js")


def _assets():
    return {"/assets/index-abc.js", "/assets/style-abc.css"}

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from commands import error_line

LANDCUE = [sys.executable, "-m", "landcue.cli.main"]


def run(*words):
    return subprocess.run(
        [*LANDCUE, *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def archive(source, tmp_path_factory):
    """The images of the source, indexed with the built-in encoder."""
    folder = tmp_path_factory.mktemp("command") / "places"
    done = run("index", source[0], folder)
    assert done.returncode == 0, done.stderr
    return folder


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_wrong_usage_is_one_line(tmp_path, made):
    for words, code, part in (
        ((made, "--host", "0.0.0.0"), 2, "--token-file"),
        ((made, "--token-file", tmp_path / "none"), 2, "cannot be read"),
        ((tmp_path / "none",), 1, "does not exist"),
        ((made, made), 2, f"the name '{made.name}'"),
        ((made, "--model", made), 2, "--model is for milvus://"),
        ((made, "--allow-origin", "*"), 2, "https://maps.example.org"),
        ((made, "--allow-origin", "https://maps.example.org/"), 2, "https://maps.example.org"),
        ((made, "--collections", tmp_path / "none" / "picks.db"), 2, "No such file"),
        ((made, "--collections", tmp_path), 2, "cannot be used"),
    ):
        assert part in error_line(code, "serve", *words)


def test_a_taken_port_is_one_line(made):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", made, "--port", taken.getsockname()[1])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "address already in use" in done.stderr
    assert "choose another" in done.stderr


def test_a_host_of_another_machine_is_one_line(made, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("read " + "t" * 24)
    file.chmod(0o600)
    line = error_line(2, "serve", made, "--host", "192.0.2.1", "--token-file", file)
    assert "--host 192.0.2.1: cannot be used" in line


def test_tokens_on_every_address(serve, made, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("read " + "t" * 24)
    file.chmod(0o600)
    _, url, _ = serve(made, "--host", "0.0.0.0", "--token-file", file)
    url = url.replace("0.0.0.0", "127.0.0.1")
    assert get(f"{url}/v1/labels")[0] == 401
    assert get(f"{url}/v1/labels", Authorization="Bearer " + "t" * 24)[0] == 200


def upload(address, image, id_):
    boundary = "b0undary"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="request"\r\n\r\n'
        f'{json.dumps({"k": 3})}\r\n--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        'filename="x.png"\r\nContent-Type: image/png\r\n\r\n'
    ).encode()
    body = parts + image + f"\r\n--{boundary}--\r\n".encode()
    head = (
        f"POST /v1/search HTTP/1.1\r\nHost: {address}\r\nX-Request-ID: {id_}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    return head, body


@pytest.mark.slow
def test_an_upload_under_way_is_answered_before_the_service_ends(serve, archive, source):
    process, url, log = serve(archive)
    address = url.removeprefix("http://")
    host, _, port = address.partition(":")
    while get(f"{url}/readyz")[0] != 200:
        time.sleep(0.1)
    assert json.loads(get(f"{url}/v1/archive")[1])["encodes_images"]
    head, body = upload(address, (source[0] / "port/01.png").read_bytes(), "last-one")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head + body[:200])
        get(f"{url}/healthz")  # comes after the half upload on the same loop
        process.send_signal(signal.SIGTERM)
        connection.sendall(body[200:])
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    head, _, text = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(text)["hits"][0]["id"] == "port/01.png"
    assert json.loads(text)["hits"][0]["distance"] < 1e-3
    assert process.wait(60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines if line.get("request_id") == "last-one"] == [200]


def test_another_loopback_address_answers_as_it_prints(made, serve):
    if sys.platform == "darwin":
        pytest.skip("macOS has only 127.0.0.1")
    _, address, _ = serve(made, "--host", "127.0.0.2")
    assert address.startswith("http://127.0.0.2:")
    assert get(f"{address}/healthz")[0] == 200
    assert get(f"{address}/healthz", Host="evil.example")[0] == 421

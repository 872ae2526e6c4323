"""``landcue serve --workers``: services here are the command itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

import services
from commands import error_line, landcue
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import delete

LANDCUE = [sys.executable, "-m", "landcue.cli.main", "serve"]
LONG = 120
"""Seconds after which something that should happen does not; on a busy machine starts are slow."""


class Running:
    """The command, what it writes, and its workers."""

    def __init__(self, folder, *words):
        self.folder = folder
        folder.mkdir()
        self.process = subprocess.Popen(
            [*LANDCUE, *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        )
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def started(self):
        until(lambda: self.lines or self.process.poll() is not None)
        assert self.lines[0].startswith("serving made on http://"), self.lines
        self.host, _, port = self.lines[0].rpartition("/")[-1].partition(":")
        self.port = int(port)
        until(lambda: len(answering(self)) == 2)
        return self

    @property
    def workers(self):
        """Process ids of what serves."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return {worker.pid for worker in services.workers_of(self.process.pid)}
        return set()

    def ask(self, method, path, value=None):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=LONG)
        with contextlib.closing(connection):
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.version = answer.getheader("X-Archive-Version")
            return answer.status, answer.read().decode(), answer.getheader("X-Request-ID")

    def get(self, path):
        return self.ask("GET", path)

    def events(self):
        """Log lines so far; each must be whole."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def logged(self, ids):
        """Return which workers answered requests, as far as that is logged."""
        return {e["process"] for e in self.events() if e.get("request_id") in set(ids)}

    def counted(self, route):
        _, text, _ = self.get("/metrics")
        start = f'landcue_request_seconds_count{{route="{route}"}} '
        return sum(
            float(line[len(start) :]) for line in text.splitlines() if line.startswith(start)
        )

    def end(self):
        for pid in {*self.workers, self.process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(LONG)
        self.process.stderr.close()


def until(check):
    """Return what is true at last."""
    deadline = time.monotonic() + LONG
    while not (found := check()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return found


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*words):
        running.append(Running(tmp_path / f"run{len(running)}", *words))
        return running[-1]

    yield start
    for one in running:
        one.end()


@pytest.fixture(scope="module")
def service(made, tmp_path_factory):
    """Two workers; tests in this file use them in their order, and the last one ends them."""
    folder = tmp_path_factory.mktemp("workers")
    archive = shutil.copytree(made, folder / "made")
    words = (archive, "--workers", 2, "--port", 0, "--collections", folder / "picks.db")
    running = Running(folder / "run", *words)
    running.archive = archive
    try:
        yield running.started()
    finally:
        running.end()


def answering(service):
    """Return the workers that answer searches now."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.get("/v1/labels"), range(24)))
    return service.logged([id_ for status, _, id_ in answers if status == 200])


def test_two_workers_answer_alike_on_one_port(service, made):
    id_ = ArchiveFolder.open(made).columns().ids[0]
    answers, ids = set(), []

    def ask(_):
        return service.ask("POST", "/v1/search", {"id": id_, "k": 9})

    def both():
        with ThreadPoolExecutor(8) as pool:
            for status, text, request in pool.map(ask, range(24)):
                assert status == 200
                answers.add(json.dumps(json.loads(text)["hits"]))
                ids.append(request)
        return service.logged(ids) == service.workers

    until(both)
    assert len(answers) == 1
    assert len(service.workers) == 2


def test_metrics_are_those_of_both(service):
    before = service.counted("/v1/facets")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: service.get("/v1/facets"), range(40)))
    assert service.counted("/v1/facets") == before + 40
    text = service.get("/metrics")[1]
    assert "landcue_processes 2.0\n" in text
    assert 'landcue_archive_records{archive="made"} 200.0\n' in text


def test_another_service_on_the_port_is_refused(service, made):
    for more in ((), ("--workers", 2)):
        line = error_line(2, "serve", made, "--port", service.port, *more)
        assert "address already in use" in line
        assert "choose another" in line


def test_marks_of_both_are_kept_in_one_collection(service, made):
    ids = ArchiveFolder.open(made).columns().ids[:40]
    created = json.loads(service.ask("POST", "/v1/collections", {"name": "both"})[1])

    def give(id_):
        given = {"members": [{"id": id_, "note": "n" * 1_500, "revision": 0}]}
        return service.ask("POST", f"/v1/collections/{created['id']}", given)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(give, ids))
    assert {status for status, _, _ in answers} == {200}
    kept = json.loads(service.get(f"/v1/collections/{created['id']}")[1])
    assert [member["id"] for member in kept["members"]] == sorted(ids)
    assert len({member["revision"] for member in kept["members"]}) == len(ids)


def test_workers_follow_a_changed_archive(service):
    some = list(ArchiveFolder.open(service.archive).columns().ids[:5])
    delete(service.archive, some)
    newest = str(ArchiveFolder.open(service.archive).version)

    def all_new():
        ids, new = [], True
        for _ in range(20):
            status, text, id_ = service.get("/v1/archive")
            assert status == 200
            value = json.loads(text)
            assert str(value["version"]) == service.version
            assert value["records"] == (195 if service.version == newest else 200)
            new &= service.version == newest
            ids.append(id_)
        return new and len(service.logged(ids)) == 2

    until(all_new)


def test_one_that_is_killed_is_replaced_and_counters_stay(service):
    before, counted = service.workers, service.counted("/v1/facets")
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    until(lambda: service.workers - before)
    until(lambda: answering(service) == service.workers and len(service.workers) == 2)
    assert killed not in service.workers
    assert service.counted("/v1/facets") >= counted
    assert "landcue_processes 2.0\n" in service.get("/metrics")[1]


def test_requests_under_way_are_answered_before_the_service_ends(service):
    body = json.dumps({"k": 3}).encode()
    head = (
        f"POST /v1/search HTTP/1.1\r\nHost: {service.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    ).encode()
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(16):
            sock = socket.create_connection((service.host, service.port), timeout=LONG)
            stack.enter_context(sock)
            sock.sendall(head)
            assert sock.recv(25).startswith(b"HTTP/1.1 100")  # it waits for the body
            connections.append(sock)
        service.process.send_signal(signal.SIGTERM)
        for sock in connections:
            sock.sendall(body)
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            assert answer.status == 200
            assert len(json.loads(answer.read())["hits"]) == 3
    assert service.process.wait(LONG) == 0
    assert not list(service.folder.glob("landcue-*"))
    assert all(event["process"] for event in service.events())


def test_workers_and_decoders_end_with_their_supervisor(made, start):
    service = start(made, "--workers", 2, "--port", 0)
    until(lambda: len(service.workers) == 2)
    processes = psutil.Process(service.process.pid).children(recursive=True)
    service.process.kill()
    until(lambda: not any(one.is_running() and one.status() != "zombie" for one in processes))


def test_mistakes_are_one_line(made, tmp_path):
    broken = shutil.copytree(made, tmp_path / "broken")
    (broken / "manifest.json").write_text("{")
    for words, code, part in (
        ((broken,), 1, "is not valid JSON"),
        ((made, "--collections", tmp_path), 2, "cannot be used"),
        ((made, "--processes", 0), 2, "--workers"),
    ):
        done = landcue("serve", "--workers", 2, "--port", 0, *words)
        assert done.returncode == code
        assert part in done.stderr
        assert len([line for line in done.stderr.splitlines() if "rror" in line]) == 1

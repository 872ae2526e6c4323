"""``landcue serve --processes``: services here are the command itself."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import made_archive
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import delete
from landcue.errors import ArchiveError
from landcue.search.queries import ById
from landcue.server.catalog import Catalog

LANDCUE = [sys.executable, "-m", "landcue.cli.main", "serve"]
LONG = 120
"""Seconds after which something that should happen does not; on a busy machine starts are slow."""
PER_SECOND = 2
BURST = 10 * PER_SECOND

_addresses = itertools.count(1)


class Running:
    """The command, what it writes, and its server processes."""

    def __init__(self, *words):
        self.folder = Path(tempfile.mkdtemp())
        self.process = subprocess.Popen(
            [*LANDCUE, *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.folder)},
        )
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def started(self):
        until(lambda: self.lines or self.process.poll() is not None)
        assert self.lines[0].startswith("serving made on http://"), self.lines
        self.host, _, port = self.lines[0].rpartition("/")[-1].partition(":")
        self.port = int(port)
        until(lambda: self.get("/readyz")[0] == 200)
        return self

    @property
    def workers(self):
        """Process ids of what serves."""
        return {
            pid
            for pid, (parent, command) in processes().items()
            if parent == self.process.pid and b"spawn_main" in command
        }

    def connect(self, source=None):
        """Connect; each connection comes from an address of its own, which has a rate."""
        number = next(_addresses)
        source = source or f"127.1.{number // 250}.{number % 250 + 1}"
        return http.client.HTTPConnection(
            self.host, self.port, timeout=LONG, source_address=(source, 0)
        )

    def ask(self, method, path, value=None, source=None, **headers):
        with contextlib.closing(self.connect(source)) as connection:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.getheader("X-Request-ID")

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def events(self):
        """Log lines so far; each must be whole."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def who(self, ids):
        """Tell which processes answered requests, as soon as that is logged of all."""
        ids = set(ids)

        def told():
            found = {e["request_id"]: e["process"] for e in self.events() if "request_id" in e}
            return ids <= found.keys() and {found[id_] for id_ in ids}

        return until(told)

    def counters(self):
        lines = self.get("/metrics")[1].splitlines()
        found = {}
        for line in lines:
            name, _, value = line.rpartition(" ")
            if not line.startswith("#") and ("_total" in name or "_seconds_" in name):
                found[name] = float(value)
        return found

    def end(self):
        workers = self.workers  # some may be stopped where a test failed
        self.process.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        self.process.wait()
        until(lambda: not self._reader.is_alive())  # nobody holds the other end any more
        self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def processes():
    """Return the parent and the command line of every process."""
    found = {}
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(path.name)] = parent, (path / "cmdline").read_bytes()
    return found


def until(check):
    """Return what is true at last."""
    deadline = time.monotonic() + LONG
    while not (found := check()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return found


@pytest.fixture
def start():
    running = []

    def start(*words):
        running.append(Running(*words))
        return running[-1]

    yield start
    for one in running:
        one.end()


@pytest.fixture(scope="module")
def service(made, tmp_path_factory):
    """Two processes; tests in this file ask it in their order, and the last one ends it."""
    folder = tmp_path_factory.mktemp("processes")
    archive = shutil.copytree(made, folder / "made")
    running = Running(
        *(archive, "--processes", 2, "--port", 0, "--rate", PER_SECOND),
        *("--feedback-file", folder / "feedback.jsonl"),
    )
    running.archive, running.feedback = archive, folder / "feedback.jsonl"
    try:
        yield running.started()
    finally:
        running.end()


def test_two_processes_answer_alike_on_one_port(service, made):
    id_ = ArchiveFolder.open(made).columns().ids[0]
    answers, ids = set(), []
    for _ in range(40):
        status, text, request = service.ask("POST", "/v1/search", {"id": id_, "k": 9})
        assert status == 200
        answers.add(json.dumps(json.loads(text)["hits"]))
        ids.append(request)
    assert len(answers) == 1
    assert service.who(ids) == service.workers
    assert len(service.workers) == 2


def test_another_service_on_the_port_is_refused(service, made, start):
    for more in ((), ("--processes", 2)):
        other = start(made, "--port", service.port, *more)
        assert other.process.wait(LONG) == 2
        until(lambda other=other: other.lines)
        assert len(other.lines) == 1
        assert "address already in use" in other.lines[0]
        assert "choose another" in other.lines[0]


def test_the_rate_of_a_client_holds_over_both(service):
    began = time.monotonic()
    answers = [service.get("/v1/labels", source="127.9.9.9") for _ in range(4 * BURST)]
    most = BURST + (time.monotonic() - began) * PER_SECOND + 1
    good = [id_ for status, _, id_ in answers if status == 200]
    assert {status for status, _, _ in answers} == {200, 429}
    assert BURST <= len(good) <= most
    assert service.who(good) == service.workers


def test_feedback_of_both_lands_whole_in_one_file(service, made):
    id_ = ArchiveFolder.open(made).columns().ids[0]
    note = "n" * 1_500

    def give(number):
        given = {"query": id_, "positives": [id_], "note": f"{number} {note}"}
        return service.ask("POST", "/v1/feedback", given)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(give, range(80)))
    assert {status for status, _, _ in answers} == {201}
    kept = [json.loads(line) for line in service.feedback.read_text().splitlines()]
    assert {line["note"].split()[0] for line in kept} == {str(i) for i in range(80)}
    assert len(kept) == 80
    assert service.who(id_ for _, _, id_ in answers) == service.workers


def test_one_that_is_killed_is_replaced_and_shows_the_same_version(service):
    shown = json.loads(service.get("/v1/archive")[1])
    some = ArchiveFolder.open(service.archive).columns().ids[:5]
    delete(service.archive, list(some))
    assert ArchiveFolder.open(service.archive).version > shown["version"]
    before, counted = service.workers, service.counters()
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    (new,) = until(lambda: service.workers - before)
    os.kill(new, signal.SIGSTOP)
    for _ in range(20):  # the other one answers
        assert service.get("/v1/labels")[0] == 200
        now = service.counters()
        assert all(now[name] >= value for name, value in counted.items())
        counted = now
    assert service.get("/readyz")[0] == 503
    assert "landcue_processes 1\n" in service.get("/metrics")[1]
    os.kill(new, signal.SIGCONT)
    until(lambda: service.get("/readyz")[0] == 200)
    assert service.workers == before - {killed} | {new}
    ids = []
    for _ in range(40):
        status, text, id_ = service.get("/v1/archive")
        value = json.loads(text)
        assert (status, value["version"], value["records"]) == (200, shown["version"], 200)
        assert value["stale"]
        ids.append(id_)
    assert service.who(ids) == service.workers
    assert any(event.get("ended") == killed for event in service.events())
    now = service.counters()
    assert all(now[name] >= value for name, value in counted.items())
    assert "landcue_processes 2\n" in service.get("/metrics")[1]


def test_requests_under_way_are_answered_before_the_service_ends(service):
    body = json.dumps({"k": 3}).encode()
    head = (
        f"POST /v1/search HTTP/1.1\r\nHost: {service.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    ).encode()
    workers = service.workers
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(16):
            connection = service.connect()
            connection.connect()
            sock = stack.enter_context(connection.sock)
            sock.sendall(head)
            assert sock.recv(25).startswith(b"HTTP/1.1 100")  # it waits for the body
            connections.append(sock)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: refused(service))
        ids = []
        for sock in connections:
            sock.sendall(body)
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            assert answer.status == 200
            assert len(json.loads(answer.read())["hits"]) == 3
            ids.append(answer.getheader("X-Request-ID"))
    assert service.process.wait(LONG) == 0
    assert not workers & processes().keys()
    assert service.who(ids) == workers
    assert not list(service.folder.iterdir())
    assert all(event["process"] for event in service.events())
    assert len(service.events()) == len(service.lines) - len(service_lines(service))


def refused(service):
    try:
        socket.create_connection((service.host, service.port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def service_lines(service):
    """What is no log line: where it serves, and that there is no page if none was built."""
    return [line for line in service.lines if not line.startswith("{")][:2]


def test_processes_end_with_the_one_that_minds_them(made, start):
    service = start(made, "--processes", 2, "--port", 0).started()
    workers = service.workers
    service.process.kill()
    until(lambda: not workers & processes().keys())
    assert refused(service)
    assert not list(service.folder.glob("landcue-serve-*"))


def test_processes_that_never_get_ready_end_the_service(made, start):
    service = start(made, "--processes", 2, "--port", 0)
    killed = set()
    while service.process.poll() is None:
        for worker in service.workers - killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        time.sleep(0.01)
    assert service.process.returncode == 1
    until(lambda: [line for line in service.lines if line.startswith("error: ")])
    assert "times before it was ready (exit status -9)" in service.lines[-1]
    assert 4 <= len(killed) <= 8
    assert not killed & processes().keys()


def test_what_one_cannot_open_is_one_line(made, tmp_path, start):
    broken = shutil.copytree(made, tmp_path / "broken")
    (broken / "manifest.json").write_text("{")
    for words, code, part in (
        ((broken,), 1, "is not valid JSON"),
        ((made, "--feedback-file", tmp_path), 2, "Is a directory"),
        ((made, "--processes", 0), 2, "--processes"),
    ):
        service = start("--processes", 2, "--port", 0, *words)
        assert service.process.wait(LONG) == code
        until(lambda service=service: not service._reader.is_alive())
        assert part in "".join(service.lines)
        assert len([line for line in service.lines if "rror" in line]) == 1


def test_a_catalog_shows_what_another_one_does(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "made")
    first = Catalog.open([folder])
    pins = pickle.loads(pickle.dumps(first.pins()))
    ids = ArchiveFolder.open(folder).columns().ids
    delete(folder, list(ids[:3]))
    assert Catalog.open([folder]).get(None).archive.count == 197
    same = Catalog.open([folder], pins=pins).get("made")
    assert same.archive.count == 200
    assert same.searcher.mark == first.get(None).searcher.mark
    assert same.searcher.search(ById(ids[0]), 9) == first.get(None).searcher.search(ById(ids[0]), 9)
    assert same.stale()


def test_a_catalog_refuses_another_archive_in_the_same_place(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "made")
    first = Catalog.open([folder])
    pins = first.pins()
    first.close()
    shutil.rmtree(folder)
    made_archive.make_archive(folder, n=200, seed=9).close()
    assert ArchiveFolder.open(folder).version == pins[0].version
    with pytest.raises(ArchiveError, match="made was replaced while it is served"):
        Catalog.open([folder], pins=pins)

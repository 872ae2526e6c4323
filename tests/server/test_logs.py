from __future__ import annotations

import fcntl
import io
import json
import logging
import select
import socket
import threading
import time

import pytest

from landcue.errors import UsageError
from landcue.server import logs
from landcue.server.listening import listen
from landcue.server.logs import GatheringHandler
from landcue.server.observe import JsonLines


@pytest.fixture
def told():
    """A logger, what it wrote so far, and its handler."""
    out = io.StringIO()
    handler = GatheringHandler(out)
    logger = logging.Logger("told", logging.INFO)
    logger.addHandler(handler)
    yield logger, out, handler
    handler.close()


def test_lines_are_written_together_and_in_order(told):
    logger, out, handler = told
    for i in range(5):
        logger.info("line %d", i)
    handler.flush()
    assert out.getvalue() == "".join(f"line {i}\n" for i in range(5))


def test_lines_do_not_wait_for_long(told):
    logger, out, _ = told
    for i in range(2):  # again after the first time
        logger.info("line %d", i)
        while f"line {i}\n" not in out.getvalue():
            time.sleep(0.01)


def test_warnings_are_written_at_once_after_what_came_before(told):
    logger, out, _ = told
    logger.info("before")
    logger.warning("now")
    assert out.getvalue() == "before\nnow\n"


def test_no_more_lines_are_kept_than_some(told, monkeypatch):
    logger, out, _ = told
    monkeypatch.setattr(logs, "MOST_LINES", 3)
    for i in range(3):
        logger.info("line %d", i)
    assert len(out.getvalue().splitlines()) == 3


def test_no_line_of_many_threads_is_lost(told):
    logger, out, handler = told

    def work(name):
        for i in range(500):
            logger.info("%s %d", name, i)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.flush()
    lines = out.getvalue().splitlines()
    assert len(lines) == 2_000
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name} {i}" for i in range(500)]


class Pieces(io.StringIO):
    """Notes what was written between two flushes."""

    def __init__(self):
        super().__init__()
        self.pieces, self.last = [], ""

    def write(self, text):
        self.last += text
        return super().write(text)

    def flush(self):
        if self.last:
            self.pieces.append(self.last)
        self.last = ""


def test_lines_are_written_in_pieces_that_a_pipe_takes_whole():
    out = Pieces()
    handler = GatheringHandler(out)
    logger = logging.Logger("told", logging.INFO)
    logger.addHandler(handler)
    sizes = [1, 4_000, 94, 95, 5_000, 2, 4_095, 4_094, 1, *[100] * 100]
    for i, size in enumerate(sizes):
        logger.info("%s", chr(ord("a") + i % 26) * size)
    logger.info("é" * 2_100)  # more bytes than characters
    logger.info("é" * 100)
    handler.close()
    assert out.getvalue().split() == "".join(out.pieces).split()
    assert [len(line) for line in out.getvalue().splitlines()] == [*sizes, 2_100, 100]
    for piece in out.pieces:
        assert piece.endswith("\n")
        assert len(piece.encode()) <= select.PIPE_BUF or piece.count("\n") == 1
    assert len(out.pieces) < 16


def test_a_process_waits_until_another_has_written(tmp_path):
    (tmp_path / "lock").touch()
    out = io.StringIO()
    handler = GatheringHandler(out, tmp_path / "lock")
    logger = logging.Logger("told", logging.INFO)
    logger.addHandler(handler)
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=logger.warning, args=("now",))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert not out.getvalue()
    thread.join()
    assert out.getvalue() == "now\n"


def test_a_stream_that_nobody_reads_is_no_failure(told):
    logger, out, handler = told
    out.close()
    logger.warning("lost")
    handler.flush()


def test_answers_do_not_wait_for_confirmations():
    """Connections send at once (TCP_NODELAY), which asyncio would not see to for this socket."""
    with listen("127.0.0.1", 0) as sock:
        with socket.create_connection(sock.getsockname()):
            accepted, _ = sock.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(UsageError, match="choose another"):
            listen(*sock.getsockname())


@pytest.mark.parametrize("text", ["plain", "\x9b31m", "é\u202e", "a\nb\x1b[2J", "\ud800"])
def test_no_text_of_a_request_reaches_a_terminal_as_it_is(text):
    record = logging.makeLogRecord({"msg": "request", "facts": {"path": text, "status": 404}})
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["path"] == text
    assert json.loads(line)["status"] == 404

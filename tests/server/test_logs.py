from __future__ import annotations

import json
import logging
import socket

import pytest

from landcue.errors import UsageError
from landcue.server.metrics import JsonLines
from landcue.server.run import listen


def test_answers_do_not_wait_for_confirmations():
    """The socket has TCP's number, by which asyncio switches off the delay of small packets."""
    with listen("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP
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

"""Requests made from the OpenAPI description, good and bad ones, each answer held against it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import services

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

SECONDS = 600
EXAMPLES = 15
CONFIG = """
[warnings]
enabled = false

# What fits the description may ask for a label that the model lacks, or hold no image: 400 or 404.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 409]

# A body that is too long is refused as such.
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, "5xx"]

# A search of these stands in the address, whose length is limited: 422, or 400 by the HTTP parser.
[[operations]]
include-name-regex = "^GET /v1/(.+/)?export$"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 404, 409, 422]
checks.content_type_conformance.enabled = false
"""


@pytest.fixture(scope="module")
def address(app, tmp_path_factory):
    """The address of a service of two archives on loopback."""
    made = app(collections_file=tmp_path_factory.mktemp("fuzz") / "picks.db")
    with services.running(made) as port:
        while not made.state.service.ready:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"


def test_answers_are_as_described(address, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
        *("--mode", "all", "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES), "--seed", "1", "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--no-shrink", "--continue-on-failure"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "No issues found" in done.stdout, done.stdout[-5_000:]

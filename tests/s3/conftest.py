"""A local S3 server (moto), in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

import slow_down
from ports import free_port


@pytest.fixture(scope="session")
def server():
    """The port of an S3 server."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)
    yield port
    process.terminate()
    process.wait(30)


@pytest.fixture
def store(server, monkeypatch, tmp_path):
    """An empty bucket, and the environment that leads there; gives the file system."""
    from pyarrow import fs

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    values = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",  # nothing outside this machine is asked
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "HOME": str(tmp_path),
        "LANDCUE_CACHE": str(tmp_path / "cache"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    files = fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{server}", scheme="http", region="us-east-1",
        access_key="key", secret_key="secret",
        allow_bucket_creation=True, allow_bucket_deletion=True,
    )  # fmt: skip
    files.create_dir("bucket")
    yield files
    files.delete_dir("bucket")


@pytest.fixture
def throttle(server, store, monkeypatch):
    """A proxy before the server that can ask to slow down."""
    proxy = slow_down.Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()

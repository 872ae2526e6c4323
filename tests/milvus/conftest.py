"""A real Milvus server on a free loopback port, started once and stopped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from ports import free_port

# A server looks by itself every second or so whether something is to be done: here oftener.
SOONER = {
    "QUERYCOORD_CHECKSEGMENTINTERVAL": "100",
    "QUERYCOORD_CHECKCHANNELINTERVAL": "100",
    "QUERYCOORD_DISTPULLINTERVAL": "100",
    "INDEXCOORD_SCHEDULER_INTERVAL": "100",
}
# It takes no writes while its memory is fuller than this, which it always is.
STARVED = {"QUOTAANDLIMITS_ENABLED": "true", "QUOTAANDLIMITS_QUOTACENTERCOLLECTINTERVAL": "1"} | {
    f"QUOTAANDLIMITS_LIMITWRITING_MEMPROTECTION_{name}": value
    for name, value in {
        "ENABLED": "true",
        "QUERYNODEMEMORYLOWWATERLEVEL": "0.000001",
        "QUERYNODEMEMORYHIGHWATERLEVEL": "0.00001",
        "DATANODEMEMORYLOWWATERLEVEL": "0.000001",
        "DATANODEMEMORYHIGHWATERLEVEL": "0.00001",
    }.items()
}
USER, PASSWORD = "root", "a secret"
DEPLOY = Path(__file__).parents[2] / "deploy"


@contextlib.contextmanager
def running(folder: Path, environment=None, **settings):
    """Run a server whose files lie in ``folder``; give its port."""
    pytest.importorskip("pymilvus", reason="pip install 'landcue[milvus]'")
    package = pytest.importorskip("milvus", reason="pip install milvus==2.3.5 (Linux, x86-64)")
    server = package.MilvusServer(data_dir=str(folder))
    for name, value in settings.items():
        server.config.set(name, value)
    # Ports of its own, so that several servers run on one machine.
    ports = {name: free_port() for name in server.config_keys if name.endswith("_port")}
    server.config.update(**ports)
    server.webservice_port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETCD_CONFIG_PATH", str(etcd_settings(folder, ports["etcd_port"])))
        for name, value in {**SOONER, **(environment or {})}.items():
            patch.setenv(name, value)
        server.wait_for_started = False
        server.start()
    process = server.server_proc
    try:
        wait_until_healthy(process, server.webservice_port, folder)
        yield server.listen_port
    finally:
        process.kill()  # its data go with the folder, and a gentle end takes half a minute
        process.wait(10)
        server.stop()


def etcd_settings(folder: Path, port: int) -> Path:
    """Write where the server's own etcd listens; its second port has no setting of Milvus."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "etcd.yaml"
    file.write_text(
        f"name: default\ndata-dir: {folder / 'etcd'}\n"
        f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: default={peer}\n"
    )
    return file


def wait_until_healthy(process, port: int, folder: Path, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            log = (folder / "logs" / "milvus-stderr.log").read_text(errors="replace")
            pytest.fail(f"Milvus ended at its start: {log[:500]}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer,
        ):
            if b"OK" in answer.read():
                time.sleep(1)
                return
        time.sleep(0.2)
    pytest.fail(f"Milvus did not start in {seconds:.0f} s: see {folder / 'logs'}")


def set_password(port, password):
    """Run the script that replaces the password of the server at a port."""
    return subprocess.run(
        [sys.executable, DEPLOY / "milvus" / "set_password.py", f"http://127.0.0.1:{port}"],
        env={**os.environ, "LANDCUE_MILVUS_PASSWORD": password},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def port(tmp_path_factory):
    """The port of a server that wants a user and a password, which the environment tells.

    It has the security settings of ``deploy/compose.yaml``, and the script that is run there has
    replaced the password.
    """
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    settings = services["milvus"]["environment"]
    security = {name: value for name, value in settings.items() if name.startswith("COMMON_")}
    folder = tmp_path_factory.mktemp("milvus")
    with running(folder, security) as number, pytest.MonkeyPatch.context() as patch:
        assert set_password(number, PASSWORD).stdout == "password of root: set\n"
        patch.setenv("LANDCUE_MILVUS_USER", USER)
        patch.setenv("LANDCUE_MILVUS_PASSWORD", PASSWORD)
        yield number


@pytest.fixture
def starved_port(tmp_path):
    """The port of a server that takes no writes once it has looked at its memory."""
    with running(tmp_path / "milvus", STARVED) as number:
        yield number


@pytest.fixture
def change_password(port):
    """Run the script again, for another password."""
    return lambda password: set_password(port, password)

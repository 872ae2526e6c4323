"""Connect to a Ray cluster and divide its cores and GPUs among workers."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from landcue.errors import UsageError
from landcue.files import core_count

LOCAL = "local"
AUTO = "auto"
_EXTRA = "--ray needs Ray: pip install 'landcue[ray]'"
_CONNECT_SECONDS = 5.0
_LOCAL_STORE = 512 << 20  # bytes: only the model and finished rows pass through it


@dataclass(frozen=True, slots=True)
class Sizing:
    """Number of workers, and the cores and GPUs (0 or 1) of each."""

    workers: int
    cpus: int
    gpus: int


def import_ray() -> Any:
    """Return the ``ray`` module."""
    # Read when Ray loads: turns off usage reports.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as future versions do
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"{_EXTRA} ({error})") from None
    return ray


@contextlib.contextmanager
def connected(address: str, workers: int | None) -> Generator[Any]:
    """Connect to a cluster; a local one is stopped at the end of the block.

    Args:
        address: ``local`` (processes of this machine, for the duration of the block), ``auto``
            (the cluster that this machine is a node of) or ``host:port`` of a cluster's head.
        workers: Number of workers that a local cluster must be able to run.

    Yields:
        The ``ray`` module.

    Raises:
        UsageError: Ray is not installed, nothing answers at the address, this machine is not a
            node of that cluster, or the cluster runs another version.
    """
    _check_address(address)
    ray = import_ray()
    if ray.is_initialized():  # by the calling program
        yield ray
        return
    options: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": "ERROR",
    }
    if address == LOCAL:
        options |= {
            "num_cpus": max(core_count(), workers or 0),
            "include_dashboard": False,
            "object_store_memory": _LOCAL_STORE,
        }
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise UsageError(_why_not(address, error)) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Check that an address is valid and that a Ray head listens there."""
    if address in (LOCAL, AUTO):
        return
    found = re.fullmatch(r"\[?([^\[\]/]+?)\]?:([0-9]{1,5})", address)
    if found is None or int(found[2]) > 65_535:
        raise UsageError(f"--ray {address}: use local, auto, or the head's host:port (…:6379)")
    try:
        with socket.create_connection((found[1], int(found[2])), _CONNECT_SECONDS) as peer:
            answers = os.environ.get("RAY_USE_TLS") == "1" or _speaks_http2(peer)
    except OSError as error:
        raise UsageError(
            f"--ray {address}: no Ray cluster answers ({error.strerror or error}); start one with "
            "'ray start --head', or use --ray local"
        ) from None
    if not answers:  # Ray itself would wait for minutes
        raise UsageError(
            f"--ray {address}: the server there is not a Ray head; use its host and port (…:6379)"
        )


def _speaks_http2(peer: socket.socket) -> bool:
    """Connect as gRPC does; a gRPC server answers with its HTTP/2 settings at once."""
    settings = bytes(3) + b"\x04" + bytes(5)  # an empty frame of type 4
    peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    answer = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while len(answer) < 9 and (part := peer.recv(9 - len(answer))):
            answer += part
    return len(answer) == 9 and answer[3] == 4


def size_workers(ray: Any, workers: int | None, device: str | None) -> Sizing:
    """Divide a cluster's GPUs, or else its cores, among workers.

    Args:
        workers: Number of workers; by default one for each GPU, or else for each core.
        device: ``cpu``, ``cuda`` …; ``None`` uses GPUs if there are any.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if device is None:
        device = "cuda" if gpus else "cpu"
    if device.startswith("cuda"):
        n = workers or gpus
        if not gpus or n > gpus:
            raise UsageError(
                f"the Ray cluster has {gpus} GPUs, too few for {n or 1} workers on {device}; use "
                "--device cpu or fewer --ray-workers"
            )
        cores_each = [
            int(node.get("CPU", 0)) // int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1
        ]
        return Sizing(n, max(1, min(cores_each)), 1)
    total = sum(cores)
    n = workers or total
    if not 1 <= n <= total:
        raise UsageError(
            f"the Ray cluster has {total} cores, too few for {max(1, n)} workers; use fewer "
            "--ray-workers"
        )
    return Sizing(n, max(1, min(total // n, *cores)), 0)


def _why_not(address: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    if "ersion mismatch" in text:
        theirs = re.findall(r"Ray: ?([0-9][^\s,]*)", text)
        pythons = re.findall(r"Python: ?([0-9][^\s,]*)", text)
        return (
            f"--ray {address}: the cluster runs Ray {_pair(theirs)} on Python {_pair(pythons)}; "
            "install the same versions on all machines"
        )
    if "node_ip_address" in text or "This node has an IP address" in text or "raylet" in text:
        return (
            f"--ray {address}: this machine is not a node of that cluster; run 'ray start "
            f"--address={address}' here first"
        )
    return f"--ray {address}: cannot connect ({lines[0] if lines else type(error).__name__})"


def _pair(values: list[str]) -> str:
    return f"{values[0]}, this machine {values[1]}" if len(values) > 1 else "another version"

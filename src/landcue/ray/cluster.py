"""Connect to a Ray cluster, or start one on this machine, and see what workers it can hold."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from landcue.errors import UsageError

LOCAL = "local"
AUTO = "auto"

_EXTRA = "--ray needs Ray: pip install 'landcue[ray]'"
_CONNECT_SECONDS = 5.0
_LOCAL_STORE = 512 << 20  # bytes: only the model and finished rows pass through it


@dataclass(frozen=True, slots=True)
class Sizing:
    """How many workers there are, and what each takes of its node.

    Attributes:
        workers: Their number.
        cpus: Cores of each.
        gpus: GPUs of each, 0 or 1.
    """

    workers: int
    cpus: int
    gpus: int


def import_ray() -> Any:
    """Return the ``ray`` module.

    Raises:
        UsageError: It is not installed, or does not load.
    """
    # Read when Ray loads: nothing is reported to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as future versions do
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"{_EXTRA} ({error})") from None
    return ray


@contextlib.contextmanager
def connected(address: str, workers: int | None) -> Generator[Any]:
    """Use a cluster; one that was started here ends with the block.

    Args:
        address: ``local`` (processes of this machine, for as long as the block lasts), ``auto``
            (the cluster that this machine is a node of) or ``host:port`` of a cluster's head.
        workers: How many workers a local cluster must have room for.

    Yields:
        The ``ray`` module.

    Raises:
        UsageError: No Ray here, nothing answers at the address, this machine is no node of that
            cluster, or the cluster runs another version.
    """
    check_address(address)
    ray = import_ray()
    if ray.is_initialized():  # by the program that calls us
        yield ray
        return
    options: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": "ERROR",
    }
    if address == LOCAL:
        cores = len(os.sched_getaffinity(0))
        options |= {
            "num_cpus": max(cores, workers or 0),
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


def check_address(address: str) -> None:
    """Refuse an address that cannot be one, or where nothing listens.

    Raises:
        UsageError: Says which.
    """
    if address in (LOCAL, AUTO):
        return
    found = re.fullmatch(r"\[?([^\[\]/]+?)\]?:([0-9]{1,5})", address)
    if found is None or int(found[2]) > 65_535:
        raise UsageError(f"--ray {address}: give local, auto, or the head's host:port (…:6379)")
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
            f"--ray {address}: what answers there is no Ray head; give its host and port (…:6379)"
        )


def _speaks_http2(peer: socket.socket) -> bool:
    """Greet a server as gRPC does; one that speaks it answers with its settings at once."""
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
        ray: The connected module.
        workers: Their number; by default one for each GPU, or else for each core.
        device: ``cpu``, ``cuda`` …; ``None`` takes GPUs where there are any.

    Raises:
        UsageError: The cluster has not enough of them.
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
                f"the Ray cluster has {gpus} GPUs, too few for {n or 1} workers on {device}; give "
                "--device cpu or fewer --ray-workers"
            )
        cores_each = [
            int(node.get("CPU", 0)) // int(node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1
        ]
        return Sizing(n, max(1, min(cores_each)), 1)
    n = workers or sum(cores)
    if n < 1 or n > sum(cores):
        raise UsageError(
            f"the Ray cluster has {sum(cores)} cores, too few for {max(1, n)} workers; give fewer "
            "--ray-workers"
        )
    cpus = max(1, sum(cores) // n)
    # Cores of different nodes make no worker.
    while sum(node // cpus for node in cores) < n:
        cpus -= 1
    return Sizing(n, cpus, 0)


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
            f"--ray {address}: this machine is no node of that cluster; run 'ray start "
            f"--address={address}' here first"
        )
    return f"--ray {address}: cannot connect ({lines[0] if lines else type(error).__name__})"


def _pair(values: list[str]) -> str:
    return f"{values[0]}, this machine {values[1]}" if len(values) > 1 else "another version"

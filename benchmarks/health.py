"""How long health checks take while a service decodes hostile images.

    python benchmarks/health.py [--images 300] [--rest 20]

Asks `/healthz` of the service and, at the same moments, of a server that does nothing else, at rest
and under attack: what the second one takes longer is due to the machine, not to the service. Prints
percentiles, the share of answers within 200 ms, and the memory of the service over that at rest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

import landcue

sys.path.append(str(Path(__file__).parents[1] / "tests/helpers"))
import hostile

PROMISED = 0.2
BARE = """
import sys, uvicorn
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", log_level="error")
"""


def make_archive(folder: Path) -> Path:
    """Index some pictures of noise with the built-in encoder."""
    rng = np.random.default_rng(0)
    source = folder / "images"
    source.mkdir()
    for i in range(40):
        pixels = rng.integers(0, 256, (128, 128, 3), np.uint8)
        Image.fromarray(pixels).save(source / f"{i:02}.png")
    landcue.index(source, folder / "archive").close()
    return folder / "archive"


def probe(
    addresses: dict[str, str], seconds: dict[str, list[float]], done: threading.Event
) -> None:
    """Ask all addresses in turn, every 20 ms."""
    while not done.wait(0.02):
        for name, address in addresses.items():
            started = time.perf_counter()
            with urllib.request.urlopen(address, timeout=60) as answer:
                answer.read()
            seconds[name].append(time.perf_counter() - started)


def attack(host: str, port: int, images: int) -> None:
    """Send the images, three at a time."""
    service = hostile.Service.__new__(hostile.Service)
    service.host, service.port = host, port
    with ThreadPoolExecutor(3) as senders:
        statuses = [status for status, _ in senders.map(service.send, hostile.images(images))]
    print(f"answers: { {status: statuses.count(status) for status in sorted(set(statuses))} }")


def report(name: str, seconds: dict[str, list[float]]) -> None:
    """Print one line for each server."""
    for server, values in seconds.items():
        median, high, worst = 1e3 * np.percentile(values, [50, 99, 100])
        within = 100 * np.mean(np.array(values) <= PROMISED)
        print(
            f"{name:<7} {server:<8} {len(values):>6} answers, median {median:6.1f} ms, 99 % "
            f"{high:6.1f} ms, worst {worst:6.1f} ms, {within:.2f} % within 200 ms",
            flush=True,
        )


def main() -> None:
    """Measure at rest and under attack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rest", type=float, default=20.0, help="seconds at rest")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = hostile.Service(Path(folder) / "log", make_archive(Path(folder)))
        port = service.port + 1 if service.port < 65_000 else service.port - 1
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
        addresses = {
            "service": f"http://{service.host}:{service.port}/healthz",
            "bare": f"http://127.0.0.1:{port}/",
        }
        try:
            hostile.until(lambda: _answers(addresses["bare"]))
            service.send(hostile.picture("JPEG", 300, 200))  # the processes that decode start
            idle = most = service.memory
            for name in ("rest", "attack"):
                seconds: dict[str, list[float]] = {server: [] for server in addresses}
                done = threading.Event()
                asking = threading.Thread(target=probe, args=(addresses, seconds, done))
                asking.start()
                if name == "rest":
                    time.sleep(options.rest)
                else:
                    sending = multiprocessing.get_context("spawn").Process(
                        target=attack, args=(service.host, service.port, options.images)
                    )
                    sending.start()
                    while sending.is_alive():
                        most = max(most, service.memory)
                        sending.join(0.05)
                done.set()
                asking.join()
                report(name, seconds)
            print(f"memory: {(most - idle) / 2**20:.0f} MiB over {idle / 2**20:.0f} MiB at rest")
        finally:
            service.stop()
            bare.kill()
            bare.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()

"""Sources, slow encoders and runs for the tests of Ray; run as a script it is a driver."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import pyarrow as pa

import pixel_encoder as tools
from landcue.archive.archive import ArchiveFolder
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.ray_encoding import RayEngine
from landcue.data.sources import open_source

BATCH = 8
NODE = {
    "num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False,
    "include_log_monitor": False, "no_monitor": True,  # nobody reads logs or adds nodes
}  # fmt: skip


class SlowEncoder(tools.PixelEncoder):
    """Takes a while for each batch, so that there is time to break something."""

    def __init__(self, pause=0.1):
        super().__init__()
        self._pause = pause

    def encode(self, pixels):
        time.sleep(self._pause)
        return super().encode(pixels)


class DeadlyEncoder(tools.PixelEncoder):
    """Ends its process at an image that is all white, as the system does when memory is out."""

    def encode(self, pixels):
        if any(image.min() == 255 for image in pixels):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(pixels)


class FaultyEncoder(tools.PixelEncoder):
    """Raises what libraries raise."""

    def encode(self, pixels):
        raise RuntimeError("device-side assert")


def write_source(folder, n=200):
    """Write n images, of which two are broken; with fewer than 100 the second comes on top."""
    tools.write_images(folder, [f"{i:03}.png" for i in range(n)])
    (folder / "017.png").write_bytes(b"no image")
    (folder / "100.png").write_bytes(b"")
    return folder


def run(source, archive, encoder, engine=None, **options):
    images = open_source(source)
    return ingest(
        SourceImages(images.records, images.root), archive, encoder,
        options=EncodingOptions(BATCH, commit_every=16), engine=engine, **options,
    )  # fmt: skip


def engine_for(address, encoder, **options):
    return RayEngine(
        address, lambda _: lambda threads: encoder, encoder.fingerprint, batch_size=BATCH, **options
    )


def state(archive):
    """All that an archive holds: its rows, as they lie in the table, and a digest of them."""
    opened = ArchiveFolder.open(archive)
    batches = opened.batches(opened.manifest.schema.names)
    rows = pa.Table.from_batches(batches, opened.manifest.schema)
    assert len(rows) == opened.manifest.records
    digest = hashlib.sha256(b"".join(rows["check"].to_pylist())).hexdigest()
    opened.close()
    return digest, rows.to_pylist()


def skipped(report):
    return [(problem.where, problem.what) for problem in report.skipped]


def main():
    """Index until killed, telling in a file what is done."""
    address, source, archive, reported = sys.argv[1:]
    encoder = SlowEncoder()
    engine = engine_for(address, encoder)
    run(
        Path(source), Path(archive), encoder, engine,
        progress=lambda done, _: Path(reported).write_text(str(done)),
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""Makes ``golden/format-N`` again: ``python tests/helpers/make_golden.py`` (only for a new format).

The committed archive was written by the LandCue that introduced its format, and must be read by
every later one that claims to read it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import shapely

import pixel_encoder as tools
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.manifest import FORMAT
from landcue.archive.plan import SourceImages
from landcue.archive.sources import Source
from landcue.types import Bounds

GOLDEN = Path(__file__).parents[1] / "archive" / "golden"
SHOWN = ("id", "source", "path", "labels", "west", "south", "east", "north", "group", "part",
         "pixel_bbox", "sensor", "predicted_labels", "content", "code")  # fmt: skip

SKEWED = shapely.Polygon([(5.0, 46.1), (5.9, 46.0), (6.0, 45.0), (5.1, 45.1)])


def golden_records(root):
    """Write the images of the golden archive, and return their records."""
    records = tools.write_images(root, [f"{i}.tif" for i in range(6)])
    time = datetime(2024, 2, 29, 12, tzinfo=UTC)
    places = [
        {"bbox": Bounds(10.0, 50.0, 10.5, 50.5), "datetime": time, "sensor": "sentinel-2"},
        {"bbox": Bounds(179.5, -17.0, -179.5, -16.0), "group": "Fiji"},
        {"geometry": SKEWED, "part": "test",
         "bbox": Bounds(5.0, 45.0, 6.0, 46.1)},
        {"group": "Ånge", "part": "train"},
    ]  # fmt: skip
    return [
        replace(record, **(places[i] if i < len(places) else {}))
        for i, record in enumerate(records)
    ]


def facts(archive):
    """Return what the golden file beside the archive says of its rows."""
    rows = []
    for row in tools.contents(archive):
        shown = {name: row[name] for name in SHOWN}
        shown["time"] = row["time"].isoformat() if row["time"] else None
        shown["embedding"] = [round(value, 6) for value in row["embedding"]]
        shown["geometry"] = row["geometry"].hex() if row["geometry"] else None
        rows.append(shown)
    return rows


def main():
    folder = GOLDEN / f"format-{FORMAT}"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "source"
        encoder = tools.PixelEncoder()
        model = tools.write_model(Path(name) / "run", encoder)
        records = golden_records(root)
        ingest(SourceImages(records, root, name="golden"), folder, encoder, model_folder=model)
    # The archive must not name the folder of whoever made it.
    from landcue.archive.checksums import write_checksums
    from landcue.archive.manifest import read_manifest, write_manifest

    sources = {"golden": Source.at(Path("/data/golden"))}
    manifest = replace(read_manifest(folder), sources=sources)
    write_manifest(folder, manifest)
    write_checksums(folder, manifest)
    opened = ArchiveFolder.open(folder)
    text = json.dumps(facts(opened), indent=1, ensure_ascii=False)
    (GOLDEN / f"format-{FORMAT}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

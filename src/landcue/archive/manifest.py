"""The manifest: the properties of an archive and its model."""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import pyarrow as pa
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from landcue import __version__
from landcue.archive import storage
from landcue.archive.schema import record_schema
from landcue.archive.sources import Source
from landcue.codes.regions import MOST_REGIONS
from landcue.data.objects import is_object, shown
from landcue.errors import ArchiveError
from landcue.files import parse_json
from landcue.types import Encoder, regions_of

FORMAT = 3
MANIFEST = "manifest.json"
BIT_ORDER = "little"
METRIC = "cosine"
THUMBNAIL_SIDE = 96
IMPORTED = "imported"
"""Name of the model of an archive whose embeddings came from a table."""
FITTED_FROM, SPACE = "fitted_from", "space"
"""Facts about the model: fingerprint of the encoder itself where its embeddings were fitted to an
archive; fingerprint of the model that made imported embeddings, where the table names it."""

_MOST = 2**20
"""Largest dimension and number of bits and of labels: they become the sizes of arrays."""

_Size = Annotated[int, Field(ge=0, le=_MOST)]


def _with_all_keys(value: object) -> object:
    """Check that a stored source has exactly the keys that are written."""
    keys = {field.name for field in fields(Source)}
    if not isinstance(value, dict) or set(cast("dict[Any, Any]", value)) != keys:
        raise ValueError(f"write the keys {', '.join(sorted(keys))}")
    return cast("dict[Any, Any]", value)


_StoredSource = Annotated[Source, BeforeValidator(_with_all_keys)]

_MISSING = "use an archive folder that 'landcue index' created"
_RESTORE = (
    "run 'landcue archive repair', restore it from a copy, or index the images again into a new "
    "folder"
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The properties of an archive.

    Attributes:
        fingerprint: Fingerprint of the model; embeddings of other models are refused.
        dim: Length d of an embedding.
        n_bits: Bits of a code; 0 without codes.
        label_names: Names of the C label scores.
        sources: The sources of its records, by name.
        records: Records when the last ingest finished.
        created: ISO 8601, UTC.
        updated: ISO 8601, UTC.
        landcue: The version that last wrote the archive.
        model: Facts about the model.
        base: Sub-folder of the table and the model in use; empty for the archive's own.
        id: Random name of the archive, which binds its checksums to it.
        regions: How many regions a side each image is divided into (see
            :mod:`landcue.codes.regions`); 0 without regions. Only then it is written to the file.
    """

    fingerprint: str
    dim: Annotated[int, Field(ge=1, le=_MOST)]
    n_bits: _Size
    label_names: tuple[str, ...]
    sources: Mapping[str, _StoredSource]
    records: Annotated[int, Field(ge=0, le=2**53)] = 0
    created: str = field(default_factory=lambda: now())
    updated: str = field(default_factory=lambda: now())
    landcue: str = __version__
    model: Mapping[str, Any] = field(default_factory=lambda: cast("dict[str, Any]", {}))
    base: Annotated[str, Field(pattern="^(v[0-9]{1,9})?$")] = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    regions: Annotated[int, Field(ge=0, le=MOST_REGIONS)] = 0

    @classmethod
    def of(
        cls, encoder: Encoder, sources: Mapping[str, Source], model: Mapping[str, Any]
    ) -> Manifest:
        """Describe a new archive made by ``encoder``."""
        fitted: str = getattr(encoder, FITTED_FROM, "")
        return cls(
            fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            n_bits=encoder.n_bits,
            label_names=encoder.label_names,
            sources=dict(sources),
            model={**model, **({FITTED_FROM: fitted} if fitted else {})},
            regions=regions_of(encoder),
        )

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table of records."""
        return record_schema(self.dim, self.n_bits, len(self.label_names), self.regions**2)

    @property
    def imported(self) -> bool:
        """Whether the embeddings came from a table, made by a model that is not here."""
        return self.model.get("name") == IMPORTED

    def file(self, source: str, stored: str) -> Path:
        """Return the image of a record by its stored source and path."""
        return self.sources[source].file(stored)

    def facts(self) -> dict[str, Any]:
        """Return the facts that ``landcue archive info`` prints."""
        return {
            "model": self.model.get("name"),
            "fingerprint": self.fingerprint,
            "dim": self.dim,
            "n_bits": self.n_bits,
            "labels": list(self.label_names),
            "regions": self.regions,
            "sources": {name: one.shown for name, one in self.sources.items()},
            "created": self.created,
            "updated": self.updated,
            "landcue": self.landcue,
        }

    def check_encoder(self, encoder: Encoder, folder: Path) -> None:
        """Check that a model is the one that made the archive."""
        if self.imported:
            raise ArchiveError(
                f"{folder} holds imported embeddings, whose model is not available: new images "
                "cannot be encoded; search it by record or by vector"
            )
        ours = (self.fingerprint, self.dim, self.n_bits, self.label_names)
        theirs = (encoder.fingerprint, encoder.dim, encoder.n_bits, encoder.label_names)
        if ours != theirs:
            raise ArchiveError(
                f"{folder} was made by model {self.fingerprint[:12]} "
                f"(dim {self.dim}, {self.n_bits} bits, {len(self.label_names)} labels), "
                f"not by {encoder.fingerprint[:12]} "
                f"(dim {encoder.dim}, {encoder.n_bits} bits, {len(encoder.label_names)} labels); "
                "use the archive's own model, or index into a new folder"
            )

    def check_regions(self, encoder: Encoder, folder: Path) -> None:
        """Check that an encoder divides images into regions as the archive does."""
        if self.regions != regions_of(encoder):
            raise ArchiveError(
                f"{folder} holds {self.regions} x {self.regions} regions of each image, not "
                f"{regions_of(encoder)} x {regions_of(encoder)}: change them with landcue archive "
                "reembed --regions"
            )


def now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically."""
    storage.write(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """Return the exact content of the manifest file."""
    value: dict[str, Any] = {
        "format": FORMAT,
        "metric": METRIC,
        "bit_order": BIT_ORDER,
        "thumbnail": THUMBNAIL_SIDE,
        **asdict(manifest),
    }
    if not manifest.regions:
        del value["regions"]
    value["checksum"] = checksum_of(value)
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an archive."""
    if not is_object(folder) and not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ArchiveError(f"{folder} {what}; {_MISSING}")
    file = folder / MANIFEST
    try:
        text = storage.read(file)
    except OSError as error:
        raise ArchiveError(f"cannot read {file}: {error.strerror}; {_RESTORE}") from None
    if text is None:
        if is_object(folder):
            raise ArchiveError(
                f"{shown(folder)} holds no archive; create one: landcue index SOURCE "
                f"{shown(folder)}"
            )
        raise ArchiveError(f"{file} is missing; {_MISSING}")
    return parse_manifest(text, file)


def parse_manifest(text: str | bytes, file: Path) -> Manifest:
    """Return the manifest that :func:`manifest_text` wrote; ``file`` is named in errors."""
    value = parse_json(text, file, ArchiveError, _RESTORE)
    if value.get("format") != FORMAT:
        raise ArchiveError(
            f"{file} has format {value.get('format')!r}, this LandCue reads {FORMAT}; index again "
            "into a new folder: landcue index SOURCE ARCHIVE"
        )
    names = [field.name for field in fields(Manifest) if field.name != "regions"]
    missing = [name for name in names if name not in value]
    if missing:
        raise ArchiveError(f"{file} lacks {', '.join(missing)}; {_RESTORE}")
    checksum = value.pop("checksum", None)
    if checksum != checksum_of(value):
        raise ArchiveError(f"{file} was damaged or changed (its checksum differs); {_RESTORE}")
    if value.get("metric") != METRIC or value.get("bit_order") != BIT_ORDER:
        raise ArchiveError(
            f"{file} has metric {value.get('metric')!r} and bit order {value.get('bit_order')!r}, "
            f"this LandCue reads {METRIC!r} and {BIT_ORDER!r}; index again into a new folder"
        )
    try:
        return _adapter().validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        where = error.errors()[0]["loc"]
        what = (
            f"has a wrong value of {where[0]!r}"
            if where
            else "holds a value that is not valid Unicode or nested too deeply"
        )
        raise ArchiveError(f"{file} {what}; {_RESTORE}") from None


@functools.cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def checksum_of(value: Mapping[str, Any]) -> str:
    """Return the BLAKE2b-128 of a JSON object, hex."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()

"""Plan a push: the description that a collection will have when it is complete."""

from __future__ import annotations

from typing import Any

import numpy as np

from landcue.archive.manifest import Manifest
from landcue.errors import ArchiveError, UsageError
from landcue.milvus.address import Address
from landcue.milvus.layout import INDEXES, FieldLimits, Layout
from landcue.milvus.local import Local
from landcue.milvus.pushed import PUSHING, Pushed
from landcue.search.ann import list_count
from landcue.search.sketch import Sketches
from landcue.search.summary import summarize

MOST_PATTERNS = 50_000
"""Most sets of predicted labels; with more, mode ``cue`` is not available."""


def planned(
    local: Local, address: Address, known: Pushed | None = None, index: str | None = None
) -> Pushed:
    """Return the description that a push of an archive stores.

    Args:
        local: The archive.
        address: The collection.
        known: Its present description, if anything was pushed before.
        index: Index of embeddings; by default the present one, or the first of :data:`INDEXES`.

    Raises:
        ArchiveError: There are embeddings of another model, or a value is too long for the
            collection or for Milvus.
        UsageError: The collection has another index.
    """
    manifest, longest = local.manifest, local.longest()
    if known is not None:
        check_model(manifest, known.manifest, address)
        _check_layout(known.layout, address, index, longest)
    names = known.names if known else ()
    ours = (*manifest.label_names, *sorted(local.records.label_names))
    about: dict[str, Any] = {
        "manifest": manifest,
        "state": PUSHING,
        "source": str(local.archive.folder.resolve()),
        "records": len(local),
        "version": local.archive.version,
        "names": tuple(dict.fromkeys((*names, *ours))),  # numbers that were assigned stay
        "carried": tuple(sorted(local.records.label_names)),
        "patterns": _patterns(local),
        "summary": summarize(local.records),
    }
    if known is not None:
        return known.renewed(**about)
    sketcher = Sketches(local.vectors, manifest.dim).fitted()
    layout = Layout(
        name=address.collection,
        dim=manifest.dim,
        n_bits=manifest.n_bits,
        n_labels=len(manifest.label_names),
        sketch_bits=sketcher.n_bits,
        index=index or INDEXES[0],
        lists=list_count(len(local)) if index == "ivf" else 0,
        room=FieldLimits.of(longest),
    )
    return Pushed(layout=layout, sketcher=sketcher, **about)


def check_model(ours: Manifest, theirs: Manifest, address: Address) -> None:
    """Check that a collection holds embeddings of an archive's model.

    Raises:
        ArchiveError: Fingerprint, dimensions, bits or label names differ.
    """
    model = (ours.fingerprint, ours.dim, ours.n_bits, ours.label_names)
    if model != (theirs.fingerprint, theirs.dim, theirs.n_bits, theirs.label_names):
        raise ArchiveError(
            f"{address} holds embeddings of model {theirs.fingerprint[:12]} (dim {theirs.dim}, "
            f"{theirs.n_bits} bits, {len(theirs.label_names)} labels), the archive those of "
            f"{ours.fingerprint[:12]} (dim {ours.dim}, {ours.n_bits} bits, "
            f"{len(ours.label_names)} labels): push into another collection, as {address}_2"
        )


def _check_layout(
    layout: Layout, address: Address, index: str | None, longest: dict[str, int]
) -> None:
    another = f"push into another collection, as {address}_2"
    if index not in (None, layout.index):
        raise UsageError(f"{address} has index {layout.index}: {another}")
    tight = layout.room.fits(longest)
    if tight is not None:
        raise ArchiveError(
            f"the longest {tight} takes {longest[tight]:,}, {address} was made for "
            f"{getattr(layout.room, tight):,}: {another}"
        )


def _patterns(local: Local) -> tuple[str, ...]:
    """Return the sets of predicted labels that occur, as packed bits in hex.

    Returns none if there are more than a search in mode cue can visit.
    """
    if not local.manifest.label_names:
        return ()
    cue = np.ascontiguousarray(local.vectors.cue)
    found = np.unique(cue.view(f"V{cue.shape[1]}").ravel())
    if len(found) > MOST_PATTERNS:
        return ()
    return tuple(value.tobytes().hex() for value in found)

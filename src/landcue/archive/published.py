"""Archives in an object store: written locally, published atomically, read through a local copy.

``s3://bucket/prefix`` holds ``objects/<digest>``, each with the bytes of one file of the archive,
and ``archive.json``, which lists the files and their digests. An object never changes, and the list
is replaced by one atomic write after all objects are uploaded: a reader sees either the old or the
new archive. The objects of the previous list stay until the next publication, for active readers.

If two writers publish at once, each checks the list just before it replaces it, and fails if the
other was first. Within the milliseconds between both requests the later one wins; the archive stays
consistent, and the other writer's images are added by its next run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Generator
from pathlib import Path

from landcue.archive.checksums import CHECKSUMS, archive_files, digest
from landcue.archive.layout import READERS, unread
from landcue.archive.manifest import MANIFEST, read_manifest
from landcue.data.objects import ObjectStore, address, url
from landcue.errors import ArchiveError
from landcue.files import exclusive, write_atomic

HEAD = "archive.json"
CACHE = "LANDCUE_CACHE"
"""Names the folder for local copies; by default ``~/.cache/landcue``."""

_FORMAT = 1
_TRIES = 3
_DIGEST = re.compile(r"[0-9a-f]{32}")


def readable(path: Path) -> Path:
    """Update the local copy of a published archive; only new files are fetched.

    Raises:
        ArchiveError: There is no archive, or a file has another digest.
        DataError: The store cannot be reached, or denies access.
    """
    place = _place(path)
    store = ObjectStore(path)
    with exclusive(place, ArchiveError, "fetching into"):
        for left in reversed(range(_TRIES)):
            head = store.find(f"{address(path)}/{HEAD}")
            if head is None:
                raise ArchiveError(
                    f"{url(path)} holds no archive; create one: landcue index SOURCE {url(path)}"
                )
            if _fetch(store, path, head, place / "copy", last=not left):
                break
    return place / "copy"


@contextlib.contextmanager
def publishing(path: Path) -> Generator[Path]:
    """Yield a local folder to write an archive in; it is published when the block succeeds.

    The folder starts as the published archive, unless an earlier run left unpublished rows in it:
    then they are kept.

    Raises:
        ArchiveError: Another process of this machine writes it, or another writer published it
            meanwhile: the local rows are kept for the next run.
        DataError: The store cannot be reached, or refuses.
    """
    place = _place(path, "writer")
    store, prefix = ObjectStore(path), address(path)
    base, folder = place / "base.json", place / "copy"
    with exclusive(place, ArchiveError, "writing"):
        head = store.find(f"{prefix}/{HEAD}")
        known = base.read_bytes() if base.exists() else None
        if head is not None and head != known:
            while not _fetch(store, path, head, folder, last=False):
                head = store.find(f"{prefix}/{HEAD}") or head
            write_atomic(base, head)
        marks = _marks(folder)
        marks.unlink(missing_ok=True)  # they become outdated
        yield folder
        if not (folder / MANIFEST).exists():
            return
        files = _files(folder)
        text = json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True).encode()
        if text == head:
            return
        there = {item.name for item in store.list(f"{prefix}/objects", missing_ok=True)}
        for name, mark in files.items():
            if mark not in there:
                store.upload(folder / name, f"{prefix}/objects/{mark}")
                there.add(mark)
        if store.find(f"{prefix}/{HEAD}") != head:
            raise ArchiveError(
                f"another process published {url(path)} meanwhile; run the same command again"
            )
        store.upload(text, f"{prefix}/{HEAD}")
        write_atomic(base, text)
        write_atomic(marks, json.dumps(files))
        kept = set(files.values()) | (set(_parse(head, path).values()) if head else set())
        for mark in sorted(there - kept):
            store.delete(f"{prefix}/objects/{mark}")


def _fetch(store: ObjectStore, path: Path, head: bytes, folder: Path, *, last: bool) -> bool:
    """Fetch the listed files into a folder; ``False`` if the list was replaced meanwhile."""
    files = _parse(head, path)
    folder.mkdir(parents=True, exist_ok=True)
    marks = _marks(folder)
    had: dict[str, str] = json.loads(marks.read_bytes()) if marks.exists() else {}
    for name, mark in sorted(files.items(), key=lambda item: item[0] in (MANIFEST, CHECKSUMS)):
        file = folder / name
        if had.get(name) == mark and file.exists():
            continue
        temporary = folder.with_suffix(".part")
        try:
            store.download(f"{address(path)}/objects/{mark}", temporary)
        except Exception:
            if not last and store.find(f"{address(path)}/{HEAD}") != head:
                return False
            raise
        if digest(temporary, sync=True) != mark:
            raise ArchiveError(f"{url(path)}/objects/{mark} is damaged; publish the archive again")
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(file)
    (folder / READERS).touch()
    with unread(folder) as alone:
        for file in folder.rglob("*") if alone else ():
            name = file.relative_to(folder).as_posix()
            if file.is_file() and name not in files and name not in (READERS, ".lock"):
                file.unlink()
    write_atomic(marks, json.dumps(files))
    return True


def _marks(folder: Path) -> Path:
    """Return the file with the digests of a local copy's files at download."""
    return folder.with_suffix(".json")


def _files(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a finished archive, by its path."""
    digests = json.loads((folder / CHECKSUMS).read_bytes())["files"]
    files: dict[str, str] = {name: digest(folder / name) for name in (MANIFEST, CHECKSUMS)}
    for file in archive_files(folder, read_manifest(folder).base):
        name = file.relative_to(folder).as_posix()
        files[name] = digests.get(name) or digest(file)
    return files


def _parse(head: bytes, path: Path) -> dict[str, str]:
    broken = ArchiveError(f"{url(path)}/{HEAD} is broken; publish the archive again")
    try:
        value = json.loads(head)
        form, files = value["format"], dict(value["files"])
    except (ValueError, KeyError, TypeError):
        raise broken from None
    if form != _FORMAT:
        raise ArchiveError(f"{url(path)} has format {form!r}, this LandCue reads {_FORMAT}")
    for name, mark in files.items():
        # Paths in the list must stay inside the folder.
        if not _DIGEST.fullmatch(str(mark)) or {"", ".", ".."} & set(name.split("/")):
            raise broken
    return files


def _place(path: Path, part: str = "reader") -> Path:
    root = os.environ.get(CACHE)
    folder = Path(root) if root else Path.home() / ".cache" / "landcue"
    where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "aws"
    names = re.sub(r"[^A-Za-z0-9._-]+", "_", where), *address(path).split("/")
    return folder.joinpath("s3", *names, f".{part}")

"""Collections and saved searches as JSON files that another service, or another archive, can read.

A file holds the queries themselves: uploaded images as their embeddings and a thumbnail. What is
read is not trusted: vectors must be those of the archive's model, and thumbnails are decoded and
written again.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.archive.space import ARCHIVE, ENCODER
from landcue.errors import CollectionError, DataError, LandcueError, UsageError
from landcue.server.collections import Collections, new_id
from landcue.server.decoding import Decoders
from landcue.server.errors import one_line
from landcue.server.kept_images import KeptImage
from landcue.server.queries import to_filter, with_space
from landcue.server.schemas.collections import CollectionFile, ImageFile
from landcue.server.schemas.watches import MAX_WATCHES, WatchFile
from landcue.server.settings import Limits
from landcue.types import ByteArray, Encoding, FloatArray

if TYPE_CHECKING:
    from landcue.search.archive import Archive
    from landcue.search.filters import Filter

_NAMED = 3
"""Records that a message names."""
_OTHER_MODEL = "another model encoded it"


def export_watches(archive: Archive, collection: str | None = None) -> dict[str, Any]:
    """Return the saved searches of an archive, or those of a collection, with their queries.

    Returns:
        A :class:`landcue.server.schemas.watches.WatchesFile` as JSON has it.

    Raises:
        UsageError: The archive is not in a local folder.

    >>> export_watches(archive)["watches"]
    []
    """
    watches = archive.watches.export(collection)
    for one in watches:
        one["embedding"] = None if one["embedding"] is None else _text(one["embedding"])
    return {"watches": watches}


def import_watches(archive: Archive, watches: Sequence[WatchFile]) -> list[str]:
    """Save the searches of a file; a name that is taken gets a number.

    Args:
        archive: An archive of the same model.
        watches: The searches.

    Returns:
        One line for each that was not saved.

    Raises:
        LandcueError: They cannot be written now; none was saved.

    >>> import_watches(archive, [])
    []
    """
    ready, problems = _ready(archive, watches, lambda _: None)
    if ready:
        with archive.watches.batch() as batch:
            problems += _save(archive, ready, None, batch)
    return problems


_Ready = tuple[WatchFile, FloatArray | None, "Filter", dict[str, Any] | None]
"""A saved search of a file, its embedding, its filters and how the page shows it again."""


def _ready(
    archive: Archive, watches: Sequence[WatchFile], kept: Callable[[str], str | None]
) -> tuple[list[_Ready], list[str]]:
    """Return the searches that can be saved, and a line for each of the others.

    ``kept`` returns the id of the collection that keeps the images of a collection of the file.
    """
    ready: list[_Ready] = []
    problems: list[str] = []
    for one in watches:
        try:
            archive.watches  # noqa: B018 - raises if it has none
            query = _query(archive, one)
            ready.append((one, query, to_filter(one.filters), _search(one, kept)))
        except (UsageError, DataError) as error:
            problems.append(_left_out(one, error))
    return ready, problems


def _save(
    archive: Archive, ready: Sequence[_Ready], collection: str | None, batch: sqlite3.Connection
) -> list[str]:
    """Save searches in a transaction; return a line for each that was left out."""
    problems: list[str] = []
    taken = {name for (name,) in batch.execute("SELECT name FROM watches")}
    for one, query, where, search in ready:
        try:
            if len(taken) >= MAX_WATCHES:
                raise UsageError(f"an archive has at most {MAX_WATCHES:,} saved searches")
            name = _free(one.name, taken)
            archive.watches.add(
                name,
                query,
                space=ARCHIVE,
                query=one.query,
                where=where,
                min_score=one.min_score,
                collection=collection,
                search=search,
                known=False,
                batch=batch,
            )
            taken.add(name)
        except UsageError as error:
            problems.append(_left_out(one, error))
    return problems


def _left_out(one: WatchFile, error: LandcueError) -> str:
    return one_line(f"saved search {one.name!r} was left out: {error}")


def export_collection(
    collections: Collections, id_: str, archive: Archive | None = None
) -> dict[str, Any]:
    """Return a collection with the images of its query, and its saved searches.

    Args:
        collections: The file of collections.
        id_: The collection.
        archive: The archive that it is of, for its saved searches.

    Returns:
        A :class:`landcue.server.schemas.collections.CollectionFile` as JSON has it.

    Raises:
        CollectionError: There is no such collection.

    >>> collections = Collections("exported.db")
    >>> collections.check()
    >>> marks = [{"id": "a.png", "mark": "good"}]
    >>> made = collections.create("photos", "marinas", None, marks, "me")
    >>> [one["id"] for one in export_collection(collections, made["id"])["members"]]
    ['a.png']
    """
    known = collections.get(id_)
    query, sources, images = known["query"], {id_}, collections.kept(id_)
    other = query and query.get("images_of")
    if other and not images:
        # Its query uses the images of another collection, which the reader may not have.
        with contextlib.suppress(CollectionError):
            if collections.get(other)["archive"] == known["archive"]:
                images, sources = collections.kept(other), {id_, other}
    watches: list[dict[str, Any]] = []
    if archive is not None:
        with contextlib.suppress(UsageError):  # of another model, which the file names
            images = [one.convert(archive.space) for one in images]
        with contextlib.suppress(UsageError):  # not in a local folder
            watches = export_watches(archive, id_)["watches"]
    for search in filter(None, (query, *(one["search"] for one in watches))):
        if search.get("images_of") in sources:
            search["images_of"] = id_
    return {
        **{name: known[name] for name in ("id", "archive", "name")},
        "model": None if archive is None else archive.space.fingerprint,
        "query": query,
        "images": [_image_file(one) for one in images],
        "watches": watches,
        "members": [
            {name: one[name] for name in ("id", "mark", "note", "labels", "who")}
            for one in known["members"]
        ],
    }


def import_collection(
    collections: Collections,
    archive: Archive,
    name: str,
    given: CollectionFile,
    thumbnail: Callable[[bytes], bytes] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Add a collection from a file, and its saved searches: both, or after a crash none.

    Args:
        collections: The file of collections.
        archive: The archive to add it to.
        name: Its name in the service.
        given: The file.
        thumbnail: Decodes a JPEG that is not trusted and writes it again; by default in a process
            of its own, with the limits of a service.

    Returns:
        The collection, and one line for each thing that was left out: members that the archive
        does not have, images and saved searches of another model.

    Raises:
        DataError: An embedding or a thumbnail is broken; nothing was added.
        CollectionError: As :meth:`Collections.create`.
        LandcueError: Saved searches cannot be written now; nothing was added.

    >>> from landcue.server import read_collection
    >>> given = read_collection("marinas.json")                                # doctest: +SKIP
    >>> import_collection(Collections("picks.db"), archive, "photos", given)   # doctest: +SKIP
    """
    problems: list[str] = []
    members = [one.model_dump() for one in given.members if one.id in archive]
    problems += _missing([one.id for one in given.members if one.id not in archive], "", name)
    images: list[KeptImage] = []
    if any(one.fingerprint != archive.space.fingerprint for one in given.images):
        problems.append("images of the query were left out: another model encoded them")
    else:
        with _decoder(thumbnail) as decode:
            images = [_kept(archive, one, n, decode) for n, one in enumerate(given.images)]
    query = None
    if given.query is not None:
        source = given.query.images_of
        if source is not None and (source != given.id or not given.images):
            problems.append("images of the query were left out: the file does not hold them")
        query = given.query.model_dump(mode="json", exclude_unset=True)
        for field in ("archive", "crop", "cursor", "images_of"):
            query.pop(field, None)
        if query.get("vector"):
            try:
                query = with_space(archive, {**query, "space": _space(query, given.model)})
            except UsageError:
                del query["vector"]
                query.pop("space", None)
                problems.append(
                    "the vector of the query was left out: it is not known to be of this model"
                )
        examples = [query.get("id"), *query.get("positives", ()), *query.get("negatives", ())]
        missing = [id_ for id_ in examples if id_ is not None and id_ not in archive]
        problems += _missing(missing, " of the query", name)
        if query.get("id") in missing:
            del query["id"]
        for field in {"positives", "negatives"} & query.keys():
            query[field] = [id_ for id_ in query[field] if id_ not in missing]
    id_ = new_id()

    @functools.cache
    def kept(source: str) -> str | None:
        if source == given.id:
            return id_ if images else None
        with contextlib.suppress(CollectionError):
            other = collections.get(source)
            return source if other["archive"] == name and other["images"] else None
        return None

    ready, left_out = _ready(archive, given.watches, kept)
    problems += left_out
    create = functools.partial(
        collections.create, name, given.name, query, members, None, images, id_=id_
    )
    if not ready:
        return create(), problems
    # One transaction of two files: after a crash both hold the import, or none does.
    with archive.watches.batch() as batch:
        problems += _save(archive, ready, id_, batch)
        return create(batch=batch), problems


@contextlib.contextmanager
def _decoder(given: Callable[[bytes], bytes] | None) -> Generator[Callable[[bytes], bytes]]:
    """Yield what decodes thumbnails: what is given, or a process with the limits of a service."""
    if given is not None:
        yield given
        return
    limits = Limits()
    decoders = Decoders(1, limits.decode_seconds, limits.decode_bytes, limits.pixels)
    with contextlib.closing(decoders):
        yield lambda data: decoders.thumbnail(data, None, {})


def _missing(ids: Sequence[str], what: str, name: str) -> list[str]:
    """Return a line that names records of a file that the archive does not have, if any."""
    if not ids:
        return []
    shown = ", ".join(ids[:_NAMED]) + (", …" if len(ids) > _NAMED else "")
    count, is_, was = (
        ("1 record", "is", "was") if len(ids) == 1 else (f"{len(ids):,} records", "are", "were")
    )
    return [one_line(f"{count}{what} {is_} not in archive {name!r} and {was} left out: {shown}")]


def _free(name: str, taken: set[str]) -> str:
    free, n = name, 1
    while free in taken:
        n += 1
        free = f"{name[:190]} ({n})"
    return free


def _query(archive: Archive, one: WatchFile) -> FloatArray | None:
    if one.embedding is None:
        return None
    if one.model != archive.space.fingerprint:
        raise UsageError(_OTHER_MODEL)
    return _embedding(archive, one.embedding, "its embedding")


def _search(one: WatchFile, kept: Callable[[str], str | None]) -> dict[str, Any] | None:
    """Return the search as the page shows it again; ``None`` where its images are not here."""
    if one.search is None:
        return None
    search = one.search.model_dump(mode="json", exclude_unset=True)
    search.pop("archive", None)
    if search.get("vector"):
        search["space"] = _space(search, one.model)
    if one.search.images_of is not None:
        search["images_of"] = kept(one.search.images_of)
        if search["images_of"] is None:
            return None
    return search


def _space(search: Mapping[str, Any], model: str | None) -> str:
    """Return the fingerprint of the space of the vector of a search of a file."""
    named = search.get("space")
    if named == ENCODER or (model is None and named in (None, ARCHIVE)):
        raise UsageError("the file does not say of which space the vector is")
    return str(model if named in (None, ARCHIVE) else named)


def _image_file(one: KeptImage) -> dict[str, Any]:
    made = one.encoding
    return {
        "part": one.part,
        "fingerprint": one.fingerprint,
        "n_bits": made.n_bits,
        "embedding": _text(made.embedding),
        "code": _text(made.code),
        "label_scores": _text(made.label_scores.astype(np.float32)),
        "thumbnail": base64.b64encode(one.thumbnail).decode(),
    }


def _kept(
    archive: Archive, one: ImageFile, n: int, thumbnail: Callable[[bytes], bytes]
) -> KeptImage:
    manifest, what = archive.manifest, f"image {n} of the query"
    if one.n_bits != manifest.n_bits:
        raise DataError(f"{what}: its code has {one.n_bits} bits, not {manifest.n_bits}")
    length = (manifest.n_bits + 7) // 8
    code = np.frombuffer(_bytes(one.code, f"{what}: its code", length), np.uint8)[None]
    if manifest.n_bits % 8 and code[0, -1] >> (manifest.n_bits % 8):
        raise DataError(f"{what}: its code has bits beyond {manifest.n_bits}")
    n_labels = len(manifest.label_names)
    scores = _floats(one.label_scores, f"{what}: its label scores", n_labels)
    if n_labels and not (scores.min() >= 0 and scores.max() <= 1):
        raise DataError(f"{what}: its label scores are not in 0..1")
    embedding = _embedding(archive, one.embedding, f"{what}: its embedding")
    data = _bytes(one.thumbnail, f"{what}: its thumbnail")
    if not data.startswith(b"\xff\xd8\xff"):
        raise DataError(f"{what}: its thumbnail is no JPEG")
    encoding = Encoding(embedding, code, manifest.n_bits, scores, model=one.fingerprint)
    try:
        return KeptImage(one.part, one.fingerprint, encoding, thumbnail(data))
    except DataError as error:
        raise DataError(f"{what}: its thumbnail cannot be decoded ({error})") from None


def _embedding(archive: Archive, text: str, what: str) -> FloatArray:
    found = _floats(text, what, archive.manifest.dim)
    if abs(float(np.linalg.norm(found.astype(np.float64))) - 1) > 1e-3:
        raise DataError(f"{what} is not of length 1")
    return found


def _floats(text: str, what: str, n: int) -> FloatArray:
    found = np.frombuffer(_bytes(text, what, 4 * n), "<f4").astype(np.float32)[None]
    if not np.isfinite(found).all():
        raise DataError(f"{what} has values that are not finite")
    return found


def _bytes(text: str, what: str, size: int | None = None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise DataError(f"{what} is not valid base64") from None
    if size is not None and len(data) != size:
        raise DataError(f"{what} has {len(data):,} bytes, the archive's model makes {size:,}")
    return data


def _text(values: FloatArray | ByteArray) -> str:
    kind = "<f4" if values.dtype.kind == "f" else "u1"
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()

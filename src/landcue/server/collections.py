"""Collections: named sets of marked records, kept in one SQLite file beside the archives."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import secrets
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from landcue.data.label_table import quote_cell
from landcue.errors import CollectionError, UsageError
from landcue.interval import with_datetime
from landcue.server.kept_images import KeptImage
from landcue.server.schemas.collections import MAX_MEMBERS
from landcue.server.settings import COLLECTIONS_BYTES
from landcue.types import now_iso

if TYPE_CHECKING:
    from landcue.archive.space import ArchiveSpace

MAX_COLLECTIONS = 1_000
BUSY_SECONDS = 5.0
"""Wait for a process that writes at this moment, or was stopped while it did."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
  id TEXT PRIMARY KEY, archive TEXT NOT NULL, name TEXT NOT NULL, query TEXT,
  created TEXT NOT NULL, updated TEXT NOT NULL, revision INTEGER NOT NULL DEFAULT 0,
  changes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS members (
  collection TEXT NOT NULL REFERENCES collections ON DELETE CASCADE, record TEXT NOT NULL,
  mark TEXT, note TEXT, labels TEXT NOT NULL, who TEXT, time TEXT NOT NULL,
  revision INTEGER NOT NULL,
  PRIMARY KEY (collection, record));
CREATE TABLE IF NOT EXISTS changes (
  collection TEXT NOT NULL REFERENCES collections ON DELETE CASCADE, revision INTEGER NOT NULL,
  record TEXT NOT NULL, before TEXT);
CREATE TABLE IF NOT EXISTS images (
  collection TEXT NOT NULL REFERENCES collections ON DELETE CASCADE, n INTEGER NOT NULL,
  part TEXT NOT NULL, fingerprint TEXT NOT NULL, bits INTEGER NOT NULL, embedding BLOB NOT NULL,
  code BLOB NOT NULL, scores BLOB NOT NULL, thumbnail BLOB NOT NULL, PRIMARY KEY (collection, n));
CREATE INDEX IF NOT EXISTS changes_by_collection ON changes (collection, revision);
"""
_FORMAT = 2
_COLUMNS = ("record", "mark", "note", "labels", "who", "time", "revision")


class Collections:
    """The file of all collections; threads and processes may share it.

    Every change is one transaction: after a crash it is there whole, or not at all.

    >>> collections = Collections("picks.db")
    >>> collections.check()  # creates the file
    >>> marks = [{"id": "a.png", "mark": "good"}]
    >>> made = collections.create("photos", "marinas", None, marks, "me")
    >>> [one["id"] for one in collections.get(made["id"])["members"]]
    ['a.png']
    """

    def __init__(self, path: str | Path | None, most_bytes: int = COLLECTIONS_BYTES) -> None:
        self._path = None if path is None else Path(path)
        self._most = most_bytes

    def check(self) -> None:
        """Create the file, if there is to be one.

        Raises:
            UsageError: It cannot be written, or holds something else.
        """
        if self._path is None:
            return
        try:
            self._path.touch(0o600)
            with self._connect() as database:
                tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if tables and database.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
                    raise sqlite3.DatabaseError("another version of LandCue wrote it")
                database.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA}; PRAGMA user_version = {_FORMAT}; COMMIT;"
                )
        except (OSError, sqlite3.Error) as error:
            raise UsageError(
                f"--collections {self._path}: cannot be used ({error}); use a file in an existing "
                "folder"
            ) from None

    def list(self, archive: str) -> list[dict[str, Any]]:
        """Return the collections of an archive, the last changed first, without members."""
        with self._database() as database:
            rows = database.execute(
                "SELECT id, archive, name, created, updated, revision, (SELECT count(*) FROM "
                "members WHERE collection = id) AS members FROM collections WHERE archive = ? "
                "ORDER BY updated DESC, id",
                (archive,),
            )
            return [dict(row) for row in rows]

    def get(self, id_: str) -> dict[str, Any]:
        """Return a collection with its members, in the order of their ids.

        Raises:
            CollectionError: 404: there is none.
        """
        with self._database() as database:
            return _read(database, id_)

    def of(self, id_: str, archive: str) -> dict[str, Any]:
        """Return a collection of an archive with its members.

        Raises:
            CollectionError: 404: there is no such collection; 409: it is of another archive.
        """
        known = self.get(id_)
        if known["archive"] != archive:
            raise CollectionError(409, "the collection is of another archive")
        return known

    def marks(self, id_: str, archive: str) -> dict[str, tuple[str | None, str | None]]:
        """Return mark and note of each member of a collection, as :meth:`of`, by its id."""
        return {one["id"]: (one["mark"], one["note"]) for one in self.of(id_, archive)["members"]}

    def create(
        self,
        archive: str,
        name: str,
        query: Mapping[str, Any] | None,
        members: Sequence[Mapping[str, Any]],
        who: str | None,
        images: Sequence[KeptImage] = (),
        *,
        id_: str | None = None,
        batch: sqlite3.Connection | None = None,
    ) -> dict[str, Any]:
        """Add a collection and return it.

        Args:
            archive: Name of the archive that it is of.
            name: Its name.
            query: The search that it belongs to.
            members: As in :meth:`change`.
            who: Who marked them.
            images: The uploaded images of the query.
            id_: Its id, from :func:`new_id`.
            batch: From :meth:`landcue.search.watch.Watches.batch`, to add it together with saved
                searches.

        Raises:
            CollectionError: 409: there are too many; 413: too many members.
        """
        id_, now = id_ or new_id(), now_iso()
        with self._database() if batch is None else self._joined(batch) as database:
            database.execute(  # first: it takes the lock of a file that was joined to a batch
                "INSERT INTO collections (id, archive, name, query, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (id_, archive, name, None if query is None else json.dumps(query), now, now),
            )
            (others,) = database.execute("SELECT count(*) - 1 FROM collections").fetchone()
            if others >= MAX_COLLECTIONS:
                raise CollectionError(409, f"there are {others:,} collections: delete some first")
            for n, one in enumerate(images):
                database.execute(
                    "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (id_, n, *one.to_row())
                )
            _mark(database, id_, members, who, now)
            return _read(database, id_)

    def images(self, id_: str, archive: str, space: ArchiveSpace) -> list[KeptImage]:
        """Return the images that a collection keeps, in the order they came.

        Args:
            id_: The collection.
            archive: The archive that is searched.
            space: Of its embeddings; images of a former fit of it are converted.

        Raises:
            CollectionError: 404: there is no such collection; 409: it is of another archive, keeps
                no image, or another model encoded them.
        """
        self.of(id_, archive)
        found = self.kept(id_)
        if not found:
            raise CollectionError(409, "the collection keeps no image")
        try:
            return [one.convert(space) for one in found]
        except UsageError:
            raise CollectionError(
                409, "another model encoded the collection's images: upload them again"
            ) from None

    def kept(self, id_: str) -> list[KeptImage]:
        """Return the images that a collection keeps, of whatever model, in the order they came."""
        with self._database() as database:
            query = "SELECT * FROM images WHERE collection = ? ORDER BY n"
            return [KeptImage.from_row(row) for row in database.execute(query, (id_,))]

    def thumbnail(self, id_: str, n: int) -> bytes:
        """Return the thumbnail of an image that a collection keeps, a JPEG.

        Raises:
            CollectionError: 404: there is none.
        """
        with self._database() as database:
            row = database.execute(
                "SELECT thumbnail FROM images WHERE collection = ? AND n = ?", (id_, n)
            ).fetchone()
        if row is None:
            raise CollectionError(404, "the collection keeps no such image")
        return row["thumbnail"]

    def change(
        self,
        id_: str,
        name: str | None,
        query: Mapping[str, Any] | None,
        members: Sequence[Mapping[str, Any]],
        who: str | None,
        merge: str | None = None,
        old_name: str | None = None,
    ) -> dict[str, Any]:
        """Rename a collection, mark members or remove them, or add another one's members.

        Args:
            id_: The collection.
            name: Its new name.
            query: The search that it belongs to.
            members: Each with ``id`` and any of ``mark``, ``note`` and ``labels``; one without
                these is removed. One with ``revision`` must still have it, 0 for none.
            who: Who marked them.
            merge: Another collection of the archive: its members are added, those that are in
                both keep their marks.
            old_name: Its name when it was read; by default any.

        Raises:
            CollectionError: 404: there is none; 409: the other one is of another archive, or a
                member or the name was changed since; 413: there are too many members.
        """
        with self._database() as database:
            known = _read(database, id_)
            if name is not None and old_name not in (None, known["name"]):
                now = known["name"]
                raise CollectionError(
                    409, f"the collection was renamed to {now!r} since it was read: read it again"
                )
            members = list(members)
            if merge is not None:
                other = _read(database, merge)
                if other["archive"] != known["archive"]:
                    raise CollectionError(409, "the other collection is of another archive")
                own = {member["id"] for member in known["members"]}
                added = (member for member in other["members"] if member["id"] not in own)
                members += [{**member, "revision": None} for member in added]
            now = now_iso()
            database.execute(
                "UPDATE collections SET name = ifnull(?, name), query = ifnull(?, query), "
                "updated = ? WHERE id = ?",
                (name, None if query is None else json.dumps(query), now, id_),
            )
            _mark(database, id_, members, who, now)
            return _read(database, id_)

    def undo(self, id_: str, expected: int | None = None) -> dict[str, Any]:
        """Take back the last change of members.

        Args:
            id_: The collection.
            expected: Its revision when it was read; by default any.

        Raises:
            CollectionError: 404: there is none; 409: nothing was changed, or something else.
        """
        with self._database() as database:
            revision = _read(database, id_)["revision"]
            if not revision:
                raise CollectionError(409, "there is no change to undo")
            if expected not in (None, revision):
                raise CollectionError(
                    409, "the collection was changed since it was read: look at it before undoing"
                )
            number = _next(database, id_)
            last = (id_, revision)
            where = "FROM changes WHERE collection = ? AND revision = ?"
            for record, before in database.execute(f"SELECT record, before {where}", last):
                known = None if before is None else {**json.loads(before), "revision": number}
                _put(database, id_, record, known)
            database.execute(f"DELETE {where}", last)
            database.execute(
                "UPDATE collections SET revision = revision - 1, updated = ? WHERE id = ?",
                (now_iso(), id_),
            )
            return _read(database, id_)

    def delete(self, id_: str) -> dict[str, Any]:
        """Delete a collection and return it as it was.

        Raises:
            CollectionError: 404: there is none.
        """
        with self._database() as database:
            known = _read(database, id_)
            database.execute("DELETE FROM collections WHERE id = ?", (id_,))
            return known

    @contextlib.contextmanager
    def _database(self) -> Generator[sqlite3.Connection]:
        with _readable_errors(), self._connect() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    @contextlib.contextmanager
    def _joined(self, batch: sqlite3.Connection) -> Generator[sqlite3.Connection]:
        """Join the file to a transaction of another one: both change, or none (no file has a WAL).

        Its tables have names of their own, so that statements find them.
        """
        with _readable_errors():
            batch.execute("ATTACH ? AS kept", (self._address(),))
            self._limit(batch, "kept")
            yield batch

    @contextlib.contextmanager
    def _connect(self) -> Generator[sqlite3.Connection]:
        address = self._address()
        database = sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
        try:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA foreign_keys = ON")
            self._limit(database, "main")
            yield database
        finally:
            database.close()  # which takes back what was not committed

    def _address(self) -> str:
        if self._path is None:
            raise CollectionError(404, "this service keeps no collections: it runs without a file")
        # A file that was removed is not created again.
        return f"{self._path.absolute().as_uri()}?mode=rw"

    def _limit(self, database: sqlite3.Connection, schema: str) -> None:
        (size,) = database.execute(f"PRAGMA {schema}.page_size").fetchone()
        database.execute(f"PRAGMA {schema}.max_page_count = {max(1, self._most // size)}")


def new_id() -> str:
    """Return an id of a collection that nobody guesses."""
    return secrets.token_urlsafe(9)


@contextlib.contextmanager
def _readable_errors() -> Generator[None]:
    """Turn errors of SQLite into answers of the service."""
    try:
        yield
    except sqlite3.Error as error:
        full = "full" in str(error)
        what = "the file of collections is full" if full else "collections cannot be used now"
        raise CollectionError(503, what) from None


def label_table(collection: Mapping[str, Any]) -> bytes:
    """Return the labels of a collection's members as a table that ``index --labels`` reads."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(("path", "labels"))
    for member in collection["members"]:
        if member["labels"]:
            writer.writerow((quote_cell(member["id"]), quote_cell("; ".join(member["labels"]))))
    return out.getvalue().encode()


def _read(database: sqlite3.Connection, id_: str) -> dict[str, Any]:
    row = database.execute("SELECT * FROM collections WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise CollectionError(404, "there is no such collection")
    members = database.execute("SELECT * FROM members WHERE collection = ? ORDER BY record", (id_,))
    query = row["query"]
    parts = database.execute("SELECT part FROM images WHERE collection = ? ORDER BY n", (id_,))
    return {
        **{name: row[name] for name in row.keys() if name != "changes"},  # noqa: SIM118
        "images": [part for (part,) in parts],
        "query": None if query is None else with_datetime(json.loads(query)),
        "members": [
            {
                "id": member["record"],
                "labels": json.loads(member["labels"]),
                **{name: member[name] for name in ("mark", "note", "who", "time", "revision")},
            }
            for member in members
        ],
    }


def _mark(
    database: sqlite3.Connection,
    id_: str,
    members: Sequence[Mapping[str, Any]],
    who: str | None,
    now: str,
) -> None:
    """Store members and what was there before, as one revision."""
    if not members:
        return
    members = list({one["id"]: one for one in members}.values())  # the last of each
    (revision,) = database.execute(
        "UPDATE collections SET revision = revision + 1 WHERE id = ? RETURNING revision", (id_,)
    ).fetchone()
    number = _next(database, id_)
    for member in members:
        record = member["id"]
        before = database.execute(
            "SELECT * FROM members WHERE collection = ? AND record = ?", (id_, record)
        ).fetchone()
        if member.get("revision") not in (None, 0 if before is None else before["revision"]):
            _conflict(record, before)
        database.execute(
            "INSERT INTO changes VALUES (?, ?, ?, ?)",
            (id_, revision, record, None if before is None else json.dumps(dict(before))),
        )
        mark, note, labels = member.get("mark"), member.get("note"), member.get("labels", ())
        value = {
            "mark": mark,
            "note": note,
            "labels": json.dumps(list(labels)),
            "who": member.get("who") or who,
            "time": now,
            "revision": number,
        }
        _put(database, id_, record, value if mark or note or labels else None)
    (count,) = database.execute(
        "SELECT count(*) FROM members WHERE collection = ?", (id_,)
    ).fetchone()
    if count > MAX_MEMBERS:
        raise CollectionError(413, f"a collection has at most {MAX_MEMBERS:,} members")


def _next(database: sqlite3.Connection, id_: str) -> int:
    """Return a number that no change of the collection's members had before."""
    (number,) = database.execute(
        "UPDATE collections SET changes = changes + 1 WHERE id = ? RETURNING changes", (id_,)
    ).fetchone()
    return number


def _conflict(record: str, now: sqlite3.Row | None) -> NoReturn:
    if now is None:
        what = "was removed"
    else:
        what = f"was changed by {now['who']}" if now["who"] else "was changed"
    raise CollectionError(
        409, f"record {record} {what} since it was read: read the collection again"
    )


def _put(
    database: sqlite3.Connection, id_: str, record: str, value: Mapping[str, Any] | None
) -> None:
    database.execute("DELETE FROM members WHERE collection = ? AND record = ?", (id_, record))
    if value is not None:
        values = [record if name == "record" else value[name] for name in _COLUMNS]
        database.execute(
            f"INSERT INTO members (collection, {', '.join(_COLUMNS)}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (id_, *values),
        )

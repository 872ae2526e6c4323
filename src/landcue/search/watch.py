"""Saved searches: queries with a threshold, evaluated on new records; each hit is reported once.

They lie in one SQLite file beside the archive. Records that were evaluated, hits and the archive's
version change in one transaction, so after a crash a run either happened whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import secrets
import sqlite3
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landcue.archive.manifest import read_manifest
from landcue.data.names import stored_name
from landcue.errors import LandcueError, UsageError
from landcue.interval import with_datetime
from landcue.search.feed import WatchHit
from landcue.search.filters import Filter, from_json, to_json, to_request
from landcue.search.local import LocalBackend
from landcue.search.typical import typical_scores
from landcue.types import FloatArray, Problem, now_iso

if TYPE_CHECKING:
    from landcue.search.archive import Archive

PERCENTILE = 5.0
"""How close a hit must be by default: see :meth:`Watches.add`."""
_BUSY_SECONDS = 5.0
_RUN_SECONDS = 30.0
"""A run may wait longer than other changes, for another run."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (base TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS watches (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, query TEXT NOT NULL, embedding BLOB,
  min_score REAL NOT NULL, filter TEXT NOT NULL, model TEXT NOT NULL, created TEXT NOT NULL,
  evaluated INTEGER NOT NULL, collection TEXT, search TEXT, feed TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS hits (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  watch TEXT NOT NULL REFERENCES watches ON DELETE CASCADE, record TEXT NOT NULL,
  score REAL, time TEXT NOT NULL, version INTEGER NOT NULL, UNIQUE (watch, record));
"""
_OTHER_MODEL = "it was made with another model: remove it and add it again"
_LONGEST_NAME = 200
_LARGEST = 2**63 - 1  # number of SQLite
_RANKED, _SAMPLE = 20_000, 1_000
"""Records whose scores are ranked when least scores are converted, and queries among them."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A saved search.

    Attributes:
        name: Unique in its archive.
        query: Description of the query; empty for a filter alone.
        min_score: Least cosine of a hit.
        model: Fingerprint of the model that encoded the query.
        created: Time in UTC, ISO 8601.
        hits: Number of hits so far.
        collection: Id of the collection that it belongs to.
        search: Its query and filters as a request of the service; ``None`` where they are not
            known, as of an image file.
        problem: Why it is not evaluated any more; it keeps its hits and its place.
    """

    name: str
    query: str
    min_score: float
    model: str
    created: str
    hits: int
    collection: str | None
    search: dict[str, Any] | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What a run found.

    Attributes:
        hits: Those found by this run.
        problems: Saved searches that could not be evaluated; they keep their place.
    """

    hits: tuple[WatchHit, ...]
    problems: tuple[Problem, ...]


def watch_file(folder: Path) -> Path:
    """Return the file that holds an archive's saved searches."""
    return folder.with_name(f"{folder.name}.watches.sqlite")


def run_saved(folder: Path) -> WatchReport:
    """Evaluate the saved searches of an archive, if it has any: see :meth:`Watches.run`."""
    from landcue.search.archive import open_archive

    if not watch_file(folder).exists():
        return WatchReport((), ())
    with open_archive(folder) as archive:
        return archive.watches.run()


class Watches:
    """The saved searches of an archive folder; processes may share them.

    >>> archive.watches.add("harbors", archive.embed("a.png"), k=5)            # doctest: +SKIP
    """

    def __init__(self, archive: Archive, busy_seconds: float = _BUSY_SECONDS) -> None:
        """Take an archive.

        Args:
            archive: In a local folder.
            busy_seconds: Wait for a process that writes at this moment, or was stopped while it
                did.

        Raises:
            UsageError: It is not in a local folder.
        """
        if not isinstance(archive.backend, LocalBackend) or archive.backend.archive.remote:
            raise UsageError(f"{archive.url}: saved searches need an archive in a local folder")
        self._archive, self._backend = archive, archive.backend
        self._busy_seconds = busy_seconds
        self.path = watch_file(archive.folder)

    def add(
        self,
        name: str,
        embedding: npt.NDArray[Any] | None,
        *,
        space: str | None = None,
        query: str = "",
        where: Filter | None = None,
        percentile: float = PERCENTILE,
        min_score: float | None = None,
        collection: str | None = None,
        search: Mapping[str, Any] | None = None,
        known: bool = True,
        batch: sqlite3.Connection | None = None,
    ) -> Watch:
        """Save a search; records that are in the archive now are not reported.

        Args:
            name: Unique in the archive.
            embedding: Of the query, floats ``[1, d]``; ``None`` for a filter alone.
            space: Of which space it is if it does not know it: see :class:`landcue.Query`.
            query: Its description, or the id of a record.
            where: Restricts the records.
            percentile: More than 0, at most 100: a hit is closer than this percentage of the
                distances between the archive's records and their nearest neighbors, as in
                :class:`landcue.types.Hit`.
            min_score: Least cosine, instead of ``percentile``.
            collection: Id of a collection of the service that it belongs to. If that is deleted,
                the search stays.
            search: The query as the service takes it, such as ``{"text": "a harbor"}``, with which
                the page shows it again; by default the record, if ``query`` is the id of one.
            known: Whether ``query`` may be taken for the id of a record.
            batch: From :meth:`batch`, to save it together with others.

        Raises:
            UsageError: The name is taken, a value is not valid, or nothing is searched for.
            ArchiveError: The archive was deleted.
        """
        where = where or Filter()
        name = stored_name(name)
        if not name.strip():
            raise UsageError("a saved search needs a name")
        if len(name) > _LONGEST_NAME:
            raise UsageError(f"the name has {len(name):,} characters: use at most {_LONGEST_NAME}")
        if embedding is None and where.empty:
            raise UsageError("nothing to watch for: specify a query or a filter")
        if min_score is None:
            min_score = -1.0 if embedding is None else self._calibrate(percentile)
        if not -1 <= min_score <= 1:
            raise UsageError(f"the least score is {min_score}: use -1 to 1")
        if search is None and embedding is None:
            search = {}
        elif search is None and known and self._backend.records.find(query) is not None:
            search = {"id": query}
        filters = to_request(where)  # raises for an expression that cannot be read
        if search is not None:
            search = {"filters": filters, **search}
        blob = None
        if embedding is not None:
            values = self._archive.space.accept(embedding, space)
            if len(values) != 1:
                raise UsageError(f"there are {len(values)} embeddings: save a search for each")
            blob = values.astype("<f4").tobytes()
        with self.batch() if batch is None else contextlib.nullcontext(batch) as database:
            if database.execute("SELECT 1 FROM watches WHERE name = ?", (name,)).fetchone():
                raise UsageError(f"there is a saved search {name!r}: remove it or use another name")
            database.execute(
                "INSERT INTO watches VALUES (?, ?, ?, ?, ?, ?, ?, ?, "
                "(SELECT ifnull(max(number), 0) FROM records), ?, ?, NULL)",
                (secrets.token_urlsafe(9), name, stored_name(query), blob, min_score,
                 json.dumps(to_json(where)), self._archive.space.fingerprint, now_iso(),
                 collection, None if search is None else json.dumps(search)),
            )  # fmt: skip
            return self._read(database, name)[0]

    @contextlib.contextmanager
    def batch(self) -> Generator[sqlite3.Connection]:
        """Save several searches in one transaction: all, or after an error none.

        Raises:
            ArchiveError: The archive was deleted.
        """
        read_manifest(self._archive.folder)  # no file is created beside an archive that was deleted
        with self._database(create=True) as database:
            self._note(database)
            yield database

    def list(self, collection: str | None = None) -> list[Watch]:
        """Return the saved searches, or those of a collection, in the order of their names."""
        if not self.path.exists():
            return []
        with self._database("BEGIN") as database:
            found = self._read(database)
        return [one for one in found if collection in (None, one.collection)]

    def export(self, collection: str | None = None) -> list[dict[str, Any]]:
        """Return saved searches with their queries, in the order of their names.

        Each has ``name``, ``query``, ``min_score``, ``model``, ``search``, ``filters`` as the
        service takes them, and ``embedding``: float32 ``[d]``, or ``None`` for a filter alone.

        Args:
            collection: Only those of the collection with this id.
        """
        if not self.path.exists():
            return []
        with self._database("BEGIN") as database:
            rows = database.execute(
                "SELECT name, query, min_score, model, search, filter, embedding FROM watches "
                "WHERE ? IS NULL OR collection = ? ORDER BY name",
                (collection, collection),
            ).fetchall()
        return [
            {
                **{name: row[name] for name in ("name", "query", "min_score", "model")},
                "search": _read_search(row["search"]),
                "filters": to_request(from_json(json.loads(row["filter"]))),
                "embedding": row["embedding"] and np.frombuffer(row["embedding"], "<f4"),
            }
            for row in rows
        ]

    def remove(self, name: str) -> None:
        """Remove a saved search and its hits.

        Raises:
            UsageError: There is none of this name.
        """
        self._change(name, "DELETE FROM watches WHERE name = ?")

    def new_feed(self, name: str) -> str:
        """Return a new key to the feed of a saved search, whose former key becomes invalid.

        Only the SHA-256 of the key is stored.

        Raises:
            UsageError: There is no saved search of this name.
        """
        key = secrets.token_urlsafe(24)
        self._change(name, "UPDATE watches SET feed = ? WHERE name = ?", _digest(key))
        return key

    def feed(self, key: str, most: int) -> tuple[str, list[WatchHit]] | None:
        """Return the name and the latest hits of the saved search with this key, if any."""
        if not self.path.exists():
            return None
        with self._database("BEGIN") as database:
            query = "SELECT name FROM watches WHERE feed = ?"
            row = database.execute(query, (_digest(key),)).fetchone()
            if row is None:
                return None
            return row["name"], _hits(database, most=most, latest=True, watch=row["name"])

    def hits(
        self, after: int = 0, most: int | None = None, *, latest: bool = False
    ) -> list[WatchHit]:
        """Return hits with a number larger than ``after``, in the order of their numbers.

        Args:
            after: The number.
            most: Up to so many; all by default.
            latest: Return those with the largest numbers, instead of the smallest.
        """
        if not self.path.exists():
            return []
        with self._database("BEGIN") as database:
            return _hits(database, after, most, latest)

    def run(self) -> WatchReport:
        """Evaluate the saved searches on records that they were not evaluated on yet.

        Searches that were saved before the archive was fitted again are converted first, with
        their least scores. A hit is stored with the mark of what was evaluated, in one transaction.
        Of several processes at once, each hit is returned by one. A record that is deleted and
        added again, or whose image changes, is not new.

        Raises:
            ArchiveError: The archive is broken.
            UsageError: A later version of the archive was evaluated: open the archive again.
        """
        if not self.path.exists():
            return WatchReport((), ())
        problems: list[Problem] = []
        with self._database(wait=_RUN_SECONDS) as database:
            numbers = self._note(database)
            (last,) = database.execute("SELECT ifnull(max(number), 0) FROM hits").fetchone()
            (top,) = database.execute("SELECT ifnull(max(number), 0) FROM records").fetchone()
            self._convert(database)
            for row in database.execute("SELECT * FROM watches ORDER BY name").fetchall():
                try:
                    found = self._evaluate(numbers, row)
                except UsageError as error:
                    problems.append(Problem(f"saved search {row['name']}", str(error)))
                    continue
                database.executemany(
                    "INSERT OR IGNORE INTO hits (watch, record, score, time, version) "
                    "VALUES (?, ?, ?, ?, ?)",
                    [
                        (row["id"], id_, score, now_iso(), self._archive.version)
                        for id_, score in found
                    ],
                )
                database.execute("UPDATE watches SET evaluated = ? WHERE id = ?", (top, row["id"]))
            hits = _hits(database, last)
        return WatchReport(tuple(hits), tuple(problems))

    def _calibrate(self, percentile: float) -> float:
        if not 0 < percentile <= 100:
            raise UsageError(f"the percentile is {percentile}: use more than 0, at most 100")
        typical = self._backend.typical("embedding") if len(self._archive) > 1 else None
        if typical is None or not len(typical.nearest):
            raise UsageError("the archive has too few records to calibrate: set the least score")
        nearest = typical.nearest
        place = len(nearest) - max(1, math.ceil(percentile / 100 * len(nearest)))
        return float(max(-1.0, 1 - nearest[place] - 1e-6))

    def _note(self, database: sqlite3.Connection) -> npt.NDArray[np.int64]:
        """Number the records that are not known yet; return the number of each row."""
        manifest, version = self._archive.manifest, self._archive.version
        base = f"{manifest.id}/{manifest.base}"  # another archive may have this folder now
        known = database.execute("SELECT base, version FROM facts").fetchone()
        if known and known["base"] == base and known["version"] > version:
            raise UsageError(
                f"{self._archive.url}: version {known['version']} was evaluated, this is "
                f"{version}: open the archive again"
            )
        database.execute("DELETE FROM facts")
        database.execute("INSERT INTO facts VALUES (?, ?)", (base, version))
        ids: Any = self._backend.records.column("id", np.arange(len(self._archive))).to_pylist()
        numbers: dict[str, int] = dict(
            database.execute("SELECT id, number FROM records").fetchall()
        )
        last = max(numbers.values(), default=0)
        database.executemany(
            "INSERT INTO records (id) VALUES (?)", ((id_,) for id_ in ids if id_ not in numbers)
        )
        added = database.execute("SELECT id, number FROM records WHERE number > ?", (last,))
        numbers.update(added.fetchall())
        return np.array([numbers[id_] for id_ in ids], np.int64)

    def _convert(self, database: sqlite3.Connection) -> None:
        """Convert the saved searches of former fits of the archive to that of now.

        A least score becomes the score of the same rank among those of the archive's records, with
        their nearest neighbors and with random others.
        """
        space = self._archive.space
        rows = database.execute(
            "SELECT id, model, embedding, min_score FROM watches WHERE model != ?",
            (space.fingerprint,),
        ).fetchall()
        for model in sorted({row["model"] for row in rows}):
            if not space.converts_from(model):
                continue
            before, after = self._ranks(model)
            for row in (row for row in rows if row["model"] == model):
                blob, least = row["embedding"], row["min_score"]
                if blob is not None:
                    query = np.frombuffer(blob, "<f4")
                    blob = space.accept(query, model).astype("<f4").tobytes()
                    least = float(np.interp(least, before, after))
                database.execute(
                    "UPDATE watches SET model = ?, embedding = ?, min_score = ? WHERE id = ?",
                    (space.fingerprint, blob, least, row["id"]),
                )

    def _ranks(self, model: str) -> tuple[FloatArray, FloatArray]:
        """Return scores of the same ranks in a former space and in that of now, ascending."""
        every, rng = self._backend.vectors.embedding, np.random.default_rng(0)
        rows = np.sort(rng.choice(len(every), min(len(every), _RANKED), replace=False))
        now = np.asarray(every[rows])
        sample = rng.permutation(len(rows))[:_SAMPLE]
        other = (sample + rng.integers(1, max(2, len(rows)), len(sample))) % max(1, len(rows))

        before = self._archive.space.restored(now, model)
        return typical_scores(before, sample, other), typical_scores(now, sample, other)

    def _evaluate(
        self, numbers: npt.NDArray[np.int64], row: sqlite3.Row
    ) -> Iterable[tuple[str, float | None]]:
        if row["model"] != self._archive.space.fingerprint:
            raise UsageError(_OTHER_MODEL)
        records, vectors = self._backend.records, self._backend.vectors
        rows = np.flatnonzero(numbers > row["evaluated"])
        where = from_json(json.loads(row["filter"]))
        if len(rows) and not where.empty:
            rows = rows[where.mask(records, vectors)[rows]]
        if not len(rows):
            return []
        scores: list[float | None] = [None] * len(rows)
        if row["embedding"] is not None:
            query = np.frombuffer(row["embedding"], "<f4")
            cosines = np.asarray(vectors.embedding[rows] @ query, np.float64)
            near = cosines >= row["min_score"]
            rows, scores = rows[near], cosines[near].tolist()
        return zip(records.column("id", rows).to_pylist(), scores, strict=True)

    def _change(self, name: str, statement: str, *values: str) -> None:
        """Run a statement that changes the saved search of a name, its last value."""
        if self.path.exists():
            with self._database() as database:
                if database.execute(statement, (*values, stored_name(name))).rowcount:
                    return
        raise UsageError(f"there is no saved search {name!r}")

    def _read(self, database: sqlite3.Connection, name: str | None = None) -> list[Watch]:
        rows = database.execute(
            "SELECT name, query, min_score, model, created, (SELECT count(*) FROM hits WHERE "
            "watch = watches.id) AS hits, collection, search FROM watches "
            "WHERE ifnull(name = ?, 1) ORDER BY name",
            (name,),
        ).fetchall()
        space = self._archive.space

        def watch(row: sqlite3.Row) -> Watch:
            stored: dict[str, Any] = {**dict(row), "search": _read_search(row["search"])}
            known = space.converts_from(row["model"])
            return Watch(**stored, problem=None if known else _OTHER_MODEL)

        return [watch(row) for row in rows]

    @contextlib.contextmanager
    def _database(
        self, begin: str = "BEGIN IMMEDIATE", *, create: bool = False, wait: float | None = None
    ) -> Generator[sqlite3.Connection]:
        wait = self._busy_seconds if wait is None else wait
        try:
            address = f"{self.path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
            database = sqlite3.connect(address, timeout=wait, isolation_level=None, uri=True)
            try:
                database.row_factory = sqlite3.Row
                database.execute("PRAGMA foreign_keys = ON")
                # A process that was killed may have left the file without tables.
                if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}; COMMIT;")
                database.execute(begin)
                yield database
                database.execute("COMMIT")
            finally:
                database.close()  # which takes back what was not committed
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise LandcueError(
                    f"{self.path}: another process has been writing for {wait:g} s; try again, "
                    "or end it if it was stopped"
                ) from None
            what = "free space" if "full" in str(error) else "restore it or move it away"
            raise LandcueError(f"{self.path}: cannot be used ({error}); {what}") from None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _hits(
    database: sqlite3.Connection,
    after: int = 0,
    most: int | None = None,
    latest: bool = False,
    watch: str | None = None,
) -> list[WatchHit]:
    rows = database.execute(
        "SELECT hits.number, watches.name AS watch, record AS id, score, time, version FROM hits "
        "JOIN watches ON watches.id = hits.watch WHERE hits.number > ? AND ifnull(name = ?, 1) "
        f"ORDER BY hits.number {'DESC' if latest else 'ASC'} LIMIT ?",
        (min(max(after, 0), _LARGEST), watch, _LARGEST if most is None else min(most, _LARGEST)),
    )
    found = [WatchHit(**dict(row)) for row in rows]
    return found[::-1] if latest else found


def _read_search(text: str | None) -> dict[str, Any] | None:
    return None if text is None else with_datetime(json.loads(text))

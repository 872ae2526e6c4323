"""Files that tables and catalogs name: on this machine, or in the store they lie in."""

from __future__ import annotations

import contextlib
import posixpath
import re
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

from landcue.data.objects import SCHEME, ObjectPath, address, is_object, look_up_all, store_of, url
from landcue.data.raster import check_local
from landcue.errors import DataError

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")


class NamedFiles:
    """Finds files by the names that a table or a catalog gives them.

    What lies on this machine names files of this machine, and what lies in a store names objects:
    nothing read from far away leads to a file here.
    """

    def __init__(self, root: Path, names: Iterable[str] = ()) -> None:
        """Prepare for some names; in a store they are asked for several at once.

        Args:
            root: Folder of the table, which names are relative to.
            names: Names that may be asked for; the others are not found in a store.

        Raises:
            StoreError: The store cannot be reached, or refuses.
        """
        self._root = root
        self._objects: dict[Path, ObjectPath | None] = {}
        if not is_object(root):
            return
        wanted: list[Path] = []
        for name in names:
            with contextlib.suppress(DataError):
                wanted.append(_object(root, name))
        self._objects = look_up_all(wanted)

    def find(self, name: str) -> Path | None:
        """Return the file of a name, or ``None`` if there is none.

        Raises:
            DataError: A name that is not followed.
        """
        if is_object(self._root):
            return self._objects.get(_object(self._root, name))
        check_local(Path(name))
        file = self._root / name
        return file if file.is_file() else None


@contextlib.contextmanager
def local_copy(path: Path) -> Generator[Path]:
    """Give a file, or a copy of an object for as long as the block lasts.

    Raises:
        DataError: There is no such object; or what the block raises, with the object's name.
        StoreError: The store cannot be reached, or refuses.
    """
    if not is_object(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="landcue-") as folder:
        copy = Path(folder) / path.name
        store_of(path).download(address(path), copy)
        try:
            yield copy
        except DataError as error:
            raise DataError(str(error).replace(str(copy), url(path))) from None


def _object(root: Path, name: str) -> Path:
    """Return the address of an object by its name in a table below ``root``."""
    if name.startswith("s3://"):
        bucket, _, key = name.removeprefix("s3://").partition("/")
    elif name.startswith("/") or _ADDRESS.match(name):
        raise DataError(f"{name}: a table in a store may name only objects: s3://… or relative")
    else:
        bucket, _, folder = address(root).partition("/")
        key = f"{folder}/{name}" if folder else name
    key = posixpath.normpath(key)
    if not bucket or key in ("", ".", "..") or key.startswith(("../", "/")):
        raise DataError(f"{name}: leads out of its bucket")
    if key.lower().endswith(".vrt"):
        check_local(Path(key))
    return Path(f"{SCHEME}/{bucket}/{key}")

"""A label table as a source: one row per image, paths relative to the table's folder."""

from __future__ import annotations

from pathlib import Path

from landcue.data.imageset import ImageSet, make_image_set
from landcue.data.label_table import read_label_table
from landcue.data.sources.named import NamedFiles, local_copy
from landcue.errors import DataError
from landcue.types import Problem, Record


def read_table(path: Path) -> ImageSet:
    """Read the images a label table lists; ids are the ``id`` column, or else the paths.

    Rows whose image does not exist are skipped and reported.

    Raises:
        DataError: A broken table, two rows of one id, or no image left.
    """
    with local_copy(path) as copy:
        table = read_label_table(copy, unlabelled=True)
    root = path.parent
    files = NamedFiles(root, (row.path for row in table.rows))
    records: list[Record] = []
    problems: list[Problem] = []
    for row in table.rows:
        try:
            file = files.find(row.path)
        except DataError as error:
            problems.append(Problem(f"{path.name} line {row.line}", str(error)))
            continue
        if file is None:
            problems.append(Problem(f"{path.name} line {row.line}", f"no image {row.path!r}"))
            continue
        records.append(
            Record(
                id=row.id or Path(row.path).as_posix(),
                path=file,
                labels=row.labels,
                group=row.group,
                bounds=row.bounds,
                time=row.time,
                sensor=row.sensor,
            )
        )
    return make_image_set("table", root, records, table.label_names, problems)

"""Marks in tables: what a spreadsheet would run comes back as it was."""

from __future__ import annotations

import pytest

from landcue.data.label_table import quote_cell
from landcue.data.marks import read_marks


@pytest.mark.parametrize("id_", ["=1+1.png", "-a.png", "'=b.png", "''@c.png", "'d.png", "e.png"])
def test_ids_that_look_like_formulas_come_back_from_tables(tmp_path, id_):
    file = tmp_path / "marks.csv"
    file.write_text(f'id,mark\n"{quote_cell(id_)}",good\n')
    assert read_marks(file).relevant == {id_: True}

"""Results as tables of pandas and geopandas."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landcue.search import Archive


def test_tables_hold_every_hit(made, tmp_path):
    archive = Archive(made.make_archive(tmp_path / "a", 30))
    found = archive.search(archive.ids()[0], k=12)
    table = found.to_pandas()
    assert table.index.tolist() == list(range(1, 13))
    for hit, (_, row) in zip(found, table.iterrows(), strict=True):
        assert (row["id"], row["path"], row["source"]) == (hit.id, hit.path, hit.source)
        assert (row["distance"], row["score"]) == (hit.distance, hit.score)
        assert tuple(row["labels"]) == hit.labels
        assert pd.isna(row["datetime"]) if hit.datetime is None else row["datetime"] == hit.datetime
    places = found.to_geopandas()
    assert places.crs == "EPSG:4326"
    known = np.array([hit.geometry is not None for hit in found])
    assert places.geometry.notna().to_numpy().tolist() == known.tolist()
    assert known.any()
    for hit, shape in zip(found, places.geometry, strict=True):
        assert hit.geometry is None or hit.geometry.equals(shape)

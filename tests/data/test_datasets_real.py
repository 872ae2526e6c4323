"""The real labels of ML-AID and the real copy of UC Merced against the published facts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from landcue.data.datasets import FACTS, check_dataset
from landcue.data.datasets.common import read_mat, read_sheet
from landcue.data.datasets.label_sheets import CLASSES, LABELS, sheet_ml_aid

pytestmark = pytest.mark.real_data


def test_ucmerced_is_complete(real_data):
    report = check_dataset("ucmerced", real_data / "uc_merced")
    assert report.complete
    assert report.images == 2100
    assert report.problems == ()
    assert report.positives == dict(FACTS["ucmerced"].positives)
    assert sum(report.sizes.values()) - report.sizes["256x256"] == 44


def test_the_three_tables_of_ucmerced_differ_in_one_cell(real_data):
    folder = real_data / "uc_merced" / "multilabel"
    rows = [f"{name}{number:02}" for name in CLASSES for number in range(100)]
    text = read_sheet(folder / "LandUse_Multilabeled.txt", LABELS).rows
    assert read_sheet(folder / "LandUse_Multilabeled.xlsx", LABELS).rows == text
    matlab = read_mat(folder / "LandUse_multilabels.mat", "labels", LABELS, rows).rows
    differing = {name for name in rows if matlab[name] != text[name]}
    assert differing == {"tenniscourt97"}
    assert set(matlab["tenniscourt97"]) ^ set(text["tenniscourt97"]) == {"field"}


def test_ml_aid_labels_are_the_published_ones(real_data):
    sheet = sheet_ml_aid(real_data / "ml_aid")
    assert len(sheet.rows) == 3000
    assert [name for name, labels in sheet.rows.items() if not labels] == ["forest_2"]
    homes = [name for name, labels in sheet.rows.items() if "mobile-home" in labels]
    assert homes == ["bareland_92", "pond_52"]
    assert max(len(labels) for labels in sheet.rows.values()) == 11
    total = sum(len(labels) for labels in sheet.rows.values())
    assert total / 3000 == pytest.approx(5.152, abs=5e-4)


def test_a_copy_of_ml_aid_without_images_has_right_labels_and_is_incomplete(real_data):
    command = [sys.executable, "-m", "landcue.cli.main", "datasets", "check", "ml_aid"]
    done = subprocess.run(
        [*command, str(real_data / "ml_aid"), "--json"], capture_output=True, text=True
    )
    got = json.loads(done.stdout)
    assert done.returncode == 1
    assert got["missing"][0] == "ML-AID: 0 of 3,000 images"
    assert got["wrong"] == []
    assert got["labels"] == dict(FACTS["ml_aid"].positives)

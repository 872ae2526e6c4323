from __future__ import annotations

import json

import pytest

from commands import error_line, landcue
from landcue.errors import DataError
from landcue.metrics.runs import read_qrels, read_run

RUN = "q1 Q0 b 1 0.9 mine\nq1 Q0 a 2 0.5 mine\n\nq2\tQ0\ta\t1\t3\tmine\nq2 Q0 b 2 3 mine\n"
QRELS = "q1 0 a 2\nq1 0 b 0\nq2 0 b 1\n"


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def test_files_are_read(tmp_path):
    run = read_run(write(tmp_path, "run.txt", RUN))
    assert run == {"q1": [("b", 0.9), ("a", 0.5)], "q2": [("a", 3.0), ("b", 3.0)]}
    qrels = read_qrels(write(tmp_path, "qrels.txt", QRELS))
    assert qrels == {"q1": {"a": 2, "b": 0}, "q2": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 0.9\n", r"run.txt line 1: 5 fields; write 6"),
        ("q Q0 a 1 0.9 t\nq Q0 b 2 1.5 t\n", r"line 2: rank 2 and score 1.5 after .* score 0.9"),
        ("q Q0 a 2 0.9 t\nq Q0 b 1 0.5 t\n", "line 2: rank 1"),
        ("q Q0 a 1 nan t\n", "line 1: score 'nan' is not a number"),
        ("q Q0 a one 1 t\n", "line 1: rank 'one' is not a number"),
    ],
)
def test_broken_runs_name_their_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_run(write(tmp_path, "run.txt", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 a\n", r"qrels.txt line 1: 3 fields; write 4"),
        ("q 0 a 1\nq 0 b -1\n", "line 2: gain -1 is negative"),
        ("q 0 a 1\nq 0 a 1\n", "line 2: item 'a' is judged twice"),
        ("q 0 a many\n", "line 1: gain 'many' is not a number"),
    ],
)
def test_broken_qrels_name_their_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_qrels(write(tmp_path, "qrels.txt", text))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*nothing"):
        read_run(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_run(tmp_path / "binary")


def test_the_command_prints_all_metrics_or_one_line(tmp_path):
    run, qrels = write(tmp_path, "run.txt", RUN), write(tmp_path, "qrels.txt", QRELS)
    done = landcue("evaluate", run, "--qrels", qrels)
    # q1: a on rank 2; q2: b ties with a. (1/2 + 3/4) / 2
    assert "mAP  " in done.stdout
    assert "0.6250" in done.stdout
    found = json.loads(landcue("evaluate", run, "--qrels", qrels, "--json").stdout)
    assert found["metrics"]["mAP"] == pytest.approx(0.625)
    assert found["protocol"] == "run-v1"
    for words in (("--report", "page.html"), ("--feedback", "2")):
        line = error_line(2, "evaluate", run, "--qrels", qrels, *words)
        assert "takes one run file" in line
    assert "are for run files" in error_line(2, "evaluate", run, "--ragged")
    qrels.write_text("q1 0 a 2\n")
    line = error_line(2, "evaluate", run, "--qrels", qrels)
    assert "query 'q2' is missing in the qrels" in line


def test_ranks_that_do_not_count(tmp_path):
    """Some tools write the same rank on every line: the scores say the order."""
    file = tmp_path / "run.txt"
    file.write_text("q Q0 a 0 0.9 me\nq Q0 b 0 0.7 me\nq Q0 c 0 0.7 me\n")
    assert read_run(file) == {"q": [("a", 0.9), ("b", 0.7), ("c", 0.7)]}
    file.write_text("q Q0 a 2 0.9 me\nq Q0 b 1 0.7 me\n")
    with pytest.raises(DataError, match="line 2: rank 1 and score"):
        read_run(file)

"""CQL2 filters against the same conditions written in Python, and what they refuse."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

import cql2
import numpy as np
import pytest

import made_archive
from landcue.errors import UsageError
from landcue.search import Filter, open_archive
from landcue.search.cql2 import parse


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cql2") / "made"
    made_archive.make_archive(folder, n=200).close()
    return open_archive(folder)


@pytest.fixture(scope="module")
def facts(archive):
    """Of each record: effective labels, scores by label, time, box, sensor, group."""
    names = archive.manifest.label_names
    found = {}
    view = archive.backend.view()
    for id_ in archive.ids():
        record = archive.record(id_)
        scores = view.read_vectors("scores", np.array([view.records.find(id_)]))[0]
        found[id_] = {
            "labels": set(record.predicted if record.labels is None else record.labels),
            "scores": dict(zip(names, scores.tolist(), strict=True)),
            "record": record,
        }
    return found


def ids(archive, text):
    result = archive.search_all(where=Filter(cql2=text))
    return sorted(result.ids)


def by_label(facts, name, test):
    return {id_ for id_, one in facts.items() if test(np.float32(one["scores"][name]))}


def conditions(archive, facts):
    """Leaf conditions as CQL2 text, with the ids that fit them and those that fit the negation."""
    everything = set(facts)
    one, two = sorted({label for known in facts.values() for label in known["labels"]})[:2]
    times = sorted(known["record"].datetime for known in facts.values() if known["record"].datetime)
    middle = times[len(times) // 2]
    timed = {id_ for id_, known in facts.items() if known["record"].datetime}
    late = {id_ for id_ in timed if facts[id_]["record"].datetime >= middle}
    text = middle.isoformat().replace("+00:00", "Z")
    scored = by_label(facts, one, lambda score: score >= np.float32(0.5))
    exact = sorted(facts)[3]
    value = float(np.float32(facts[exact]["scores"][one]))
    above = by_label(facts, one, lambda score: score > np.float32(value))
    both = {id_ for id_, known in facts.items() if {one, two} <= known["labels"]}
    either = {id_ for id_, known in facts.items() if {one, two} & known["labels"]}
    leaves = [
        (f"a_contains(labels, ('{one}', '{two}'))", both, everything - both),
        (f"a_overlaps(labels, ('{one}', '{two}'))", either, everything - either),
        (f'"score:{one}" >= 0.5', scored, everything - scored),
        (f'0.5 <= "score:{one}"', scored, everything - scored),
        (f'"score:{one}" > {value!r}', above, everything - above),
        (f"datetime >= TIMESTAMP('{text}')", late, timed - late),
        (f"t_before(datetime, TIMESTAMP('{text}'))", timed - late, late),
        (f"t_during(datetime, INTERVAL('{text}', '..'))", late, timed - late),
        (f"id IN ('{exact}')", {exact}, everything - {exact}),
    ]
    return leaves


def test_random_filters_equal_the_same_sets(archive, facts):
    leaves = conditions(archive, facts)
    for text, fits, rest in leaves:
        assert ids(archive, text) == sorted(fits), text
        assert ids(archive, f"NOT ({text})") == sorted(rest), text
    assert any(0 < len(fits) < len(facts) for _, fits, _ in leaves)
    choose = random.Random(0)

    def tree(depth):
        if depth == 0 or choose.random() < 0.2:
            return choose.choice(leaves)
        word = choose.choice(("AND", "OR", "NOT"))
        text, fits, rest = tree(depth - 1)
        if word == "NOT":
            return f"NOT ({text})", rest, fits
        more, fits2, rest2 = tree(depth - 1)
        joined = f"({text}) {word} ({more})"
        return (
            (joined, fits & fits2, rest | rest2)
            if word == "AND"
            else (joined, fits | fits2, rest & rest2)
        )

    for _ in range(40):
        text, fits, _ = tree(4)
        assert ids(archive, text) == sorted(fits), text
        as_json = json.dumps(cql2.parse_text(text).to_json())
        assert ids(archive, as_json) == sorted(fits), as_json


def test_places_times_and_paths(archive, facts):
    known = {id_: one["record"] for id_, one in facts.items()}
    boxed = sorted(archive.search_all(where=Filter.parse(bbox="0,0,20,20")).ids)
    assert ids(archive, "s_intersects(geometry, BBOX(0,0,20,20))") == boxed
    ring = "POLYGON((0 0,20 0,20 20,0 20,0 0))"
    assert ids(archive, f"s_intersects(geometry, {ring})") == boxed
    timed = [record for record in known.values() if record.datetime]
    day = timed[0].datetime.date()
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    same = sorted(one.id for one in timed if one.datetime == timed[0].datetime)
    at = timed[0].datetime.isoformat()
    assert ids(archive, f"datetime = TIMESTAMP('{at}')") == same
    assert set(same) <= set(ids(archive, f"datetime >= DATE('{start.date()}')"))
    last = "TIMESTAMP('9999-12-31T23:59:59.999999Z')"
    assert ids(archive, f"datetime <= {last}") == sorted(one.id for one in timed)
    assert ids(archive, f"datetime = {last} or datetime > {last}") == []
    assert ids(archive, f"datetime <> TIMESTAMP('{at}')") == sorted(
        one.id for one in timed if one.datetime != timed[0].datetime
    )
    first = next(iter(known.values()))
    prefix = str(first.path)[:3]
    assert ids(archive, f"path LIKE '{prefix}%'") == sorted(
        one.id for one in known.values() if str(one.path).startswith(prefix)
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("labels =", "is not CQL2"),
        ("{", "is not CQL2"),
        ("{}", "is no condition"),
        ("a = 1", "no property 'a'"),
        ("platfrom = 'x'", "did you mean 'platform'"),
        ("labels = 'ship'", "not supported"),
        ("a_contains(labels, ('nowhere'))", "no record has the label"),
        ('"score:nowhere" > 0.5', "nowhere"),
        ("score:water > 'much'", "needs a number"),
        ("datetime > 'yesterday'", "ISO 8601"),
        (f'{{"op": ">", "args": [{{"property": "score:water"}}, {10**400}]}}', "is not CQL2"),
        ('{"op": ">", "args": [{"property": "score:water"}, NaN]}', "is not CQL2"),
        ('{"op": "=", "args": [{"property": "group"}, "\\ud800"]}', "is not CQL2"),
        ('{"op": "like", "args": [{"property": "path"}, "\\udc80%"]}', "is not CQL2"),
        (
            '{"op": "t_during", "args": [{"property": "datetime"}, {"interval": 5}]}',
            "needs an interval",
        ),
        ("t_during(datetime, INTERVAL('2025-01-01', '2024-01-01'))", "ends before"),
        ("t_during(datetime, INTERVAL('..', '..'))", "no end"),
        ("path LIKE '%x%'", "only a prefix"),
        ("s_intersects(geometry, POINT(0 0))", "is a Point"),
        ("casei(platform) = 'x'", "needs a property"),
        ("platform IS NULL", "cannot be used"),
        ("NOT " * 60 + "id = 'a'", "nested deeper"),
        ("(" * 2_000, "more than 8 nested brackets"),
        ("(a=')' and (((((((((b=1", "more than 8 nested brackets"),
        ("id = '" + "x" * 2_000 + "'", "more than 2,000 characters"),
        ('{"a": "' + "x" * 10_000 + '"}', "at most 10,000"),
        *(
            (f'{{"op": "and", "args": {args}}}', "no condition")
            for args in ("null", "5", "true", "[]")
        ),
        ('{"op": "and", "args": ' * 400 + "[]" + "}" * 400, "deeper|no condition|CQL2"),
    ],
)
def test_what_is_no_filter_is_one_line(archive, text, part):
    with pytest.raises(UsageError, match=part) as caught:
        archive.search(where=Filter(cql2=text))
    assert "\n" not in str(caught.value)


def test_numbers_at_the_ends_of_scores(archive, facts):
    label = archive.manifest.label_names[0]
    assert ids(archive, f'"score:{label}" > 1') == []
    assert ids(archive, f'"score:{label}" <= 1.5') == sorted(facts)
    assert ids(archive, f'"score:{label}" >= -1') == sorted(facts)
    assert parse(f'"score:{label}" < 0')["op"] == "<"

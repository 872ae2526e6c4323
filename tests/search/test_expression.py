from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landcue.errors import UsageError
from landcue.search.expression import Joined, Label, Not, evaluate, parse

LABELS = ("water", "bare soil", "and", "farmer's field", "a(b)", "Not", 'say "x"', "x,y")

expressions = st.recursive(
    st.sampled_from(LABELS).map(Label),
    lambda inner: st.one_of(
        inner.map(Not),
        st.builds(
            Joined,
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=2, max_size=3).map(tuple),
        ),
    ),
    max_leaves=12,
)
worlds = st.lists(st.sets(st.sampled_from(LABELS)), min_size=1, max_size=6)


def holds(expression, labels):
    """Decide one record by the words of the expression."""
    if isinstance(expression, Label):
        return expression.name in labels
    if isinstance(expression, Not):
        return not holds(expression.part, labels)
    parts = [holds(part, labels) for part in expression.parts]
    return all(parts) if expression.word == "and" else any(parts)


def joined(word, parts):
    return np.all(parts, axis=0) if word == "and" else np.any(parts, axis=0)


@given(expressions, worlds)
def test_what_is_written_is_read_back_and_means_the_same(expression, world):
    def having(name):
        return np.array([name in labels for labels in world])

    again = parse(str(expression))
    expected = [holds(expression, labels) for labels in world]
    assert evaluate(again, having, np.logical_not, joined).tolist() == expected
    assert parse(str(again)) == again


@given(st.text(alphabet=string.ascii_letters + " (),'\"\\-\n\té€", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        found = parse(text)
    except UsageError as error:
        found = str(error)
    if isinstance(found, str):
        assert found.startswith("the label expression" if not text.strip(", \n\t") else "label")
    else:
        assert parse(str(found)) == found


@given(st.lists(st.sampled_from(["and", "or", "not", "(", ")", ",", "water", "x y", '"or"']),
                max_size=12))  # fmt: skip
def test_any_tokens_are_read_or_refused(tokens):
    text = " ".join(tokens)
    try:
        found = parse(text)
    except UsageError:
        return
    python = [t if t in ("and", "or", "not", "(", ")") else None for t in tokens]
    named = []
    evaluate(found, named.append, lambda part: part, lambda word, parts: None)
    assert named
    assert python.count("(") == python.count(")")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("water", "water"),
        ("water,ships", "water and ships"),
        (" water , ,ships,", "water and ships"),
        ("a or b, c", "(a or b) and c"),
        ("a or b and c", "a or (b and c)"),
        ("not a and b", "(not a) and b"),
        ("not not a", "not (not a)"),
        ("NOT a AND (b Or c)", "not a and (b or c)"),
        ("bare  soil and x", '"bare soil" and x'),
        ("'bare soil'", '"bare soil"'),
        ("dense-residential", '"dense-residential"'),
    ],
)
def test_how_it_is_read(text, same):
    assert parse(text) == parse(same)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "names no label"),
        (" , ,", "names no label"),
        ("water and", "found the end"),
        ("and water", "character 1: expected a label name, found 'and'"),
        ("(water", "expected ')'"),
        ("water)", "character 6"),
        ("()", "expected a label name"),
        ("water not ships", "found 'not'"),
        ("'water", "a quote is not closed"),
        ('""', "a label name is empty"),
        ("water 'ships'", "expected 'and', 'or', or the end"),
        ("not " * 60 + "water", "nested deeper"),
        ("(" * 5000 + "a", "nested deeper"),
        ("a " * 6000, "characters"),
    ],
)
def test_mistakes(text, word):
    with pytest.raises(UsageError, match="label expression") as caught:
        parse(text)
    assert word in str(caught.value)

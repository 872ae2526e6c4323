"""Losses with gains as targets against explicit float64 loops."""

from __future__ import annotations

import math

import pytest
import torch

from landcue.errors import UsageError
from landcue.losses import MARC, ApproxNDCG, GainSoftmax, MulSupCon
from loss_batches import N, batch, item, naive_weighted, sets, statistics


def positives(labels, i):
    return [p for p in range(len(labels)) if p != i and labels[i] & labels[p]]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_gain_softmax_equals_a_double_loop(share):
    z, y = batch(1)
    labels, weights, anchors = sets(y), {}, 0
    for i, own in enumerate(labels):
        found = positives(labels, i)
        gains = {p: 2.0 ** len(own & labels[p]) - 1 for p in found}
        usable = [c for c in own if any(c in labels[p] for p in found)]
        for p in found:
            of_labels = [
                (c in labels[p]) / sum(c in labels[k] for k in found) / len(usable) for c in usable
            ]
            weights[i, p] = (1 - share) * gains[p] / sum(gains.values()) + share * sum(of_labels)
        anchors += bool(found)
    expected = naive_weighted(z, 0.2, weights) / anchors
    got = GainSoftmax(temperature=0.2, label_share=share)(z, y)
    assert item(got) == pytest.approx(expected, rel=1e-12)


def test_limits_of_gain_softmax():
    z, y = batch(2)
    gain = MARC(statistics(), reweighting="gain", alpha=0.0, beta=0.0)
    assert item(GainSoftmax()(z, y)) == pytest.approx(item(gain(z, y)), rel=1e-12)
    whole = item(GainSoftmax(label_share=1.0)(z, y))
    assert whole == pytest.approx(item(MulSupCon(average="anchor")(z, y)), rel=1e-12)


@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_approx_ndcg_equals_a_double_loop(tau):
    z, y = batch(3)
    labels, total, anchors = sets(y), 0.0, 0
    for i, own in enumerate(labels):
        others = [a for a in range(N) if a != i]
        gains = {p: 2.0 ** len(own & labels[p]) - 1 for p in others}
        if not any(gains.values()):
            continue
        anchors += 1
        s = {a: float(z[i] @ z[a]) for a in others}
        dcg = 0.0
        for p in others:
            rank = 1 + sum(1 / (1 + math.exp((s[p] - s[a]) / tau)) for a in others if a != p)
            dcg += gains[p] / math.log2(1 + rank)
        best = sorted(gains.values(), reverse=True)
        total += 1 - dcg / sum(g / math.log2(2 + r) for r, g in enumerate(best))
    got = ApproxNDCG(temperature=tau)(z, y)
    assert item(got) == pytest.approx(total / anchors, rel=1e-9)


def test_a_perfect_order_costs_nothing_and_a_worse_one_more():
    y = torch.tensor([[1, 1], [1, 1], [1, 0], [0, 0]])
    at = torch.tensor([0.0, 0.1, 0.5, 1.5], dtype=torch.float64)
    z = torch.stack([at.cos(), at.sin()], 1)
    good, bad = z, z[[0, 3, 2, 1]]  # the second one is now the farthest
    pairs = [torch.tensor(t) for t in ([0, 0], [1, 2], [0], [3])]
    loss = ApproxNDCG(temperature=0.005)
    assert item(loss(good, y, pairs)) == pytest.approx(0, abs=1e-6)
    assert item(loss(bad, y, pairs)) > 0.2


def test_marc_adds_the_smooth_ndcg():
    z, y = batch(4)
    plain, both = MARC(statistics())(z, y), MARC(statistics(), ndcg=0.7)(z, y)
    assert item(both) == pytest.approx(item(plain) + 0.7 * item(ApproxNDCG()(z, y)), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: GainSoftmax(label_share=1.5), "label_share"),
        (lambda: GainSoftmax(temperature=0), "temperature"),
        (lambda: ApproxNDCG(temperature=-1), "temperature"),
        (lambda: MARC(ndcg=-0.1), "ndcg"),
    ],
)
def test_options_out_of_range_are_named(make, word):
    with pytest.raises(UsageError, match=word):
        make()

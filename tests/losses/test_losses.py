"""Losses against plain float64 double loops, and the limits the specification pins."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import BCE, MARC, LabelStatistics, Quantization, SupCon, create_loss

N, DIM, C = 12, 5, 4


def batch(seed: int = 0, n: int = N, c: int = C, p: float = 0.4):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64), dim=1)
    y = (torch.rand(n, c, generator=g) < p).to(torch.int64)
    return z, y


def statistics(seed: int = 9) -> LabelStatistics:
    g = torch.Generator().manual_seed(seed)
    rates = torch.tensor([0.6, 0.4, 0.15, 0.05])
    return LabelStatistics.from_labels((torch.rand(200, C, generator=g) < rates).long())


def sets(y):
    return [frozenset(row.nonzero().flatten().tolist()) for row in y]


def naive_supcon(z, y, tau, positives):
    labels, n = sets(y), len(z)
    total, anchors = 0.0, 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        if positives == "any":
            pos = [j for j in others if labels[i] & labels[j]]
        else:
            pos = [j for j in others if labels[i] and labels[i] == labels[j]]
        if not pos:
            continue
        norm = math.log(sum(math.exp(float(z[i] @ z[a]) / tau) for a in others))
        total += sum(norm - float(z[i] @ z[p]) / tau for p in pos) / len(pos)
        anchors += 1
    return total / anchors if anchors else 0.0


def naive_marc(z, y, stats, options):
    o = SimpleNamespace(**(DEFAULTS | options))
    labels, n = sets(y), len(z)
    f = [float(v) for v in stats.frequency]
    q = stats.joint.tolist()
    mean, span = stats.rarity_range

    def weight(i, j):
        s, u = labels[i] & labels[j], labels[i] | labels[j]
        if o.plr == "off":
            w = 1.0
        elif o.plr == "pairwise":
            w = sum(q[c][d] ** -o.gamma for c in s for d in s) / len(s) ** 2
        elif o.plr == "marginal":
            w = sum(f[c] ** -o.gamma for c in s) / len(s)
        else:
            w = sum(f[c] ** -o.gamma for c in s) / sum(f[c] ** -o.gamma for c in u)
        w = w**o.power
        return w * (len(s) / len(u)) ** o.power if o.weighting == "jaccard" else w

    def tau(i, j):
        u = labels[i] | labels[j]
        whole = labels[i] if o.overlap == "share" else u
        overlap = len(labels[i] & labels[j]) / len(whole) if whole else 0.0
        rho = sum(f[c] ** -0.5 for c in labels[i]) / max(len(labels[i]), 1)
        r = (rho - mean) / span if labels[i] and span else 0.0
        value = o.temperature * (1 + o.alpha * overlap) * (1 - o.beta * r)
        return min(max(value, 0.02), 1.0)

    pos = [[j for j in range(n) if j != i and labels[i] & labels[j]] for i in range(n)]
    w = {(i, j): weight(i, j) for i in range(n) for j in pos[i]}
    if o.weighting == "label":
        for i, j in w:
            usable = [c for c in labels[i] if any(c in labels[k] for k in pos[i])]
            share = 0.0
            for c in usable:
                carriers = [k for k in pos[i] if c in labels[k]]
                share += (j in carriers) / len(carriers)
            w[i, j] *= share / len(usable)
    if not w:
        return 0.0
    anchors = [i for i in range(n) if pos[i]]
    total = 0.0
    for i in anchors:
        if o.norm == "weight":
            norm = sum(w[i, j] for j in pos[i])
        elif o.weighting == "label":
            norm = sum(w.values()) / len(anchors)
        else:
            norm = len(pos[i]) * sum(w.values()) / len(w)
        for p in pos[i]:
            others = [a for a in range(n) if a != i]
            scale = {a: tau(i, p) if o.mode == "row" else tau(i, a) for a in others}
            log = math.log(sum(math.exp(float(z[i] @ z[a]) / scale[a]) for a in others))
            total += w[i, p] / norm * (log - float(z[i] @ z[p]) / scale[p])
    return total / len(anchors)


DEFAULTS = {
    "temperature": 0.1, "plr": "off", "gamma": 0.5, "power": 1.0, "alpha": 0.5, "beta": 0.0,
    "overlap": "jaccard", "weighting": "label", "norm": "weight", "mode": "pair",
}  # fmt: skip
FAMILY = [
    dict(plr=plr, gamma=g, alpha=a, beta=b, weighting=w, norm=norm, mode=mode, power=power)
    for plr, w, norm, mode in itertools.product(
        ("rarity_jaccard", "pairwise", "marginal", "off"),
        ("none", "jaccard", "label"),
        ("weight", "count"),
        ("pair", "row"),
    )
    for g, a, b, power in ((0.5, 0.5, 0.3, 1.0), (1.0, -0.4, 0.0, 2.0))
] + [dict(alpha=0.7, beta=0.2, overlap="share", mode=mode) for mode in ("pair", "row")]


@pytest.mark.parametrize("positives", ["any", "all"])
@pytest.mark.parametrize("seed", [0, 1])
def test_supcon_equals_double_loop(positives, seed):
    z, y = batch(seed)
    y[3] = y[4]
    got = SupCon(temperature=0.2, positives=positives)(z, y)
    assert float(got) == pytest.approx(naive_supcon(z, y, 0.2, positives), abs=1e-10)


@pytest.mark.parametrize("options", FAMILY, ids=repr)
def test_marc_equals_double_loop(options):
    z, y = batch(2)
    stats = statistics()
    got = MARC(stats, **options)(z, y)
    assert float(got) == pytest.approx(naive_marc(z, y, stats, options), rel=1e-9)


@pytest.mark.parametrize("norm", ["weight", "count"])
def test_marc_without_options_on_is_supcon(norm):
    z, y = batch(3)
    marc = MARC(statistics(), plr="off", alpha=0, beta=0, weighting="none", norm=norm)
    assert float(marc(z, y)) == pytest.approx(float(SupCon()(z, y)), rel=1e-12)


@pytest.mark.parametrize("plr", ["rarity_jaccard", "pairwise", "marginal"])
def test_marc_on_uniform_single_labels_is_supcon(plr):
    z, _ = batch(4)
    y = F.one_hot(torch.arange(N) % C, C)
    stats = LabelStatistics.from_labels(F.one_hot(torch.arange(40) % C, C))
    marc = MARC(stats, temperature=0.1, plr=plr, gamma=1.0, alpha=0.0, beta=0.7)
    assert float(marc(z, y)) == pytest.approx(float(SupCon()(z, y)), rel=1e-12)


def weight_of_pair(first, second, plr, gamma=1.0):
    """Return the weight of a pair relative to that of two images which both have label 1 alone.

    All images are orthogonal, and each of the two anchors 0 and 2 has one positive and image 4 as
    its negative: their gradients differ only by the weights of the two pairs.
    """
    y = torch.zeros(5, C)
    y[0, first], y[1, second], y[2, 1], y[3, 1] = 1, 1, 1, 1
    z = torch.eye(5, dtype=torch.float64, requires_grad=True)
    pairs = [torch.tensor(t) for t in ([0, 2], [1, 3], [0, 2], [4, 4])]
    marc = MARC(statistics(), plr=plr, gamma=gamma, weighting="none", norm="count", alpha=0.0)
    (gradient,) = torch.autograd.grad(marc(z, y, pairs), z)
    return float(gradient[0, 1] / gradient[2, 3])


@pytest.mark.parametrize("plr", ["pairwise", "marginal"])
def test_a_rarer_shared_label_raises_the_weight(plr):
    f = statistics().frequency
    assert f[3] < f[0]
    assert weight_of_pair([3, 1], [3, 2], plr) > weight_of_pair([0, 1], [0, 2], plr)


def test_a_rarer_shared_label_raises_rarity_jaccard_at_equal_union():
    # union {0, 3} both times; the shared label is the rare 3, then the frequent 0
    assert weight_of_pair([0, 3], [3], "rarity_jaccard") > weight_of_pair(
        [0, 3], [0], "rarity_jaccard"
    )


def test_one_more_shared_label_raises_rarity_jaccard_at_fixed_union():
    for gamma in (0.0, 0.5, 2.0):
        few = weight_of_pair([0, 1, 2], [0, 3], "rarity_jaccard", gamma)
        more = weight_of_pair([0, 1, 2], [0, 1, 3], "rarity_jaccard", gamma)
        assert more > few


LOSSES = {
    "supcon": SupCon(),
    "supcon-all": SupCon(positives="all"),
    "marc": MARC(statistics(), alpha=0.5, beta=0.5),
    "marc-row": MARC(statistics(), alpha=0.5, mode="row"),
    "marc-label": MARC(statistics(), weighting="label"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_permuting_the_batch_changes_nothing(name):
    z, y = batch(5)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert float(LOSSES[name](z[order], y[order])) == pytest.approx(
        float(LOSSES[name](z, y)), rel=1e-12
    )


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_exact(name):
    z, y = batch(6, n=7)
    y[0], y[1], y[2] = y[1], y[1], 0  # positives for certain, and one image without a label
    y[:2, 0] = 1
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: LOSSES[name](v, y), (z,))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_computes_in_float32(name, dtype):
    z, y = batch(7)
    low = z.to(dtype)
    got = LOSSES[name](low, y)
    assert got.dtype == torch.float32
    # Only the rounding of the inputs may show: the same rounded inputs in float64 agree.
    assert float(got) == pytest.approx(float(LOSSES[name](low.double(), y)), rel=2e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(4, C).long(),
        torch.eye(4, C).long(),
        torch.tensor([[1, 0, 0, 0]] + [[0] * 4] * 3),
    ],
    ids=["no labels", "nothing shared", "one label once"],
)
def test_no_positive_pair_gives_zero_and_zero_gradient(name, y):
    z = F.normalize(torch.randn(4, DIM), dim=1).requires_grad_()
    loss = LOSSES[name](z, y)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert z.grad is not None
    assert float(z.grad.abs().sum()) == 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_images_without_labels_are_negatives_only(name):
    z, y = batch(8)
    y[:, 0] = 1
    y[-1] = 0
    z.requires_grad_()
    whole = LOSSES[name](z, y)
    (gradient,) = torch.autograd.grad(whole, z)
    assert torch.isfinite(whole)
    assert float(gradient[-1].abs().sum()) > 0  # pushed away from the anchors
    assert float(whole.detach()) != pytest.approx(float(LOSSES[name](z[:-1], y[:-1]).detach()))


@pytest.mark.parametrize("name", ["marc", "supcon"])
def test_all_labels_everywhere_is_finite(name):
    z, _ = batch(1)
    assert torch.isfinite(LOSSES[name](z, torch.ones(N, C)))


def test_free_embeddings_end_ordered_by_overlap():
    # y0 shares 2, 1, 0 labels with the others of its quartet, repeated twice.
    rows = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]).repeat(2, 1)
    g = torch.Generator().manual_seed(0)
    z = torch.randn(8, 8, generator=g, dtype=torch.float64, requires_grad=True)
    loss = MARC.from_labels(rows, alpha=0.5)
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        loss(z, rows).backward()
        optimizer.step()
    unit = F.normalize(z.detach(), dim=1)
    s = (unit @ unit.T)[0]
    assert s[1] > s[2] + 0.05
    assert s[2] > s[3] + 0.05


def test_statistics_count_labels_and_pairs():
    stats = LabelStatistics.from_labels(torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0]]))
    assert stats.frequency.tolist() == pytest.approx([4 / 4, 3 / 4, 1 / 4])
    assert float(stats.joint[0, 1]) == pytest.approx(3 / 4)
    again = LabelStatistics.from_json(stats.to_json())
    assert torch.equal(again.counts, stats.counts)
    assert again.rarity_range == stats.rarity_range
    assert float(stats.rarity(torch.tensor([[0, 0, 0]]))) == 0.0


def test_rarity_is_zero_when_all_anchors_are_equally_rare():
    stats = LabelStatistics.from_labels(torch.eye(3))
    assert stats.rarity(torch.eye(3)).tolist() == [0, 0, 0]


def test_label_loss_equals_its_definition():
    logits, y = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert float(BCE()(logits, y)) == pytest.approx(expected, rel=1e-6)
    assert BCE()(logits.bfloat16(), y).dtype == torch.float32


def test_quantization_loss_equals_its_definition():
    assert float(Quantization()(torch.tensor([[1.0, -0.5]]))) == pytest.approx(0.125)
    assert float(Quantization()(torch.tensor([[1.0, -1.0]]).half())) == 0.0


@pytest.mark.parametrize(
    ("z", "y", "word"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), "[3, 2] and [4, 2]"),
        (torch.ones(3), torch.ones(3, 2), "[3]"),
        (torch.ones(3, 2).long(), torch.ones(3, 2), "floating point"),
        (torch.ones(3, 2), torch.full((3, 2), 0.5), "0 or 1"),
        (torch.ones(3, 2), torch.full((3, 2), float("nan")), "0 or 1"),
    ],
)
def test_wrong_inputs_are_named(z, y, word):
    with pytest.raises(UsageError) as caught:
        SupCon()(z, y)
    assert word in str(caught.value)


def test_marc_refuses_statistics_of_other_labels():
    z, _ = batch()
    with pytest.raises(UsageError, match="3 columns, the statistics 4"):
        MARC(statistics())(z, torch.ones(N, 3))


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("mark", {}, "'marc'"),
        ("marc", {"gama": 1}, "'gamma'"),
        ("marc", {"plr": "frequency"}, "plr must be one of"),
        ("marc", {"temperature": -1}, "temperature"),
        ("marc", {"temperature": "hot"}, "finite number"),
        ("supcon", {"positives": "some"}, "positives must be one of any, all"),
    ],
)
def test_registry_names_the_mistake(name, options, word):
    with pytest.raises(UsageError) as caught:
        create_loss(name, options, statistics(), DIM)
    assert word in str(caught.value)


def test_registry_binds_options():
    z, y = batch()
    loss = create_loss("supcon", {"temperature": 0.3}, statistics(), DIM)
    assert float(loss(z, y)) == float(SupCon(temperature=0.3)(z, y))

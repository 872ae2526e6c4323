"""MARC against a plain float64 loop, and the limits that its specification pins."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import MARC, LabelStatistics, MulSupCon, SupCon
from landcue.losses.marc import PRESETS
from loss_batches import C, N, batch, sets, statistics


def naive_marc(z, y, stats, options):
    o = SimpleNamespace(**(DEFAULTS | options))
    labels, n = sets(y), len(z)
    f = [float(v) for v in stats.frequency]
    q = stats.joint.tolist()
    mean, span = stats.rarity_range

    def weight(i, j):
        s, u = labels[i] & labels[j], labels[i] | labels[j]
        if o.plr in ("off", "tilt"):
            w = 1.0
        elif o.plr == "cooccurrence":
            w = sum(q[c][d] ** -o.gamma for c in s for d in s)
        elif o.plr == "gain":
            w = 2.0 ** len(s) - 1
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
    graded = dict(w)
    for i, j in w:
        if o.weighting not in ("label", "within") and o.plr != "tilt":
            continue
        usable = [c for c in labels[i] if any(c in labels[k] for k in pos[i])]
        influence = {c: f[c] ** -o.gamma if o.plr == "tilt" else 1.0 for c in usable}
        share = 0.0
        for c in usable:
            carriers = {k: 1.0 for k in pos[i] if c in labels[k]}
            if o.weighting == "within" and o.plr != "tilt":
                carriers = {k: graded[i, k] for k in carriers}
            share += influence[c] * carriers.get(j, 0.0) / sum(carriers.values())
        share /= sum(influence.values())
        w[i, j] = share if o.weighting == "within" and o.plr != "tilt" else w[i, j] * share
    if not w:
        return 0.0
    anchors = [i for i in range(n) if pos[i]]
    total = 0.0
    for i in anchors:
        if o.norm == "weight":
            norm = sum(w[i, j] for j in pos[i])
        elif o.weighting in ("label", "within") or o.plr == "tilt":
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
    "temperature": 0.1, "plr": "cooccurrence", "gamma": 1.0, "power": 1.0, "alpha": 0.5,
    "beta": 0.3, "overlap": "jaccard", "weighting": "none", "norm": "weight", "mode": "pair",
}  # fmt: skip


FAMILY = [
    dict(plr=plr, gamma=g, alpha=a, beta=b, weighting=w, norm=norm, mode=mode, power=power)
    for plr, w, norm, mode in itertools.product(
        ("cooccurrence", "gain", "rarity_jaccard", "pairwise", "marginal", "off"),
        ("none", "jaccard", "label", "within"),
        ("weight", "count"),
        ("pair", "row"),
    )
    for g, a, b, power in ((0.5, 0.5, 0.3, 1.0), (1.0, -0.4, 0.0, 2.0))
]
FAMILY += [dict(alpha=0.7, beta=0.2, overlap="share", mode=mode) for mode in ("pair", "row")]
FAMILY += [
    dict(plr="tilt", gamma=g, weighting=w, norm=norm)
    for g in (0.0, 0.5, 1.5)
    for w in ("none", "jaccard")
    for norm in ("weight", "count")
]


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


@pytest.mark.parametrize(
    "plr", ["cooccurrence", "tilt", "gain", "rarity_jaccard", "pairwise", "marginal"]
)
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
    marc = MARC(statistics(), plr=plr, gamma=gamma, norm="count", alpha=0.0, beta=0.0)
    (gradient,) = torch.autograd.grad(marc(z, y, pairs), z)
    return float(gradient[0, 1] / gradient[2, 3])


@pytest.mark.parametrize("plr", ["cooccurrence", "pairwise", "marginal"])
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


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("plr", ["cooccurrence", "gain"])
def test_one_more_shared_label_raises_the_weight(plr, gamma):
    weights = [weight_of_pair(s, s, plr, gamma) for s in ([0], [0, 1], [0, 1, 2], [0, 1, 2, 3])]
    assert weights == sorted(weights)
    assert len(set(weights)) == 4


def test_a_rarer_pair_of_labels_raises_the_weight_by_its_own_count():
    y = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1]] + [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 4)
    y[3] = torch.tensor([0, 0, 1])  # labels 1 and 2 are as frequent; 0 with 2 is rarer
    joint = LabelStatistics.from_labels(y).joint
    assert joint[1, 1] == joint[2, 2]
    assert joint[0, 2] < joint[0, 1]
    marc = MARC.from_labels(y, alpha=0.0, beta=0.0, norm="count")
    labels = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1], [0, 0, 0]])
    z = torch.eye(5, dtype=torch.float64, requires_grad=True)
    pairs = [torch.tensor(t) for t in ([0, 2], [1, 3], [0, 2], [4, 4])]
    (gradient,) = torch.autograd.grad(marc(z, labels, pairs), z)
    expected = [1 / joint[0, 0] + 1 / joint[c, c] + 2 / joint[0, c] for c in (1, 2)]
    assert float(gradient[2, 3] / gradient[0, 1]) == pytest.approx(float(expected[1] / expected[0]))


def test_tilt_without_rarity_is_mulsupcon():
    z, y = batch(5)
    tilt = MARC(statistics(), reweighting="tilt", gamma=0.0, alpha=0.0, beta=0.0)
    assert float(tilt(z, y)) == pytest.approx(float(MulSupCon(average="anchor")(z, y)), rel=1e-12)


def test_within_keeps_the_labels_of_an_anchor_equal():
    """Weights summed over the carriers of a label that no other one shares are 1 / |y_i|."""
    y = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    z = torch.eye(5, dtype=torch.float64, requires_grad=True)
    loss = MARC.from_labels(y, weighting="within", alpha=0.0, beta=0.0, temperature=1.0)
    pairs = [torch.tensor(t) for t in ([0, 0, 0], [1, 2, 3], [0], [4])]
    (gradient,) = torch.autograd.grad(loss(z, y, pairs), z)
    pulled = -(gradient[0, 1:] - gradient[0, 4])  # w_0p: the negative pulls by the soft-max alone
    assert float(pulled[0] + pulled[1]) == pytest.approx(0.5)
    assert float(pulled[2]) == pytest.approx(0.5)


def test_parts_are_switched_off_by_name():
    z, y = batch(6)
    bare = dict(alpha=0.0, beta=0.0)
    assert float(MARC(statistics(), reweighting=None, **bare)(z, y)) == float(SupCon()(z, y))
    assert float(MARC(statistics(), plr="off", **bare)(z, y)) == float(SupCon()(z, y))
    whole = float(MARC(statistics())(z, y))
    for part in (
        dict(reweighting=None),
        dict(alpha=0.0),
        dict(beta=0.0),
        dict(gamma=0.0),
        dict(plr="gain"),
    ):
        assert float(MARC(statistics(), **part)(z, y)) != pytest.approx(whole, rel=1e-6)


def test_presets_are_options_below_those_given():
    z, y = batch(7)
    rare = MARC.from_labels(y, preset="rare")
    assert float(rare(z, y)) == float(MARC.from_labels(y, **PRESETS["rare"])(z, y))
    assert float(rare(z, y)) != float(MARC.from_labels(y)(z, y))
    same = MARC.from_labels(y, preset="rare", reweighting="cooccurrence", gamma=1.0)
    assert "reweighting='cooccurrence'" in repr(same)
    with pytest.raises(UsageError, match=r"no preset 'rar' \(did you mean 'rare'"):
        MARC.from_labels(y, preset="rar")


@pytest.mark.parametrize("weighting", ["label", "within"])
def test_tilt_refuses_a_weighting_that_it_would_ignore(weighting):
    with pytest.raises(UsageError, match="weighting of tilt must be one of none, jaccard"):
        MARC(reweighting="tilt", weighting=weighting)
    with pytest.raises(UsageError, match="weighting of tilt"):
        MARC.from_labels(torch.eye(3), preset="rare", weighting=weighting)


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


def test_marc_refuses_statistics_of_other_labels():
    z, _ = batch()
    with pytest.raises(UsageError, match="3 columns, the statistics 4"):
        MARC(statistics())(z, torch.ones(N, 3))


@pytest.mark.parametrize("power", [0, 1, 2])
def test_only_power_0_makes_all_positives_of_marc_equal(power):
    z, y = batch()
    got = float(MARC(statistics(), power=power, weighting="jaccard", alpha=0.0, beta=0.0)(z, y))
    assert (got == pytest.approx(float(SupCon()(z, y)))) == (power == 0)


def split(n=60, seed=3):
    z, y = batch(seed, n=n, p=0.3)
    y[:, 3] *= y[:, 0]
    return z, y


ADAPTIVE = {"plr": "pairwise", "beta": 0.4, "alpha": 0.3}


def test_statistics_learned_from_one_batch_are_those_of_its_labels():
    z, y = split()
    learned, given = MARC(**ADAPTIVE), MARC.from_labels(y, **ADAPTIVE)
    assert float(learned(z, y)) == pytest.approx(float(given(z, y)), rel=1e-12)
    assert float(learned(z, y)) != pytest.approx(float(MARC.from_labels(y)(z, y)), rel=1e-3)


def test_counts_learned_from_batches_are_those_of_all_images():
    z, y = split()
    loss = MARC()
    for rows in (slice(0, 10), slice(10, 35), slice(35, 60)):
        loss(z[rows], y[rows])
    whole = LabelStatistics.from_labels(y)
    assert int(loss.n_images) == 60
    assert torch.equal(loss.statistics.joint, whole.joint)


def test_evaluation_and_a_training_split_learn_nothing():
    z, y = split()
    loss = MARC()
    loss(z, y)
    loss.eval()
    loss(z, y)
    given = MARC.from_labels(y)
    given(z, y)
    assert int(loss.n_images) == int(given.n_images) == len(y)


def test_learned_statistics_are_part_of_the_state():
    z, y = split()
    loss, other = MARC(**ADAPTIVE), MARC(**ADAPTIVE)
    loss(z, y)
    loss(z[:20], y[:20])
    other.load_state_dict(loss.state_dict())
    assert float(other.eval()(z, y)) == float(loss.eval()(z, y))


def test_statistics_keep_their_precision_when_a_model_is_made_half():
    z, y = split()
    loss = MARC.from_labels(y, **ADAPTIVE)
    before = float(loss(z, y))
    assert float(loss.half()(z, y)) == before


def test_a_state_with_other_labels_is_refused():
    _, y = split()
    with pytest.raises(RuntimeError, match="size mismatch for counts"):
        MARC.from_labels(y[:, :3]).load_state_dict(MARC.from_labels(y).state_dict())


def test_learned_labels_may_not_change_their_number():
    z, y = split()
    loss = MARC()
    loss(z, y)
    with pytest.raises(UsageError, match="labels have 3 columns, the statistics 4"):
        loss(z, y[:, :3])
    assert int(loss.n_images) == len(y)


def test_class_indices_make_room_for_new_classes():
    z, _ = split()
    classes = torch.arange(60) % 5
    loss = MARC(plr="marginal")
    loss(z[:2], classes[:2])
    loss(z[2:], classes[2:])
    assert torch.equal(loss.counts, torch.diag(torch.bincount(classes)))


@pytest.mark.parametrize("kind", [lambda y: y, lambda y: y.numpy(), lambda y: y.bool().numpy()])
def test_labels_of_a_split_may_be_arrays(kind):
    z, y = split()
    assert float(MARC.from_labels(kind(y))(z, y)) == float(MARC.from_labels(y)(z, y))

"""Losses of the label head against plain float64 loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from landcue.errors import UsageError
from landcue.losses import (
    BCE,
    CLASSIFICATIONS,
    Asymmetric,
    DistributionBalanced,
    LabelStatistics,
    Softmax,
    create_classification,
)
from loss_batches import batch, item, statistics

N, C = 6, 4
STATISTICS = statistics()


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(N, C, generator=g, dtype=torch.float64)
    return logits, (torch.rand(N, C, generator=g) < 0.4).long()


def one_hot(seed=0):
    return F.one_hot(torch.randint(0, C, (N,), generator=torch.Generator().manual_seed(seed)), C)


def naive_bce(logits, y):
    total = 0.0
    for x, on in zip(logits.flatten().tolist(), y.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= math.log(p) if on else math.log(1 - p)
    return total / logits.numel()


def naive_softmax(logits, y, smoothing=0.0):
    total = 0.0
    for row, labels in zip(logits.tolist(), y.tolist(), strict=True):
        norm = math.log(sum(math.exp(x) for x in row))
        for x, on in zip(row, labels, strict=True):
            total += ((1 - smoothing) * on + smoothing / len(row)) * (norm - x)
    return total / len(logits)


def naive_asymmetric(logits, y, gamma_positive, gamma_negative, clip):
    total = 0.0
    for x, on in zip(logits.flatten().tolist(), y.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        q = max(p - clip, 0)
        if on:
            total -= (1 - p) ** gamma_positive * math.log(p)
        else:
            total -= q**gamma_negative * math.log(1 - q)
    return total / logits.numel()


@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_plain_loops(seed):
    logits, y = data(seed)
    assert float(BCE()(logits, y)) == pytest.approx(naive_bce(logits, y), rel=1e-12)
    y = one_hot(seed)
    assert float(Softmax()(logits, y)) == pytest.approx(naive_softmax(logits, y), rel=1e-12)
    smoothed = Softmax(label_smoothing=0.1)(logits, y)
    assert float(smoothed) == pytest.approx(naive_softmax(logits, y, 0.1), rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [(0, 4, 0.05), (1, 2, 0.2), (2, 0, 0.0)],
    ids=repr,
)
def test_asymmetric_loss_equals_its_definition(options):
    logits = 3 * torch.randn(6, C, generator=torch.Generator().manual_seed(0)).double()
    _, y = batch(n=6)
    named = dict(zip(("gamma_positive", "gamma_negative", "clip"), options, strict=True))
    loss = Asymmetric(**named)
    expected = naive_asymmetric(logits, y, **named)
    assert float(loss(logits, y)) == pytest.approx(expected, rel=1e-10)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, y), (logits,))


HEADS = {
    "bce": lambda v: BCE()(v, data()[1]),
    "softmax": lambda v: Softmax()(v, one_hot()),
    "asymmetric": lambda v: Asymmetric(gamma_positive=1, gamma_negative=2, clip=0.1)(v, data()[1]),
}


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_exact(name):
    logits, _ = data()
    assert torch.autograd.gradcheck(HEADS[name], (logits.requires_grad_(),))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_computes_in_float32(name, dtype):
    low = data()[0].to(dtype)
    got = HEADS[name](low)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(HEADS[name](low.double())), rel=2e-5)


@pytest.mark.parametrize("name", CLASSIFICATIONS)
def test_order_of_the_batch_does_not_matter(name):
    logits, y = data()[0], one_hot()
    loss = create_classification(name, {}, STATISTICS)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert float(loss(logits[order], y[order])) == pytest.approx(float(loss(logits, y)), rel=1e-12)


def test_classifications_are_what_their_names_say():
    logits, y = data()[0], one_hot()
    options = {"gamma_negative": 2.0, "clip": 0.1}
    got = {
        name: float(create_classification(name, {}, STATISTICS)(logits, y))
        for name in CLASSIFICATIONS
    }
    got["options"] = float(create_classification("asymmetric", options)(logits, y))
    assert got == {
        "bce": float(BCE()(logits, y)),
        "softmax": float(Softmax()(logits, y)),
        "asymmetric": float(Asymmetric()(logits, y)),
        "distribution_balanced": float(DistributionBalanced(STATISTICS)(logits, y)),
        "options": float(Asymmetric(gamma_negative=2.0, clip=0.1)(logits, y)),
    }
    assert len(set(got.values())) == 5


@pytest.mark.parametrize(("row", "count"), [([0, 0, 0, 0], 0), ([1, 0, 1, 0], 2)])
def test_softmax_refuses_images_without_exactly_one_label(row, count):
    y = one_hot()
    y[2] = torch.tensor(row)
    with pytest.raises(UsageError, match=f"image 2 of the batch has {count} .1 of 6") as caught:
        Softmax()(data()[0], y)
    assert "use bce or asymmetric" in str(caught.value)


@pytest.mark.parametrize("name", CLASSIFICATIONS)
def test_other_shapes_are_refused_with_both(name):
    with pytest.raises(UsageError, match=r"\[2, 3\] and labels \[2, 4\]"):
        create_classification(name, {}, STATISTICS)(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("softmx", {}, "unknown classification loss 'softmx' .did you mean 'softmax'"),
        ("bce", {"gamma": 1}, "classification loss bce has no option 'gamma' .it has none"),
        ("asymmetric", {"gamma_negativ": 1}, "did you mean 'gamma_negative'"),
        ("asymmetric", {"clip": 2}, "clip must lie in 0..1"),
        ("asymmetric", {"clip": "much"}, "finite number"),
        ("distribution_balanced", {}, "needs the label statistics"),
        ("softmax", {"label_smoothing": 1}, "label_smoothing must lie in 0..1"),
    ],
)
def test_mistakes_are_named(name, options, word):
    with pytest.raises(UsageError, match=word):
        create_classification(name, options)


@pytest.mark.parametrize(
    "options",
    [{}, {"alpha": 0.5, "beta": 3.0, "mu": 0.4, "kappa": 0.7, "negative_scale": 5.0}],
)
def test_distribution_balanced_equals_a_plain_loop(options):
    logits, y = data(4)
    y[1] = 0  # an image without labels
    o = {"alpha": 0.1, "beta": 10.0, "mu": 0.2, "kappa": 0.05, "negative_scale": 2.0} | options
    f = STATISTICS.frequency.tolist()
    total = 0.0
    for row, labels in zip(logits.tolist(), y.tolist(), strict=True):
        of_image = sum(1 / f[c] for c in range(C) if labels[c])
        for c, (x, on) in enumerate(zip(row, labels, strict=True)):
            ratio = (1 / f[c]) / of_image if of_image else 1.0
            weight = o["alpha"] + 1 / (1 + math.exp(-o["beta"] * (ratio - o["mu"])))
            shifted = x - o["kappa"] * math.log(1 / f[c] - 1)
            scale = o["negative_scale"]
            if on:
                total += weight * math.log1p(math.exp(-shifted))
            else:
                total += weight * math.log1p(math.exp(scale * shifted)) / scale
    got = DistributionBalanced(STATISTICS, **options)(logits, y)
    assert float(got) == pytest.approx(total / logits.numel(), rel=1e-12)


def test_a_rare_label_counts_more_beside_a_frequent_one():
    f = STATISTICS.frequency
    logits = torch.zeros(1, C, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[1, 0, 0, 1]])
    assert f[3] < f[0]
    (gradient,) = torch.autograd.grad(DistributionBalanced(STATISTICS)(logits, y), logits)
    assert gradient[0, 3] < gradient[0, 0] < 0


def test_a_label_on_all_images_is_finite():
    whole = LabelStatistics.from_labels(torch.ones(5, C))
    assert math.isfinite(float(DistributionBalanced(whole)(*data())))
    with pytest.raises(UsageError, match="4 columns, the statistics 3"):
        DistributionBalanced(LabelStatistics.from_labels(torch.eye(3)))(*data())


def test_label_loss_equals_its_definition():
    logits, y = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert float(BCE()(logits, y)) == pytest.approx(expected, rel=1e-6)
    assert BCE()(logits.bfloat16(), y).dtype == torch.float32


def test_asymmetric_loss_without_options_on_is_cross_entropy():
    logits = torch.tensor([[80.0, -3.0, 0.5, -80.0]]).half().requires_grad_()
    y = torch.tensor([[0, 1, 0, 1]])
    got = Asymmetric(gamma_positive=0, gamma_negative=0, clip=0)(logits, y)
    assert got.dtype == torch.float32
    assert float(got.detach()) == pytest.approx(item(BCE()(logits, y)), rel=1e-6)


@pytest.mark.parametrize(
    "asymmetric", [Asymmetric(), Asymmetric(gamma_positive=1, gamma_negative=1, clip=0)]
)
def test_asymmetric_loss_has_finite_gradients_when_saturated(asymmetric):
    logits = torch.tensor([[100.0, 100.0, -100.0, -100.0]]).requires_grad_()
    loss = asymmetric(logits, torch.tensor([[0, 1, 0, 1]]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("name", CLASSIFICATIONS)
@pytest.mark.parametrize("row", [[2, -1, 0, 0], [0, 0, 0, 255], [float("nan"), 1, 0, 0]])
def test_labels_outside_of_0_to_1_are_refused(name, row):
    y = one_hot().float()
    y[2] = torch.tensor(row)
    with pytest.raises(UsageError, match=r"labels must (lie in 0\.\.1|be 0 or 1)"):
        create_classification(name, {}, STATISTICS)(data()[0], y)


def test_only_softmax_refuses_labels_between_0_and_1():
    y = torch.full((N, C), 1 / C)
    for name in set(CLASSIFICATIONS) - {"softmax"}:
        assert torch.isfinite(create_classification(name, {}, STATISTICS)(data()[0], y))
    with pytest.raises(UsageError, match="must be 0 or 1"):
        Softmax()(data()[0], y)
